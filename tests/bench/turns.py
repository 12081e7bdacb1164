#!/usr/bin/env python3
"""Two builds of bench_tail in turn, step by step, on one core: how the times of each layer compare.

    tests/bench/turns.py OLD/bench_tail NEW/bench_tail [seconds] [samples] [unfreeze_last, 0: all] [core]

Neighbours on a busy machine slow both down alike within a step's time, so that medians of the ratios of steps tell a
hundredth apart where either program's own times differ by a third from minute to minute. Prints for each layer the
median microseconds of both and of the ratio new / old, with its quartiles.
"""
import os
import statistics
import subprocess
import sys
import tempfile
import time


def start(program, arguments, core, series, tokens_in, tokens_out):
    return subprocess.Popen(["taskset", "-c", core, program, *arguments, "layers"], stdin=tokens_in, stdout=tokens_out,
                            env=dict(os.environ, DFT_BENCH_SERIES=series, OMP_NUM_THREADS="1"))


def times(series):
    """{layer: {step: seconds}}, a step's layers of one shape together."""
    layers = {}
    with open(series) as lines:
        for line in lines:
            words = line.split()
            if len(words) == 4 and int(words[0]) > 2:  # the first steps warm up
                steps = layers.setdefault(" ".join(words[1:3]), {})
                steps[int(words[0])] = steps.get(int(words[0]), 0) + float(words[3])
    return layers


def main():
    old, new = sys.argv[1:3]
    seconds, samples, last, core = (sys.argv[3:] + ["10", "16", "0", "1"][len(sys.argv) - 3:])[:4]
    to_old, to_new = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        series = [folder + "/old", folder + "/new"]
        arguments = [samples, last, "1", seconds]
        running = [start(old, arguments, core, series[0], to_old[0], to_new[1]),
                   start(new, arguments, core, series[1], to_new[0], to_old[1])]
        os.write(to_old[1], b"x")
        time.sleep(float(seconds))
        for process in running:
            process.kill()
            process.wait()
        before, after = (times(name) for name in series)
    print("layer (rows, inputs, outputs)        old us   new us  new / old (quartiles)")
    for layer, steps in before.items():
        both = [step for step in steps if step in after.get(layer, {})]
        if len(both) < 4:
            continue
        ratio = statistics.quantiles([after[layer][step] / steps[step] for step in both], n=4)
        print(f"{layer:32} {1e6 * statistics.median(steps[step] for step in both):10.1f} "
              f"{1e6 * statistics.median(after[layer][step] for step in both):8.1f}  "
              f"{ratio[1]:.3f} ({ratio[0]:.3f}-{ratio[2]:.3f}), {len(both)} steps")


if __name__ == "__main__":
    main()
