#!/usr/bin/env bash
# One run, one result with augmented and mixed images: ranks, threads, resuming, fixed views with the cache on, off, small and in
# files; images that cannot be read.
source "$DFT_SOURCE/tests/common.sh"
export OMP_NUM_THREADS=1
small_config "$work/none" >"$work/config.yaml"
all='data.augment={flip: horizontal, crop: {scale: [0.3, 1]}, rotation: 0.1, zoom: 0.2, translation: 0.1, rand_augment: {num_ops: 2}, '
all+='brightness: 0.2, contrast: 0.3, saturation: 0.4, erasing: {probability: 0.5}}'
# equal NAME A B: two runs with the same final.pb and history.csv
equal() {
  same "$work/$2/final.pb" "$work/$3/final.pb" "$1"
  same "$work/$2/history.csv" "$work/$3/history.csv" "$1"
}
# train NAME NP KEYS...: a run in $work/NAME
train() {
  local name=$1 ranks=$2
  shift 2
  ok "$name" np "$ranks" "$work/config.yaml" run_dir="$work/$name" "$@"
}
train plain 1
# augmented: any ranks and threads
for ranks in 1 2 3 4; do
  train "new$ranks" $ranks "$all"
  equal "augmented, np $ranks" new1 "new$ranks"
done
cmp -s "$work/plain/final.pb" "$work/new1/final.pb" && fail "augmentation changes nothing"
grep -q "Cache: not for training images" "$work/out" || fail "the start does not say that training images are not kept"
OMP_NUM_THREADS=2 train threads 1 "$all"
equal "augmented, 2 threads" new1 threads
# mixed, too
for ranks in 1 3 4; do
  train "mixed$ranks" $ranks "$all" data.augment.mixup=0.3 data.augment.cutmix=1
  equal "mixed, np $ranks" mixed1 "mixed$ranks"
done
train ahead 2 "$all" data.augment.mixup=0.3 data.augment.cutmix=1 data.threads=3
equal "mixed, read ahead by 3 threads" mixed1 ahead
cmp -s "$work/new1/final.pb" "$work/mixed1/final.pb" && fail "mixing changes nothing"
# evaluation never sees it
for keys in "" "$all"; do
  ok "eval" np 1 eval "$work/new1/final.pb" "$work/config.yaml" ${keys:+"$keys" data.augment.mixup=0.3} \
    --json "$work/eval${#keys}.json"
done
same "$work/eval0.json" "$work/eval${#all}.json" "evaluation with augmentation in the config"
# gone on with in the middle of each epoch, at other ranks
train every 2 "$all" data.augment.mixup=0.3 data.augment.cutmix=1 checkpoint.keep=100 checkpoint.every_steps=2
equal "more checkpoints" mixed1 every
ranks=(3 1 4)
i=0
for state in "$work"/every/ckpt-*[248].pb; do
  mkdir "$work/from$i"
  cp "$state" "$work/from$i/"
  train from$i ${ranks[$((i % 3))]} "$all" data.augment.mixup=0.3 data.augment.cutmix=1
  grep -q "resuming from" "$work/out" || fail "did not resume"
  equal "resumed from $(basename "$state")" mixed1 from$i
  i=$((i + 1))
done
[ $i -ge 3 ] || fail "only $i checkpoints in the middle of an epoch"
expect 2 "data.augment.zoom (checkpoint 0.2, now 0.3)" np_quiet 1 "$work/config.yaml" run_dir="$work/every" "$all" \
  data.augment.mixup=0.3 data.augment.cutmix=1 data.augment.zoom=0.3 phases.2.epochs=2
# fixed views: epochs use them in turn, whether the cache keeps them or not
views=("$all" cache.views=2 phases.0.epochs=5)
train views 2 "${views[@]}"
grep -q "frozen work of 59 of 59 images" "$work/out" || fail "the cache does not count 2 views of 24 images and 11 others"
expect 0 "a training image counts as cache.views 2 images" "$DFT" plan "$work/config.yaml" "${views[@]}"
expect 0 "validation images only" "$DFT" plan "$work/config.yaml" "$all"
expect 0 "mixup and cutmix make training images anew" "$DFT" plan "$work/config.yaml" data.augment.mixup=0.2
train views_off 1 "${views[@]}" cache.mode=off
equal "views without cache" views views_off
train views_small 3 "${views[@]}" cache.memory_mb=0
equal "views without room" views views_small
train views_files 2 "${views[@]}" cache.directory="$work/cache"
equal "views in files" views views_files
train views_again 1 "${views[@]}" cache.directory="$work/cache"
equal "views from files" views views_again
grep -q "59 of them there already" "$work/out" || fail "views in files are not found again"
train views_other 1 "${views[@]}" cache.directory="$work/cache" data.augment.zoom=0.3
grep -q "59 of 59 images.* 11 of them there already" "$work/out" || fail "views of another augmentation are taken from files"
train new_longer 2 "$all" phases.0.epochs=5
cmp -s "$work/views/final.pb" "$work/new_longer/final.pb" && fail "2 views are as good as 5"
# images that cannot be read leave the batch, and are nobody's partner
bmp() { # SEED FILE: 32x32, 24 bits
  printf 'BM\x36\x0c\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x20\0\0\0\x20\0\0\0\x01\0\x18\0\0\0\0\0\0\x0c\0\0%016d' 0 | tr 0 '\0' | head -c 54 >"$2"
  seq "$1" 5000 | head -c 3072 >>"$2"
}
for class in a b c; do
  mkdir -p "$work/photos/$class"
  for n in 1 2 3 4 5 6; do bmp "$n${#class}$n" "$work/photos/$class/$n.bmp"; done
done
photos=(data.format=image_folder data.train.samples= data.validation.samples= data.train.path="$work/photos" data.validation=)
photos+=("$all" data.augment.mixup=1 data.batch_size=5)
truncate -s 700 "$work/photos/b/2.bmp"
: >"$work/photos/c/5.bmp"
for ranks in 1 3; do
  train "photos$ranks" $ranks "${photos[@]}"
  equal "corrupt partners, np $ranks" photos1 "photos$ranks"
done
grep -q "2 of 18 training samples cannot be read" "$work/out" || { cat "$work/out"; fail "the two images are not told"; }
for time in first again; do
  train "decoded_$time" 2 "${photos[@]}" data.decoded_cache="$work/decoded"
  equal "decoded images kept, $time" photos1 "decoded_$time"
done
expect 65 "photos/" np_quiet 2 "$work/config.yaml" run_dir="$work/fails" "${photos[@]}" data.on_corrupt=fail
echo "the same bytes at np 1, 2, 3, 4, with 2 threads, resumed $i times, with views cached and not, with corrupt images"
