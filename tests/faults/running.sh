# Shared by the tests of runs that are disturbed. Sourced after tests/common.sh.
export OMP_NUM_THREADS=1
# under AddressSanitizer: what a test preloads may come first
export ASAN_OPTIONS=verify_asan_link_order=0:${ASAN_OPTIONS:-}
pgrep -f no-such-process >/dev/null 2>&1
[ $? -le 1 ] || skip "pgrep is missing (Debian: procps)"
job=
# A rank of this test, wherever its parents are, has this test's directory in its command line.
survivors() { pgrep -f "^$DFT .*$work"; }
trap '[ -z "$job" ] || kill -KILL "$job" 2>/dev/null; kill -KILL $(survivors) 2>/dev/null; rm -rf "$work"' EXIT

# start COMMAND...: in the background, in a process group of its own, and not deaf to INT as background jobs are; output in
# $work/out.
start() {
  setsid env --default-signal=INT "$@" >"$work/out" 2>&1 </dev/null &
  job=$!
}
start_np() {
  local ranks=$1
  shift
  start mpirun --oversubscribe --bind-to none -np "$ranks" "$DFT" "$@"
}
broken() {
  cat "$work/out" >&2
  fail "$@"
}
# until_true SECONDS WHAT COMMAND...
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $end ] || broken "$what has not come"
    [ -z "$job" ] || kill -0 "$job" 2>/dev/null || broken "the run ended before $what"
    sleep 0.05
  done
}
steps_in() {
  local count
  count=$(grep -c '"type":"step"' "$1/log.jsonl" 2>/dev/null)
  echo "${count:-0}"
}
has_steps() { [ "$(steps_in "$1")" -ge "$2" ]; }
# until_step DIR N: the run in DIR has logged N more steps than it had when this was called.
until_step() { until_true 60 "step $2 more in $1" has_steps "$1" $(($(steps_in "$1") + $2)); }
# ranks_of RUN_DIR: the pids of the ranks that were started with this run_dir, rank 0 first; not of their guards. Fails if there
# are none.
ranks_of() {
  local pid pids
  pids=$(for pid in $(pgrep -f "^$DFT .*run_dir=$1( |\$)"); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = rank-guard ] || echo "$pid"
  done)
  [ -n "$pids" ] && echo "$pids"
}
rank_of() { ranks_of "$1" | sed -n "$(($2 + 1))p"; }
# ended CODE WHAT (or CODE|CODE): the job ends within 60 s with this code, and nothing of it is left.
ended() {
  local end=$((SECONDS + 60)) code=$1 what=$2 rc=0 left
  while kill -0 "$job" 2>/dev/null && [ $SECONDS -lt $end ]; do sleep 0.05; done
  kill -0 "$job" 2>/dev/null && broken "$what: it does not end"
  wait "$job"
  rc=$?
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    left=$(survivors) || break
    sleep 0.1
  done
  [ -z "$left" ] || broken "$what: processes survive: $left"
  job=
  [[ $rc =~ ^($code)$ ]] || broken "$what: exit code $rc instead of $code"
}
says() { grep -qE -- "$1" "$work/out" || broken "$2: no line like '$1'"; }
