#!/usr/bin/env bash
# dft beside PyTorch on one GPU, in turn; writes a Markdown table, and each kernel's share of the memory's bandwidth.
#
#     tests/bench/gpu.sh OUTPUT.md [--rounds N] [--seconds S] [--batches 32,256,1024] [--precisions bfloat16,float32]
#         [--peers eager,graph,compile] [--minutes M]
#
# The kernels come first; OUTPUT.md then grows row by row. PyTorch's compiler takes minutes for each of its rows: with a GPU for
# ten minutes, "--peers eager,graph --rounds 2 --seconds 0.5 --minutes 8". Ends with 1 when rows are missing.
# PYTHON: an interpreter with a PyTorch that sees the GPU and torchvision, default python3. DFT_BUILD: default build/.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=${DFT_BUILD:-$here/../../build}
python=${PYTHON:-python3}
output=${1:?usage: tests/bench/gpu.sh OUTPUT.md [options]}
shift
"$python" -c 'import numpy, torch, torchvision; assert torch.cuda.is_available(), "PyTorch sees no GPU"'
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
for precision in bfloat16 float32; do
  echo
  "$build/tests/bench_device" 256 $precision || echo "(bench_device: exit code $?)"
done >"$data/kernels.md"
"$python" - "$data" <<'PYTHON'
import sys
import numpy as np
random = np.random.default_rng(42)
np.save(sys.argv[1] + "/images.npy", random.random((8192, 96, 96, 3), dtype=np.float32) * 2 - 1)
np.save(sys.argv[1] + "/labels.npy", random.integers(0, 5, 8192))
PYTHON
complete=0
"$python" "$here/peers/compare_gpu.py" --dft "$build/dft" --python "$python" --data "$data" --output "$output" "$@" || complete=$?
cat "$data/kernels.md" >>"$output"
exit $complete
