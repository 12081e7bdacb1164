#!/usr/bin/env bash
# clang-tidy on the sources of the library and the commands. A file that was clean is not looked at again until it, a
# header or the checks change: the names of clean states are kept in build/tidy/.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v clang-tidy >/dev/null || { echo "skipped: clang-tidy is not installed"; exit 77; }
build=${DFT_BUILD:-build}
[ -e "$build/compile_commands.json" ] || { echo "skipped: no compile_commands.json in $build"; exit 77; }

bad=$(mktemp -d)
trap 'rm -r "$bad"' EXIT
cp .clang-tidy "$bad"
printf '#include <stdlib.h>\nint f(int n);\nint f(int n) { int *p = malloc(4); if (n) return *p; free(p); return 1; }\n' >"$bad/bad.c"
if clang-tidy --quiet "$bad/bad.c" -- >/dev/null 2>&1; then
  echo "self-test: a file with a leak passed"
  exit 1
fi

# Vector kernels are compiled for four instruction sets. Two of them have all that the others have, but for what is
# emulated: gemm.c shows that.
mkdir -p "$build/tidy"
awk '
  BEGIN { print "[" }
  /^\{/ { entry = ""; twin = 0 }
  /dft_simd_avx512(bf16)?\.dir/ && !/simd\/gemm\.c/ { twin = 1 }
  /^[][]/ { next }
  { sub(/^\},/, "}"); entry = entry $0 "\n" }
  /^\}/ && !twin { printf "%s%s", comma, entry; comma = "," }
  END { print "]" }' "$build/compile_commands.json" >"$build/tidy/compile_commands.json"

headers=$(find src include tests -name '*.h' | sort | xargs cat .clang-tidy "$build/compile_commands.json" | sha1sum)
todo=()
for file in $(find src -name '*.c' | sort); do
  grep -qF "/$file\"" "$build/compile_commands.json" || continue
  state=$(cat "$file" <(echo "$file $headers") | sha1sum | cut -d' ' -f1)
  [ -e "$build/tidy/$state" ] || todo+=("$file" "$state")
done
[ ${#todo[@]} -gt 0 ] || exit 0

# gcc's own warning switches are not clang's business. analyzer.h tells what dft_fail returns; its own source
# cannot have that.
tidy() {
  local extra=(--extra-arg=-Wno-unknown-warning-option --extra-arg=-include --extra-arg="$PWD/tests/lint/analyzer.h")
  [ "$2" != src/base/status.c ] || unset 'extra[2]' 'extra[1]'
  if clang-tidy --quiet -p "$1/tidy" "${extra[@]}" "$2" 2>/dev/null; then
    touch "$1/tidy/$3"
  else
    return 1
  fi
}
export -f tidy
printf '%s\n' "${todo[@]}" | xargs -n 2 -P 2 bash -c 'tidy "$0" "$1" "$2"' "$build"
