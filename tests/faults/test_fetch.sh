#!/usr/bin/env bash
# Several hosts do frozen work once between them: what one host has computed, another fetches. The images decoded, over all ranks
# and epochs, are as many as there are; the bytes of final.pb are those of one host.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
source "$DFT_SOURCE/tests/faults/hosts.sh"
make_hosts 3 1gbit
mkdir "$work/own" # under this name each host has a directory of its own
for h in h1 h2 h3; do mkdir "$work/own.$h"; done
cat >"$work/config.yaml" <<END
seed: 7
model: {alpha: 0.35, input_shape: [33, 40, 3], classes: 3}
data: {format: random, batch_size: 10, train: {samples: 44}, validation: {samples: 11}}
phases:
  - {name: head, epochs: 3}
  - {name: tail, unfreeze_last: 20, epochs: 2, optimizer: {learning_rate: 0.0001}}
  - {name: head again, epochs: 2}
log: {verbose: 2}
END
here() { # NAME KEYS...: one host
  local name=$1
  shift
  ok "$name" np 2 "$work/config.yaml" run_dir="$work/$name" "$@"
}
across() { # NAME HOSTS RANKS KEYS...: run_dir NAME
  local name=$1 hosts=$2 ranks=$3
  shift 3
  on_host h1 timeout 120 mpirun -np "$ranks" --host "$hosts" "$DFT" "$work/config.yaml" run_dir="$work/$name" "$@" \
    >"$work/out" 2>&1 || broken "$name: exit code $?"
  says "ranks +$ranks on $(tr , '\n' <<<"$hosts" | wc -l) host" "$name"
}
sum_of() { # KEY NAME: over the epochs
  awk -F"\"$1\":" '/"type":"epoch"/ { sum += $2 + 0 } END { print sum + 0 }' "$work/$2/log.jsonl"
}
decoded() { # IMAGES NAME, or IMAGES|IMAGES NAME
  [[ $(sum_of images_decoded "$2") =~ ^($1)$ ]] || broken "$2: $(sum_of images_decoded "$2") images were decoded instead of $1"
}
fetched() { [ "$(sum_of fetched_bytes "$1")" -gt 0 ] || broken "$1: nothing was fetched"; }
equal() { # A B
  same "$work/$1/final.pb" "$work/$2/final.pb" "$2"
  same "$work/$1/history.csv" "$work/$2/history.csv" "$2"
}

expect 0 "5120 bytes a row, rows per image over the phase: 0.75 on 2 hosts, 1.64 on 8 hosts" "$DFT" plan "$work/config.yaml"
here one
decoded 55 one
[ "$(sum_of fetched_bytes one)" = 0 ] || broken "one host fetches from itself"
for hosts_and_ranks in "h1:2,h2:2 4" "h1,h2,h3 3" "h1:3,h2:1 4"; do
  read -r list ranks <<<"$hosts_and_ranks"
  name=on-${list//[:,]/-}
  across "$name" "$list" "$ranks"
  decoded 55 "$name"
  fetched "$name"
  equal one "$name"
done
# from the middle of an epoch on, between other hosts
across every h1:1,h2:2 3 checkpoint.every_steps=7 checkpoint.keep=100
mkdir "$work/from"
cp "$work"/every/ckpt-*s00000007.pb "$work/from" || broken "no checkpoint of step 7"
across from h1:2,h3:1 3
says "resuming from" from
equal one from
[ "$(sum_of images_decoded from)" -le 55 ] || broken "from: $(sum_of images_decoded from) images were decoded"
# a signal and a cut link find rows under way
start "$work/on-host" h1 mpirun -np 3 --host h1:1,h2:2 "$DFT" "$work/config.yaml" run_dir="$work/stopped" phases.0.epochs=5000
until_step "$work/stopped" 20
kill -USR1 "$job"
ended 75 "a signal"
start "$work/on-host" h1 mpirun -np 2 --host h1,h2 "$DFT" "$work/config.yaml" run_dir="$work/stopped" phases.0.epochs=5000 \
  distributed.timeout_s=3
until_step "$work/stopped" 20
cut_off h2
names_it() { grep -qE "rank 1 \(host h2\): no progress for 3 s in (step|saving step|the evaluation after step) [0-9]+, noticed by rank 0" "$work/out"; }
until_true 30 "the words about a lost host" names_it
kill -KILL "$job" $(survivors) # mpirun itself would wait for h2; dft-run ends it (test_hosts)
wait "$job" 2>/dev/null
job=
mend h2
# views: a row for each
here views_one data.augment.flip=horizontal cache.views=2
across views h1:1,h2:2 3 data.augment.flip=horizontal cache.views=2
decoded 99 views
fetched views
equal views_one views
# images that cannot be read are no rows; files are read ahead, but not those whose row another host has
bmp() { # SEED FILE: 24x20, 24 bits
  mkdir -p "${2%/*}"
  printf 'BM\xd6\x05\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x18\0\0\0\x14\0\0\0\x01\0\x18\0\0\0\0\0\xa0\x05\0\0%016d' 0 | tr 0 '\0' | head -c 54 >"$2"
  seq "$1" 5000 | head -c 1440 >>"$2"
}
for n in 11 12 13 14 15 16 17 18 19 20; do
  for class in a b c; do bmp "1${#class}$n" "$work/photos/$class/$n.bmp"; done
done
truncate -s 700 "$work/photos/c/12.bmp"
: >"$work/photos/a/17.bmp"
photos=(data.format=image_folder data.train="{path: $work/photos}" data.validation=null data.batch_size=7)
here photos_one "${photos[@]}"
decoded 28 photos_one
across photos_apart h1:2,h2:1 3 "${photos[@]}"
says "decode_threads +[1-9]" photos_apart
decoded 28 photos_apart
fetched photos_apart
equal photos_one photos_apart

# rows of an earlier run lie on one host: the other fetches them; one that is damaged is computed
across kept_one h1 1 cache.directory="$work/own"
across kept h1,h2 2 cache.directory="$work/own"
decoded 5 kept # the second rank's validation images: those rows stay where they were computed
fetched kept
equal kept_one kept
[ "$(find "$work/own.h1" -type f | wc -l)" -ge 4 ] || broken "no rows in h1's own directory"
rm "$work"/own.h2/*
for file in "$work"/own.h1/*; do
  printf '\1\2\3\4' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") - 4)) conv=notrunc 2>/dev/null
done
across damaged h1,h2 2 cache.directory="$work/own"
decoded "6|7" damaged # the row once more by each host that has it in a batch
equal kept_one damaged

# room for a part only: that part once, the rest in every epoch; without a cache, nothing is fetched
across off h1,h2 2 cache.mode=off
[ "$(sum_of fetched_bytes off)" = 0 ] || broken "off: rows without a cache"
equal one off
part=(model.alpha=1 data.batch_size=50 data.train.samples=400 cache.memory_mb=1)
here part_one "${part[@]}"
across part h1,h2 2 "${part[@]}"
fetched part
equal part_one part
[ "$(sum_of images_decoded part)" = "$(sum_of images_decoded part_one)" ] ||
  broken "part: $(sum_of images_decoded part) images were decoded instead of $(sum_of images_decoded part_one)"
echo "frozen work is done once between hosts: in memory, in files, in views, in part, and after a resume"
