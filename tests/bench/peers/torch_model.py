"""torchvision's MobileNetV2 with a head of 5 classes, cut as the seed program's phases cut it."""
import torch
import torchvision
from worker import CLASSES, CORES

FRONT = 16  # features[:16] end where Keras' block_14 ends
# what trains in a work; "hand": what does not is computed once, beforehand
PHASES = {"phase1": "head", "phase1hand": "head", "phase2": "tail", "phase2hand": "tail", "all": "all"}


class Net(torch.nn.Module):
    """phase: "head", "tail" (Keras' last 20 layers: from the BatchNorm of block_15's expansion) or "all"."""

    def __init__(self, phase):
        super().__init__()
        net = torchvision.models.mobilenet_v2(weights=None)
        self.front = net.features[:FRONT]
        self.expand = net.features[FRONT].conv[0][0]
        self.back = net.features[FRONT:]
        self.head = torch.nn.Linear(1280, CLASSES)
        self.phase = phase
        frozen = {"head": [self.front, self.back], "tail": [self.front, self.expand], "all": []}[phase]
        for part in frozen:
            part.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        if self.phase != "all":
            self.front.eval()
        if self.phase == "head":
            self.back.eval()
        return self

    def fixed(self, x):
        """What no step of this phase changes."""
        if self.phase == "all":
            return x
        with torch.no_grad():
            x = self.front(x)
            return self.back(x).mean((2, 3)) if self.phase == "head" else x

    def learning(self, x):
        if self.phase == "all":
            x = self.front(x)
        if self.phase != "head":
            x = self.back(x).mean((2, 3))
        return self.head(x)

    def forward(self, x):
        return self.learning(self.fixed(x))


def images(x):
    """[N,96,96,3] in memory becomes what PyTorch's CPU kernels like best, channels last."""
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def net(phase):
    return Net(phase).to(memory_format=torch.channels_last).train()


def adam(module, rate):
    return torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=rate, fused=True)


def threads(count=CORES):
    torch.set_num_threads(count)
