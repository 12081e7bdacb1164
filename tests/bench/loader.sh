#!/usr/bin/env bash
# How fast images are loaded, and whether steps wait for them: tests/bench/loader.sh FOLDER [key=value ...]
# FOLDER holds a folder of photos per class. DFT and BENCH_LOADER name the programs (default: build/dft, build/tests/bench_loader).
# Prints the loader's speed alone, then per kind of step, without cache: images/s, and the part of the steps' time waited for images.
# The first step, which nothing was read ahead for, is left out.
set -euo pipefail
folder=${1:?usage: loader.sh FOLDER [key=value ...]}
shift
: "${DFT:=build/dft}" "${BENCH_LOADER:=build/tests/bench_loader}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
classes=$(find -L "$folder" -mindepth 1 -maxdepth 1 -type d ! -name '.*' | wc -l)
cat >"$work/config.yaml" <<END
model: {input_shape: [96, 96, 3], classes: $classes}
data: {format: image_folder, batch_size: 32, train: {path: "$folder"}}
phases: [{name: bench, epochs: 2}]
cache: {mode: off}
checkpoint: {every_epochs: 0}
log: {verbose: 0, tensorboard: false}
END
run() { # WHAT KEYS...
  local what=$1
  shift
  "$DFT" "$work/config.yaml" run_dir="$work/run" "$@" 2>/dev/null
  awk -F'[:,}]' -v what="$what" '/"type":"step"/ && ++step > 1 {
    for (i = 1; i < NF; i++) {
      if ($i ~ /images_per_s/) rate = $(i + 1)
      if ($i ~ /data_s/) data = $(i + 1)
      if ($i ~ /compute_s/) compute = $(i + 1)
      if ($i ~ /communication_s/) other = $(i + 1)
    }
    waited += data; all += data + compute + other; images += rate * (data + compute + other)
  } END {printf "%-28s %7.0f images/s, %5.1f %% of the time waited for images\n", what, images / all, 100 * waited / all}' \
    "$work/run/log.jsonl"
  rm -r "$work/run"
}
echo "loader alone"
"$BENCH_LOADER" "$work/config.yaml" "$@"
echo "the same from data.decoded_cache"
"$BENCH_LOADER" "$work/config.yaml" data.decoded_cache="$work/decoded" "$@"
run "head alone, no cache" "$@"
run "last 20 layers, no cache" phases.0.unfreeze_last=20 "$@"
run "all layers" phases.0.unfreeze=all phases.0.epochs=1 "$@"
run "last 20, decoded_cache" phases.0.unfreeze_last=20 data.decoded_cache="$work/decoded" "$@"
