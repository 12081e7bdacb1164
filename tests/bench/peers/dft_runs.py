"""dft's share: real runs of the program, their figures from log.jsonl, their time and memory from outside."""
import json
import os
import statistics
import subprocess
import tempfile
import time

CONFIG = """
run_dir: {run_dir}
model: {{classes: 5}}
data:
  format: npy
  batch_size: {batch}
  preprocessing: none
  train: {{images: {data}/images.npy, labels: {data}/labels.npy}}
phases:
  - {{name: bench, epochs: {epochs}, {unfreeze}optimizer: {{name: adam, learning_rate: 0.00001}}}}
checkpoint: {{every_epochs: 0}}
log: {{verbose: 0, tensorboard: false}}
"""
# work: trainable layers, epochs, cache, prefix. Epochs after the first are timed; of "forward" the first.
WORKS = {
    "forward": ("", 1, "auto", "float32"),
    "forwardbf16": ("", 1, "auto", "bfloat16"),
    "phase1": ("", 20, "auto", "float32"),
    "phase2": ("unfreeze_last: 20, ", 6, "auto", "float32"),
    "phase2off": ("unfreeze_last: 20, ", 3, "off", "float32"),
    "all": ("unfreeze: all, ", 2, "auto", "float32"),
}
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


def command(program, ranks):
    """One rank of two threads, or two of one."""
    env = dict(os.environ, OMP_NUM_THREADS=str(2 // ranks), **ENVIRONMENT)
    return ([program] if ranks == 1 else ["mpirun", "-np", str(ranks), program]), env


def run(words, env, keys, **values):
    """A run with CONFIG and keys, as in cache.mode=off: the events of its log."""
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "bench.yaml")
        with open(config, "w") as out:
            out.write(CONFIG.format(run_dir=folder + "/run", **values))
        done = subprocess.run([*words, config, *keys], env=env, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"dft, {values} {keys}: exit code {done.returncode}\n{done.stderr}")
        with open(folder + "/run/log.jsonl") as lines:
            return [json.loads(line) for line in lines]


def measure(program, ranks, work, data):
    """Images per second."""
    kind, batch = work.split("_")
    unfreeze, epochs, cache, prefix = WORKS[kind]
    events = run(*command(program, ranks), [f"cache.mode={cache}", f"compute.prefix={prefix}"], data=data, batch=batch,
                 epochs=epochs, unfreeze=unfreeze)
    if kind.startswith("forward"):  # whole steps that fill the cache (the head is a thousandth of it); two to warm up
        times = [e["data_s"] + e["compute_s"] + e["communication_s"] for e in events if e["type"] == "step"][2:]
        return int(batch) * len(times) / sum(times)
    seconds = [e["seconds"] for e in events if e["type"] == "epoch"][1:]
    steps = [e for e in events if e["type"] == "step" and e["epoch"] == 1]
    return len(steps) * int(batch) * len(seconds) / sum(seconds)


def whole(words, env, marker):
    """Runs a program to its end: seconds in all, seconds to the end of its first step, peak memory in MB.

    dft says when its first epoch begins; its first step's own time comes from log.jsonl and is added by the caller.
    """
    start = time.perf_counter()
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    first = None
    for line in process.stdout:
        if first is None and line.startswith(marker):
            first = time.perf_counter() - start
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: exit code {process.returncode}")
    return time.perf_counter() - start, first, usage.ru_maxrss / 1000


def seed_program(program, ranks, config, launcher="mpirun"):
    words, env = command(program, ranks)
    words = [launcher if word == "mpirun" else word for word in words]
    with tempfile.TemporaryDirectory() as folder:
        total, first, memory = whole([*words, config, f"run_dir={folder}/run"], env, b"Epoch 1/")
        with open(folder + "/run/log.jsonl") as lines:
            step = next(e for e in map(json.loads, lines) if e["type"] == "step")
    return total, first + step["data_s"] + step["compute_s"] + step["communication_s"], memory


def empty_mpi(program):
    """Seconds from start to end of a program that only starts and ends MPI, over the transport dft chooses."""
    env = dict(os.environ, OMPI_MCA_pml="ob1", OMPI_MCA_btl="self,vader", **ENVIRONMENT)
    return statistics.median(whole([program], env, b"-")[0] for _ in range(3))
