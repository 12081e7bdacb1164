#!/usr/bin/env bash
# The commands around training: plan, check, eval, predict, export, inspect, pack.
source "$DFT_SOURCE/tests/common.sh"
export OMP_NUM_THREADS=1
small_config "$work/run" >"$work/config.yaml"
config=$work/config.yaml
ok "train" np 2 "$config" checkpoint.every_epochs=2
final=$work/run/final.pb
for epoch in 2 3; do
  ls "$work/run/ckpt-e000$epoch-"*.pb >"$work/out" || fail "epoch $epoch has no numbered checkpoint"
done
! ls "$work/run/"ckpt-e0001-*.pb 2>"$work/out" || fail "every second epoch is numbered, over all phases"
[ "$(cut -d, -f7 "$work/run/history.csv" | tr '\n' ' ')" = "learning_rate 0.001 0.0001 0.001 " ] || fail "history: not each phase's rate"
# emulated, bfloat16 costs time
expect 0 "bfloat16 is no faster than float32 with kernels portable" env DFT_KERNELS=portable "$DFT" "$config" run_dir="$work/bfloat16" \
  compute.prefix=bfloat16

ok "train of many classes" "$DFT" "$config" run_dir="$work/many" model.classes=101 "phases=[{name: head, epochs: 1}]" >/dev/null
expect 0 "101 classes are too many for a table" "$DFT" eval "$work/many/final.pb" "$config" model.classes=101

# plan: Keras' unfreeze_last 20 cuts in the middle of block 15; only what learns travels
expect 0 "MobileNetV2 alpha 0.35" "$DFT" plan "$config"
grep -Eq "^block_15_expand +2x2x336 .* frozen +frozen \(tail\) +train *$" "$work/out" || fail "plan: block_15_expand"
grep -Eq "^block_15_expand_BN .* moving stats +train, batch +train, batch" "$work/out" || fail "plan: block_15_expand_BN"
grep -q "^frozen: .*; frozen (tail): " "$work/out" || fail "plan: no legend"
grep -q "gradients per step        15372 bytes" "$work/out" || fail "plan: (1280+1)*3*4 bytes in the head's phase"
# rows from other hosts: per view, which has been on one host for each earlier epoch that used it, on the way or for itself
while read -r views head tail rows; do
  expect 0 "rows per image over the phase: $rows on 2 hosts" "$DFT" plan "$config" data.augment.flip=horizontal cache.views="$views" \
    phases.0.epochs="$head" phases.1.epochs="$tail"
done <<END
8 8 4 2.00
8 2 8 1.00
3 4 4 1.75
1 2 2 0.75
END
expect 0 "rows per image over the phase: 0.75 on 2 hosts" "$DFT" plan "$config" phases.0.epochs=9 phases.1.epochs=2
expect 0 "rows per image over the phase: 2.00 on 2 hosts, 3.50 on 8 hosts" "$DFT" plan "$DFT_SOURCE/configs/photos.yaml"

expect 0 "training: 24 samples, 0 unreadable" "$DFT" check "$config"
expect 0 "tensors by name; head: from the file" "$DFT" check "$config" model.weights="$final"
# what would surprise is told
expect 0 "phase 'tail' unfreezes no layer with weights, but for those that batch_norm: frozen keeps out: only the head trains" \
  "$DFT" check "$config" batch_norm=frozen phases.1.unfreeze_last=0 "phases.1.unfreeze=[bn_*]"
! grep -q "phase 'all' unfreezes" "$work/out" || fail "check: a phase that trains is said to train nothing"
expect 0 "classes 0, 1, … are the data's 1, 3, …; model.class_names names them" "$DFT" check "$DFT_SOURCE/configs/5class.yaml" \
  model.class_names=null data.limit_per_class=2 data.validation=null
# what training refuses is refused before any data is read
for command in plan check train; do
  data=()
  [ $command = train ] || data=(data.format=image_folder "data.train={path: $work/absent}" data.validation=)
  expect 2 "nolayer*" "$DFT" $command "$config" "${data[@]}" run_dir="$work/refused" "phases.0.unfreeze=[nolayer*]"
done
for words in "absent.h5" "$final model.alpha=0.5"; do
  expect 65 "model.weights cannot be used, as said above" "$DFT" check "$config" model.weights=$words
  grep -q "^unusable: .*${words%% *}: " "$work/out" || fail "check: $words is not named"
  grep -q "^training: 24 samples, 0 unreadable" "$work/out" || fail "check: bad weights end it"
done

# eval: integer counts, the same at every np, and the history's last validation
for ranks in 1 2 3 8; do
  ok "eval at np $ranks" np $ranks eval "$final" "$config" --json "$work/eval$ranks.json"
  grep -v "^dft: warning" "$work/out" >"$work/eval$ranks.txt"
  same "$work/eval1.json" "$work/eval$ranks.json" "eval at np $ranks"
  same "$work/eval1.txt" "$work/eval$ranks.txt" "eval at np $ranks"
