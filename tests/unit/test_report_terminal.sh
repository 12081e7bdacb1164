#!/usr/bin/env bash
# Who sees the output: mpirun gives every rank a terminal of its own, whether or not it has one itself.
set -u
program=$DFT_BUILD/tests/test_report
command -v script >/dev/null || { echo "skipped: no script(1) to make a terminal with"; exit 77; }
failures=0
expect() { # WANTED DESCRIPTION OUTPUT
  case $3 in
    *"terminal: $1"*) ;;
    *) echo "$2: expected $1, got: $3"; failures=$((failures + 1)) ;;
  esac
}
in_terminal() { script -qec "$1" /dev/null </dev/null; }

expect no "a pipe" "$("$program" --terminal | cat)"
expect yes "a terminal" "$(in_terminal "$program --terminal")"
expect no "mpirun into a pipe" "$(mpirun -np 1 "$program" --terminal </dev/null 2>&1 | cat)"
expect yes "mpirun on a terminal" "$(in_terminal "mpirun -np 1 $program --terminal")"
expect no "mpirun into a file, on a terminal" "$(in_terminal "mpirun -np 1 $program --terminal | cat")"
expect yes "a script under mpirun on a terminal" \
  "$(in_terminal "mpirun -np 1 sh -c '$program --terminal; true'")"

# a warning takes the place of the bar that is under way, if it comes to the same terminal; the bar is drawn again
expect_lines() { # DESCRIPTION OUTPUT WANTED, a pattern: | between lines, <clear> where one is cleared, no colours
  local lines
  lines=$(tr -d '\b' <<<"$2" | sed 's/\r\x1b\[K/<clear>/g; s/\x1b\[[0-9]*m//g' | tr -d '\r' | tr '\n' '|')
  [[ $lines == $3 ]] || { echo "$1: got: $lines"; failures=$((failures + 1)); }
}
errors=$(mktemp)
trap 'rm "$errors"' EXIT
expect_lines "a bar and a warning on a terminal" "$(in_terminal "$program --bar")" \
  "1/2 *loss: *<clear>dft: warning: beside|2/2 *loss: *|dft: warning: after|"
expect_lines "a bar on a terminal" "$(in_terminal "$program --bar 2>$errors")" "1/2 *loss: *2/2 *loss: *|"
expect_lines "a warning in a file" "$(cat "$errors")" "dft: warning: beside|dft: warning: after|"
expect_lines "a bar in a pipe, a warning on a terminal" "$(in_terminal "$program --bar | cat >$errors")" \
  "dft: warning: beside|dft: warning: after|"
exit $((failures > 0))
