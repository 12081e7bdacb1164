#!/usr/bin/env bash
# Builds every tests/fuzz/fuzz_NAME.c with clang and runs it over tests/fuzz/corpus/NAME and its mutations.
# DFT_FUZZ_SECONDS per target (5; more for a long run); DFT_FUZZ_TARGETS: only these names. New inputs that
# reach new code, and those that crash, stay in the build directory.
set -euo pipefail
source_dir=${DFT_SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${DFT_BUILD:-$source_dir/build}/fuzz
seconds=${DFT_FUZZ_SECONDS:-5}

skip() { echo "skipped: $1"; exit 77; }
clang=$(command -v clang || true)
[ -n "$clang" ] || skip "no clang"
mkdir -p "$build"
echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n); int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { (void)d; (void)n; return 0; }' > "$build/probe.c"
"$clang" -fsanitize=fuzzer,address,undefined "$build/probe.c" -o "$build/probe" 2> "$build/probe.log" ||
  skip "clang has no fuzzer or sanitizer runtime (Debian 12: libclang-rt-14-dev)"

generator=$(command -v ninja > /dev/null && echo Ninja || echo "Unix Makefiles")
cmake -S "$source_dir/tests/fuzz" -B "$build" -G "$generator" -DCMAKE_C_COMPILER="$clang" > "$build/configure.log" ||
  { cat "$build/configure.log"; exit 1; }
cmake --build "$build" -j 2 > "$build/build.log" 2>&1 || { tail -60 "$build/build.log"; exit 1; }

export UBSAN_OPTIONS=print_stacktrace=1
module=${DFT_BUILD:-$source_dir/build}/dft_decode.so
[ ! -e "$module" ] || export DFT_DECODE_MODULE=$module
failed=0
for target in "$source_dir"/tests/fuzz/fuzz_*.c; do
  name=$(basename "$target" .c); name=${name#fuzz_}
  case " ${DFT_FUZZ_TARGETS:-$name} " in *" $name "*) ;; *) continue ;; esac
  found=$build/found/$name; mkdir -p "$found"
  log=$build/$name.log
  if "$build/fuzz_$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=256 \
      -artifact_prefix="$build/$name-" "$found" "$source_dir/tests/fuzz/corpus/$name" > "$log" 2>&1; then
    echo "$name: $(grep -oE 'Done [0-9]+ runs in [0-9]+ second' "$log" | tail -1)s, $(ls "$found" | wc -l) inputs kept"
  else
    failed=1
    echo "$name: failed"
    tail -40 "$log"
  fi
done
exit $failed
