"""PyTorch's share of the GPU's table: torch_gpu_worker.py DATA MODE, MODE: eager | graph | compile, with "-float32" for
no autocast; without, bfloat16 autocast. Channels last, fused Adam, all images on the GPU from the start.

graph: the whole step in a CUDA graph. compile: torch.compile(mode="max-autotune") over forward and loss, which captures
graphs itself.
"""
import contextlib
import sys

import torch
from torch_model import PHASES, net
from worker import batches, data, serve

mode, _, kind_of_floats = sys.argv[2].partition("-")
device = torch.device("cuda")
torch.manual_seed(42)
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True
x, y = data(sys.argv[1])
x = torch.from_numpy(x).to(device).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
y = torch.from_numpy(y).to(device)
ready = {}  # step function by work


def precision():
    bf16 = kind_of_floats != "float32"
    return torch.autocast("cuda", dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()


def training_step(kind, size):
    phase = PHASES[kind]
    model = net(phase).to(device)
    learn = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learn, lr=1e-3 if phase == "head" else 1e-5, fused=True, capturable=mode == "graph")
    inputs = x
    if kind.endswith("hand"):
        with torch.no_grad(), precision():
            inputs = torch.cat([model.fixed(part) for part in x.split(256)])
        model.forward = model.learning
    whole = torch.compile(model, mode="max-autotune") if mode == "compile" else model
    source = batches(inputs, y, size)
    some, labels = (torch.empty_like(part) for part in next(source))

    def learn_from_batch():
        with precision():
            loss = torch.nn.functional.cross_entropy(whole(some), labels)
        loss.backward()
        optimizer.step()

    def step():
        new = next(source)
        some.copy_(new[0])
        labels.copy_(new[1])
        optimizer.zero_grad(set_to_none=mode != "graph")
        learn_from_batch()

    if mode != "graph":
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        learn_from_batch()

    def replay():
        new = next(source)
        some.copy_(new[0])
        labels.copy_(new[1])
        graph.replay()

    return replay


def rate(step, images, seconds):
    """Images per second between two events of the GPU, after ten steps to warm up."""
    for _ in range(10):
        step()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    steps = 20
    while True:
        torch.cuda.synchronize()
        begin.record()
        for _ in range(steps):
            step()
        end.record()
        torch.cuda.synchronize()
        took = begin.elapsed_time(end) / 1e3
        if took >= seconds:
            return images * steps / took
        steps = max(2 * steps, int(1.1 * steps * seconds / took))


def measure(work, seconds):
    kind, size = work.split("_")[0], int(work.split("_")[1])
    if work not in ready:
        if any(not other.startswith(kind.removesuffix("hand")) or other.split("_")[1] != str(size) for other in ready):
            ready.clear()  # one work at a time on the GPU, with the frozen part in it and without
            torch.compiler.reset()  # else it compiles no more than a few
            torch.cuda.empty_cache()
        ready[work] = training_step(kind, size)
    return rate(ready[work], size, seconds)


serve(measure)
