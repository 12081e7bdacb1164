#!/usr/bin/env bash
# A run stopped after any epoch, or in the middle of one, and resumed at another rank count ends with the same bytes.
source "$DFT_SOURCE/tests/common.sh"
export OMP_NUM_THREADS=1
small_config "$work/whole" >"$work/config.yaml"
ok "undisturbed" np 2 "$work/config.yaml" checkpoint.keep=100 checkpoint.every_steps=2
# what a slow disk still has to write when training goes on, into the next phase and beyond, is the state then
slowly() { # RANKS KEY...
  timeout -k 5 120 mpirun --oversubscribe --bind-to none -np "$1" -x LD_PRELOAD="$DFT_BUILD/tests/libstop_in_mpi.so" \
    -x SLOW_WRITE_MS=15 "$DFT" "$work/config.yaml" run_dir="$work/slow" checkpoint.keep=100 "${@:2}" >"$work/out" 2>&1
}
for every in every_steps=2 every_epochs=100; do # the latter: best.pb and final.pb
  rm -rf "$work/quick"
  ok "quick disk" np 2 "$work/config.yaml" run_dir="$work/quick" checkpoint.keep=100 checkpoint.$every
  for ranks in 1 2; do
    rm -rf "$work/slow"
    ok "slow disk" slowly $ranks checkpoint.$every
    for state in "$work"/quick/*.pb; do
      same "$state" "$work/slow/$(basename "$state")" "slow disk, np $ranks, $every"
    done
  done
done
# every checkpoint of the undisturbed run is a place to go on from: the first in the middle of the head's phase, where
# each rank has slots of its own
ranks=(3 1 4 2 5 8)
i=0
for state in "$work"/whole/ckpt-*.pb; do
  dir=$work/from$i
  mkdir "$dir"
  cp "$state" "$dir/"
  ok "resume from $(basename "$state")" np ${ranks[$((i % 6))]} "$work/config.yaml" run_dir="$dir" checkpoint.keep=100 \
    checkpoint.every_steps=2
  grep -q "resuming from" "$work/out" || fail "did not resume"
  same "$work/whole/final.pb" "$dir/final.pb" "resumed from $(basename "$state") at np ${ranks[$((i % 6))]}"
  same "$work/whole/history.csv" "$dir/history.csv" "history after $(basename "$state")"
  i=$((i + 1))
done
[ $i -ge 6 ] || fail "only $i checkpoints to resume from"
# a finished run prints its result and exits 0, changing nothing
cp "$work/whole/final.pb" "$work/before.pb"
cp -r "$work/whole" "$work/looked_at"
ok "finished" np 2 "$work/config.yaml"
for file in log.jsonl report.html history.csv train/events.out.tfevents.dft; do
  same "$work/looked_at/$file" "$work/whole/$file" "finished run started again"
done
grep -q "Finished after 3 epochs" "$work/out" || fail "a finished run does not print its result"
same "$work/before.pb" "$work/whole/final.pb" "finished run started again"
# a damaged final.pb is written again
head -c 1000 "$work/before.pb" >"$work/half.pb"
mv "$work/half.pb" "$work/whole/final.pb"
ok "final.pb damaged" np 3 "$work/config.yaml"
same "$work/before.pb" "$work/whole/final.pb" "final.pb that was damaged"
# more epochs in the last phase: as if they had been there from the start
ok "longer, from the start" np 2 "$work/config.yaml" run_dir="$work/long" phases.2.epochs=2
ok "longer, appended" np 3 "$work/config.yaml" phases.2.epochs=2
grep -q "3 ranks share 8 shards unequally: 88 % of them will be busy" "$work/out" || fail "unequal ranks are not told"
same "$work/long/final.pb" "$work/whole/final.pb" "appended epoch"
same "$work/long/history.csv" "$work/whole/history.csv" "history with an appended epoch"
# killed between the last numbered checkpoint and final.pb, which is still the shorter run's
mv "$work/before.pb" "$work/whole/final.pb"
ok "final.pb of fewer epochs" np 1 "$work/config.yaml" phases.2.epochs=2
same "$work/long/final.pb" "$work/whole/final.pb" "final.pb that was of fewer epochs"
# a damaged newest checkpoint is passed over
dir=$work/damaged
mkdir "$dir"
cp "$work"/long/ckpt-*.pb "$dir/"
newest=$(basename "$(ls "$dir"/ckpt-*.pb | tail -1)")
truncate -s -100 "$dir/$newest"
ok "damaged" np 2 "$work/config.yaml" run_dir="$dir" phases.2.epochs=2
grep -q "$newest" "$work/out" || fail "the damaged checkpoint is not named"
same "$work/long/final.pb" "$dir/final.pb" "after a damaged checkpoint"
# elsewhere the best epoch so far has no file: said, for best.pb comes only with a better one
expect 0 "no best.pb in $work/elsewhere: epoch" np_quiet 2 "$work/config.yaml" phases.2.epochs=2 run_dir="$work/elsewhere" \
  checkpoint.resume="$work/whole/final.pb"
# a checkpoint that is named begins a run, but leaves one alone that has begun; best.pb alone is a checkpoint too
expect 0 "checkpoint.resume: $work/whole/final.pb is left alone, for $work/elsewhere has checkpoints of its own" np_quiet 2 \
  "$work/config.yaml" phases.2.epochs=2 run_dir="$work/elsewhere" checkpoint.resume="$work/whole/final.pb"
mkdir "$work/best"
cp "$work/long/best.pb" "$work/best/"
ok "best.pb alone" np 2 "$work/config.yaml" run_dir="$work/best" phases.2.epochs=2
grep -q "resuming from $work/best/best.pb" "$work/out" || fail "best.pb alone is not gone on from"
same "$work/long/final.pb" "$work/best/final.pb" "after best.pb alone"
# what cannot go on is refused, by name
expect 2 "optimizer.learning_rate" np_quiet 2 "$work/config.yaml" phases.2.epochs=2 phases.0.optimizer.learning_rate=0.1
expect 2 "data" np_quiet 2 "$work/config.yaml" phases.2.epochs=3 data.train.samples=25
expect 2 "was trained with distributed.shards 8, the config says 4: set it back" np_quiet 2 "$work/config.yaml" phases.2.epochs=3 \
  distributed.shards=4
expect 2 "resume: none" np_quiet 2 "$work/config.yaml" checkpoint.resume=none
mkdir "$work/best"
cp "$work/whole/best.pb" "$work/best/"
expect 2 "resume: none" np_quiet 1 "$work/config.yaml" run_dir="$work/best" checkpoint.resume=none
expect 2 "8 shards" np_quiet 9 "$work/config.yaml" phases.2.epochs=3
echo "resumed from $i checkpoints"
