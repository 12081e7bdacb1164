#!/usr/bin/env bash
# Photos in folders, in tar shards packed from them, and as arrays: one result. Files that cannot be read leave
# their batch on all ranks alike; dft check lists them.
source "$DFT_SOURCE/tests/common.sh"
export OMP_NUM_THREADS=1
[ -e /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz ] || skip "no Fashion-MNIST (Debian's dataset-fashion-mnist)"
for python in python3 /usr/bin/python3 none; do
  "$python" -c 'import PIL' 2>/dev/null && break
done
[ "$python" != none ] || skip "no Python with Pillow (Debian's python3-pil)"
"$python" "$DFT_SOURCE/tests/photos/make_photos.py" "$work" 20 10 || fail "make_photos.py"

config=$work/photos.yaml
cat >"$config" <<END
seed: 7
run_dir: $work/folder
model: {alpha: 0.35, input_shape: [32, 40, 3], classes: 3, dropout: 0.1}
data:
  format: image_folder
  batch_size: 8
  train: {path: $work/train}
  validation: {path: $work/validation}
phases:
  - {name: head, epochs: 1}
  - {name: tail, unfreeze_last: 20, epochs: 1, optimizer: {name: adam, learning_rate: 0.0001}}
log: {verbose: 2, tensorboard: false}
END
weights() { expect 0 "" "$DFT" export "$work/$1/final.pb" "$work/$1.weights.h5"; }
same_weights() { # RUN RUN WHAT
  weights "$1" && weights "$2"
  same "$work/$1.weights.h5" "$work/$2.weights.h5" "$3"
  same "$work/$1/history.csv" "$work/$2/history.csv" "$3"
}

# one folder, any number of ranks
ok "folder at np 1" np 1 "$config"
ok "folder at np 4" np 4 "$config" run_dir="$work/folder4"
same "$work/folder/final.pb" "$work/folder4/final.pb" "folder at np 4"
same "$work/folder/history.csv" "$work/folder4/history.csv" "folder at np 4"
expect 0 "Ankle boot" "$DFT" inspect "$work/folder/final.pb"

