#!/usr/bin/env bash
# Images that cannot be read are left out as if the batch were smaller: of sums, counts and BatchNorm's statistics, the same at any
# number of ranks, with the cache or without, read ahead or not, wherever the run goes on from. on_corrupt: fail ends it.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
bmp() { # SEED FILE: 24x20, 24 bits
  mkdir -p "${2%/*}"
  printf 'BM\xd6\x05\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x18\0\0\0\x14\0\0\0\x01\0\x18\0\0\0\0\0\xa0\x05\0\0%016d' 0 | tr 0 '\0' | head -c 54 >"$2"
  seq "$1" 5000 | head -c 1440 >>"$2"
}
for n in 01 02 03 04 05 06 07 08 09 10 11; do
  for class in a b c; do bmp "1${#class}$n" "$work/photos/$class/$n.bmp"; done
done
for class in a b c; do bmp 7 "$work/seen/$class/1.bmp"; bmp 9 "$work/seen/$class/2.bmp"; done
cat >"$work/config.yaml" <<END
seed: 7
model: {alpha: 0.35, input_shape: [32, 40, 3], classes: 3, dropout: 0.2}
data: {format: image_folder, batch_size: 7, train: {path: $work/photos}, validation: {path: $work/seen}}
phases:
  - {name: head, epochs: 2}
  - {name: tail, unfreeze_last: 20, epochs: 1, optimizer: {learning_rate: 0.0001}}
  - {name: all, unfreeze: all, epochs: 1, optimizer: {name: sgd, learning_rate: 0.001, momentum: 0.9}}
log: {verbose: 2}
END
train() { # NAME NP KEYS...: a run in $work/NAME
  local name=$1 ranks=$2
  shift 2
  ok "$name" np "$ranks" "$work/config.yaml" run_dir="$work/$name" "$@"
}
equal() { # WHAT A B: two runs with the same final.pb and history.csv
  same "$work/$2/final.pb" "$work/$3/final.pb" "$1"
  same "$work/$2/history.csv" "$work/$3/history.csv" "$1"
}

# The reference: a run that never had the two images. One shard and no shuffling, so that the other samples of the last batch are summed
# in the same order; no dropout, whose random numbers go by the sample's number, which is another one there.
cp -r "$work/photos" "$work/fewer"
rm "$work/fewer/c/09.bmp" "$work/fewer/c/11.bmp"
truncate -s 700 "$work/photos/c/09.bmp"
: >"$work/photos/c/11.bmp"
plain=(distributed.shards=1 data.shuffle=false model.dropout=0)
train with 1 "${plain[@]}" data.batch_size=23
train without 1 "${plain[@]}" data.batch_size=23 data.train.path="$work/fewer"
same "$work/with/history.csv" "$work/without/history.csv" "against a run without the images"
for run in with without; do
  ok export np_quiet 1 export "$work/$run/final.pb" "$work/$run.pb" >/dev/null
  truncate -s -40 "$work/$run.pb" # the data's fingerprint and count, and the checksum: they do differ
done
same "$work/with.pb" "$work/without.pb" "weights against those of a run without the images"
expect 65 "photos/c/" np_quiet 3 "$work/config.yaml" run_dir="$work/fails" data.on_corrupt=fail
# a disk that does not give an image is no image's fault: nothing is left out
expect 74 "photos/a/05.bmp: cannot read: Input/output error" env LD_PRELOAD="$DFT_BUILD/tests/libstop_in_mpi.so" \
  BAD_DISK=photos/a/05.bmp "$DFT" "$work/config.yaml" run_dir="$work/bad_disk"
! grep -q "left out: .*05.bmp" "$work/out" || fail "what the disk does not give is left out"

# Everywhere, in every kind of place: a whole batch of 7 in the order of the files (class b), and validation images.
for n in 05 06 07 08 09 10 11; do echo "no image" >"$work/photos/b/$n.bmp"; done
truncate -s 1000 "$work/seen/b/2.bmp"
train one 1
[ "$(grep -c 'left out: ' "$work/out")" = 10 ] || { cat "$work/out"; fail "not one line for each of 10 images"; }
grep -q "9 of 33 training samples cannot be read and are left out" "$work/out" || fail "no total of training samples"
grep -q "1 of 6 validation samples cannot be read and are left out" "$work/out" || fail "no total of validation samples"
for ranks in 2 3 4; do
  train "np$ranks" $ranks
  [ "$(grep -c 'left out: ' "$work/out")" = 10 ] || { cat "$work/out"; fail "np $ranks: not one line for each of 10 images"; }
  equal "np $ranks" one "np$ranks"
done
train off 3 cache.mode=off data.threads=3
equal "cache off" one off
train little 2 cache.memory_mb=1 data.threads=1
equal "little room in the cache" one little
for round in first again; do
  train "files_$round" 2 cache.directory="$work/cache"
  equal "rows in files, $round run" one "files_$round"
done
train every 2 checkpoint.keep=100 checkpoint.every_epochs=0 checkpoint.every_steps=6
equal "more checkpoints" one every
i=0
for state in "$work"/every/ckpt-*; do
  mkdir "$work/from$i"
  cp "$state" "$work/from$i/"
  train "from$i" $((i % 4 + 1))
  grep -q "resuming from" "$work/out" || fail "did not resume"
  equal "resumed from ${state##*/}" one "from$i"
  grep -q "9 of 33 training samples cannot be read" "$work/out" || fail "resumed from ${state##*/}: another total"
  i=$((i + 1))
done
[ $i = 3 ] || fail "only $i checkpoints"

