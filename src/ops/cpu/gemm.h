/* The product family and the frozen forward of every CPU kernel set, by name, for the table in ops.c; ops.h
 * says what each does. The sets' own packings differ: a packed matrix belongs to the set that packed it. */
#ifndef DFT_OPS_CPU_GEMM_H
#define DFT_OPS_CPU_GEMM_H

#include "dft/ops.h"

/* Sums over the shards of a node fold as a binary counter adds: after shard s of the node (from 0), each
 * trailing 1 of s joins two neighbours, left + right, which is the tree's order. That many partial sums are
 * alive at most (DFT_MAX_SHARDS = 2^12 shards and the one just summed). */
enum { DFT_GEMM_LEVELS = 13 };

#define DFT_GEMM_DECLARE(set)                                                                                \
  size_t dft_gemm_packed_floats_##set(int k, int n);                                                         \
  void dft_gemm_pack_##set(const float *w, int k, int n, bool transposed, float *packed);                    \
  void dft_gemm_##set(const float *x, const float *packed, float *y, int samples, int pixels, int k, int n,  \
                      const dft_epilogue *epilogue);                                                         \
  void dft_gemm_dw_##set(const float *x, const float *dy, int pixels, int k, int n,                          \
                         const dft_shard_map *map, float *dw);                                               \
  dft_status dft_frozen_new_##set(const dft_folded *layers, int count, dft_frozen **frozen);                 \
  void dft_frozen_run_##set(dft_frozen *frozen, const float *x, float *y, int samples);                      \
  void dft_frozen_free_##set(dft_frozen *frozen);

DFT_GEMM_DECLARE(reference)
DFT_GEMM_DECLARE(portable)
DFT_GEMM_DECLARE(avx2)
DFT_GEMM_DECLARE(avx512)
DFT_GEMM_DECLARE(avx512bf16)
DFT_GEMM_DECLARE(amx)

#endif