# packed: the same bytes each time, the same result
expect 0 "60 samples of 3 classes in 3 shards" "$DFT" pack "$work/train" "$work/shards" --shard-samples 25
expect 0 "60 samples of 3 classes in 3 shards" "$DFT" pack "$work/train/" "$work/again" --shard-samples 25
expect 0 "30 samples of 3 classes in 1 shard" "$DFT" pack "$work/validation" "$work/deep/valid"
diff -r "$work/shards" "$work/again" >&2 || fail "packed twice, and not the same"
[ "$(cat "$work/shards/classes.txt")" = "$(printf 'Ankle boot\nTrouser\nbag')" ] || fail "classes.txt"
mkdir "$work/unpacked"
for shard in "$work"/shards/*.tar; do tar -xf "$shard" -C "$work/unpacked" || fail "tar cannot read $shard"; done
[ "$(find "$work/unpacked" -name '*.cls' | wc -l)" = 60 ] || fail "not 60 labels"
while IFS=, read -r key class file; do # bytes as they were, under their key
  [ "$key" = key ] || cmp "$work/train/$file" "$work/unpacked/$key.$(echo "${file##*.}" | tr A-Z a-z)" || fail "$class $file"
done <"$work/shards/samples.csv"
mkdir "$work/links"
for file in "$work"/unpacked/*.cls; do cp "$file" "$work/links/1.cls" && break; done
for file in "$work/train"/bag/*.PNG; do cp "$file" "$work/links/0.data" && break; done
ln "$work/links/0.data" "$work/links/1.png"
tar -cf "$work/links.tar" -C "$work/links" 0.data 1.cls 1.png
expect 65 "links.tar: 1.cls has no image beside it (links are not followed" "$DFT" check "$config" data.format=tar data.train.path="$work/links.tar"
ln "$work/links/1.cls" "$work/links/2.cls"
ln "$work/links/0.data" "$work/links/2.png"
tar -cf "$work/links.tar" -C "$work/links" 0.data 1.cls --transform 's/^1[.]cls$/1.data/' 2.cls 2.png
expect 65 "links.tar: 2 is made of links (links are not followed" "$DFT" check "$config" data.format=tar data.train.path="$work/links.tar"
ok "tar at np 2" np 2 "$config" run_dir="$work/tar" data.format=tar data.train.path="$work/shards/shard-{000000..000002}.tar" \
  data.validation.path="$work/deep/valid"
same_weights folder tar "from tar shards"
expect 2 "is not empty" "$DFT" pack "$work/train" "$work/shards"
expect 2 "usage: dft pack" "$DFT" pack "$work/train"
expect 2 "name is empty" "$DFT" pack "$work/train" ""
expect 2 "--shard-mb needs a number" "$DFT" pack "$work/train" "$work/more" --shard-mb 0
expect 65 "absent" "$DFT" pack "$work/absent" "$work/more"
: >"$work/file"
expect 74 "$work/file" "$DFT" pack "$work/train" "$work/file/more"

# arrays of the same pixels
ok "npy" np 1 "$config" run_dir="$work/npy" data.format=npy "model.class_names=[Ankle boot, Trouser, bag]" \
  "data.train={images: $work/train-images.npy, labels: $work/train-labels.npy}" \
  "data.validation={images: $work/validation-images.npy, labels: $work/validation-labels.npy}"
same_weights folder npy "from arrays"

# a split, a subset, limits: of a folder as of anything else
ok "subset" np 3 "$config" run_dir="$work/subset" model.classes=2 "data.classes_subset=[2, 0]" "data.validation={split: 0.25}" \
  data.limit_per_class=9
grep -q "18 training, 10 validation" "$work/out" || { cat "$work/out" >&2; fail "subset: other samples"; }

ln -s nowhere "$work/train/bag/zzz.jpg" # the last sample is not to be had: nothing is left behind
expect 65 "zzz.jpg: cannot open" "$DFT" pack "$work/train" "$work/more" --shard-samples 25
[ -z "$(ls -A "$work/more")" ] || fail "left behind: $(ls -A "$work/more")"
rm "$work/train/bag/zzz.jpg"
(ulimit -f 16 && expect 74 "shard-000000.tar: cannot write: File too large" "$DFT" pack "$work/train" "$work/more") || exit 1
[ -z "$(ls -A "$work/more")" ] || fail "left behind by a full disk: $(ls -A "$work/more")"

# files that cannot be read
expect 0 "training: 60 samples, 0 unreadable, 0 suspicious" "$DFT" check "$config"
cp -r "$work/train" "$work/bad"
: >"$work/bad/bag/0.jpg"
echo "this is text" >"$work/bad/Trouser/0.png"
for file in "$work/bad/Ankle boot"/*.webp; do truncate -s 100 "$file" && break; done
for file in "$work/bad"/bag/*.PNG; do cp "$file" "$work/bad/bag/0000.jpeg" && break; done
ln -s nowhere "$work/bad/bag/00.gif"
for file in "$work/bad"/bag/*.PNG; do cp "$file" "$work/bad/in-no-class.png" && break; done
touch "$work/bad/Trouser/IMG_1.HEIC" "$work/bad/Trouser/notes.txt" "$work/bad/Trouser/.hidden"
bad=(data.train.path="$work/bad")
expect 65 "4 samples are unreadable" "$DFT" check "$config" "${bad[@]}" data.on_corrupt=fail
for words in "unreadable: $work/bad/bag/0.jpg: zero bytes" "unreadable: $work/bad/Trouser/0.png: not an image" \
  "unreadable: $work/bad/Ankle boot/" "unreadable: $work/bad/bag/00.gif: cannot open" \
  "note: 3 files were passed over for their names or places, as Trouser/IMG_1.HEIC" "warning: $work/bad/bag/0000.jpeg: named .jpeg, but its content is PNG" "training: 64 samples, 4 unreadable, 1 suspicious"; do
  grep -qF -- "$words" "$work/out" || { cat "$work/out" >&2; fail "check does not say: $words"; }
done
cp "$work/out" "$work/check1"
expect 65 "" "$DFT" check "$config" "${bad[@]}" data.threads=4
same "$work/check1" "$work/out" "check with 4 threads"
expect 65 "validation: " "$DFT" check "$config" "${bad[@]}" "data.validation={split: 0.25}"
[ "$(grep -c "passed over" "$work/out")" = 1 ] || { cat "$work/out" >&2; fail "check: files passed over are not told once"; }
for ranks in 1 4; do
  ok "skip at np $ranks" np $ranks "$config" "${bad[@]}" run_dir="$work/bad$ranks"
  grep -q "left out: $work/bad/bag/0.jpg: zero bytes" "$work/out" || { cat "$work/out" >&2; fail "np $ranks: not told"; }
done
same "$work/bad1/final.pb" "$work/bad4/final.pb" "unreadable samples at np 4"
expect 65 "bag/0.jpg: zero bytes" np_quiet 3 "$config" "${bad[@]}" run_dir="$work/fails" data.on_corrupt=fail
rm "$work/bad/bag/0.jpg"
expect 65 "$work/bad/" np_quiet 3 "$config" "${bad[@]}" run_dir="$work/fails" data.on_corrupt=fail
ls "$work"/fails/*.pb >/dev/null 2>&1 && fail "a failed run left checkpoints"

# the shipped config, made small
ok "configs/photos.yaml" np 2 "$DFT_SOURCE/configs/photos.yaml" run_dir="$work/shipped" data.train.path="$work/train" model.classes=3 \
  model.weights=none model.alpha=0.35 "model.input_shape=[32, 32, 3]" phases.0.epochs=1 phases.1.epochs=1 cache.views=2
expect 0 "$work/validation/Trouser/" "$DFT" predict "$work/shipped/best.pb" "$work/validation" --top 1
[ "$(wc -l <"$work/out")" = 31 ] || { cat "$work/out" >&2; fail "predict: not a line for each photo"; }

# other data, other classes
expect 2 "was trained on other data" np_quiet 2 "$config" "${bad[@]}" run_dir="$work/bad1" phases.1.epochs=2
cp -r "$work/validation" "$work/less"
rm "$(find "$work/less" -type f | head -1)"
expect 2 "was measured on another data.validation" np_quiet 2 "$config" run_dir="$work/folder" data.validation.path="$work/less" \
  phases.1.epochs=2
expect 65 "3 class folders (Ankle boot, Trouser, bag), but model.classes is 5" np_quiet 3 "$config" model.classes=5
ok "eval" np 2 eval "$work/folder/final.pb" "$config" --json "$work/eval.json"
grep -q '"samples": 30, "left_out": 0' "$work/eval.json" || { cat "$work/eval.json" >&2; fail "eval: not each sample once"; }
mv "$work/train/bag" "$work/train/Bag" && mv "$work/validation/bag" "$work/validation/Bag"
expect 65 "validation: the class folder 'bag' is missing, which $work/folder/final.pb has" np_quiet 3 eval "$work/folder/final.pb" "$config"
mv "$work/train/Bag" "$work/train/bag" && mv "$work/validation/Bag" "$work/validation/bag"
rm -r "$work/validation/bag"
expect 65 "the class folder 'bag' is missing" np_quiet 3 "$config" run_dir="$work/none"
echo "folders, shards and arrays give one result; unreadable files are told and left out"
