#!/usr/bin/env bash
# launch/dft-run: signals become 75, lost ranks a restart, lost hosts fewer ranks; its end is the run's end.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/faults/running.sh"
dft_run=$DFT_SOURCE/launch/dft-run
small_config "$work/none" >"$work/config.yaml"
dir=$work/run
run=(--oversubscribe --bind-to none -np 2 "$DFT" "$work/config.yaml" phases.2.epochs=60 log.verbose=0
  checkpoint.every_epochs=1000 checkpoint.every_steps=5 run_dir="$dir")
# the ranks, and what still clears up after them
gone() { ! pgrep -f " run_dir=$dir\$" >/dev/null; }

# mpirun looks for PCI devices where another host may have ranks, or where it is told to
looks() { # WHAT MPIRUN-ARGUMENTS...
  "$dft_run" "${@:2}" -np 1 --oversubscribe sh -c 'echo "${HWLOC_COMPONENTS-all}"' >"$work/out" 2>&1
  grep -qx -- "$1" "$work/out" || fail "HWLOC_COMPONENTS is not '$1' with dft-run ${*:2}: $(cat "$work/out")"
}
looks -pci,-linuxio
looks all --host "$(hostname)"
HWLOC_COMPONENTS=-gl looks -gl
# who reads what it says through a pipe is done when the run is (the quickest of some: the machine may be busy)
quickest_ms=10000
for _ in 1 2 3 4 5; do
  from_us=${EPOCHREALTIME/[.,]/}
  "$dft_run" -np 1 --oversubscribe true 2>&1 | cat >"$work/out"
  took_ms=$(((${EPOCHREALTIME/[.,]/} - from_us) / 1000))
  [ $took_ms -ge $quickest_ms ] || quickest_ms=$took_ms
done
[ $quickest_ms -lt 900 ] || fail "the pipe of dft-run stays open: $quickest_ms ms"

for signal in TERM INT; do
  start "$dft_run" "${run[@]}"
  until_step "$dir" 6
  kill -$signal "$job"
  ended 75 "$signal to dft-run"
  says "stopped by a signal after step" "$signal to dft-run"
done
# asked before there is a rank: on this host, and while mpirun still reaches for another
has_child() { pgrep -P "$job" >/dev/null; } # it hears signals by then
for delay_s in 0 0.02 0.05 0.1 0.2; do
  rm -rf "$dir"
  start "$dft_run" "${run[@]}"
  until_true 20 "a child of dft-run" has_child
  sleep $delay_s
  kill -TERM "$job"
  ended 75 "TERM after $delay_s s"
done
printf '#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done\nshift\nsleep 2\nexec sh -c "$*"\n' >"$work/slow_ssh"
chmod +x "$work/slow_ssh"
rm -rf "$dir"
OMPI_MCA_plm_rsh_agent=$work/slow_ssh start "$dft_run" --host 127.0.0.2:2 "${run[@]}" phases.2.epochs=9000
sleep 1
kill -TERM "$job"
ended 75 "TERM while mpirun reaches for a host"
says "stopped by a signal after step" "TERM while mpirun reaches for a host"
rm -rf "$dir"
# a killed rank: started again by itself, once
start "$dft_run" "${run[@]}"
until_step "$dir" 6
kill -9 "$(rank_of "$dir" 1)"
until_true 60 "the restart" grep -q "exit code 76: restart 1 of 3" "$work/out"
# a stop that only a rank was told of: not asked for here, so started again
until_step "$dir" 6
kill -USR1 "$(rank_of "$dir" 0)"
until_true 60 "the restart" grep -q "exit code 75: restart 2 of 3" "$work/out"
until_step "$dir" 6
# dft-run itself killed: the run saves and ends
kill -9 "$job"
wait "$job" 2>/dev/null
job=
until_true 60 "the end of the run" gone
says "stopped by a signal after step" "dft-run killed"
# no restarts allowed: the code comes out
export DFT_RESTARTS=0
start "$dft_run" "${run[@]}"
until_step "$dir" 6
kill -9 "$(rank_of "$dir" 0)"
ended 76 "a killed rank without restarts"
says "0 restarts are used up" "a killed rank without restarts"
unset DFT_RESTARTS
start "$dft_run" "${run[@]}"
ended 0 "to the end"
ok "undisturbed" np 1 "$work/config.yaml" phases.2.epochs=60 log.verbose=0 checkpoint.every_epochs=1000 run_dir="$work/whole"
same "$work/whole/final.pb" "$dir/final.pb" "stopped and killed six times"

