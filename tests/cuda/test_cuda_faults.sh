#!/usr/bin/env bash
# An exchange between GPUs that fails: whatever NCCL does, every process ends in time with exit code 76 and its words, nothing is
# left behind, and the next start goes on. NCCL and the GPUs are those that tests/cuda/host plays.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
source "$DFT_SOURCE/tests/cuda/common.sh"
[ -n "$device_module" ] || skip "failures are played on the host"
export DFT_CUDA_MODULE=$device_module

# The exchange alone.
# faulty WHAT NP FAILURES CODE WORDS [LOST_RANK]
faulty() {
  local tool=("$DFT_BUILD/tests/exchange_tool" 2 40)
  [ -z "${6:-}" ] || tool+=("$6" 7)
  DFT_HOST_CUDA=devices=8,$3 DFT="" start mpirun --oversubscribe --bind-to none -np "$2" "${tool[@]}" "$work"
  ended "$4" "$1"
  [ -z "$5" ] || says "$5" "$1"
  ! pgrep -f "exchange_tool .*$work" >/dev/null || broken "$1: processes survive"
}
at='\(host [^)]*\) in step'
failed='NCCL, exchanging: (internal error|remote process exited)' # whose words come first may vary
faulty "nothing" 3 x=0 0 ""
faulty "one rank cannot open NCCL" 3 nccl_open=1,nccl_rank=1 1 "NCCL, opening: internal error"
faulty "one rank never comes up" 3 nccl_never=1,nccl_rank=1 76 "NCCL does not come up: not ready after 2 s on rank [0-2]"
faulty "NCCL fails in one rank" 3 nccl_error=20,nccl_rank=1 76 "rank [0-2] $at 10: $failed"
faulty "a group is never done" 4 nccl_stuck=20,nccl_rank=1 76 "no progress for 2 s in step [56], noticed by rank [0-3] .*: all ranks wait"
faulty "a group is never done anywhere" 2 nccl_stuck=3 76 "no progress for 2 s in step 2, noticed by rank [01]"
faulty "a GPU fails" 2 fail_launch=9 76 "rank [01] $at 9: GPU .*illegal memory access"
faulty "a rank goes away" 4 x=0 76 "rank 2 \(host [^)]*\): no progress for 2 s in step 7" 2

# Whole runs.
small_config "$work/none" >"$work/config.yaml"
run=("$work/config.yaml" distributed.timeout_s=3 distributed.backend=nccl phases.2.epochs=4 checkpoint.every_steps=5)
export DFT_HOST_CUDA=devices=4
ok "undisturbed" np 2 "${run[@]}" run_dir="$work/whole"
# goes_on WHAT NP: the same command, undisturbed, ends with the bytes of the undisturbed run
goes_on() {
  ok "$1, started again" np "$2" "${run[@]}" run_dir="$work/run"
  grep -q "resuming from" "$work/out" || broken "$1: did not resume"
  same "$work/whole/final.pb" "$work/run/final.pb" "$1, started again"
}
# NCCL's abort waits until recorded steps are freed: it must not take timeout_s
DFT_HOST_CUDA=devices=4,nccl_error=1500,nccl_rank=1 start_np 3 "${run[@]}" distributed.timeout_s=300 run_dir="$work/run"
ended 76 "NCCL fails in a run"
says "rank [0-2] $at [0-9]+: $failed" "NCCL fails in a run"
goes_on "NCCL failed in a run" 4

# The first epoch: the next batch's frozen work waits on the GPU behind a step that waits for its peers.
rm -r "$work/run"
DFT_HOST_CUDA=devices=4,nccl_stuck=3 start_np 2 "${run[@]}" run_dir="$work/run"
ended 76 "a group is never done in the first epoch"
says "no progress for 3 s in step" "a group is never done in the first epoch"

rm -r "$work/run"
start_np 3 "${run[@]}" run_dir="$work/run"
until_step "$work/run" 9
kill -KILL "$(rank_of "$work/run" 1)"
ended "137|76" "a killed rank"
goes_on "a killed rank" 2

# A step whose work the device refused (not for good, as after an illegal address) counts for nothing: no checkpoint has it.
small_config "$work/none" | sed '/name: head/d; /name: all/d' >"$work/short.yaml"
short=(checkpoint.every_steps=1 checkpoint.keep=100 distributed.backend=auto)
ok "undisturbed" np 1 "$work/short.yaml" "${short[@]}" run_dir="$work/short"
cat >"$work/second" <<'END'
#!/bin/bash
[ "$OMPI_COMM_WORLD_RANK" = 0 ] || export DFT_HOST_CUDA=$DFT_HOST_CUDA,$SECOND
exec "$DFT" "$@"
END
chmod +x "$work/second"
# good_ones WHAT CODE: it ended so, and all that is left in run_dir was good
good_ones() {
  ended "$2" "$1"
  says "cuBLASLt status" "$1"
  for checkpoint in "$work"/refused/ckpt-*.pb; do
    [ ! -e "$checkpoint" ] || same "$work/short/${checkpoint##*/}" "$checkpoint" "$1"
  done
  rm -r "$work/refused"
}
for product in 12 32 44 56; do # of the first batch's frozen work, and of the first step
  DFT_HOST_CUDA=devices=1,fail_gemm=$product start_np 1 "$work/short.yaml" "${short[@]}" run_dir="$work/refused"
  good_ones "product $product is refused" 1
  SECOND=fail_gemm=$product start mpirun --oversubscribe --bind-to none -np 2 "$work/second" "$work/short.yaml" "${short[@]}" \
    distributed.timeout_s=3 run_dir="$work/refused"
  good_ones "product $product of one rank is refused" "1|76"
done
echo "failures of the exchange end in time"