done
grep -q '"samples": 11,' "$work/eval1.json" || fail "not each sample once"
history=$(tail -1 "$work/run/history.csv" | cut -d, -f5)
measured=$(sed 's/.*"accuracy": \([0-9.]*\).*/\1/' "$work/eval1.json")
awk -v a="$history" -v b="$measured" 'BEGIN {d = a - b; exit !(d < 1e-6 && d > -1e-6)}' ||
  fail "eval's accuracy $measured is not the history's $history"
# averages: of the table's own rows, and of the confusion matrix for the weighted recall, which is the accuracy
awk '$1 ~ /^[0-2]$/ && NF == 5 {p += $2; r += $3; f += $4; wp += $2 * $5; wr += $3 * $5; wf += $4 * $5; n += $5}
  /^macro average/ {found++; bad += off($3, p / 3) + off($4, r / 3) + off($5, f / 3) + ($6 != n)}
  /^weighted average/ {found++; bad += off($3, wp / n) + off($4, wr / n) + off($5, wf / n) + ($6 != n)}
  function off(a, b) { return a - b > 1e-4 || b - a > 1e-4 }
  END {exit found != 2 || bad > 0}' "$work/eval1.txt" || { cat "$work/eval1.txt" >&2; fail "averages"; }
# the table's precision, recall and support are those of the matrix
sed 's/.*"confusion": \[\[//; s/\]\]}//; s/\], \[/\n/g' "$work/eval1.json" | tr -d ',' >"$work/matrix"
awk 'NR == FNR {for (i = 1; i <= NF; i++) {row[NR - 1] += $i; column[i - 1] += $i}; both[NR - 1] = $NR; next}
  $1 ~ /^[0-2]$/ && NF == 5 {found++; bad += off($2, column[$1]) + off($3, row[$1]) + ($5 != row[$1])}
  function off(a, whole, d) { d = a - (whole > 0 ? both[$1] / whole : 0); return d > 1e-4 || d < -1e-4 }
  END {exit found != 3 || bad > 0}' "$work/matrix" "$work/eval1.txt" || { cat "$work/matrix" "$work/eval1.txt" >&2; fail "table and matrix"; }
weighted=$(sed 's/.*"weighted": {"precision": [^,]*, "recall": \([^,]*\),.*/\1/' "$work/eval1.json")
awk -v a="$weighted" -v b="$measured" 'BEGIN {d = a - b; exit !(d < 1e-12 && d > -1e-12)}' ||
  fail "the weighted recall $weighted is not the accuracy $measured"
expect 2 "data.preprocessing: unit, but" "$DFT" eval "$final" "$config" data.preprocessing=unit
expect 2 "model.alpha: 1, but" "$DFT" eval "$final" "$config" model.alpha=1
expect 2 "model.pooling: max, but" "$DFT" eval "$final" "$config" model.pooling=max
expect 2 "data.resize: pad, but" "$DFT" eval "$final" "$config" data.resize=pad
# classes that were only numbered in training may have any names
mkdir -p "$work/photos/"{"a,b",c,d}
for class in "a,b" c d; do cp "$DFT_SOURCE/tests/golden/data/images/"{rgb,grey}.png "$work/photos/$class/"; done
photos=("$config" data.format=image_folder data.train="{path: $work/photos}" data.validation="{path: $work/photos}")
expect 0 "samples 6" "$DFT" eval "$final" "${photos[@]}"
# pack: at most so many samples in a shard; RFC 4180's quotes
expect 0 "6 samples of 3 classes in 3 shards" "$DFT" pack "$work/photos" "$work/shards" --shard-samples 2
[ "$(sed -n 2p "$work/shards/samples.csv")" = '00000000,"a,b","a,b/grey.png"' ] || fail "samples.csv: $(sed -n 2p "$work/shards/samples.csv")"

# predict: 7 images of bytes; the same table and array at every np; rows sum to 1
printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': (7, 20, 30, 3), }" >"$work/x.npy"
head -c $((7 * 20 * 30 * 3)) "$DFT" >>"$work/x.npy"
for ranks in 1 3 8; do
  ok "predict at np $ranks" np $ranks predict "$final" "$work/x.npy" --output "$work/p$ranks.csv"
  ok "predict at np $ranks" np $ranks predict "$final" "$work/x.npy" "$work/x.npy" --output "$work/p$ranks.npy"
  same "$work/p1.csv" "$work/p$ranks.csv" "predict at np $ranks"
  same "$work/p1.npy" "$work/p$ranks.npy" "predict at np $ranks"
