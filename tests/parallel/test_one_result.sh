#!/usr/bin/env bash
# One run, one result: any number of ranks and threads, cache on or off, gives the same bytes in every checkpoint and history.csv.
source "$DFT_SOURCE/tests/common.sh"
small_config "$work/np1" >"$work/config.yaml"
for ranks in 1 2 3 4 5 8; do
  OMP_NUM_THREADS=1 ok "np $ranks" np $ranks "$work/config.yaml" run_dir="$work/np$ranks"
done
for threads in 2 3; do
  OMP_NUM_THREADS=$threads ok "$threads threads" np 1 "$work/config.yaml" run_dir="$work/threads$threads"
done
ok "cache off" np 2 "$work/config.yaml" run_dir="$work/cacheoff" cache.mode=off
ok "no room in the cache" np 3 "$work/config.yaml" run_dir="$work/cacheless" cache.memory_mb=0
[ "$(ls "$work"/np1/*.pb | wc -l)" = 5 ] || fail "expected 3 checkpoints, best.pb and final.pb"
[ "$(wc -l <"$work/np1/history.csv")" = 4 ] || fail "expected 3 epochs in history.csv"
ok "reading ahead" np 1 "$work/config.yaml" run_dir="$work/ahead" data.threads=3 cache.memory_mb=0
ok "reading ahead, with room in the cache for some" np 3 "$work/config.yaml" run_dir="$work/ahead3" data.threads=2 cache.memory_mb=1
for other in np2 np3 np4 np5 np8 threads2 threads3 cacheoff cacheless ahead ahead3; do
  for file in "$work"/np1/*.pb "$work/np1/history.csv"; do
    same "$file" "$work/$other/$(basename "$file")" "$other against np 1"
  done
done
# another seed is another run
ok "other seed" np 2 "$work/config.yaml" run_dir="$work/seed" seed=8
cmp -s "$work/np1/final.pb" "$work/seed/final.pb" && fail "another seed gave the same bytes"
# plain MPI_Allreduce trains too, to about the same losses. (Not compared: the phase that trains all layers. Batch statistics over
# the 16 pixels of a last batch of 4 make rounding grow by a factor of 1e5 in three steps, in every kernel set.)
ok "fast" np 3 "$work/config.yaml" run_dir="$work/fast" distributed.reduction=fast
awk -F, 'NR==FNR {loss[NR]=$4; next} FNR==2 || FNR==3 {d=loss[FNR]-$4; if (d<0) d=-d; if (d>1e-5) {print "epoch " $1 ": " loss[FNR] " against " $4; exit 1}}' \
  "$work/np1/history.csv" "$work/fast/history.csv" || fail "reduction: fast strays"
echo "the same bytes at np 1, 2, 3, 4, 5, 8 with 1, 2, 3 threads, and without cache"
