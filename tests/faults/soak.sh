#!/usr/bin/env bash
# soak.sh RUNS [SEED]: starts of a small training at random rank counts, each disturbed at a random moment (a rank or mpirun
# killed, a rank told to stop, a rank stopped for good), each going on where the one before ended. Every training must end
# with the bytes of the undisturbed one. The long form is 200 runs (some ten minutes on a quiet machine):
#   DFT=build/dft DFT_SOURCE=$PWD tests/faults/soak.sh 200
runs=${1:?number of runs}
seed=${2:-$$}
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
# (to standard output: what bash says on the other one about each killed job is thrown away below)
fail() {
  echo "FAILED: $*"
  exit 1
}
broken() {
  cat "$work/out"
  fail "$@"
}
RANDOM=$seed
export DFT_RESTARTS=0
small_config "$work/none" >"$work/config.yaml"
config=("$work/config.yaml" phases.2.epochs=15 log.verbose=0 checkpoint.every_steps=1 distributed.timeout_s=2)
whole=$work/whole
ok "undisturbed" np 1 "${config[@]}" run_dir="$whole"
training=0 finished=0
declare -A codes
next_training() {
  training=$((training + 1))
  dir=$work/run$training
}
check() {
  local file
  for file in final.pb best.pb history.csv; do same "$whole/$file" "$dir/$file" "training $training, seed $seed"; done
  [ "$(steps_in "$dir")" = "$(steps_in "$whole")" ] || fail "a step is missing or twice in $dir/log.jsonl, seed $seed"
  finished=$((finished + 1))
  rm -rf "$dir"
  next_training
}
starts() {
  local count
  count=$(grep -c '"type":"start"' "$dir/log.jsonl" 2>/dev/null)
  echo "${count:-0}"
}
begun() { [ "$(starts)" -gt "$before" ] || ! kill -0 "$job" 2>/dev/null; }
# The end of the job: sets code. A disturbed one gets 60 s, 30 times the timeout; one that nobody disturbed runs to its end.
end_of_job() {
  local end=$((SECONDS + (disturbed ? 60 : 600)))
  while kill -0 "$job" 2>/dev/null || survivors >/dev/null; do
    [ $SECONDS -lt $end ] || ps -eo pid,ppid,stat,etimes,args | grep -F "$work"
    [ $SECONDS -lt $end ] || broken "run $run, $what, seed $seed: it does not end"
    sleep 0.05
  done
  wait "$job" 2>/dev/null
  code=$?
  job=
}
next_training
for ((run = 1; run <= runs; run++)); do
  ranks=$((RANDOM % 5 + 1)) before=$(starts)
  delay=$(printf '%d.%03d' $((RANDOM % 2)) $((RANDOM % 1000)))
  start "$DFT_SOURCE/launch/dft-run" --oversubscribe --bind-to none -np $ranks "$DFT" "${config[@]}" run_dir="$dir"
  case $((RANDOM % 4)) in
    0) what="KILL rank" signal=KILL ;;
    1) what="TERM rank" signal=TERM ;;
    2) what="STOP rank" signal=STOP ;;
    3) what="KILL mpirun" signal=KILL ;;
  esac
  # a rank is told or stopped only once it listens and is listened to; killed at any moment
  case $what in TERM* | STOP*) until begun; do sleep 0.05; done ;; esac
  sleep "$delay"
  if [ "$what" = "KILL mpirun" ]; then
    target=$(pgrep -P "$job" -x mpirun)
  else
    rank=$((RANDOM % ranks))
    until target=$(rank_of "$dir" $rank) && [ -n "$target" ] || ! kill -0 "$job" 2>/dev/null; do sleep 0.05; done
    what="$what $rank"
  fi
  # alone, a stopped rank is missed by nobody
  [ "$ranks" = 1 ] && [ "$signal" = STOP ] && target=
  disturbed=0
  [ -z "$target" ] || ! kill -$signal "$target" 2>/dev/null || disturbed=1
  end_of_job
  echo "run $run: np $ranks, $what after $delay s: exit code $code, $(steps_in "$dir") steps logged"
  codes[$code]=$((${codes[$code]:-0} + 1))
  case $code in
    0) check ;;
    75 | 76) ;;
    *) broken "run $run, $what, seed $seed: exit code $code" ;;
  esac
done 2>/dev/null
ok "the last one, to its end" np 2 "${config[@]}" run_dir="$dir"
check
echo "$runs runs, $finished trainings with the same bytes; exit codes:$(for c in "${!codes[@]}"; do printf ' %s × %s' "${codes[$c]}" "$c"; done); seed $seed"
