#!/usr/bin/env bash
# A signal to one rank, to all, or to mpirun: all finish the same step, save, exit 75; the run goes on to the same bytes.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
small_config "$work/none" >"$work/config.yaml"
dir=$work/run
run=("$work/config.yaml" phases.2.epochs=60 log.verbose=0 checkpoint.every_epochs=1000)
stopped() { # WHAT
  ended 75 "$1"
  says "stopped by a signal after step [0-9]+, checkpoint written to $dir" "$1"
}

start_np 2 "${run[@]}" run_dir="$dir"
until_step "$dir" 3
kill -USR1 "$(rank_of "$dir" 1)"
stopped "USR1 to one rank"
start_np 1 "${run[@]}" run_dir="$dir"
until_step "$dir" 3
kill -INT "$(rank_of "$dir" 0)"
stopped "INT to one rank"
start_np 3 "${run[@]}" run_dir="$dir"
until_step "$dir" 3
kill -TERM $(ranks_of "$dir")
stopped "TERM to all ranks"
start_np 2 "${run[@]}" run_dir="$dir"
until_step "$dir" 3
kill -USR1 "$job"
stopped "USR1 to mpirun"
# TERM to mpirun itself is mpirun's own way to end a job: whatever is lost, the next start goes on
start_np 2 "${run[@]}" run_dir="$dir"
until_step "$dir" 3
kill -TERM "$job"
ended 1 "TERM to mpirun"
ok "to the end" np 2 "${run[@]}" run_dir="$dir"
grep -q "resuming from" "$work/out" || [ -e "$dir/final.pb" ] || broken "the last start did not resume"
ok "undisturbed" np 2 "${run[@]}" run_dir="$work/whole"
same "$work/whole/final.pb" "$dir/final.pb" "stopped five times"
same "$work/whole/history.csv" "$dir/history.csv" "history after five stops"
[ "$(steps_in "$dir")" = "$(steps_in "$work/whole")" ] || fail "a step is missing or there twice in log.jsonl"

# in the middle of an epoch that has no end in sight, with no evaluation to be noticed in
dir=$work/middle
start_np 2 "$work/config.yaml" run_dir="$dir" "phases=[{name: head, epochs: 1}]" data.validation=null data.train.samples=1000000 \
  cache.mode=off log.verbose=0
until_step "$dir" 3
kill -USR1 "$(rank_of "$dir" 1)"
stopped "USR1 in the middle of an epoch"
[ "$(steps_in "$dir")" -lt 100000 ] && ls "$dir"/ckpt-e0000-s*.pb >/dev/null || fail "the epoch was not left in its middle"

# its terminal is closed; under nohup, which ignores that, it goes on
dir=$work/terminal
start "$DFT" "${run[@]}" run_dir="$dir"
until_step "$dir" 3
kill -HUP "$job"
stopped "HUP"
start env --ignore-signal=HUP "$DFT" "${run[@]}" run_dir="$dir"
until_step "$dir" 3
kill -HUP "$job"
until_step "$dir" 5
kill -TERM "$job"
stopped "TERM after an ignored HUP"

# in an evaluation that would take long: it is left, and done by the next start
dir=$work/evaluation
long=("$work/config.yaml" run_dir="$dir" "phases=[{name: head, epochs: 1}]" checkpoint.every_steps=3
  data.validation.samples=40000)
start_np 2 "${long[@]}"
until_true 60 "the last step's checkpoint" test -e "$dir/ckpt-e0000-s00000003.pb"
sleep 0.2
begin=$SECONDS
kill -TERM "$(rank_of "$dir" 1)"
stopped "TERM in the evaluation"
[ $((SECONDS - begin)) -le 5 ] || fail "leaving an evaluation took $((SECONDS - begin)) s"
[ ! -e "$dir/final.pb" ] || fail "a stopped evaluation counts as done"
ok "evaluation at last" np 3 "${long[@]}"
ok "undisturbed" np 2 "${long[@]}" run_dir="$work/whole_evaluation"
same "$work/whole_evaluation/final.pb" "$dir/final.pb" "stopped in the evaluation"

# USR1 never escalates; TERM does when it comes again 2 s later, not sooner
dir=$work/slow
start "$DFT" "$work/config.yaml" run_dir="$dir" model.input_shape=[224,224,3] data.batch_size=4000 data.train.samples=4000 \
  cache.mode=off
until_true 60 "the start" test -s "$dir/log.jsonl"
alive() { kill -0 "$job" 2>/dev/null || broken "$1 ended the run at once"; }
kill -USR1 "$job"
sleep 2.2
kill -USR1 "$job"
kill -TERM "$job"
sleep 0.5
kill -INT "$job"
sleep 0.3
alive "USR1 twice, TERM and an early INT"
sleep 1.5
kill -TERM "$job"
begin=$SECONDS
ended 143 "TERM again after 2 s"
[ $((SECONDS - begin)) -le 1 ] || fail "the second TERM took $((SECONDS - begin)) s"
echo "signals save and stop"
