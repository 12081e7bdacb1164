"""What the peers' workers share: they load once, then measure what they are asked for, one line at a time.

Request on stdin: "WORK SECONDS". Answer on stdout: a line "@ IMAGES_PER_SECOND", or "@ none" for work this peer
does not have. A worker at rest sleeps, so that the others can be measured in turn.
"""
import os
import sys
import time

CORES = 2
SHAPE = (96, 96, 3)
CLASSES = 5


def data(folder):
    """The images in memory as float32 [512,96,96,3], labels as int64 [512]: nothing is decoded while timing."""
    import numpy as np

    return np.load(os.path.join(folder, "images.npy")), np.load(os.path.join(folder, "labels.npy"))


def batches(x, y, size):
    while True:
        for i in range(0, len(x) - size + 1, size):
            yield x[i : i + size], y[i : i + size]


def rate(step, images, seconds, agree=lambda n: n):
    """Images per second of a step, after two to warm up. `agree` makes several processes take as many steps."""
    step()
    step()
    start = time.perf_counter()
    step()
    steps = agree(max(2, int(seconds / (time.perf_counter() - start))))
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return images * steps / (time.perf_counter() - start)


def serve(measure):
    """measure(work, seconds) -> images per second or None."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    print("@ ready", file=answers, flush=True)
    for line in sys.stdin:
        work, seconds = line.split()
        value = measure(work, float(seconds))
        print("@ none" if value is None else f"@ {value:.6g}", file=answers, flush=True)
