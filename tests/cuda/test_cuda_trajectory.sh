#!/usr/bin/env bash
# Whole two-phase trainings on a device against Keras', at the tolerances that the CPU's kernels meet (golden_tool.c).
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/cuda/common.sh"
export OMP_NUM_THREADS=1
tool=$DFT_BUILD/tests/golden_tool
data=$DFT_SOURCE/tests/golden/data
for size in 96 75; do
  mkdir "$work/$size"
  cd "$work/$size" || exit 1
  "$tool" inputs 0.35 $size . || fail "no inputs"
  for set in last20 all; do
    name=trajectory_035_${size}_$set
    echo "$name"
    ok "$name" on_device np 1 "$data/$name.yaml" run_dir="$name"
    ok "$name: predict" on_device np 1 predict "$name/final.pb" validation_images.npy --output "$name/predictions.npy"
    "$tool" compare "$name" 0.35 $size "$name/history.csv" "$name/final.pb" "$name/predictions.npy" || fail "$name is not Keras'"
  done
done
# The comparison can fail.
ok "another rate" on_device np 1 "$data/$name.yaml" run_dir=off phases.1.optimizer.learning_rate=0.0000102
on_device np 1 predict off/final.pb validation_images.npy --output off/predictions.npy
if "$tool" compare "$name" 0.35 75 off/history.csv off/final.pb off/predictions.npy >off/log; then fail "another rate went unnoticed"; fi
