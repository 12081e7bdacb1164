"""Takes turns: every work, dft and each peer one after the other, several rounds; medians and ratios as Markdown.

    compare.py --dft build/dft --empty-mpi PROGRAM --venvs DIR --output FILE [--rounds N] [--seconds S] [--config YAML]

Started by peers.sh, which prepares what this needs.
"""
import argparse
import datetime
import os
import select
import socket
import statistics
import subprocess
import sys
import time

import dft_runs

HERE = os.path.dirname(os.path.abspath(__file__))
# what it is, dft's work, the peers' work (None: see rates_table)
WORKS = [
    ("frozen forward, batch 32", "forward_32", "forward_32"),
    ("frozen forward, bfloat16, batch 32", "forwardbf16_32", None),
    ("phase one, epochs after the first, batch 32", "phase1_32", "phase1_32"),
    ("the same, peers with features cached by hand", "phase1_32", "phase1hand_32"),
    ("phase two, batch 8", "phase2_8", "phase2_8"),
    ("phase two, batch 32", "phase2_32", "phase2_32"),
    ("the same, peers with block_14 cached by hand", "phase2_32", "phase2hand_32"),
    ("phase two, dft without cache, batch 32", "phase2off_32", "phase2_32"),
    ("all layers, batch 32", "all_32", "all_32"),
    ("all layers, batch 64", "all_64", "all_64"),
]
DFT = {"dft 1×2": 1, "dft 2×1": 2}
QUIET = 2.5  # load average; the runs themselves make about 2
PEERS = ["Keras", "eager", "bf16", "compile", "DDP"]


