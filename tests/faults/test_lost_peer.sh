#!/usr/bin/env bash
# A rank that is stopped, asleep or waited for in a circle: the job ends with 76 soon after timeout_s (2 s here),
# and the line names the rank, its host and the step. A job that is suspended as a whole goes on.
set -u
fail() { echo "FAILED: $*"; echo "$out"; exit 1; }

run() { # how, ranks, exit code
  local begin=$(date +%s%N)
  out=$(timeout 30 mpirun -np "$2" "$DFT_BUILD/tests/test_comm" "$1" 2>&1)
  rc=$?
  ms=$((($(date +%s%N) - begin) / 1000000))
  echo "$1, $2 ranks: exit $rc after $ms ms"
  [ $rc -eq ${3:-76} ] || fail "$1: exit $rc instead of ${3:-76}"
  [ $ms -lt 15000 ] || fail "$1: took $ms ms"
}

host=$(hostname)
for how in silent stopped collective chain; do
  run $how 3
  grep -q "rank 1 (host $host): no progress for 2 s in step 17, noticed by rank [02]" <<<"$out" || fail "$how: no line"
  ! grep -q "rank [02] (host $host): no progress" <<<"$out" || fail "$how: an innocent rank is named"
done
run stopped 8
# a suspended job has lost nobody, whoever goes on first
run suspended 2 0 &
beside=$!
run deadlock 3
grep -q "in step 17, noticed by rank . (host $host): all ranks wait" <<<"$out" || fail "deadlock: no line"
run reduce 3
grep -q "rank 0 (host $host): no progress for 2 s in step 17, noticed by rank 1 (host $host): all ranks wait" <<<"$out" || fail "reduce: no line"
wait $beside || exit 1
# nothing survives: also the stopped rank is gone
sleep 0.5
! pgrep -f "^$DFT_BUILD/tests/test_comm (stopped|chain)" || fail "a rank survives"
