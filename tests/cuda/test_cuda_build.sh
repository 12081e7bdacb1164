#!/usr/bin/env bash
# Where nvcc is, the module of the GPU kernels was built without a warning (warnings are errors), links, exports what
# dft asks for, and holds machine code for every architecture that CMake names, and PTX for the others.
source "$DFT_SOURCE/tests/common.sh"
module=$DFT_BUILD/dft_cuda.so
grep -q '^DFT_NVCC:FILEPATH=/' "$DFT_BUILD/CMakeCache.txt" || skip "this build has no nvcc: GPU kernels are not compiled here"
[ -e "$module" ] || skip "$module is not built"
nm -D --defined-only "$module" | grep -q ' T dft_cuda_module$' || fail "it does not export dft_cuda_module"
ldd "$module" | grep -q cudart && fail "the CUDA runtime is not linked in"
readelf -d "$module" | grep -qE '\((RUNPATH|RPATH)\)' || fail "it does not say where cuBLASLt and NCCL are"
objcopy -O binary --only-section=.nv_fatbin --set-section-flags .nv_fatbin=alloc "$module" "$work/fatbin"
python3 - "$work/fatbin" "$DFT_SOURCE/cmake/cuda.cmake" <<'PYTHON' || fail "not all architectures are there"
import struct, sys
# fatbin header: magic, version, header bytes (u16), bytes (u64); each entry: kind (1 PTX, 2 ELF, u16), u16,
# header bytes (u32), bytes (u64), ..., architecture (u32 at 28)
data, found, at = open(sys.argv[1], "rb").read(), {1: set(), 2: set()}, 0
while (at := data.find(struct.pack("<I", 0xBA55ED50), at)) >= 0:
    _, _, header, size = struct.unpack_from("<IHHQ", data, at)
    entry, end = at + header, at + header + size
    while entry < end:
        kind, _, entry_header, entry_size = struct.unpack_from("<HHIQ", data, entry)
        found.setdefault(kind, set()).add(struct.unpack_from("<I", data, entry + 28)[0])
        entry += entry_header + entry_size
    at = end
print("machine code:", sorted(found[2]), "PTX:", sorted(found[1]))
assert {80, 86, 89, 90} <= found[2], "machine code"
assert found[1] == {90}, "PTX"
PYTHON
