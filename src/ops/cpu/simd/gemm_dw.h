/* The weight gradient of a product (gemm_dw.c) as tasks, so that it can share its threads with others. */
#ifndef DFT_SIMD_GEMM_DW_H
#define DFT_SIMD_GEMM_DW_H

#include "../tasks.h"
#include "dft/ops.h"
#include "simd.h"

/* The two factors, with their number of columns, which is their stride. */
typedef struct dft_dw_factors {
  const float *a, *b; /* a gives the tile's rows, b its columns */
  int a_columns, b_columns;
  bool transposed;      /* a is dy and b is x: tiles are stored transposed */
  const dft_norm *norm; /* of b, applied as it is packed; or NULL */
} dft_dw_factors;

/* gemm_dw (ops.h) by blocks of dw: what its tasks 0 ... tasks - 1 need. */
typedef struct dft_dw_job {
  dft_dw_factors factors;
  int pixels;
  const dft_shard_map *map;
  float *dw;
  int height, wide, across; /* rows and panels of a block; blocks side by side */
  int tasks;
} dft_dw_job;

/* gemm_dw of norm(x), x being what is stored; x_norm NULL: of x. */
dft_dw_job DFT_SIMD(dft_dw_plan)(const float *x, const dft_norm *x_norm, const float *dy, int pixels, int k,
                                 int n, const dft_shard_map *map, float *dw);
void DFT_SIMD(dft_dw_task)(const void *job, int task);

#endif
