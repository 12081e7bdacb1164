#!/usr/bin/env bash
# Whole runs on a device: near the CPU's, and the same bytes for any number of devices, either exchange, recorded or
# not, with or without the cache, and after a resume; checkpoints move between CPU and device.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/cuda/common.sh"
export OMP_NUM_THREADS=1
# the last phase by small steps: larger ones of so small a batch are far apart between the CPU's own kernel sets
small_config "$work/cpu" | sed 's/learning_rate: 0.001,/learning_rate: 0.000001,/' >"$work/config.yaml"
keep="checkpoint.keep=100 checkpoint.every_steps=2"
ok "on the CPU" on_cpu np 1 "$work/config.yaml" $keep
ok "on a device" on_device np 1 "$work/config.yaml" run_dir="$work/one" $keep
grep -q "cuda" "$work/out" || fail "the device was not used: $(cat "$work/out")"
near "device and CPU" "$work/cpu/history.csv" "$work/one/history.csv" 2e-3
! cmp -s "$work/cpu/final.pb" "$work/one/final.pb" || fail "device and CPU wrote the same bytes: was it the device?"

# other WHAT NP KEY=VALUE...: must be the bytes of "one"
other() {
  local what=$1 ranks=$2
  shift 2
  rm -rf "$work/other"
  ok "$what" on_device np "$ranks" "$work/config.yaml" run_dir="$work/other" $keep "$@"
  same "$work/one/final.pb" "$work/other/final.pb" "$what"
  same "$work/one/history.csv" "$work/other/history.csv" "$what: history"
}
export DFT_HOST_CUDA=devices=4
gpus=4
[ -n "$device_module" ] || gpus=$(nvidia-smi -L | wc -l)
for ranks in 2 3 4; do
  [ "$ranks" -le "$gpus" ] || continue
  other "$ranks devices by NCCL" $ranks distributed.backend=nccl
  grep -q "nccl" "$work/out" || fail "NCCL was not used"
done
other "2 devices by MPI" 2 distributed.backend=mpi
other "no cache" 2 cache.mode=off
DFT_HOST_CUDA=devices=1 other "2 ranks on one device" 2

# The host keeps out of the device's memory: direct and recorded steps of each phase.
if [ -n "$device_module" ]; then
  DFT_HOST_CUDA=devices=2,protect=1 ok "memory out of reach" on_device np 2 "$work/config.yaml" run_dir="$work/apart" \
    distributed.backend=nccl data.train.samples=4 data.batch_size=4 data.validation.samples=2 phases.1.epochs=2
fi

# every third checkpoint is a place to go on from, at another number of devices
i=0
for state in "$work"/one/ckpt-*.pb; do
  i=$((i + 1))
  [ $((i % 3)) = 1 ] || continue
  rm -rf "$work/from"
  mkdir "$work/from"
  cp "$state" "$work/from/"
  ok "resume from $(basename "$state")" on_device np $((i % 4 + 1)) "$work/config.yaml" run_dir="$work/from" $keep
  grep -q "resuming from" "$work/out" || fail "did not resume"
  same "$work/one/final.pb" "$work/from/final.pb" "resumed from $(basename "$state")"
  same "$work/one/history.csv" "$work/from/history.csv" "history after $(basename "$state")"
done
[ $i -ge 6 ] || fail "only $i checkpoints"

# between CPU and device: in the middle of the second phase
middle=$(ls "$work"/one/ckpt-*.pb | sed -n 4p)
for way in on_cpu on_device; do
  rm -rf "$work/moved"
  mkdir "$work/moved"
  if [ $way = on_cpu ]; then cp "$middle" "$work/moved/"; else cp "$work/cpu/$(basename "$middle")" "$work/moved/"; fi
  ok "moved, then $way" $way np 2 "$work/config.yaml" run_dir="$work/moved" $keep
  grep -q "resuming from" "$work/out" || fail "did not resume"
  near "moved, then $way" "$work/cpu/history.csv" "$work/moved/history.csv" 2e-3
done

# evaluation and prediction
ok "eval on the CPU" on_cpu np 1 eval "$work/one/final.pb" "$work/config.yaml" --json "$work/cpu.json"
for ranks in 1 3; do
  ok "eval on $ranks devices" on_device np $ranks eval "$work/one/final.pb" "$work/config.yaml" --json "$work/$ranks.json"
done
same "$work/1.json" "$work/3.json" "eval at 1 and 3"
python3 - "$work/cpu.json" "$work/1.json" <<'PYTHON' || fail "eval differs between CPU and device"
import json, sys
cpu, device = (json.load(open(p)) for p in sys.argv[1:])
assert cpu["confusion"] == device["confusion"] and abs(cpu["loss"] - device["loss"]) < 1e-4, (cpu, device)
PYTHON

# smaller precisions: near (an accuracy moves by 1/24 when one image does), and still one result
for precision in tf32 bfloat16; do
  for ranks in 1 2; do
    ok "$precision" on_device np $ranks "$work/config.yaml" run_dir="$work/$precision$ranks" compute.precision=$precision
  done
  same "$work/${precision}1/final.pb" "$work/${precision}2/final.pb" "$precision at 1 and 2"
  near "$precision" "$work/cpu/history.csv" "$work/${precision}1/history.csv" 0.02 "4 6"
  ! cmp -s "$work/one/final.pb" "$work/${precision}1/final.pb" || fail "$precision changes nothing"
done