class Worker:
    """A peer that is loaded once and asked for one measurement at a time (worker.py)."""

    def __init__(self, name, venvs, data):
        framework = "keras" if name == "Keras" else "torch"
        python = f"{venvs}/{framework}/bin/python"
        words = [python, f"{HERE}/{framework}_worker.py", data]
        if framework == "torch":
            words.append(name.lower())
        env = dict(os.environ, TORCHINDUCTOR_CACHE_DIR=f"{venvs}/inductor")
        places = [{}]
        if name == "DDP":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = str(free.getsockname()[1])
            common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
            places = [dict(common, RANK=str(rank), OMP_NUM_THREADS="1") for rank in range(2)]
        self.name = name
        self.processes = [
            subprocess.Popen(words, env=dict(env, **place), text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for place in places
        ]
        self.answers()

    def answers(self, limit_s=None):
        """The first process's answer, once all have answered; a late one is ended by TimeoutError."""
        until = time.monotonic() + limit_s if limit_s else None
        for process in self.processes:
            if limit_s and not select.select([process.stdout], [], [], max(0, until - time.monotonic()))[0]:
                for one in self.processes:
                    one.kill()
                raise TimeoutError(self.name)
        lines = [process.stdout.readline() for process in self.processes]
        if not all(line.startswith("@ ") for line in lines):
            raise SystemExit(f"{self.name} ended; run its worker by hand to see why")
        return lines[0].split()[1]

    def measure(self, work, seconds, limit_s=None):
        for process in self.processes:
            print(work, seconds, file=process.stdin, flush=True)
        answer = self.answers(limit_s)
        return None if answer == "none" else float(answer)

    def close(self):
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait()


def note(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def measure_rates(options, workers, values):
    """One round over all works; with several columns asking for the same figure it is taken once."""
    seen = {}

    def once(who, work, take):
        if (who, work) not in seen:
            seen[who, work] = take()
            if seen[who, work] is not None:
                values.setdefault((who, work), []).append(seen[who, work])

    for _, for_dft, for_peers in WORKS:
        for who, ranks in DFT.items():
            once(who, for_dft, lambda r=ranks: dft_runs.measure(options.dft, r, for_dft, options.data))
        for worker in workers:
            # without work of their own: the bfloat16 row, taken from the one above
            if for_peers is not None and f"{worker.name}:{for_peers}" not in options.leave_out.split(","):
                once(worker.name, for_peers, lambda w=worker, k=for_peers: w.measure(k, options.seconds))


def seed_round(options, results):
    """Each round another one begins: who runs first pays for memory that the host has taken back meanwhile."""
    def framework(name):
        words = [f"{options.venvs}/{name}/bin/python", f"{HERE}/{name}_seed.py"]
        return dft_runs.whole(words, dict(os.environ, OMP_NUM_THREADS="2"), b"@ first step")

    def dft(ranks, *launcher):
        return dft_runs.seed_program(options.dft, ranks, options.config, *launcher)

    programs = {who: lambda r=ranks: dft(r) for who, ranks in DFT.items()}
    programs["dft 2×1 by dft-run"] = lambda: dft(2, f"{HERE}/../../../launch/dft-run")
    programs |= {"Keras": lambda: framework("keras"), "eager": lambda: framework("torch")}
    for who in programs:
        results.setdefault(who, [])
    order = list(programs)
    first = options.done % len(order)
    for who in order[first:] + order[:first]:
        results[who].append(programs[who]())


def figure(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rates_table(values):
    lines = ["| images/s | " + " | ".join([*DFT, *PEERS]) + " | dft ÷ best peer (range over rounds) |",
             "|---|" + "---:|" * (len(DFT) + len(PEERS) + 1)]
    for title, for_dft, for_peers in WORKS:
        asked = {who: (who, for_dft) for who in DFT}
        asked |= {who: (who, for_peers) for who in PEERS}
        if for_peers is None:
            asked["bf16"] = ("bf16", "forward_32")
        taken = {who: values.get(key) for who, key in asked.items()}
        medians = {who: statistics.median(v) if v else None for who, v in taken.items()}
        ours = max((w for w in DFT if medians[w]), key=lambda w: medians[w], default=None)
        best = max((w for w in PEERS if medians[w]), key=lambda w: medians[w], default=None)
        ratio = "–"
        if ours and best:
            each = [a / b for a, b in zip(taken[ours], taken[best])]
            ratio = f"{medians[ours] / medians[best]:.1f} ({min(each):.1f}–{max(each):.1f})"
        row = [title] + [figure(medians[who]) for who in [*DFT, *PEERS]] + [ratio]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def seed_table(results, empty_s):
    lines = ["| seed program (medians) | " + " | ".join(results) + " |",
             "|---|" + "---:|" * len(results)]
    medians = {who: [statistics.median(column) for column in zip(*rows)] for who, rows in results.items()}
    for i, title, digits in ((0, "process start to end, s", 2), (1, "start to the end of the first step, s", 2),
                             (2, "peak memory of a process, MB", 0)):
        lines.append(f"| {title} | " + " | ".join(f"{medians[who][i]:.{digits}f}" for who in results) + " |")
    if "Keras" in medians:
        lines.append("")
        for who in (who for who in results if who.startswith("dft")):
            ratios = [medians["Keras"][i] / medians[who][i] for i in range(3)]
            lines.append(f"Keras ÷ {who}: {ratios[0]:.0f} × the time, {ratios[1]:.0f} × the time to the first step, "
                         f"{ratios[2]:.1f} × the memory.")
        lines.append("By `launch/dft-run` mpirun does not look at the PCI devices (on one host; README).")
    lines.append(f"An empty MPI program (MPI_Init, MPI_Finalize; same transport) takes {empty_s:.3f} s.")
    return lines


def versions(options):
    dft = subprocess.run([options.dft, "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    ask = {"keras": "import keras,tensorflow as t;print('Keras',keras.__version__,'on TensorFlow',t.__version__)",
           "torch": "import torch,torchvision as v;print('PyTorch',torch.__version__,'torchvision',v.__version__)"}
    found = [dft]
    for name, code in ask.items():
        words = [f"{options.venvs}/{name}/bin/python", "-c", code]
        found.append(subprocess.run(words, capture_output=True, text=True).stdout.strip())
    return "; ".join(found)


def cpu_name():
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def written_by_hand(path):
    """What follows the tables, from "## What bounds it" on: kept."""
    if not os.path.exists(path):
        return ""
    with open(path) as old:
        _, heading, rest = old.read().partition("\n## What bounds it")
    return heading + rest


def report(options, values, results, empty_s, loads):
    quiet = max(loads) < QUIET
    lines = ["# dft beside Keras and PyTorch", "",
             "Written by `tests/bench/peers.sh`: the same work on the same two cores, in turn, medians of "
             f"{options.done} round{'s' * (options.done > 1)}.", "",
             f"- machine: {cpu_name()}, 2 cores used of {os.cpu_count()}",
             f"- {versions(options)}",
             f"- {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC; load average before and after each round "
             + ", ".join(f"{load:.1f}" for load in loads) + (
                 "" if quiet else ": **the machine was not quiet** (the runs themselves make about 2). Others computed "
                 "on the same cores meanwhile; each figure is lower than on an idle machine, "
                 "those of threads that wait for each other most of all, and ratios mean little.")]
    lines += ["- dft 1×2: one rank of two threads; 2×1: `mpirun -np 2`, one thread each. eager, bf16 (autocast), "
              "compile, DDP (gloo, 2 × 1 thread): PyTorch, channels last, fused Adam. float32 unless named.",
              "- 512 images of 96×96×3 as float32 in memory (dft: an .npy in the page cache): no decoding anywhere. "
              "Global batch. Everything a step needs is inside: data, exchange, optimizer, and for dft the log.", ""]
    lines += rates_table(values) + [""]
    if results:
        lines += seed_table(results, empty_s)
    notes = written_by_hand(options.output)
    with open(options.output, "w") as out:
        out.write("\n".join(lines) + "\n" + notes)
    note(f"wrote {options.output}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("dft", "empty-mpi", "venvs", "data", "config", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--peers", default=",".join(PEERS), help="those to take part")
    parser.add_argument("--leave-out", default="", help="PEER:WORK,...: what takes a peer too long")
    parser.add_argument("--warm", type=float, default=3600, help="seconds, at most, for all peers to warm up")
    parser.add_argument("--wait", type=float, default=0, help="seconds, at most, to wait for a quiet machine")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement of a peer")
    parser.add_argument("--limit", type=float, default=3600, help="no new round after this many seconds of measuring")
    return parser.parse_args()


def warm_workers(options):
    """The peers, each loaded, its work traced and compiled, before anything counts."""
    workers = []
    until = time.monotonic() + options.warm
    for name in options.peers.split(","):
        worker = Worker(name, options.venvs, options.data)
        try:
            for work in dict.fromkeys(peers for _, _, peers in WORKS if peers):
                if f"{name}:{work}" not in options.leave_out.split(","):
                    worker.measure(work, 0, max(1, until - time.monotonic()))
        except TimeoutError:
            note(f"{name} is left out: not warm in time")
            continue
        workers.append(worker)
        note(f"{name} is warm")
    return workers


def main():
    options = arguments()
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:2]))
    os.environ["OMP_NUM_THREADS"] = "2"
    workers = warm_workers(options)
    values, results, loads = {}, {}, []
    options.done = 0
    until = time.monotonic() + options.wait
    while os.getloadavg()[0] > QUIET and time.monotonic() < until:
        time.sleep(1)
    start = time.monotonic()
    empty_s = dft_runs.empty_mpi(options.empty_mpi)
    while options.done < options.rounds and (options.done == 0 or time.monotonic() - start < options.limit):
        loads.append(os.getloadavg()[0])
        seed_round(options, results)
        measure_rates(options, workers, values)
        options.done += 1
        loads.append(os.getloadavg()[0])
        report(options, values, results, empty_s, loads)
    for worker in workers:
        worker.close()


main()
