"""PyTorch's share of the table: torch_worker.py DATA MODE, MODE: eager | bf16 | compile | ddp.

ddp: started twice with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set; gloo, one thread each, half the batch each.
BatchNorm's statistics are then each process's own (PyTorch's SyncBatchNorm needs a GPU).
"""
import contextlib
import os
import sys

import torch
from torch_model import PHASES, adam, images, net, threads
from worker import CORES, batches, data, rate, serve

mode = sys.argv[2]
ranks = int(os.environ["WORLD_SIZE"]) if mode == "ddp" else 1
threads(CORES // ranks)
if mode == "ddp":
    torch.distributed.init_process_group("gloo")
torch.manual_seed(42)
x, y = data(sys.argv[1])
x, y = images(x), torch.from_numpy(y)
ready = {}  # step function by work


def agree(steps):
    if ranks == 1:
        return steps
    value = torch.tensor([steps])
    torch.distributed.broadcast(value, 0)
    return int(value)


def precision():
    return torch.autocast("cpu", dtype=torch.bfloat16) if mode == "bf16" else contextlib.nullcontext()


def run_over(module, inputs):
    """All inputs through a part that does not learn."""
    with torch.no_grad(), precision():
        return torch.cat([module(part) for part in inputs.split(32)]).float()


def forward_step(size):
    model = net("head")
    run = torch.compile(model.fixed) if mode == "compile" else model.fixed
    source = batches(x, y, size)

    def step():
        with torch.inference_mode(), precision():
            run(next(source)[0])

    return step


def training_step(kind, size):
    phase = PHASES[kind]
    model = net(phase)
    optimizer = adam(model, 1e-3 if phase == "head" else 1e-5)
    inputs = x
    if kind.endswith("hand"):
        inputs = run_over(model.fixed, x)
        model.forward = model.learning
    whole = model
    if ranks > 1:
        whole = torch.nn.parallel.DistributedDataParallel(model)
    if mode == "compile":
        whole = torch.compile(model)
    source = batches(inputs, y, size)

    def step():
        some, labels = next(source)
        with precision():
            loss = torch.nn.functional.cross_entropy(whole(some), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measure(work, seconds):
    kind, size = work.split("_")[0], int(work.split("_")[1])
    if work not in ready:
        ready[work] = forward_step(size // ranks) if kind == "forward" else training_step(kind, size // ranks)
    return rate(ready[work], size, seconds, agree)


serve(measure)