# a restart waits for the end of the run before, which may live on where nobody hears of it; any other start does not
start_np 1 "$work/config.yaml" phases.2.epochs=60 checkpoint.every_epochs=1000 run_dir="$work/before"
until_step "$work/before" 6
expect 2 "another run uses $work/before" np_quiet 2 "$work/config.yaml" phases.2.epochs=60 run_dir="$work/before"
DFT_RESTARTED=1 "$DFT" "$work/config.yaml" phases.2.epochs=60 run_dir="$work/before" >"$work/stopped" 2>&1 &
next=$!
until_true 30 "the wait" grep -q "waiting for the end of the run before" "$work/stopped"
kill -USR1 "$next"
wait "$next"
[ $? = 75 ] || fail "stopped while it waits: not 75"
DFT_RESTARTED=1 np_quiet 2 "$work/config.yaml" phases.2.epochs=60 checkpoint.every_epochs=1000 run_dir="$work/before" >"$work/next" 2>&1 &
next=$!
until_true 30 "the wait" grep -q "waiting for the end of the run before in $work/before (process $(rank_of "$work/before" 0) on " "$work/next"
kill -USR1 "$(rank_of "$work/before" 0)"
wait "$job"
[ $? = 75 ] || broken "the run before did not stop with 75"
job=
wait "$next" || { cat "$work/next"; fail "a restart that waited"; }
same "$work/whole/final.pb" "$work/before/final.pb" "a restart that waited"

