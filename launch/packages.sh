# Sourced by quickstart.sh and test.sh: which Debian 12 packages dft needs, and how they get installed.

build_packages=(
  cmake ninja-build gcc libc6-dev pkg-config
  libopenmpi-dev openmpi-bin libopenblas-dev libprotobuf-c-dev protobuf-c-compiler
  libyaml-dev libhdf5-dev libisal-dev zlib1g-dev libjpeg-dev libvips-dev libjansson-dev
)
data_packages=(dataset-fashion-mnist)
test_packages=(
  g++ libcmocka-dev protobuf-compiler clang clang-format clang-tidy libclang-rt-14-dev libomp-14-dev
  python3-pil procps iproute2 munge slurmctld slurmd slurm-client
)

say() { echo "dft: $*"; }

# install_packages NAME...: nothing when all are there; else says which, and installs them.
install_packages() {
  local missing=() name as_root=()
  if ! command -v apt-get >/dev/null; then
    say "this is no Debian: have these or their like ready: $*"
    return 0
  fi
  for name in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      say "these packages are missing, and neither root nor sudo is here to install them: ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  say "installing from Debian: ${missing[*]}"
  quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
  quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    "${missing[@]}"
}

# quietly COMMAND...: its output is shown only if it fails.
quietly() {
  local log status
  log=$(mktemp)
  if "$@" >"$log" 2>&1 </dev/null; then
    rm -f "$log"
  else
    status=$?
    cat "$log" >&2
    rm -f "$log"
    say "this failed with status $status: $*" >&2
    return "$status"
  fi
}

# build ON|OFF TARGET: a release build in build/, with or without the tests.
build() {
  say "building in build/"
  quietly cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DDFT_SANITIZE= -DDFT_TESTS="$1"
  quietly cmake --build build --target "$2"
}

# What Open MPI needs to start as root, on fewer cores than ranks, and in a container that forbids one process
# to read another's memory.
mpi_environment() {
  if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  if [ -e /.dockerenv ] || [ -e /run/.containerenv ]; then
    export OMPI_MCA_btl_vader_single_copy_mechanism=none
  fi
}
