#!/usr/bin/env bash
# dft predict and dft eval say on a terminal how far they are, and clear that before their results; elsewhere nothing.
source "$DFT_SOURCE/tests/common.sh"
export OMP_NUM_THREADS=1
command -v script >/dev/null || skip "no script(1) to make a terminal with"
small_config "$work/run" >"$work/config.yaml"
cd "$work" || exit 1
ok "train" np 1 config.yaml "phases=[{name: head, epochs: 1}]"
printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': (70, 20, 30, 3), }" >x.npy
head -c $((70 * 20 * 30 * 3)) "$DFT" >>x.npy

# check_progress COMMAND PATTERN: what a tile of 64 has come to, and then the results and nothing else
check_progress() {
  sh -c "$1" >plain.out 2>plain.err || { cat plain.err >&2; fail "$1"; }
  [ ! -s plain.err ] || { cat plain.err >&2; fail "$1: words where nobody looks"; }
  script -qec "$1" /dev/null </dev/null >both || { cat both >&2; fail "$1: on a terminal"; }
  tr -d '\n' <both | grep -Eq "^"$'\r'"$2.*"$'\r\x1b'"\[K$(head -1 plain.out)" ||
    { cat -v both >&2; fail "$1: how far?"; }
  tr '\r' '\n' <both | sed 's/^\x1b\[K//' | grep -Ev "^$|$2" >shown
  grep -v '^$' plain.out | cmp - shown >&2 || { cat -v both >&2; fail "$1: other results on a terminal"; }
  script -qec "$1 >redirected" /dev/null </dev/null >both || fail "$1: with the results in a file"
  tr '\r' '\n' <both | grep -Eq "^$2" || { cat -v both >&2; fail "$1: how far, with the results in a file?"; }
  same plain.out redirected "$1: on a terminal, with the results in a file"
  script -qec "$1 2>errors" /dev/null </dev/null >both
  [ ! -s errors ] || { cat -v errors >&2; fail "$1: written into a file of errors"; }
}
check_progress "$DFT predict run/final.pb x.npy" "(64|70) of 70 images, [0-9]+ s left"
check_progress "$DFT eval run/final.pb config.yaml data.validation.samples=70" \
  "validation: (64|70) of 70 samples, [0-9]+ s left"

# in training the bar is what is shown
script -qec "$DFT config.yaml run_dir=other log.verbose=1" /dev/null </dev/null >both ||
  { cat both >&2; fail "training on a terminal"; }
! grep -q "s left" both || { cat -v both >&2; fail "two kinds of progress in training"; }
echo "predict and eval say how far they are, on a terminal"
