#!/usr/bin/env bash
# What the exchange costs at scale: counts its bytes and messages in real runs of the exchange, checks a small model
# of latency, bandwidth and compute (scale.awk) against them and against limited links between network namespaces
# (as root, else left out), and predicts the efficiency at 8 to 1,024 ranks. Writes scale.md beside itself.
#
#     tests/bench/scale.sh [IMAGES_PER_RANK] [STEPS]
#
# LATENCY_US (30): one message between two hosts in the predicted network. SLOW (1.6): times the model's seconds that
# an exchange may take, from the measurements on limited links. SPEEDUPS ("1 16"): how many cores like
# one of this machine a rank has. OUTPUT: the file to write.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bench=${DFT_BUILD:-$here/../../build}/tests/bench_scale
output=${OUTPUT:-$here/scale.md}
images=${1:-32} steps=${2:-7} latency=${LATENCY_US:-30} slow=${SLOW:-1.6}
[ -x "$bench" ] || { echo "scale.sh: $bench is missing: build dft first" >&2; exit 1; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$bench" "$images" "$steps" >"$work/one"
for ranks in 2 4 8; do
  mpirun --oversubscribe --bind-to none -np $ranks "$bench" 8 "$steps"
done >"$work/measured"
cat "$work/one" "$work/measured" | awk -v check=1 -f "$here/scale.awk" >"$work/counts"

# Hosts with links slow enough that they, not this machine's cores, are what limits: 2 and 4 hosts, two rates, with Open MPI's
# defaults and without the put protocol that it imitates over TCP. Phase one is left out: its messages fit the links' burst.
time_links() { # HOSTS MBIT
  (
    set +e # hosts.sh checks what it must
    job='' # hosts.sh asks for it and for survivors
    survivors() { :; }
    skip() { echo "scale.sh: links not checked: $*" >&2; exit 0; }
    fail() { skip "$@"; }
    . "$here/../faults/hosts.sh"
    trap - EXIT # $work is still needed
    trap 'work=$work/hosts-gone; end_hosts' EXIT
    make_hosts "$1" "$2mbit"
    list=h1
    for ((h = 2; h <= $1; h++)); do list+=,h$h; done
    for flags in default=send,put,inplace send=send,inplace; do
      OMPI_MCA_btl_tcp_flags=${flags#*=} timeout 300 "$work/on-host" h1 mpirun -np "$1" --host $list "$bench" 8 "$steps" \
        >"$work/links" || skip "mpirun between hosts failed"
      awk -F'\t' -v OFS='\t' -v mbit="$2" -v how="${flags%%=*}" '
        $1 == "latency" { late = $3 }
        $1 == "measured" && $2 != "head" { print "timed", $2, $3, mbit, how, $4, late }' "$work/links" >>"$work/timed"
    done
  )
}
: >"$work/timed"
for hosts in 2 4; do
  for mbit in 25 100; do time_links $hosts $mbit; done
done
[ ! -s "$work/timed" ] || cat "$work/one" "$work/timed" | awk -v check=2 -f "$here/scale.awk" >"$work/seconds"

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
  if [ -e "$work/seconds" ]; then
    printf '\n## Timed on limited links\n\n'
    echo "A step's exchange alone, nothing hidden, medians of $steps; a rank per host, hosts being network namespaces with links" \
      "limited both ways. default: Open MPI's own settings; send: \`OMPI_MCA_btl_tcp_flags=send,inplace\`."
    echo
    cat "$work/seconds"
    echo
    echo "By default Open MPI moves a large message over TCP by put: the receiver asks for its parts, and the asking waits behind" \
      "the data that are on their way in that direction. Without put, two hosts come closer to the model. With four, a rank's" \
      "exchanges with two others share its link, while one of theirs rests. Where cores are short instead of bandwidth, put is" \
      "the faster of the two, so dft leaves Open MPI's default alone."
  fi
  printf '\n## Predicted efficiency\n\n'
  echo "$images images per rank at every number of ranks, one link per rank, $latency µs per message. From nothing of the" \
    "exchange hidden, and $slow times what the model says, to as much of the gradients' as backward can hide, and the model's" \
    "times; the assumptions are at the top of scale.awk." \
    "Phase one computes next to nothing per step (its frozen part is cached): there the exchange is all there is, and" \
    "the last column says what is left of the speed."
  awk -v latency_us="$latency" -v slow="$slow" -v images="$images" -v speedups="${SPEEDUPS:-1 16}" -f "$here/scale.awk" "$work/one"
} >"$output"
echo "wrote $output"
