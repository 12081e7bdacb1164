#!/usr/bin/env bash
# What is chosen where: the start table says it, and what cannot be had is refused. GPUs are played by the host.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/cuda/common.sh"
[ -n "$device_module" ] || skip "GPUs are played on the host"
export OMP_NUM_THREADS=1 DFT_CUDA_MODULE=$device_module DFT_HOST_CUDA=devices=2
small_config "$work/run" | sed '/name: tail/d; /name: all/d' >"$work/config.yaml"
# chosen WHAT NP KERNELS EXCHANGE KEY=VALUE...
chosen() {
  local what=$1 ranks=$2 kernels=$3 exchange=$4
  shift 4
  rm -rf "$work/run"
  ok "$what" np "$ranks" "$work/config.yaml" "$@"
  grep -qE "^kernels  *$kernels\$" "$work/out" || { cat "$work/out"; fail "$what: other kernels"; }
  grep -qE "^exchange  *$exchange\$" "$work/out" || { cat "$work/out"; fail "$what: another exchange"; }
  head -n 1 "$work/run/log.jsonl" | grep -qE "\"exchange\": ?\"$exchange\"" || fail "$what: not in the log"
}
# for_each COMMAND: dft becomes a script that sets something per rank
for_each() {
  printf '#!/usr/bin/env bash\n%s\nexec %q "$@"\n' "$1" "$program" >"$work/dft"
  chmod 755 "$work/dft"
  DFT=$work/dft
}
program=$DFT
own='export CUDA_VISIBLE_DEVICES=$OMPI_COMM_WORLD_RANK'
blind='[ $OMPI_COMM_WORLD_RANK != 1 ] || export CUDA_VISIBLE_DEVICES='
chosen "a GPU each" 2 cuda "nccl [0-9.]+"
chosen "by MPI" 2 cuda "mpi \(distributed.backend\)" distributed.backend=mpi
chosen "one rank" 1 cuda "none \(one rank\)" distributed.backend=nccl
chosen "three ranks, two GPUs" 3 cuda "mpi \(2 ranks share GPU 0 of [^)]*\)"
expect 2 "distributed.backend: nccl is not possible: 2 ranks share GPU 0 of" np_quiet 3 "$work/config.yaml" distributed.backend=nccl
DFT_KERNELS=portable chosen "CPU by name" 2 portable mpi
for_each "$own"
chosen "each sees its own alone" 2 cuda "nccl [0-9.]+"
for_each "$blind"
chosen "one sees none" 2 "[a-z0-9]+ \(rank 1 \(host [^)]*\) sees no GPU: .*\)" mpi
DFT_KERNELS=cuda expect 2 "DFT_KERNELS=cuda: rank 1 (host" np_quiet 2 "$work/config.yaml"
expect 2 "compute.precision: bfloat16 is for GPUs, and this run has none: rank 1 (host" np_quiet 2 "$work/config.yaml" compute.precision=bfloat16
echo "chosen as documented"
