#!/usr/bin/env bash
# Several hosts: the same bytes as on one; a cut link ends the whole job, and the next start goes on, also on fewer hosts.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
source "$DFT_SOURCE/tests/faults/hosts.sh"
make_hosts 4 1gbit
small_config "$work/none" >"$work/config.yaml"
run=("$work/config.yaml" phases.2.epochs=30 checkpoint.every_epochs=1000 checkpoint.every_steps=5 distributed.timeout_s=3)
whole=$work/whole
ok "one host" np 2 "${run[@]}" run_dir="$whole"
across() { # HOSTS RANKS RUN_DIR: a command line, run on h1
  echo mpirun -np "$2" --host "$1" "$DFT" "${run[@]}" run_dir="$3"
}
for hosts_and_ranks in "h1:2,h2:2 4" "h1,h2,h3,h4 4" "h1:2,h3:1 3"; do
  read -r list ranks <<<"$hosts_and_ranks"
  dir=$work/on-${list//[:,]/-}
  on_host h1 timeout 120 $(across "$list" "$ranks" "$dir") >"$work/out" 2>&1 || broken "$list: exit code $?"
  says "ranks +$ranks on $(tr , '\n' <<<"$list" | wc -l) hosts" "$list"
  same "$whole/final.pb" "$dir/final.pb" "$list"
  same "$whole/history.csv" "$dir/history.csv" "$list"
done

# a host that lacks the data is named, from whichever rank on
photos() { # DIRECTORY CLASS...
  for class in "${@:2}"; do
    mkdir -p "$1/$class"
    printf 'BM>\0\0\0\0\0\0\0\066\0\0\0\050\0\0\0\002\0\0\0\001\0\0\0\001\0\030\0\0\0\0\0\010\0\0\0%24s' '' | tr ' ' '\0' >"$1/$class/1.bmp"
  done
}
mkdir -p "$work/own" "$work/own.h1" "$work/own.h2"
printf '%s\n' "model: {alpha: 0.1, input_shape: [32, 32, 3], classes: 2}" "data: {format: image_folder, batch_size: 4, train: {path: $work/own/photos}}" \
  "phases: [{epochs: 2}]" "run_dir: $work/photos" >"$work/photos.yaml"
for lacking in h1 h2; do
  rm -rf "$work/own.h1/photos" "$work/own.h2/photos"
  [ $lacking = h1 ] || photos "$work/own.h1/photos" ant bee
  [ $lacking = h2 ] || photos "$work/own.h2/photos" ant bee
  on_host h1 timeout 120 mpirun -np 4 --host h1:2,h2:2 "$DFT" "$work/photos.yaml" >"$work/out" 2>&1
  [ $? = 65 ] || broken "$lacking lacks the data: exit code"
  says "error: host $lacking: $work/own/photos: cannot read the directory: No such file" "$lacking lacks the data"
done

# Open MPI's own processes notice a dead link by keepalive; dft-run asks for it by default, here it is sooner
export OMPI_MCA_oob_tcp_keepalive_time=2 OMPI_MCA_oob_tcp_keepalive_intvl=2 OMPI_MCA_oob_tcp_keepalive_probes=3
dir=$work/cut
start "$work/on-host" h1 $(across h1,h2 2 "$dir") distributed.timeout_s=60
until_step "$dir" 6
cut_off h2
ended "1|205" "a cut link"
mend h2
unset OMPI_MCA_oob_tcp_keepalive_time OMPI_MCA_oob_tcp_keepalive_intvl OMPI_MCA_oob_tcp_keepalive_probes
# dft-run goes on by itself, without the host that no longer answers
start "$work/on-host" h1 "$DFT_SOURCE/launch/dft-run" $(across h1:2,h2:2 4 "$dir" | sed 's/^mpirun //')
until_step "$dir" 6
cut_off h2
ended 0 "a cut link under dft-run"
says "rank [0-3] \\(host h[12]\\)( and [0-9]+ more)?: no progress for 3 s in (step|saving step|the evaluation after step) [0-9]+, noticed by rank" \
  "a cut link under dft-run"
says "dft-run: without h2: 2 ranks on 1 of 2 hosts" "a cut link under dft-run"
same "$whole/final.pb" "$dir/final.pb" "links cut twice"
same "$whole/history.csv" "$dir/history.csv" "links cut twice"
echo "several hosts are as one, and a cut link costs only the steps since the last checkpoint"
