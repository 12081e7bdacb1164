#!/usr/bin/env bash
# The layout's rules, on src/ and include/dft/: includes point one way, foreign headers stay in their module,
# library code neither ends the process nor writes to stderr, and no file is too long.
set -euo pipefail
cd "$(dirname "$0")/../.."

# base <- config <- {data, ops, comm, formats} <- reduce <- {model, loss, optim} <- {cache, checkpoint}
# <- {train, report} <- cli. Of neighbours, an optimizer
# knows the model whose tensors it updates, and train knows all others.
declare -A level=(
  [base]=0 [config]=1 [data]=2 [ops]=2 [comm]=2 [formats]=2 [reduce]=3 [model]=4 [loss]=5 [optim]=5
  [cache]=6 [checkpoint]=6 [report]=7 [train]=8 [cli]=9
)
# Headers in include/dft that are not named like their module; the version is generated, and anyone's.
declare -A module_of=(
  [status]=base [log]=base [arena]=base [file]=base [crc]=base [hash]=base [rng]=base [clock]=base [share]=base [module]=base [budget]=base [trace]=base [text]=base [version]=base
  [nccl]=base # a table that comm uses and the GPU module fills
  [prefetch]=data [fetch]=cache [pack]=data [shards]=ops [device]=ops [weights]=formats [safetensors]=formats [onnx]=formats [buckets]=reduce
)
# Foreign headers, and the modules that know them.
declare -A owner=(
  [mpi.h]=comm [hdf5.h]=formats [yaml.h]=config [cblas.h]=ops [immintrin.h]="ops base" [zlib.h]=data [jpeglib.h]=data [jpegint.h]=data [vips/vips.h]=data [jansson.h]="data formats"
  [nccl.h]=comm [cuda_runtime.h]=ops [cublasLt.h]=ops [dft.pb-c.h]=checkpoint [onnx.pb-c.h]=formats [protobuf-c/protobuf-c.h]="checkpoint formats"
)
MOST_LINES=420

# The functions below answer in REPLY: a subshell for each of some thousand includes would take a minute.
header_module() { # status.h -> base
  local name=${1%.h}
  REPLY=${module_of[$name]:-}
  [ -n "$REPLY" ] || [ -z "${level[$name]:-}" ] || REPLY=$name
}

file_module() { # src/comm/wait.c -> comm, include/dft/status.h -> base
  case $1 in
  src/*) REPLY=${1#src/} REPLY=${REPLY%%/*} ;;
  include/dft/*) header_module "${1##*/}" ;;
  esac
}

# A module may include itself and what is below it, not its neighbours.
check_dft_include() { # FILE MODULE HEADER
  header_module "${3#dft/}"
  if [ -z "$REPLY" ]; then
    echo "$1: $3: of no known module; add it to tests/lint/test_includes.sh"
  elif [ "$REPLY" != "$2" ] && [ "${level[$REPLY]}" -ge "${level[$2]}" ]; then
    echo "$1: upward include: $2 includes $3, which is $REPLY's"
  fi
}

check_include() { # FILE MODULE HEADER
  local target
  case $3 in
  dft/*) check_dft_include "$1" "$2" "$3" ;;
  ../*)
    target=$(realpath -m --relative-to=src "$(dirname "$1")/$3")
    [ "${target%%/*}" = "$2" ] || echo "$1: private header of another module: $3"
    ;;
  *)
    target=${owner[$3]:-}
    [ -z "$target" ] || [[ " $target " == *" $2 "* ]] || echo "$1: only src/$target includes $3"
    ;;
  esac
}

# dft_comm_abort is the one door out, for this process; a child that was forked to guard it or to read for it ends itself.
may_end=(src/comm/open.c src/comm/guard.c src/formats/apart.c)
# The log is the one voice.
check_code() { # FILE
  local code
  code=$(gcc -fpreprocessed -dD -E -P "$1" 2>/dev/null) # without comments
  if [[ " ${may_end[*]} " != *" $1 "* ]] && [[ $code =~ (^|[^a-zA-Z0-9_])(exit|_exit|_Exit|quick_exit|abort|assert)\ *\( ]]; then
    echo "$1: ends the process"
  fi
  if [ "$1" != src/base/log.c ] && [[ $code =~ (^|[^a-zA-Z0-9_])(stderr|perror)($|[^a-zA-Z0-9_]) ]]; then
    echo "$1: writes to stderr; dft_note, dft_warn and dft_print_error do that"
  fi
}

check_file() {
  local file=$1 module line lines=0
  file_module "$file"
  module=$REPLY
  if [ -z "$module" ] || [ -z "${level[$module]:-}" ]; then
    echo "$file: of no known module; add it to tests/lint/test_includes.sh"
    return
  fi
  while IFS= read -r line; do
    lines=$((lines + 1))
    [[ $line =~ ^[[:space:]]*\#[[:space:]]*include[[:space:]]*[\<\"]([^\">]+) ]] &&
      check_include "$file" "$module" "${BASH_REMATCH[1]}"
  done <"$file"
  [ "$lines" -le $MOST_LINES ] || echo "$file: more than $MOST_LINES lines"
  [ "$module" = cli ] || check_code "$file"
}

check_tree() { # in the current directory; prints what is wrong
  local file
  while read -r file; do check_file "$file"; done < <(find src include/dft -name '*.[ch]' | sort)
}

self_test() {
  local root found expected
  root=$(mktemp -d)
  mkdir -p "$root"/{src/base,src/data,src/comm,src/report,src/cli,src/strange,include/dft}
  (
    cd "$root"
    printf '#include "dft/status.h"\n#include "dft/comm.h"\n#include <mpi.h>\n' >src/data/a.c
    printf '#include <mpi.h>\n/* abort() on stderr */\nint dft_comm_abort(int);\n' >src/comm/good.c
    printf '#include "dft/config.h"\n' >src/base/b.c
    printf '#include "dft/checkpoint.h"\n#include "../data/a.h"\nvoid f(void) { abort(); }\n' >src/report/c.c
    printf 'void f(void) { fprintf(stderr, "x"); exit(1); }\n' | tee src/cli/good.c >src/data/d.c
    printf '#include "dft/train.h"\n' >include/dft/report.h
    printf '#include "dft/odd.h"\n' >src/data/e.h
    printf '\n' >src/strange/f.c
    printf '\n%.0s' {1..421} >src/data/long.c
    check_tree
  ) >"$root/found"
  found=$(cat "$root/found")
  rm -r "$root"
  while read -r expected; do
    grep -qF "$expected" <<<"$found" || { echo "self-test: not found: $expected"; return 1; }
  done <<'END'
src/data/a.c: upward include: data includes dft/comm.h, which is comm's
src/data/a.c: only src/comm includes mpi.h
src/base/b.c: upward include: base includes dft/config.h, which is config's
src/report/c.c: private header of another module: ../data/a.h
src/report/c.c: ends the process
src/data/d.c: ends the process
src/data/d.c: writes to stderr
include/dft/report.h: upward include: report includes dft/train.h, which is train's
src/data/e.h: dft/odd.h: of no known module
src/strange/f.c: of no known module
src/data/long.c: more than 420 lines
END
  if grep -q good <<<"$found" || [ "$(wc -l <<<"$found")" != 11 ]; then
    echo "self-test: too much found:"
    echo "$found"
    return 1
  fi
}

self_test
found=$(check_tree)
if [ -n "$found" ]; then
  echo "$found"
  exit 1
fi
