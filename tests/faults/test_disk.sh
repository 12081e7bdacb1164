#!/usr/bin/env bash
# A full disk, a limit on file sizes, a directory that becomes read-only: exit 74 with the file named, the last good checkpoint
# intact, and the same command goes on once there is room.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
small_config "$work/none" >"$work/config.yaml"
run=("$work/config.yaml" checkpoint.every_steps=1 checkpoint.keep=100)
whole=$work/whole
# What is to outlast a power failure: a file is on the disk before it gets its name, and a checkpoint's directory before the next
# one gets its own. (By inodes: best.pb and final.pb can be further names of a file.)
logged() { LD_PRELOAD=$DFT_BUILD/tests/libstop_in_mpi.so SYNC_LOG=$work/$1 "$DFT" "${@:2}" >"$work/out" 2>&1; }
lasts() { # LOG PATTERN COUNT: at least so many files got a name like this
  awk -v pattern="$2" -v least="$3" '
    $1 == "sync" {synced[$2] = 1; if ($2 == directory) directory = 0}
    $1 == "rename" && $4 ~ pattern {count++; bad += !($2 in synced) || directory; directory = $4 ~ /[.]pb$/ ? $3 : 0}
    END {exit count < least || bad || directory}' "$work/$1" || { cat "$work/$1" >&2; fail "$1: a file is not on the disk"; }
}
ok "undisturbed" logged syncs "${run[@]}" run_dir="$whole"
lasts syncs '[.]pb$' 14
mkdir -p "$work/photos/"{a,b}
for class in a b; do cp "$DFT_SOURCE/tests/golden/data/images/rgb.png" "$work/photos/$class/"; done
ok "pack" logged packed pack "$work/photos" "$work/shards" --shard-samples 1
lasts packed '/(shard-.*[.]tar|samples[.]csv|classes[.]txt)$' 4
bytes() { stat -c %s "$1"; }
kept() { # DIR WHAT: no half-written file, and all that is there is good
  local state
  ! ls "$1"/*.tmp >/dev/null 2>&1 || fail "$2: a half-written file is left"
  for state in "$1"/*.pb; do
    "$DFT" inspect "$state" >/dev/null || fail "$2: $state is damaged"
    case $state in */ckpt-*) [ ! -e "$whole/${state##*/}" ] || same "$whole/${state##*/}" "$state" "$2" ;; esac
  done
}
goes_on() { # DIR WHAT
  kept "$1" "$2"
  ok "$2: to the end" np 3 "${run[@]}" run_dir="$1"
  grep -q "resuming from" "$work/out" || broken "$2: did not resume"
  same "$whole/final.pb" "$1/final.pb" "$2"
  same "$whole/best.pb" "$1/best.pb" "$2"
  same "$whole/history.csv" "$1/history.csv" "$2"
}

# a limit (as a quota is one): the head's checkpoints are below, those with momentum for all layers above it
small=$(bytes "$work/whole/ckpt-e0000-s00000001.pb")
large=$(bytes "$work/whole/ckpt-e0003-s00000009.pb")
# (without mpirun, which itself does not stand such a limit)
limited() { (ulimit -f $(((small + large) / 2048)) && "$DFT" "${run[@]}" run_dir="$work/limited"); }
expect 74 "cannot write" limited
grep -qE "error: $work/limited/(ckpt-e|best).*\.pb: cannot write [0-9]+ bytes: File too large" "$work/out" || broken "the file is not named"
goes_on "$work/limited" "a limit on file sizes"

# the rest takes a file system of its own
mkdir "$work/disk"
trap 'umount -l "$work/disk/run" "$work/disk/ro" 2>/dev/null; umount -l "$work/disk" 2>/dev/null; kill -KILL $(survivors) 2>/dev/null; rm -rf "$work"' EXIT
mount -t tmpfs -o size=$((small * 6)) dft-test "$work/disk" 2>/dev/null ||
  skip "full and read-only disks: this user may not mount (the limit on file sizes was tested)"
head -c $((small * 2)) /dev/zero >"$work/disk/other"
expect 74 "No space left on device" np_quiet 2 "${run[@]}" run_dir="$work/disk/run"
kept "$work/disk/run" "full disk"
expect 74 "No space left on device" np_quiet 2 "${run[@]}" run_dir="$work/disk/run"
kept "$work/disk/run" "full disk, again"
mount -o remount,size=$((small * 60)) "$work/disk" || fail "cannot make room"
goes_on "$work/disk/run" "full disk"

rm -rf "$work/disk/run"
run=("$work/config.yaml" phases.2.epochs=60)
whole=$work/whole60
ok "undisturbed" np 2 "${run[@]}" run_dir="$whole"
start_np 2 "${run[@]}" run_dir="$work/disk/run"
until_step "$work/disk/run" 7
# made read-only where nobody writes, then put in place at one stroke: a mount in use for writing refuses to become read-only
mkdir "$work/disk/ro"
mount --bind "$work/disk/run" "$work/disk/ro" && mount -o remount,bind,ro "$work/disk/ro" &&
  mount --bind "$work/disk/ro" "$work/disk/run" || fail "cannot make it read-only"
ended 74 "a directory that becomes read-only"
says "error: $work/disk/run/.*: Read-only file system" "a directory that becomes read-only"
expect 74 "Read-only file system" np_quiet 2 "${run[@]}" run_dir="$work/disk/run"
umount "$work/disk/run" "$work/disk/ro"
goes_on "$work/disk/run" "a directory that became read-only"
echo "no room is exit 74, and nothing is lost"
