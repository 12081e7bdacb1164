#!/usr/bin/env bash
# dft's Keras files against Keras itself (keras_files.py). Needs a Python with Keras 3: $DFT_KERAS_PYTHON, or python3.
set -euo pipefail
python=${DFT_KERAS_PYTHON:-python3}
if ! "$python" -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("keras", "tensorflow", "h5py"))))' 2>/dev/null; then
  echo "skipped: $python has no Keras; set DFT_KERAS_PYTHON (pip install tensorflow-cpu keras h5py)"
  exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" "$DFT_SOURCE/tests/golden/keras_files.py" "$DFT_BUILD/tests/keras_file_tool" "$scratch"
