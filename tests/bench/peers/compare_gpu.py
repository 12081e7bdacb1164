"""Runs dft and PyTorch's modes in turn on one GPU and writes a Markdown table of medians; see gpu.sh."""
import argparse
import os
import statistics
import subprocess
import sys

import dft_runs

# dft's trainable layers and PyTorch's works: with the frozen part in each step, and with its output kept by hand
WORKS = {
    "phase1": ("phase one, epochs after the first", "", ("phase1", "phase1hand")),
    "phase2": ("phase two from the cache", "unfreeze_last: 20, ", ("phase2", "phase2hand")),
    "all": ("all layers", "unfreeze: all, ", ("all",)),
}
PEERS = ("eager", "graph", "compile")


def dft(program, work, batch, precision, data, images):
    """Images per second of the epochs after the second."""
    epochs = max(4, 40 * batch // images)
    events = dft_runs.run([program], None, [f"compute.precision={precision}"], data=data, batch=batch, epochs=epochs,
                          unfreeze=WORKS[work][1])
    if events[0].get("device", "cpu") == "cpu":
        raise SystemExit("dft ran on the CPU: no table")
    seconds = [e["seconds"] for e in events if e["type"] == "epoch"][2:]
    return (images - images % batch) * len(seconds) / sum(seconds), events[0]["device"]


class Worker:
    def __init__(self, python, data, mode):
        script = os.path.join(os.path.dirname(__file__), "torch_gpu_worker.py")
        self.process = subprocess.Popen([python, script, data, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.answer()

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("@ "):
                return line[2:].strip()
        raise SystemExit("a PyTorch worker has ended")

    def measure(self, work, seconds):
        print(work, seconds, file=self.process.stdin, flush=True)
        return float(self.answer())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parse = argparse.ArgumentParser()
    for name in ("dft", "python", "data", "output"):
        parse.add_argument("--" + name, required=True)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--seconds", type=float, default=1.0)
    parse.add_argument("--batches", default="32,256,1024")
    parse.add_argument("--precisions", default="bfloat16,float32")
    a = parse.parse_args()
    with open(a.data + "/images.npy", "rb") as f:
        f.seek(10)
        images = int(f.read(118).split(b"(")[1].split(b",")[0])
    rows, device = [], ""
    for precision in a.precisions.split(","):
        suffix = "" if precision == "bfloat16" else "-float32"
        for work, (name, _, kinds) in WORKS.items():
            for batch in map(int, a.batches.split(",")):
                found = {}
                for _ in range(a.rounds):
                    value, device = dft(a.dft, work, batch, precision, a.data, images)
                    found.setdefault("dft", []).append(value)
                    for mode in PEERS:
                        worker = Worker(a.python, a.data, mode + suffix)
                        for kind in kinds:
                            found.setdefault(kind + " " + mode, []).append(
                                worker.measure(f"{kind}_{batch}", a.seconds))
                        worker.close()
                medians = {key: statistics.median(values) for key, values in found.items()}
                own = medians.pop("dft")
                best = max(medians, key=medians.get)
                rows.append(f"| {name} | {precision} | {batch} | {own:,.0f} | {medians[best]:,.0f} ({best}) | "
                            f"{own / medians[best]:.2f} |")
                print(rows[-1], file=sys.stderr, flush=True)
    with open(a.output, "w") as out:
        out.write(f"Images per second on one GPU ({device}), medians of {a.rounds} rounds in turn; 'hand' is PyTorch "
                  "with the frozen part's output kept by hand.\n\n"
                  "| work | precision | batch | dft | best PyTorch mode | dft / PyTorch |\n|---|---|---|---|---|---|\n")
        out.write("\n".join(rows) + "\n")


main()
