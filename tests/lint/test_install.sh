#!/usr/bin/env bash
# What `cmake --install` puts down is enough: each header compiles alone, and a stranger's program finds, links and runs
# libdft through pkg-config.
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
build=${DFT_BUILD:-$source_dir/build}
if grep -q '^DFT_SANITIZE:STRING=.' "$build/CMakeCache.txt"; then
  echo "skipped: a sanitizer build is not for installation"
  exit 77
fi
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$build" --prefix "$prefix/first" >/dev/null
mv "$prefix/first" "$prefix/moved"
cd "$prefix"

PKG_CONFIG_PATH=$(dirname "$(find "$prefix/moved" -name dft.pc)")
export PKG_CONFIG_PATH
flags=$(pkg-config --cflags dft)
for header in moved/include/dft/*.h; do
  printf '#include "dft/%s"\nextern int not_empty;\n' "${header##*/}" >header.c
  gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -pedantic $flags -fsyntax-only header.c
done

cat >stranger.c <<'END'
#include <dft/checkpoint.h>
#include <dft/config.h>
#include <dft/crc.h>
#include <dft/version.h>
#include <stdio.h>

int main(void) {
  dft_config *config = NULL;
  const char *text = "epochz: 3\n";
  if (dft_config_parse("mine.yaml", text, NULL, 0, &config) != DFT_EUSAGE) return 1;
  printf("%s %08x %s\n", DFT_VERSION, (unsigned)dft_crc32c(0, "123456789", 9), dft_error());
  return 0;
}
END
gcc -std=c11 -Wall -Wextra -Werror stranger.c -o stranger $flags $(pkg-config --libs dft)
said=$(./stranger)
version=$(pkg-config --modversion dft)
case $said in
"$version e3069283 mine.yaml"*epochz*) ;;
*) echo "the program said: $said"; exit 1 ;;
esac
case $(moved/bin/dft --version) in
"dft $version "*) ;;
*) echo "dft --version said: $(moved/bin/dft --version)"; exit 1 ;;
esac

# images: the module with libvips comes along, and is found from where the program was moved to
for class in ant bee; do
  mkdir -p "folder/$class"
  cp "$source_dir"/tests/golden/data/images/{rgb.png,lossy.webp,420.jpg} "folder/$class"
done
cat >folder.yaml <<'END'
model: {input_shape: [32, 32, 3], classes: 2}
data: {format: image_folder, train: {path: folder}, batch_size: 2}
phases: [{epochs: 1}]
END
said=$(moved/bin/dft check folder.yaml 2>&1) || { echo "dft check said: $said"; exit 1; }
case $said in
*"6 samples, 0 unreadable"*) ;;
*) echo "dft check said: $said"; exit 1 ;;
esac

# Keras files: so does the one with libhdf5
moved/bin/dft folder.yaml run_dir=run >/dev/null 2>&1
moved/bin/dft export run/final.pb keras.weights.h5
[ "$(head -c 4 keras.weights.h5)" = "$(printf '\211HDF')" ] || { echo "dft export wrote no HDF5 file"; exit 1; }
moved/bin/dft folder.yaml run_dir=again model.weights=keras.weights.h5 >/dev/null 2>&1
rm "$(find moved -name dft_hdf5.so)"
said=$(moved/bin/dft export run/final.pb other.h5 2>&1) && { echo "without its module: $said"; exit 1; }
case $said in
*"needs libhdf5"*DFT_HDF5_MODULE*) ;;
*) echo "without its module dft export said: $said"; exit 1 ;;
esac
rm "$(find moved -name dft_decode.so)"
said=$(moved/bin/dft check folder.yaml 2>&1) && { echo "without its module: $said"; exit 1; }
case $said in
*"needs libvips"*DFT_DECODE_MODULE*) ;;
*) echo "without its module dft check said: $said"; exit 1 ;;
esac
