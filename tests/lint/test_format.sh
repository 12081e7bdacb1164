#!/usr/bin/env bash
# Every C file is as clang-format writes it.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v clang-format >/dev/null || { echo "skipped: clang-format is not installed"; exit 77; }

bad=$(mktemp -d)
trap 'rm -r "$bad"' EXIT
cp .clang-format "$bad"
echo 'int   f( void ){return 0 ;}' >"$bad/bad.c"
if clang-format --dry-run -Werror "$bad/bad.c" 2>/dev/null; then
  echo "self-test: a badly formatted file passed"
  exit 1
fi
find src include tests -name '*.[ch]' -print0 -o -name '*.cu' -print0 -o -name '*.cpp' -print0 | xargs -0 -n 20 -P 2 clang-format --dry-run -Werror
