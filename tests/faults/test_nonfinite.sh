#!/usr/bin/env bash
# A batch that is not finite: all ranks stop at the same step with its samples named and the last good state kept; or, with
# on_nonfinite: skip, pass it over, the same way at any rank count and after a resume, up to ten times in a row.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
small_config "$work/none" >"$work/config.yaml"
sample_bytes=$((33 * 40 * 3 * 4))
npy() { # DESCR SHAPE: the first 128 bytes of an .npy file
  printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '$1', 'fortran_order': False, 'shape': $2, }"
}
images() { # FILE COUNT BAD...: zeros, but NaN in the numbered samples
  local file=$1 count=$2 i
  shift 2
  { npy '<f4' "($count, 33, 40, 3)" && head -c $((count * sample_bytes)) /dev/zero; } >"$file"
  for i; do
    head -c $sample_bytes /dev/zero | tr '\0' '\377' |
      dd of="$file" bs=$sample_bytes seek=$((128 + i * sample_bytes)) oflag=seek_bytes conv=notrunc status=none
  done
}
images "$work/some.npy" 24 17
images "$work/all.npy" 24 $(seq 0 23)
{ npy '|u1' '(24,)' && printf '\0\1\2%.0s' 1 2 3 4 5 6 7 8; } >"$work/labels.npy"
run=("$work/config.yaml" data.format=npy data.validation=null data.shuffle=false checkpoint.every_steps=1)
some="data.train={images: $work/some.npy, labels: $work/labels.npy}"
all="data.train={images: $work/all.npy, labels: $work/labels.npy}"

# sample 17 is in the second batch, 10..19
for ranks in 1 3; do
  dir=$work/abort$ranks
  expect 70 "step 2 (epoch 1): the loss is not finite" np_quiet $ranks "${run[@]}" "$some" run_dir="$dir"
  grep -q "[ :]some.npy\[10\].*some.npy\[19\]" "$work/out" || broken "the batch's samples are not named"
  ! grep -q "some.npy\[20\]" "$work/out" || broken "samples of another batch are named"
  newest=$(ls "$dir"/*.pb)
  [ "$newest" = "$dir/ckpt-e0000-s00000001.pb" ] || fail "not only the last good state is kept: $newest"
  "$DFT" inspect "$newest" >"$work/out" || broken "the kept state is not good"
  ! grep -qi "nan" "$work/out" || broken "the kept state is not finite"
done
same "$work/abort1/ckpt-e0000-s00000001.pb" "$work/abort3/ckpt-e0000-s00000001.pb" "the last good state at np 1 and 3"
# in the last, smaller batch, 20..23
images "$work/late.npy" 24 22
expect 70 "step 3 (epoch 1): the loss is not finite" "$DFT" "${run[@]}" run_dir="$work/late" \
  data.train="{images: $work/late.npy, labels: $work/labels.npy}"
grep -q ": late.npy\[20\], late.npy\[21\], late.npy\[22\], late.npy\[23\]$" "$work/out" ||
  broken "not the samples of the last batch"
# skipped: once per epoch, and more than ten times in all, for it is those in a row that end a run
for ranks in 1 3; do
  dir=$work/skip$ranks
  expect 0 "skipped: step 2 (epoch 1): the loss is not finite" np_quiet $ranks "${run[@]}" "$some" run_dir="$dir" \
    on_nonfinite=skip checkpoint.keep=100 phases.0.epochs=9
  [ "$(grep -c "skipped: step" "$work/out")" = 11 ] || broken "not one batch skipped per epoch"
done
same "$work/skip1/final.pb" "$work/skip3/final.pb" "skipping at np 1 and 3"
! grep -qi "nan" "$work/skip1/history.csv" || fail "a skipped batch is in the history"
# nothing but such batches: ten are skipped, also when the run was stopped between them; the next one ends the run
dir=$work/bound
expect 70 "after 10 skipped steps in a row: step 11 (epoch 4)" np_quiet 2 "${run[@]}" "$all" run_dir="$dir" on_nonfinite=skip \
  phases.0.epochs=6
mkdir "$work/resumed"
cp "$dir"/ckpt-*.pb "$work/resumed/"
expect 70 "after 10 skipped steps in a row: step 11 (epoch 4)" np_quiet 3 "${run[@]}" "$all" run_dir="$work/resumed" \
  on_nonfinite=skip phases.0.epochs=6
[ ! -e "$dir/final.pb" ] && [ ! -e "$dir/best.pb" ] || fail "a run that learnt nothing has a best state"
# one in the validation data: no epoch is the best by its loss, rather than all by their training's; JSON has no NaN; a
# prediction names it and predicts the others
images "$work/good.npy" 24
good="data.train={images: $work/good.npy, labels: $work/labels.npy}"
tainted="data.validation={images: $work/some.npy, labels: $work/labels.npy}"
dir=$work/validation
expect 0 "epoch 1: val_loss is not finite" np_quiet 2 "${run[@]}" "$good" "$tainted" run_dir="$dir"
[ "$(grep -c "^dft.*warning: epoch" "$work/out")" = 3 ] || broken "not one line per epoch"
[ -e "$dir/final.pb" ] && [ ! -e "$dir/best.pb" ] || fail "an epoch without a finite val_loss is the best"
expect 0 "" "$DFT" eval "$dir/final.pb" "${run[@]}" "$good" "$tainted" --json "$work/eval.json"
grep -q '"loss": null, "accuracy": 0' "$work/eval.json" || fail "no JSON: $(cat "$work/eval.json")"
for ranks in 1 3; do
  expect 65 "some.npy[17]: its values give probabilities that are not finite" np_quiet $ranks predict "$dir/final.pb" \
    "$work/some.npy" --output "$work/p$ranks.csv"
  [ "$(grep -c ',,,,,$' "$work/p$ranks.csv")" = 1 ] || fail "not one empty row"
done
same "$work/p1.csv" "$work/p3.csv" "predictions at np 1 and 3"
echo "what is not finite ends the run or is skipped"
