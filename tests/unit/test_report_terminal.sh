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
exit $((failures > 0))
