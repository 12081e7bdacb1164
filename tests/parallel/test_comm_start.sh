#!/usr/bin/env bash
# How a process finds its world: without a launcher, under mpirun, and in a Slurm step that MPI does not see.
set -u
program="$DFT_BUILD/tests/test_comm"
fail() { echo "FAILED: $*"; exit 1; }
unset "${!SLURM_@}" OMPI_MCA_pml OMPI_MCA_btl

out=$("$program") || fail "without mpirun: $out"
grep -q "^1 ranks:" <<<"$out" || fail "without mpirun: $out"
# MPI is started only where there may be a launcher
out=$(OMPI_MCA_pml=nothing "$program" 2>&1) || fail "MPI was started without a launcher: $out"
! SLURM_JOB_ID=1 OMPI_MCA_pml=nothing "$program" >/dev/null 2>&1 || fail "MPI was not started inside a Slurm job"
# there it needs no session directory, which all of a user's on this host would share
out=$(SLURM_JOB_ID=1 OMPI_MCA_orte_tmpdir_base=/dev/null "$program" 2>&1) || fail "without mpirun and a session directory: $out"

# three tasks that are each alone would train three times
out=$(SLURM_STEP_NUM_TASKS=3 "$program" 2>&1); rc=$?
[ $rc -eq 2 ] || fail "lonely Slurm task: exit $rc: $out"
grep -q "this Slurm step has 3 tasks, but MPI sees only this one: .*srun --mpi=pmix" <<<"$out" || fail "$out"
out=$(SLURM_STEP_NUM_TASKS=1 "$program" 2>&1) || fail "one Slurm task: $out"
out=$(SLURM_STEP_NUM_TASKS=3 mpirun -np 1 "$program" 2>&1) || fail "mpirun -np 1 in a step: $out"

# on one host shared memory only, unless the user or Slurm says otherwise
transport() { env "$@" mpirun -np 2 "$program" transport | grep ^transport; }
[ "$(transport)" = "transport ob1 self,vader" ] || fail "one host: $(transport)"
[ "$(transport OMPI_MCA_btl=self,tcp)" = "transport (null) self,tcp" ] || fail "the user's btl is not respected"
[ "$(transport SLURM_STEP_NUM_NODES=2)" = "transport (null) (null)" ] || fail "a Slurm step of two nodes"

# the exit code of an abort is the job's, with and without mpirun
"$program" abort; rc=$?
[ $rc -eq 74 ] || fail "abort alone: exit $rc"
mpirun -np 3 "$program" abort >/dev/null 2>&1; rc=$?
[ $rc -eq 74 ] || fail "abort under mpirun: exit $rc"