# codes and hosts, with an mpirun that only pretends
mkdir "$work/bin"
cat >"$work/bin/mpirun" <<'END'
#!/usr/bin/env bash
echo "mpirun $*"
for ((i = 1; i < $#; i++)); do [ "${!i}" != --hostfile ] || { i=$((i + 1)); sed 's/^/hosts: /' "${!i}"; }; done
count=$(cat "$COUNT")
echo $((count + 1)) >"$COUNT"
exit "$(cut -d' ' -f$((count + 1)) <<<"$CODES")"
END
printf '#!/bin/sh\n[ "$1" != dead ]\n' >"$work/bin/agent"
chmod +x "$work"/bin/*
export PATH=$work/bin:$PATH COUNT=$work/count OMPI_MCA_plm_rsh_agent=$work/bin/agent DFT_RESTARTS=1
pretend() { # CODES EXPECTED TEXT ARGS...
  local codes=$1 code=$2 text=$3
  shift 3
  echo 0 >"$COUNT"
  CODES=$codes expect "$code" "$text" "$dft_run" "$@"
}
for code in 0 1 2 65 70 74 139; do pretend $code $code "mpirun -np 4 dft" -np 4 dft a.yaml; done
for code in 76 137 141 143 205; do
  pretend "$code 0" 0 "restart 1 of 1" -np 4 dft a.yaml
  pretend "$code $code" 76 "used up" -np 4 dft a.yaml
done
pretend "75 2" 2 "restart 1 of 1" -np 4 dft a.yaml
pretend "205 0" 0 "mpirun -x DFT_RESTARTED --host good:2,fine:2 -np 4 dft" --host good:2,dead:2,fine:2 -np 6 dft a.yaml
OMPI_MCA_mca_base_env_list=HOME pretend "205 0" 0 "mpirun --host good:2 -np 2 dft" --host good:2,dead:2 -np 4 dft a.yaml
pretend "205 0" 0 "without dead: 1 ranks on 1 of 2 hosts" --host dead:9,good -np 3 dft a.yaml
printf 'dead slots=4 max_slots=9 # the first\n\n\tgood\tslots = 4\n' >"$work/hosts"
pretend "205 0" 0 $'hosts: good\tslots = 4' --hostfile "$work/hosts" -np 8 dft a.yaml
grep -q "^mpirun .* -np 4 dft" "$work/out" || broken "the ranks did not shrink with the hosts"
grep -q dead "$work/hosts" || fail "the user's hostfile was changed"
pretend "1 0" 0 "without dead" --host dead,good -np 2 dft a.yaml
pretend "1 0" 1 "mpirun --host fine" --host fine,good -np 2 dft a.yaml
pretend "255 0" 0 "without dead" --host dead,good -np 2 dft a.yaml
pretend 255 1 "mpirun -np 2 dft" -np 2 dft a.yaml
for here in $(hostname -I | cut -d' ' -f1) user@"$(hostname)" 127.0.1.1; do
  sed -i 's/^\[.*/exit 255/' "$work/bin/agent" # nobody can reach this host from itself
  pretend "205 0" 0 "without other: 2 ranks on 1 of 2 hosts" --host "$here":2,other:2 -np 4 dft a.yaml
done
printf '#!/bin/sh\n[ "$1" != dead ]\n' >"$work/bin/agent"
pretend 205 76 "no host answers" --host dead -np 3 dft a.yaml
expect 2 "dft-run -np 4" "$dft_run"
# ranks read what dft-run is given
printf '#!/bin/sh\ncat\n' >"$work/bin/mpirun"
[ -z "$("$dft_run" -np 1 dft <&-)" ] || fail "a closed standard input"
[ "$(echo "a path" | "$dft_run" -np 1 dft predict a.pb -)" = "a path" ] || fail "standard input does not reach mpirun"
# dft's own exit code 1 stays that, also after a stop was asked for; mpirun's after TERM is a stop
printf '#!/bin/sh\ntrap "exit 1" USR1\nOMPI_COMM_WORLD_RANK=0 sleep 3 &\nwhile :; do sleep 0.1; done\n' >"$work/bin/mpirun"
for signal in USR1 TERM; do
  start "$dft_run" -np 4 dft a.yaml
  until_true 20 "a child of dft-run" has_child
  sleep 0.5
  kill -$signal "$job"
  [ $signal = TERM ] && code=75 || code=1
  ended $code "exit code 1 after $signal"
done
# while mpirun ends it is not told any more, which would kill it and hide the ranks' exit code
cat >"$work/bin/mpirun" <<'END'
#!/bin/bash
OMPI_COMM_WORLD_RANK=0 sleep 9 &
rank=$!
trap 'trap - USR1; kill $rank; wait $rank; sleep 1.5; exit 74' USR1
while :; do sleep 0.1; done
END
start "$dft_run" -np 4 dft a.yaml
until_true 20 "a child of dft-run" has_child
sleep 0.3
kill -USR1 "$job"
ended 74 "the ranks' own exit code after a stop"
# a TERM to all of dft-run's process group, as timeout sends it, twice
printf '#!/bin/sh\ntrap "exit 75" USR1\nOMPI_COMM_WORLD_RANK=0 sleep 1 &\nwhile :; do sleep 0.1; done\n' >"$work/bin/mpirun"
for _ in 1 2 3 4 5 6 7 8; do
  start "$dft_run" -np 4 dft a.yaml
  until_true 20 "a child of dft-run" has_child
  sleep 0.2
  kill -TERM "$job"
  kill -TERM -- "-$job"
  ended 75 "TERM to the process group"
done
# an mpirun that does not listen: the second TERM ends it, when it comes 2 s later
printf '#!/bin/sh\ntrap "" USR1\ntrap "exit 1" TERM\nwhile :; do sleep 0.1; done\n' >"$work/bin/mpirun"
start "$dft_run" -np 4 dft a.yaml
sleep 0.5
kill -TERM "$job"
sleep 0.3
kill -TERM "$job"
sleep 1.9
kill -0 "$job" 2>/dev/null || broken "an early second TERM ended dft-run"
kill -TERM "$job"
ended 143 "TERM twice to dft-run"
echo "dft-run stops, restarts and shrinks"