done
[ "$(head -1 "$work/p1.csv")" = "input,predicted,probability,0,1,2" ] || fail "header: $(head -1 "$work/p1.csv")"
[ "$(wc -l <"$work/p1.csv")" = 8 ] || fail "not 7 rows"
awk -F, 'NR>1 {s=$4+$5+$6; if (s<0.999999||s>1.000001) exit 1}' "$work/p1.csv" || fail "probabilities do not sum to 1"
[ "$(stat -c %s "$work/p1.npy")" = $((128 + 14 * 3 * 4)) ] || fail "size of the .npy: $(stat -c %s "$work/p1.npy")"
expect 2 ".csv or .npy" "$DFT" predict "$final" "$work/x.npy" --output "$work/p.txt"
expect 65 "absent.npy" "$DFT" predict "$final" "$work/absent.npy"

# of epochs that are equally good the first is the best; an export is the model alone, whatever epoch its checkpoint was in
for monitor in val_loss val_accuracy; do
  expect 0 "" "$DFT" "$config" run_dir="$work/$monitor" checkpoint.monitor=$monitor checkpoint.every_steps=1 checkpoint.keep=100 \
    "phases=[{name: still, epochs: 2, optimizer: {name: sgd, learning_rate: 0.0}}]" model.dropout=0
  expect 0 " in epoch 1" "$DFT" inspect "$work/$monitor/best.pb"
done
for step in 1 2; do expect 0 "" "$DFT" export "$work/val_loss/ckpt-e0000-s0000000$step.pb" "$work/step$step.pb"; done
same "$work/step1.pb" "$work/step2.pb" "exports of one model from different steps"

# export and back: a run that starts from the exported weights has the same evaluation
for kind in pb h5 weights.h5 onnx safetensors; do
  expect 0 "" "$DFT" export "$final" "$work/model.$kind"
  ok "train from .$kind" np 1 "$config" run_dir="$work/from.$kind" model.weights="$work/model.$kind" \
    "phases=[{name: still, epochs: 1, optimizer: {name: sgd, learning_rate: 0.0}}]" model.dropout=0
  grep -q "head: from the file" "$work/out" || { cat "$work/out" >&2; fail "$kind: the head did not come along"; }
  ok "eval from .$kind" np 1 eval "$work/from.$kind/final.pb" "$config" --json "$work/from.$kind.json"
  sed 's/"checkpoint": "[^"]*"//' "$work/from.$kind.json" >"$work/a.json"
  sed 's/"checkpoint": "[^"]*"//' "$work/eval1.json" >"$work/b.json"
  same "$work/b.json" "$work/a.json" "weights through .$kind"
  expect 0 "" "$DFT" export "$final" "$work/base.$kind" --no-head
  ok "train from headless .$kind" np 1 "$config" run_dir="$work/base.$kind.run" model.weights="$work/base.$kind" phases.1.epochs=1
  grep -q "head: starts fresh, the file has no head" "$work/out" || { cat "$work/out" >&2; fail "$kind: a head out of nothing"; }
done
# weights: imagenet is the file that Keras caches, by Keras' name: square inputs of 96, 128 ... 224 have their own, others 224's
mkdir -p "$work/keras/models" "$work/home/.keras/models"
for size in 96 224; do
  cp "$work/base.h5" "$work/keras/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_${size}_no_top.h5"
done
export KERAS_HOME=$work/keras
ok "imagenet" np 2 "$config" run_dir="$work/imagenet" model.weights=imagenet
grep -q "kernels_0.35_224_no_top.h5: 260 tensors by name; head: starts fresh" "$work/out" ||
  { cat "$work/out" >&2; fail "imagenet: not the file for other sizes"; }
ok "imagenet 96" np 1 "$config" run_dir="$work/imagenet96" model.weights=imagenet model.input_shape="[96, 96, 3]" phases.2.epochs=1
grep -q "kernels_0.35_96_no_top.h5: 260 tensors" "$work/out" || fail "imagenet: not the file for 96"
for shape in 96,128 128,96; do
  expect 0 "kernels_0.35_224_no_top.h5: 260 tensors" "$DFT" check "$config" model.weights=imagenet \
    model.input_shape="[$shape,3]"
done
unset KERAS_HOME
mv "$work/keras/models/"*_224_* "$work/home/.keras/models/"
HOME=$work/home ok "imagenet at home" np 1 "$config" run_dir="$work/home.run" model.weights=imagenet
grep -q "$work/home/.keras/models/mobilenet_v2" "$work/out" || fail "imagenet: not in ~/.keras/models"
expect 0 "finished: 3 epochs" "$DFT" inspect "$final"
expect 0 "exported after 3 epochs" "$DFT" inspect "$work/model.pb"
echo "plan, check, eval, predict, export and inspect agree"
