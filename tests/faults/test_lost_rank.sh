#!/usr/bin/env bash
# A killed or a stopped rank, a killed mpirun: the whole job ends soon, one line says who is missing where, and the next
# start goes on to the same bytes. A slow rank is waited for.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
small_config "$work/none" >"$work/config.yaml"
dir=$work/run
run=("$work/config.yaml" phases.2.epochs=60 log.verbose=0 checkpoint.every_epochs=1000 checkpoint.every_steps=2)
timeout_s=2
host=$(hostname)
lose() { # SIGNAL RANK RANKS CODE
  start_np "$3" "${run[@]}" run_dir="$dir" distributed.timeout_s=$timeout_s
  until_step "$dir" 5
  local begin=$SECONDS
  kill "-$1" "$(rank_of "$dir" "$2")"
  ended "$4" "$1 to rank $2 of $3"
  [ $((SECONDS - begin)) -le $((timeout_s + 8)) ] || fail "$1 to rank $2 of $3: the end took $((SECONDS - begin)) s"
}
lose KILL 1 2 137
lose KILL 0 3 137
for rank in 0 2; do
  lose STOP $rank 3 76
  says "rank $rank \\(host $host\\): no progress for $timeout_s s in (step|saving step|the evaluation after step) [0-9]+, noticed by rank" \
    "STOP to rank $rank"
done
# mpirun killed: no rank is left behind
start_np 2 "${run[@]}" run_dir="$dir"
until_step "$dir" 5
kill -9 "$job"
ended 137 "mpirun killed" 2>/dev/null
ok "to the end" np 2 "${run[@]}" run_dir="$dir"
ok "undisturbed" np 2 "${run[@]}" run_dir="$work/whole"
same "$work/whole/final.pb" "$dir/final.pb" "lost five times"
same "$work/whole/history.csv" "$dir/history.csv" "history after five losses"

# Stopped where no rank watches another: after MPI_Finalize and on the way out the others have left, and its guard ends it
for place in finalize exit; do
  start mpirun --oversubscribe --bind-to none -np 3 -x LD_PRELOAD="$DFT_BUILD/tests/libstop_in_mpi.so" -x STOP_IN=$place -x STOP_RANK=0 \
    "$DFT" "${run[@]}" run_dir="$dir" distributed.timeout_s=$timeout_s
  ended 137 "rank 0 stopped in $place"
  says "a stopped rank made no progress for timeout_s and is ended by its guard" "rank 0 stopped in $place"
done
start mpirun --oversubscribe --bind-to none -np 3 -x LD_PRELOAD="$DFT_BUILD/tests/libstop_in_mpi.so" -x STOP_IN=goodbye -x STOP_RANK=1 \
  "$DFT" "${run[@]}" run_dir="$dir" distributed.timeout_s=$timeout_s
ended 76 "rank 1 stopped before the goodbyes"
says "rank 1 \\(host $host\\): no progress for $timeout_s s" "rank 1 stopped before the goodbyes"
# An error while a checkpoint goes to a disk that takes longer than the timeout: the error's own code and line, and the checkpoint
npy() { printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '$1', 'fortran_order': False, 'shape': $2, }"; }
image_bytes=$((33 * 40 * 3 * 4)) # the last of 24 is NaN
{ npy '<f4' '(24, 33, 40, 3)' && head -c $((23 * image_bytes)) /dev/zero && head -c $image_bytes /dev/zero | tr '\0' '\377'; } >"$work/images.npy"
{ npy '|u1' '(24,)' && head -c 24 /dev/zero; } >"$work/labels.npy"
start mpirun --oversubscribe --bind-to none -np 2 -x LD_PRELOAD="$DFT_BUILD/tests/libstop_in_mpi.so" -x SLOW_FSYNC_S=5 \
  "$DFT" "$work/config.yaml" run_dir="$work/disk" data.format=npy data.train="{images: $work/images.npy, labels: $work/labels.npy}" \
  data.validation=null data.shuffle=false checkpoint.every_steps=2 distributed.timeout_s=$timeout_s
ended 70 "an error beside a slow checkpoint"
says "not finite" "an error beside a slow checkpoint"
ls "$work"/disk/ckpt-*.pb >/dev/null || broken "the checkpoint is lost"
# A rank without memory for an exchange that the others are in: they hear it from that rank, and wait for nothing
start mpirun --oversubscribe --bind-to none -np 2 -x LD_PRELOAD="$DFT_BUILD/tests/libstop_in_mpi.so" -x STOP_RANK=1 -x NO_MEMORY_BYTES=494720 \
  "$DFT" "$work/config.yaml" run_dir="$work/memory" distributed.timeout_s=100
ended 76 "no memory for an exchange"
says "rank 1 \\(host $host\\) in step [789]: out of memory \\(exchange, 494720 bytes\\)" "no memory for an exchange"
# A job that is suspended as a whole, as Slurm can do it, goes on
start_np 3 "${run[@]}" run_dir="$work/suspended" distributed.timeout_s=$timeout_s
until_step "$work/suspended" 5
kill -STOP $(survivors)
sleep $((timeout_s + 2))
kill -CONT $(survivors)
ended 0 "suspended and resumed"
same "$work/whole/final.pb" "$work/suspended/final.pb" "suspended and resumed"
# MPI that crashes while it ends, as Open MPI 4.1 can on a busy machine, changes no exit code
crash() { # CODE KEY...
  start mpirun --oversubscribe --bind-to none -np 3 -x LD_PRELOAD="$DFT_BUILD/tests/libstop_in_mpi.so" -x STOP_IN=crash -x STOP_RANK=1 \
    "$DFT" "${run[@]}" run_dir="$dir" "${@:2}"
  ended "$1" "MPI crashed at the end of rank 1, after exit code $1"
}
crash 0
says "MPI crashed while it ended, after all work was done" "MPI crashed at the end of rank 1"
crash 2 checkpoint.resume=none
# While MPI starts, the others wait with an alarm of 300 s, the default timeout; the test lets it ring early.
start mpirun --oversubscribe --bind-to none -np 2 -x LD_PRELOAD="$DFT_BUILD/tests/libstop_in_mpi.so" -x STOP_IN=init -x STOP_RANK=1 \
  "$DFT" "${run[@]}" run_dir="$dir"
rank_is_stopped() { rank=$(rank_of "$dir" 1) && [ -n "$rank" ] && grep -q '^State:.T' "/proc/$rank/status"; }
until_true 60 "rank 1 stopped" rank_is_stopped
sleep 0.5 # rank 0 is in MPI_Init by then; earlier, the alarm would end it all the same, without words
kill -ALRM "$(rank_of "$dir" 0)"
ended "76|142" "rank 1 stopped in MPI_Init"
says "a rank was lost while MPI started" "rank 1 stopped in MPI_Init"

# Slow is not lost: a rank that gets a sixth of its time needs longer for its step than the timeout, and is waited for
start_np 2 "$work/config.yaml" run_dir="$work/slow" "phases=[{name: head, epochs: 1}]" data.validation=null log.verbose=2 \
  model.input_shape=[96,96,3] data.batch_size=8000 data.train.samples=8000 distributed.timeout_s=4
until_true 60 "the phase" grep -q "^Phase 1/1" "$work/out"
slow=$(rank_of "$work/slow" 1)
while kill -0 "$job" 2>/dev/null; do
  kill -STOP "$slow" 2>/dev/null
  sleep 0.5
  kill -CONT "$slow" 2>/dev/null
  sleep 0.1
done
ended 0 "a slow rank"
echo "a lost rank ends the job, a slow one does not"
