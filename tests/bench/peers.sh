#!/usr/bin/env bash
# dft beside Keras and PyTorch, in turn, on two cores of this machine; writes a Markdown table.
#
#     tests/bench/peers.sh [--rounds N] [--seconds S] [--limit S] [--warm S] [--wait S]
#                           [--peers Keras,eager,bf16,compile,DDP] [--leave-out bf16:all_64,...] [--output FILE]
#
# DFT_BENCH_VENV: where the virtual environments keras/ and torch/ are or will be made (some GB, from PyPI; PyTorch's
# CPU build from PyPI needs CUDA's libraries to load: a CUDA toolkit must be installed). Default: ~/.cache/dft-bench.
# DFT_BUILD: the build directory, default build/. Run it on an idle machine: with 5 rounds it takes about 15 minutes,
# the first time longer, while PyTorch compiles.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
build=${DFT_BUILD:-$source/build}
venvs=${DFT_BENCH_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/dft-bench}

# venv NAME MODULE PIP-ARGUMENTS...: made once; done when the module can be imported.
venv() {
  local name=$1 module=$2
  shift 2
  [ -x "$venvs/$name/bin/python" ] || python3 -m venv "$venvs/$name"
  "$venvs/$name/bin/python" -c "import $module" 2>/dev/null && return
  echo "installing $name in $venvs/$name" >&2
  "$venvs/$name/bin/python" -m pip install --quiet "$@"
  "$venvs/$name/bin/python" -c "import $module"
}

mkdir -p "$venvs/data"
venv keras keras tensorflow-cpu
venv torch torchvision --no-deps torch==2.13.0 torchvision==0.28.0 nvidia-cusparselt-cu13 nvidia-nvshmem-cu13 \
  nvidia-cufile nvidia-nccl-cu13 pillow typing_extensions sympy mpmath networkx jinja2 markupsafe fsspec filelock \
  numpy setuptools
[ -f "$venvs/data/labels.npy" ] || "$venvs/torch/bin/python" - "$venvs/data" <<'PYTHON'
import sys
import numpy as np
random = np.random.default_rng(42)
np.save(sys.argv[1] + "/images.npy", random.random((512, 96, 96, 3), dtype=np.float32) * 2 - 1)
np.save(sys.argv[1] + "/labels.npy", random.integers(0, 5, 512))
PYTHON

if [ ! -x "$build/dft" ] || [ ! -x "$build/tests/bench_empty_mpi" ]; then
  cmake -S "$source" -B "$build" -G Ninja >&2
  cmake --build "$build" --target dft bench_empty_mpi >&2
fi
exec "$venvs/torch/bin/python" "$here/peers/compare.py" --dft "$build/dft" --empty-mpi "$build/tests/bench_empty_mpi" \
  --venvs "$venvs" --data "$venvs/data" --config "$source/configs/tutorial.yaml" --output "$here/results.md" "$@"
