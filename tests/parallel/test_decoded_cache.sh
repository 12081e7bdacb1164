#!/usr/bin/env bash
# data.decoded_cache: with it, from it, damaged, shared, without room or a directory, the same bytes as without it; a photo that has
# changed is seen.
source "$DFT_SOURCE/tests/common.sh"
export OMP_NUM_THREADS=1
bmp() { # SEED FILE: 96x90, 24 bits: read at a third of its size
  mkdir -p "${2%/*}"
  printf 'BM\x76\x65\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x60\0\0\0\x5a\0\0\0\x01\0\x18\0\0\0\0\0\x40\x65\0\0%016d' 0 | tr 0 '\0' | head -c 54 >"$2"
  seq "$1" 9000 | head -c 25920 >>"$2"
}
for n in 1 2 3 4 5 6 7; do
  for class in a b c; do bmp "$n${#class}$n" "$work/photos/$class/$n.bmp"; done
done
echo "no image" >"$work/photos/b/broken.bmp"
cat >"$work/config.yaml" <<END
seed: 7
model: {alpha: 0.35, input_shape: [32, 40, 3], classes: 3}
data: {format: image_folder, batch_size: 5, train: {path: $work/photos}, validation: {split: 0.2}, augment: {flip: horizontal}}
phases:
  - {name: tail, unfreeze_last: 20, epochs: 2}
log: {verbose: 2}
END
train() { # NAME NP KEYS...: a run in $work/NAME
  local name=$1 ranks=$2
  shift 2
  ok "$name" np "$ranks" "$work/config.yaml" run_dir="$work/$name" "$@"
}
equal() { # WHAT A B
  same "$work/$2/final.pb" "$work/$3/final.pb" "$1"
  same "$work/$2/history.csv" "$work/$3/history.csv" "$1"
}
says() { grep -q "$1" "$work/out" || { cat "$work/out"; fail "$2: no '$1'"; }; }
kept=(data.decoded_cache="$work/deep/decoded")
file() { echo "$work"/deep/decoded/*.decoded; }

train none 1
"$DFT" plan "$work/config.yaml" "${kept[@]}" >/dev/null 2>&1 || fail "plan"
[ ! -e "$work/deep" ] || fail "plan makes the directory"
train filled 3 "${kept[@]}"
equal "the run that fills it" none filled
[ -s "$(file)" ] || fail "there is no file"

# The next run reads it: the originals have become something else that make would not see.
cp -a "$work/photos" "$work/originals"
for n in "$work"/photos/?/?.bmp; do
  head -c 25974 /dev/zero >"$n"
  touch -r "$work/originals/${n#"$work/photos/"}" "$n"
done
for ranks in 1 3; do
  train "read$ranks" $ranks "${kept[@]}"
  equal "a run that reads it, np $ranks" none "read$ranks"
done
expect 65 "unreadable" "$DFT" check "$work/config.yaml" "${kept[@]}" run_dir="$work/check" # looks at the photos, not at what was kept
# It lacks nothing: reading alone, without writing.
chmod a-w "$(file)" "$work/deep/decoded"
if [ ! -w "$(file)" ]; then
  train readonly 2 "${kept[@]}"
  says "cannot write: Permission denied; what is there is read" "read-only"
  equal "read-only" none readonly
fi
chmod u+w "$(file)" "$work/deep/decoded"
rm -r "$work/photos"
cp -a "$work/originals" "$work/photos"

# Damaged: pixels, a header that asks for too much, the end cut off.
slot=16384
printf 'torn' | dd of="$(file)" bs=1 seek=5000 conv=notrunc status=none
printf '\xff\xff\xff\x7f\xff\xff\xff\x7f' | dd of="$(file)" bs=1 seek=$((slot + 16)) conv=notrunc status=none
printf '\xff\xff\xff\xff\xff\xff\xff\xff' | dd of="$(file)" bs=1 seek=$((2 * slot + 16)) conv=notrunc status=none
truncate -s -15000 "$(file)"
train damaged 2 "${kept[@]}"
equal "a damaged file" none damaged
cp "$(file)" "$work/kept"
train repaired 1 "${kept[@]}"
same "$work/kept" "$(file)" "a whole file is not written to"
head -c 300000 /dev/urandom >"$(file)"
train foreign 3 "${kept[@]}"
equal "a foreign file" none foreign

# A photo that has changed; another size; two runs at once.
bmp 1234 "$work/photos/c/3.bmp" # of the same length, so that it has its place in the same file
[ "$(stat -c %s "$work/photos/c/3.bmp")" = "$(stat -c %s "$work/originals/c/3.bmp")" ] ||
  fail "the changed photo has another length"
train changed 2
train seen 2 "${kept[@]}"
equal "a changed photo" changed seen
cmp -s "$work/none/final.pb" "$work/seen/final.pb" && fail "a changed photo changes nothing"
train pad 1 data.resize=pad
train pad_kept 2 data.resize=pad "${kept[@]}"
equal "another way of resizing" pad pad_kept
train turned 1 "model.input_shape=[40, 32, 3]" # of as many pixels
train turned_kept 2 "model.input_shape=[40, 32, 3]" "${kept[@]}"
equal "another size" turned turned_kept
rm "$work"/deep/decoded/*
timeout 120 "$DFT" "$work/config.yaml" run_dir="$work/beside" "${kept[@]}" >"$work/beside.out" 2>&1 &
train together 2 "${kept[@]}"
wait $! || { cat "$work/beside.out"; fail "the run beside"; }
for run in together beside; do equal "two runs at once" changed $run; done

# No directory; nothing to decode.
touch "$work/plain"
train nodir 2 data.decoded_cache="$work/plain/decoded"
says "data.decoded_cache: .*Not a directory; images are decoded each time" "no directory"
[ "$(grep -c 'decoded each time' "$work/out")" = 2 ] || fail "not one warning for each of training and validation"
equal "no directory" changed nodir
small_config "$work/random" >"$work/random.yaml"
expect 2 "data.decoded_cache" np_quiet 1 "$work/random.yaml" "${kept[@]}"

# A disk that is too small.
mkdir "$work/disk"
trap 'umount -l "$work/disk" 2>/dev/null; rm -rf "$work"' EXIT
mount -t tmpfs -o size=100k dft-test "$work/disk" 2>/dev/null || skip "full disks: this user may not mount"
train full 2 data.decoded_cache="$work/disk"
says "warning: .*\(No space left on device\|nine tenths of the free room are used\): further decoded images are not kept" "a full disk"
equal "a full disk" changed full
echo "the same bytes with kept images, from them, and without"
