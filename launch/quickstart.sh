#!/usr/bin/env bash
# Installs what is missing, builds dft, and fine-tunes MobileNetV2 on five classes of Fashion-MNIST on all cores.
# Run again, it builds what changed and goes on where it stopped; a finished run shows its result.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/packages.sh

config=configs/5class.yaml
cores=$(nproc)

install_packages "${build_packages[@]}" "${data_packages[@]}"
target=dft
if [ -e /dev/nvidiactl ] && command -v nvcc >/dev/null; then target=all; fi # the kernels for GPUs too
build OFF "$target"
mpi_environment
say "mpirun -np $cores dft $config"
mpirun --oversubscribe --bind-to none -np "$cores" build/dft "$config"
