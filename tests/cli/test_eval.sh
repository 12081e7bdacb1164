#!/usr/bin/env bash
# dft eval where only the test set is: the same numbers as with the training data, and the same refusals.
source "$DFT_SOURCE/tests/common.sh"
export OMP_NUM_THREADS=1
images=$DFT_SOURCE/tests/golden/data/images
small_config "$work/run" >"$work/config.yaml"
cd "$work" || exit 1

mkdir -p train/{ant,bee,cat,dog} test/{ant,bee,cat,dog}
for class in ant bee cat dog; do cp "$images/"{422.jpg,rgb.png,grey.png} train/$class/; done
cp "$images/"{420.jpg,grey.jpg} test/ant/ && cp "$images/"{444.jpg,rgba.png,plain.gif} test/bee/
cp "$images/lossy.webp" test/cat/ && cp "$images/"{cmyk.jpg,core.bmp,palette.png,grey16.png} test/dog/
for set in train test; do
  "$DFT" pack $set shards/$set >/dev/null 2>&1 || fail "pack $set"
  mkdir -p bare/$set && cp shards/$set/*.tar bare/$set/ # without classes.txt
done
npy() { printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': $1, }"; }
mkdir -p arrays/train arrays/test
for set in train test; do
  { npy '(8, 33, 40, 3)' && head -c $((8 * 33 * 40 * 3)) "$DFT"; } >arrays/$set/images.npy
  { npy '(8, 4)' && for _ in 1 2; do printf '\1\0\0\0''\0\1\0\0''\0\0\1\0''\0\0\0\1'; done; } >arrays/$set/labels.npy
done
base=(config.yaml "phases=[{name: head, epochs: 1}]" data.train.samples= data.validation.samples= model.classes=4)
folder=("${base[@]}" data.format=image_folder data.train.path=train data.validation.path=test)
tar=("${base[@]}" data.format=tar data.train.path=shards/train data.validation.path=shards/test)
bare=("${base[@]}" data.format=tar data.train.path=bare/train data.validation.path=bare/test)
arrays=("${base[@]}" data.format=npy "data.train={images: arrays/train/images.npy, labels: arrays/train/labels.npy}"
  "data.validation={images: arrays/test/images.npy, labels: arrays/test/labels.npy}")
take_away() { for set in "" shards/ bare/ arrays/; do mv "${set}train" "${set}away"; done; }
bring_back() { for set in "" shards/ bare/ arrays/; do mv "${set}away" "${set}train"; done; }

# evaluates NAME CONFIG...: trains, and measures what training did, with and without the training data
evaluates() {
  local name=$1
  shift
  expect 0 "" "$DFT" "$@" run_dir="$work/$name"
  expect 0 "" "$DFT" eval "$name/final.pb" "$@" --json "$name.json"
  awk -v history="$(tail -1 "$name/history.csv" | cut -d, -f5,6)" -v json="$(cat "$name.json")" 'BEGIN {
    split(history, h, ","); match(json, /"loss": [^,]*/); loss = substr(json, RSTART + 8, RLENGTH - 8)
    match(json, /"accuracy": [^,]*/); accuracy = substr(json, RSTART + 12, RLENGTH - 12)
    a = h[1] - accuracy; b = h[2] - loss; exit !(a < 1e-5 && a > -1e-5 && b < 1e-5 && b > -1e-5)}' ||
    { tail -1 "$name/history.csv" >&2; cat "$name.json" >&2; fail "$name: not what training measured"; }
  take_away
  expect 0 "" "$DFT" eval "$name/final.pb" "$@" --json alone.json
  ok "eval $name without training data at np 3" np 3 eval "$name/final.pb" "$@" --json alone3.json
  same "$name.json" alone.json "$name without training data"
  same "$name.json" alone3.json "$name without training data at np 3"
  bring_back
}
evaluates sorted "${folder[@]}"
evaluates ordered "${folder[@]}" "model.class_names=[dog, ant, cat, bee]"
evaluates subset "${folder[@]}" data.classes_subset="[3, 1]" model.classes=2
evaluates named "${folder[@]}" data.classes_subset="[3, 1]" model.classes=2 "model.class_names=[dog, bee]"
evaluates limited "${folder[@]}" data.limit_per_class=2 data.limit=5
evaluates tar "${tar[@]}"
evaluates tar_subset "${tar[@]}" data.classes_subset="[2, 0, 1]" model.classes=3
evaluates bare "${bare[@]}"
evaluates arrays "${arrays[@]}"
grep -q '"name": "dog"' sorted.json || fail "no names of classes"
cmp -s sorted.json ordered.json && fail "the order of the classes plays no part here"

# classes in the checkpoint's order; other classes are refused
take_away
expect 0 "samples 10" "$DFT" eval ordered/final.pb "${folder[@]}" --json unordered.json
same ordered.json unordered.json "an order that the checkpoint alone tells"
expect 65 "shards/test: class 0 is 'ant', but 'dog' in ordered/final.pb" "$DFT" eval ordered/final.pb "${tar[@]}"
mv test/cat test/cow
expect 65 "test: the class folder 'cat' is missing, which sorted/final.pb has" np_quiet 3 eval sorted/final.pb "${folder[@]}"
cp -r test/cow test/cat
expect 65 "test: there is a class folder 'cow', which sorted/final.pb does not have" "$DFT" eval sorted/final.pb "${folder[@]}"
expect 65 "data.validation: class 0 is 'cow', but 'dog' in subset/final.pb" "$DFT" eval subset/final.pb "${folder[@]}" \
  data.classes_subset="[3, 1]" model.classes=2
rm -r test/cow
{ npy '(8, 3)' && for _ in 1 2 3 4 5 6 7 8; do printf '\1\0\0'; done; } >arrays/narrow.npy
expect 65 "narrow.npy: one-hot labels of 3 classes, but model.classes is 4" "$DFT" eval arrays/final.pb "${arrays[@]}" \
  data.validation.labels=arrays/narrow.npy

# what needs the training data says so: a split, and names of classes that were numbers in training
expect 65 "train: cannot" "$DFT" eval sorted/final.pb "${folder[@]}" data.validation="{split: 0.25}"
expect 65 "train: cannot" np_quiet 3 eval arrays/final.pb "${folder[@]}"
expect 0 "samples 10" np_quiet 3 eval arrays/final.pb "${folder[@]}" data.train.path=test # its classes are then taken for those of training
bring_back
expect 0 "samples 10" np_quiet 3 eval arrays/final.pb "${folder[@]}"
mv train/cat train/cow
expect 65 "test: the class folder 'cow' is missing, which data.train.path has" np_quiet 3 eval arrays/final.pb "${folder[@]}"
echo "a test set alone is measured as beside the training data"