# batches without a single image that can be read are passed over
for ranks in 1 3; do
  train "whole$ranks" $ranks data.shuffle=false data.batch_size=4 phases.2.epochs=2
  equal "a batch of nothing, np $ranks" whole1 "whole$ranks"
done
grep -q '"step":5,"loss":null' "$work/whole1/log.jsonl" || fail "step 5 has a loss"
grep -q nan "$work/whole1/history.csv" && fail "a batch of nothing leaves a trace"
# where that is all there is, no run calls it a result
mkdir -p "$work/void/"{a,b}
for class in a b; do echo text | tee "$work/void/$class/1.png" >"$work/void/$class/2.png"; done
void=("$work/config.yaml" "data={format: image_folder, batch_size: 3, train: {path: $work/void}, validation: {path: $work/void}}"
  model.classes=2 model.class_names= run_dir="$work/void.run")
for ranks in 1 3; do
  expect 65 "none of the 4 training samples can be read" np_quiet $ranks "${void[@]}"
  [ ! -e "$work/void.run/final.pb" ] || fail "np $ranks: a run that read nothing is finished"
done
for start in first second; do
  expect 65 "none of the 4 training samples can be read" np_quiet 2 "${void[@]}" checkpoint.every_steps=1
  [ ! -e "$work/void.run/final.pb" ] || fail "$start start with checkpoints: a run that read nothing is finished"
done
# what is left out counts for its own epoch: half of the samples in each of four epochs are not all of them
bmp 1 "$work/void/a/1.png"
bmp 2 "$work/void/b/1.png"
expect 0 "2 of 4 training samples cannot be read and are left out" np_quiet 2 "${void[@]}" run_dir="$work/half.run"

# Validation that becomes unreadable is not compared with training's loss; repaired, it goes on as if nothing had been.
mkdir "$work/lost"
cp -r "$work/photos/"? "$work/lost/" && rm "$work/lost/"?/{03,04,05,06,07,08,09,10,11}.bmp
lost=(data.validation.path="$work/lost" checkpoint.every_epochs=0)
train kept 2 "${lost[@]}"
cp -r "$work/lost" "$work/lost.good"
for file in "$work"/lost/?/*; do head -c "$(stat -c %s "$file")" /dev/zero >"$work/zeros" && cp "$work/zeros" "$file"; done
for ranks in 3 1; do
  expect 65 "none of the 6 validation samples can be read; a checkpoint is in $work/found: make them readable" \
    np_quiet $ranks "$work/config.yaml" run_dir="$work/found" "${lost[@]}"
  [ "$(ls "$work/found/"*.pb | wc -l)" = 1 ] && [ ! -e "$work/found/best.pb" ] || fail "np $ranks: not one checkpoint to go on from"
done
cp -r "$work/lost.good/." "$work/lost/"
train found 2 "${lost[@]}"
grep -q "resuming from" "$work/out" || fail "did not go on with repaired validation"
equal "validation that was repaired" kept found
for file in "$work"/lost/?/*; do : >"$file"; done # of another size: nothing was measured on them
expect 65 "none of the 6 validation samples can be read" np_quiet 2 "$work/config.yaml" run_dir="$work/empty" "${lost[@]}"
cp -r "$work/lost.good/." "$work/lost/"
train empty 3 "${lost[@]}"
equal "validation that was empty" kept empty

# dft eval counts what it has seen
for ranks in 1 3; do
  expect 0 "left out, as they cannot be read: 1" np_quiet $ranks eval "$work/one/final.pb" "$work/config.yaml" --json "$work/eval$ranks.json"
done
same "$work/eval1.json" "$work/eval3.json" "eval, np 3"
grep -q '"samples": 5, "left_out": 1' "$work/eval1.json" || fail "eval's counts"
expect 65 "seen/b/2.bmp" np_quiet 2 eval "$work/one/final.pb" "$work/config.yaml" data.on_corrupt=fail data.train.path="$work/fewer"

# Lack of memory is no image's fault: it ends the run, whichever rank meets it. Progressive files take their memory before libjpeg sees
# that these are cut, and JPEGMEM (kB) limits it.
cp -r "$work/fewer" "$work/tall"
jpeg=$DFT_SOURCE/tests/golden/data/images/progressive.jpg
at=$(LC_ALL=C grep -obUaP '\xff\xc2' "$jpeg" | head -n 1 | cut -d: -f1)
for n in 1 2 3 4 5 6 7 8; do
  cp "$jpeg" "$work/tall/a/tall$n.jpg"
  printf '\x08\xfc' | dd of="$work/tall/a/tall$n.jpg" bs=1 seek=$((at + 5)) conv=notrunc status=none # the height
done
tall=("$work/config.yaml" data.train.path="$work/tall")
for ranks in 1 3; do
  JPEGMEM=1 expect 1 "out of memory ($work/tall/a/tall" np_quiet $ranks "${tall[@]}" run_dir="$work/lack$ranks"
done
expect 1 "out of memory ($work/tall/a/tall" timeout -k 5 120 mpirun --oversubscribe --bind-to none \
  -np 1 "$DFT" "${tall[@]}" run_dir="$work/lack" : -np 2 env JPEGMEM=1 "$DFT" "${tall[@]}" run_dir="$work/lack"
for run in lack1 lack3 lack; do
  ls "$work/$run/"*.pb >"$work/out" 2>&1 && { cat "$work/out"; fail "$run: a run that lacked memory left checkpoints"; }
done
expect 0 "left out: $work/tall/a/tall" np_quiet 3 "${tall[@]}" run_dir="$work/cut"
echo "the same bytes at np 1, 2, 3, 4, with the cache on, off, small and in files, resumed $i times; as without the images"
