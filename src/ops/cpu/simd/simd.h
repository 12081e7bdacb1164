/* One readable source per kernel, compiled once per instruction set: the vector type and the few operations
 * that kernels need. DFT_SIMD(name) gives each function its set's suffix (name_avx2, name_avx512). */
#ifndef DFT_SIMD_H
#define DFT_SIMD_H

#include <immintrin.h>

#define DFT_SIMD_JOIN2(a, b) a##b
#define DFT_SIMD_JOIN(a, b)  DFT_SIMD_JOIN2(a, b)
#define DFT_SIMD(name)       DFT_SIMD_JOIN(name, DFT_SIMD_SUFFIX)

#endif
