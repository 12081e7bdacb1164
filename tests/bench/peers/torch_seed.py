"""The seed program in PyTorch, eager: 100 random images, batch 10, 3 + 2 epochs.

Prints "@ first step" when the first optimizer step is done.
"""
import numpy as np
import torch
from torch_model import adam, images, net, threads
from worker import CLASSES, SHAPE

threads()
torch.manual_seed(42)
random = np.random.default_rng(42)
x = images(random.random((100, *SHAPE), dtype=np.float32) / 127.5 - 1)
y = torch.from_numpy(random.integers(0, CLASSES, 100))
weights, said = None, False
for phase, epochs, learning_rate in (("head", 3, 1e-3), ("tail", 2, 1e-5)):
    model = net(phase)
    if weights is not None:
        model.load_state_dict(weights)
    optimizer = adam(model, learning_rate)
    for _ in range(epochs):
        for batch in torch.randperm(100).split(10):
            loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if not said:
                said = True
                print("@ first step", flush=True)
    weights = model.state_dict()
