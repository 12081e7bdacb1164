# Shared by the script tests: a temporary directory, runs, and checks that say what differs.
# Uses DFT (the program), DFT_SOURCE. Sourced, not run.
set -uo pipefail
: "${DFT:?the path of the dft program}"
# root may run mpirun here; more ranks than cores must not spin
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
# mpirun waits this long for ranks that leave with an error
export OMPI_MCA_odls_base_sigkill_timeout=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
skip() {
  echo "SKIPPED: $*"
  exit 77
}
# np_quiet N ARGS...: dft under mpirun, never longer than 120 s; its output is the caller's (for expect).
np_quiet() {
  local ranks=$1
  shift
  timeout -k 5 120 mpirun --oversubscribe --bind-to none -np "$ranks" "$DFT" "$@"
}
# The same with the output in $work/out.
np() { np_quiet "$@" >"$work/out" 2>&1; }
# ok WHAT COMMAND...: the command must succeed.
ok() {
  local what=$1
  shift
  "$@" || { local rc=$?; cat "$work/out" >&2; fail "$what: exit code $rc"; }
}
same() { cmp "$1" "$2" >&2 || fail "$3: $1 and $2 differ"; }
# expect CODE TEXT COMMAND...: exit code and a text in the output.
expect() {
  local code=$1 text=$2
  shift 2
  "$@" >"$work/out" 2>&1
  local rc=$?
  [ "$rc" = "$code" ] || { cat "$work/out" >&2; fail "exit code $rc instead of $code: $*"; }
  [ -z "$text" ] || grep -qF -- "$text" "$work/out" || { cat "$work/out" >&2; fail "no '$text' in the output of: $*"; }
}
# A small two-phase run on random images: every kind of layer trains, the last batch is smaller.
small_config() {
  cat <<END
seed: 7
run_dir: $1
model: {alpha: 0.35, input_shape: [33, 40, 3], classes: 3, dropout: 0.2}
data:
  format: random
  batch_size: 10
  train: {samples: 24}
  validation: {samples: 11}
phases:
  - {name: head, epochs: 1}
  - {name: tail, unfreeze_last: 20, epochs: 1, optimizer: {name: adam, learning_rate: 0.0001}}
  - {name: all, unfreeze: all, epochs: 1, optimizer: {name: sgd, learning_rate: 0.001, momentum: 0.9, nesterov: true}}
log: {verbose: 2}
END
}
