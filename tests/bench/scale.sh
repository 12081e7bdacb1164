#!/usr/bin/env bash
# What the exchange costs at scale: counts its bytes and messages in real runs of the exchange, checks a small model
# of latency, bandwidth and compute (scale.awk) against them and against limited links between network namespaces
# (as root, else left out), and predicts the efficiency at 8 to 1,024 ranks. Writes scale.md beside itself.
#
#     tests/bench/scale.sh [IMAGES_PER_RANK] [STEPS]
#
# LATENCY_US (30): one message between two hosts in the predicted network. SPEEDUPS ("1 16"): how many cores like
# one of this machine a rank has. OUTPUT: the file to write.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bench=${DFT_BUILD:-$here/../../build}/tests/bench_scale
output=${OUTPUT:-$here/scale.md}
images=${1:-32} steps=${2:-7} latency=${LATENCY_US:-30}
[ -x "$bench" ] || { echo "scale.sh: $bench is missing: build dft first" >&2; exit 1; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$bench" "$images" "$steps" >"$work/one"
for ranks in 2 4 8; do
  mpirun --oversubscribe --bind-to none -np $ranks "$bench" 8 "$steps"
done >"$work/measured"
cat "$work/one" "$work/measured" | awk -v check=1 -f "$here/scale.awk" >"$work/counts"

# Hosts h1, h2 with links of 1 Gbit/s, one rank each. Phase one's two messages travel at once and fit in the links'
# burst: their time is the latency.
links() {
  (
    set +e # hosts.sh checks what it must
    job='' # hosts.sh asks for it and for survivors
    survivors() { :; }
    skip() { echo "scale.sh: links not checked: $*" >&2; exit 0; }
    fail() { skip "$@"; }
    . "$here/../faults/hosts.sh"
    trap - EXIT # $work is still needed
    trap 'work=$work/hosts-gone; end_hosts' EXIT
    make_hosts 2 1gbit
    timeout 120 "$work/on-host" h1 mpirun -np 2 --host h1:1,h2:1 "$bench" 8 "$steps" >"$work/links" ||
      skip "mpirun between hosts failed"
  )
  [ -s "$work/links" ]
}
checked=''
if links; then
  us=$(awk -F'\t' '$2 == "head" { printf "%.0f", $4 * 1e6 }' "$work/links")
  [ "$us" -gt 0 ] || us=1
  checked="Two hosts (network namespaces), links of 1 Gbit/s; latency, from phase one: \
$us µs. Seconds of the exchange alone, nothing hidden."
  cat "$work/one" "$work/links" | awk -v check=1 -v check_mbit=1000 -v latency_us="$us" -f "$here/scale.awk" >"$work/seconds"
fi

{
  echo "# The exchange at scale"
  echo
  echo "Written by \`tests/bench/scale.sh\` on $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)," \
    "$(env -u OMP_NUM_THREADS nproc) cores, $(date -u '+%Y-%m-%d %H:%M') UTC, load average $(cut -d' ' -f1 /proc/loadavg)." \
    "head, tail, all: phase one, phase two (last 20 layers), all layers; MobileNetV2 1.0 at 96×96."
  echo
  echo "## Counted per step, by the busiest rank"
  echo
  cat "$work/counts"
  if [ -n "$checked" ]; then
    # BatchNorm's sums wait for the slowest rank: on a machine with other work this shows that work, not the links
    printf '\n## Timed on limited links\n\n%s\n\n' "$checked"
    cat "$work/seconds"
  fi
  printf '\n## Predicted efficiency\n\n'
  echo "$images images per rank at every number of ranks, one link per rank, $latency µs per message. From nothing of the" \
    "gradients' exchange hidden to as much as backward can hide; the assumptions are at the top of scale.awk." \
    "Phase one computes next to nothing per step (its frozen part is cached): there the exchange is all there is, and" \
    "the last column says what is left of the speed."
  awk -v latency_us="$latency" -v images="$images" -v speedups="${SPEEDUPS:-1 16}" -f "$here/scale.awk" "$work/one"
} >"$output"
echo "wrote $output"
