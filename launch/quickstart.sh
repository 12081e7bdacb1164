#!/usr/bin/env bash
# Installs what is missing, builds dft, and fine-tunes MobileNetV2 on five classes of Fashion-MNIST: a rank
# per GPU, or per core, up to 8 for its batches of 10 images.
# Run again, it builds what changed and goes on where it stopped; a finished run shows its result.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/packages.sh

config=configs/5class.yaml
ranks=$(nproc)

install_packages "${build_packages[@]}" "${data_packages[@]}"
target=dft
if [ -e /dev/nvidiactl ] && command -v nvcc >/dev/null; then # the kernels for GPUs too
  target=all
  gpus=(/dev/nvidia[0-9]*)
  ranks=${#gpus[@]}
fi
[ "$ranks" -le 8 ] || ranks=8
build OFF "$target"
mpi_environment
say "mpirun -np $ranks dft $config"
mpirun --oversubscribe --bind-to none -np "$ranks" build/dft "$config"
