#!/usr/bin/env bash
# cache.directory: with it, from it, by several runs at once, after a kill and without a directory that can be used, the same bytes as
# without it.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
small_config "$work/none" >"$work/config.yaml"
ok "without" np 2 "$work/config.yaml" run_dir="$work/without"
kept=("$work/config.yaml" cache.directory="$work/deep/cache" cache.memory_mb=0)
equal() { # DIR WHAT
  local file
  for file in "$work"/without/*.pb "$work/without/history.csv"; do same "$file" "$1/${file##*/}" "$2"; done
}

"$DFT" plan "${kept[@]}" >"$work/out" 2>&1 || broken "plan"
says "in files in $work/deep/cache" "plan"
[ ! -e "$work/deep" ] || fail "plan made the directory"

# the first fills it, the others find all, at any number of ranks
found=0
for ranks in 3 1 2; do
  ok "np $ranks" np $ranks "${kept[@]}" run_dir="$work/np$ranks"
  says "in files, $found of them there already, in $work/deep/cache" "np $ranks"
  equal "$work/np$ranks" "np $ranks"
  [ "$(ls "$work/deep/cache" | wc -l)" = 4 ] || fail "expected 2 places times 2 sets"
  found=35
done

largest=$(stat -c %s "$work/deep/cache/"* | sort -n | tail -1) # the head's training rows, for the end of this test

# torn, truncated, foreign
for file in "$work"/deep/cache/*; do
  size=$(stat -c %s "$file")
  printf 'torn' | dd of="$file" bs=1 seek=$((size - 2000)) conv=notrunc status=none
done
ok "torn rows" np 3 "${kept[@]}" run_dir="$work/torn"
equal "$work/torn" "torn rows"
files=("$work"/deep/cache/*)
truncate -s 5000 "${files[0]}"
echo "a text" >"${files[1]}"
ok "bad files" np 3 "${kept[@]}" run_dir="$work/bad"
says "${files[0]}: foreign or damaged: made anew" "bad files"
says "${files[1]}: foreign or damaged: made anew" "bad files"
equal "$work/bad" "bad files"

# other work does not find it
ok "other preprocessing" np 1 "${kept[@]}" run_dir="$work/unit" data.preprocessing=unit
says "in files, 0 of them there already" "other preprocessing"
ok "other data" np 1 "${kept[@]}" run_dir="$work/seed" seed=8
says "in files, 0 of them there already" "other data"

# two folders whose images have the same names, sizes and labels
bitmaps() { # FOLDER OCTAL...: an 8x8 bitmap of one value a class
  local folder=$1 value class=0
  shift
  for value; do
    mkdir -p "$folder/$((++class))"
    for image in 1 2 3 4; do
      { printf 'BM\xf6\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x08\0\0\0\x08\0\0\0\x01\0\x18\0\0\0\0\0\xc0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
        head -c 192 /dev/zero | tr '\0' "\\$value"; } >"$folder/$((class))/$image.bmp"
    done
  done
}
bitmaps "$work/one" 040 140 240
bitmaps "$work/two" 340 030 100
folders=("$work/config.yaml" data.format=image_folder data.train="{path: $work/one}" data.validation="{path: $work/two}")
ok "folders" np 2 "${folders[@]}" run_dir="$work/folders"
ok "folders, files" np 2 "${folders[@]}" cache.directory="$work/images" run_dir="$work/folders_files"
same "$work/folders/history.csv" "$work/folders_files/history.csv" "one file for two sets"
sleep 0.1
rm -r "$work/one"
bitmaps "$work/one" 200 010 300
ok "other photos" np 1 "${folders[@]}" run_dir="$work/replaced"
ok "other photos, files" np 1 "${folders[@]}" cache.directory="$work/images" run_dir="$work/replaced_files"
same "$work/replaced/history.csv" "$work/replaced_files/history.csv" "rows of photos that were replaced"

# the directory cannot be: a warning, the same bytes
touch "$work/file"
ok "no directory" np 3 "${kept[@]}" run_dir="$work/nodir" cache.directory="$work/file/cache" cache.memory_mb=100
says "warning: cache: $work/file/cache: cannot create the cache directory: Not a directory; .* kept in memory" "no directory"
[ "$(grep -c "warning: cache" "$work/out")" = 1 ] || broken "more than one warning"
equal "$work/nodir" "no directory"

# killed in the middle of its first pass; then from the beginning twice at once, in the same directory
rm -rf "$work/deep"
sed -i '/name: all/d' "$work/config.yaml"
big=("$work/config.yaml" data.train.samples=600)
kept=("${big[@]}" cache.directory="$work/deep/cache")
ok "without, more data" np 2 "${big[@]}" run_dir="$work/big"
start_np 2 "${kept[@]}" run_dir="$work/killed"
until_step "$work/killed" 5
kill -KILL $(ranks_of "$work/killed")
wait "$job"
job=
rm -rf "$work/killed"
start_np 2 "${kept[@]}" run_dir="$work/beside"
timeout 120 "$DFT" "${kept[@]}" run_dir="$work/again" >"$work/alone.out" 2>&1 || fail "after a kill"
ended 0 "the run beside"
there=$(sed -n 's/.*in files, \([0-9]*\) of them.*/\1/p' "$work/alone.out" | head -1)
[ "$there" -gt 0 ] || fail "nothing is left of the killed run's rows"
for run in again beside; do
  same "$work/big/final.pb" "$work/$run/final.pb" "$run"
  same "$work/big/history.csv" "$work/$run/history.csv" "$run"
done
! ls "$work"/deep/cache/*.dft-tmp >/dev/null 2>&1 || fail "a half-made file is left"

# a file system of its own: read-only, then too small, then with no tenth of it left for checkpoints
mkdir "$work/disk"
trap 'umount -l "$work/disk" 2>/dev/null; kill -KILL $(survivors) 2>/dev/null; rm -rf "$work"' EXIT
mount -t tmpfs -o ro,size=100k dft-test "$work/disk" 2>/dev/null || skip "read-only and full disks: this user may not mount"
small=("${big[@]}" data.train.samples=24 data.validation.samples=11 cache.directory="$work/disk/cache")
ok "24 samples" np 1 "${big[@]}" data.train.samples=24 run_dir="$work/few"
ok "read-only" np 2 "${small[@]}" run_dir="$work/readonly"
says "warning: cache: $work/disk/cache: cannot create the cache directory: Read-only file system; .* kept in memory" "read-only"
same "$work/few/final.pb" "$work/readonly/final.pb" "read-only"
mount -o remount,rw "$work/disk" || fail "cannot remount"
ok "full disk" np 2 "${small[@]}" run_dir="$work/full"
says "warning: cache: $work/disk/cache/.*: cannot create .* bytes: No space left on device; .* kept in memory" "full disk"
same "$work/few/final.pb" "$work/full/final.pb" "full disk"
rm -rf "$work/disk/cache"
mount -o remount,size=$((largest * 21 / 20)) "$work/disk" || fail "cannot make room"
ok "nearly full disk" np 2 "${small[@]}" data.validation=null "phases=[{name: head, epochs: 1}]" run_dir="$work/nearly"
says "warning: cache: $work/disk/cache/.*: cannot create $largest bytes: No space left on device; .* kept in memory" "nearly full disk"
echo "the same bytes with files, from files, and without"
