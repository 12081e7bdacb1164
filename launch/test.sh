#!/usr/bin/env bash
# Installs what is missing, builds dft in build/ and runs all tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/packages.sh

install_packages "${build_packages[@]}" "${data_packages[@]}" "${test_packages[@]}"
build ON all
mpi_environment
# Most tests start several processes themselves: half the cores, at least two tests at a time.
jobs=$(($(nproc) / 2))
ctest --test-dir build --output-on-failure -j $((jobs < 2 ? 2 : jobs))
