"""Runs dft and PyTorch's modes in turn on one GPU and writes a Markdown table of medians; see gpu.sh."""
import argparse
import os
import statistics
import subprocess
import sys
import time

import dft_runs
import numpy

# dft's trainable layers and PyTorch's works: with the frozen part in each step, and with its output kept by hand
WORKS = {
    "phase1": ("phase one, epochs after the first", "", ("phase1", "phase1hand")),
    "phase2": ("phase two from the cache", "unfreeze_last: 20, ", ("phase2", "phase2hand")),
    "all": ("all layers", "unfreeze: all, ", ("all",)),
}


def dft(options, work, batch, precision, images):
    """Images per second of the epochs after the second, and the device; None when it fails, saying why."""
    epochs = max(4, 20 * batch // images)
    try:
        events = dft_runs.run([options.dft], {**os.environ, "DFT_KERNELS": "cuda"}, [f"compute.precision={precision}"],
                              data=options.data, batch=batch, epochs=epochs, unfreeze=WORKS[work][1])
    except SystemExit as failure:
        print(failure, file=sys.stderr)
        return None, ""
    seconds = [e["seconds"] for e in events if e["type"] == "epoch"][2:]
    return (images - images % batch) * len(seconds) / sum(seconds), events[0]["device"]


class Worker:
    """A PyTorch mode: one process for all works, asleep while others are measured; a new one when it has ended."""

    def __init__(self, options, mode):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch_gpu_worker.py")
        self.words = [options.python, script, options.data, mode]
        self.process = None

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("@ "):
                return line[2:].strip()
        return None

    def measure(self, work, seconds):
        """Images per second; None when the worker ends over it (out of memory, a compiler's failure)."""
        if self.process is None:
            self.process = subprocess.Popen(self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if self.answer() is None:
                raise SystemExit(f"{' '.join(self.words)} does not start")
        print(work, seconds, file=self.process.stdin, flush=True)
        answer = self.answer()
        if answer is not None:
            return float(answer)
        self.close()
        print(f"{self.words[-1]}, {work}: the worker has ended", file=sys.stderr)
        return None

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
        self.process = None


def measure_row(options, workers, work, batch, precision, images):
    """One row of the table, or None when dft cannot do it; and the device."""
    name, _, kinds = WORKS[work]
    found, device = {}, ""
    for _ in range(options.rounds):
        value, device = dft(options, work, batch, precision, images)
        if value is None:
            return None, ""
        found.setdefault("dft", []).append(value)
        for mode, worker in workers.items():
            for kind in kinds:
                value = worker.measure(f"{kind}_{batch}", options.seconds)
                if value is not None:
                    found.setdefault(kind + " " + mode, []).append(value)
    medians = {key: statistics.median(values) for key, values in found.items()}
    own = medians.pop("dft")
    if not medians:
        return f"| {name} | {precision} | {batch} | {own:,.0f} | – | – |", device
    best = max(medians, key=medians.get)
    return (f"| {name} | {precision} | {batch} | {own:,.0f} | {medians[best]:,.0f} ({best}) | "
            f"{own / medians[best]:.2f} |"), device


def write(options, rows, device):
    """After each row: what has been measured stays when the machine goes."""
    with open(options.output, "w") as out:
        out.write(f"Images per second on one GPU ({device}), medians of {options.rounds} rounds in turn; 'hand' is "
                  "PyTorch with the frozen part's output kept by hand.\n\n"
                  "| work | precision | batch | dft | best PyTorch mode | dft / PyTorch |\n|---|---|---|---|---|---|\n")
        out.write("\n".join(rows) + "\n")


def main():
    parse = argparse.ArgumentParser()
    for name in ("dft", "python", "data", "output"):
        parse.add_argument("--" + name, required=True)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--seconds", type=float, default=1.0)
    parse.add_argument("--batches", default="32,256,1024")
    parse.add_argument("--precisions", default="bfloat16,float32")
    parse.add_argument("--peers", default="eager,graph,compile")
    parse.add_argument("--minutes", type=float, default=float("inf"), help="begin no row after so many")
    options = parse.parse_args()
    end = time.monotonic() + 60 * options.minutes
    images = len(numpy.load(options.data + "/labels.npy"))
    rows, missing = [], 0
    for precision in options.precisions.split(","):
        suffix = "" if precision == "bfloat16" else "-float32"
        workers = {mode: Worker(options, mode + suffix) for mode in options.peers.split(",")}
        for batch in map(int, options.batches.split(",")):
            for work in WORKS:
                if time.monotonic() > end:
                    missing += 1
                    continue
                row, device = measure_row(options, workers, work, batch, precision, images)
                if row is None:
                    missing += 1
                    continue
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
                write(options, rows, device)
        for worker in workers.values():
            worker.close()
    if missing:
        print(f"{missing} rows are missing", file=sys.stderr)
    sys.exit(missing > 0)


main()
