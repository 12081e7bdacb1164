#!/usr/bin/env bash
# Decoding and resizing JPEG files to 96x96 beside Pillow and tf.data, in turn, on the cores of this process; writes
# decode.md beside this script.
#
#     tests/bench/decode.sh [ROUNDS [SECONDS]]
#
# DFT_BENCH_VENV: where the virtual environment keras/ (tensorflow-cpu, pillow) is; default ~/.cache/dft-bench, which
# peers.sh makes. DFT_BUILD: the build directory, default build/. Run it on an idle machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=${DFT_BUILD:-$here/../../build}
python=${DFT_BENCH_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/dft-bench}/keras/bin/python
rounds=${1:-5} seconds=${2:-3}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
"$python" "$here/peers/decode_worker.py" make "$work"
before=$(cut -d' ' -f1-3 /proc/loadavg)

rate() { # CONTESTANT FILE...
  local who=$1
  shift
  if [ "$who" = dft ]; then
    "$build/tests/bench_decode" "$(nproc)" "$seconds" 96 96 "$@"
  else
    "$python" "$here/peers/decode_worker.py" "$who" "$seconds" "$@" 2>/dev/null
  fi
}
for ((round = 0; round < rounds; round++)); do
  for size in small large; do
    for who in dft pillow-draft pillow tf; do
      rate "$who" "$work/$size"-*.jpg >>"$work/$size.$who"
    done
  done
done

median() { # FILE COLUMN
  sort -g -k"$2" "$1" | awk -v c="$2" '{v[NR] = $c} END {print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2}'
}
{
  echo "# Decoding JPEG files"
  echo
  echo "Written by \`tests/bench/decode.sh\` on $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $(date -u +'%F %H:%M') UTC,"
  echo "load average before $before. From the file's bytes in memory to float32 96×96×3 in [-1, 1], on all cores, medians of"
  echo "$rounds rounds of $seconds s in turn. Pillow: one process per core, \`resize\` bilinear, with \`draft\` (JPEG's scaled decoding) and"
  echo "without; tf.data: \`decode_jpeg\`, \`tf.image.resize\`, \`map(AUTOTUNE)\`. Pictures: generated with the spectrum of photographs,"
  echo "quality 90, 4:2:0. CPU time per image, unlike images/s, says something on a busy machine too."
  for column in 2 1; do
    echo
    echo "| $([ $column = 1 ] && echo images/s || echo "CPU µs per image") | KB per file | dft | Pillow, draft | Pillow | tf.data | dft better than the best by |"
    echo "|---|---:|---:|---:|---:|---:|---:|"
    for size in small large; do
      kb=$(($(cat "$work/$size"-*.jpg | wc -c) / $(ls "$work/$size"-*.jpg | wc -l) / 1000))
      dimensions=$([ $size = small ] && echo 500×375 || echo 1600×1200)
      echo "$dimensions $kb $(for who in dft pillow-draft pillow tf; do median "$work/$size.$who" $column; done | tr '\n' ' ')" |
        awk -v column=$column '{
          best = $4
          for (i = 5; i <= 6; i++) if (column == 1 ? $i > best : $i < best) best = $i
          printf "| %s | %d | %.0f | %.0f | %.0f | %.0f | %.2f |\n", $1, $2, $3, $4, $5, $6, column == 1 ? $3 / best : best / $3
        }'
    done
  done
} >"$work/decode.md"
cp "$work/decode.md" "$here/decode.md"
cat "$here/decode.md"
