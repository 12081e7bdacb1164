/* The product's inner part, for the kernels that fuse it with something else. */
#ifndef DFT_SIMD_GEMM_PANEL_H
#define DFT_SIMD_GEMM_PANEL_H

#include "dft/ops.h"
#include "simd.h"
#include <stdbool.h>
#include <stddef.h>

/* A packed matrix is a row of panels of PANEL columns, each [k][PANEL]; the last one is [k][VF_LANES] when at
 * most VF_LANES columns are left. Missing columns are zero. */
enum { PANEL = 2 * VF_LANES };

/* What one panel does: y[rows][n] = relu6?(bias + x[rows][k] . w[k][n] + residual), 1 <= n <= PANEL. Strides
 * in floats; residual has y's stride and may alias y. With y_row, y is an image with a border: after each
 * y_row rows (pixels) it skips y_gap floats. Each element is one FMA per k, in order, onto the bias: a row's
 * bits do not depend on `rows`.
 *
 * With `pairs`, the factors are bfloat16, and what x and w hold, and k and x_stride count, are words of two
 * neighbours in k: packed by the same function from words. Each element is one vf_pair_fma per word then. */
typedef struct panel_call {
  const float *x;
  ptrdiff_t x_stride;
  const float *w; /* the packed panel */
  int k, n;
  const float *bias; /* [n] or NULL */
  const float *residual;
  float *y;
  ptrdiff_t y_stride;
  int y_row;
  ptrdiff_t y_gap;
  bool relu6;
  bool pairs;
  /* What to fetch on the way, or NULL: the next panel as it lies before it is packed, k rows of two vectors
   * next_stride apart (NULL: packed, behind w); and what is as far as y: y or what is read beside it next. */
  const float *next;
  ptrdiff_t next_stride;
  const float *far;
  uint16_t *rounded; /* y once more as bfloat16, with its own stride and no border; or NULL */
  ptrdiff_t rounded_stride;
  bool only_rounded; /* nobody wants y itself; sets may write it all the same */
} panel_call;

/* Channels of a bfloat16 row in memory: AMX wants whole tiles, the rest zeros, in x and in the rows of w; it
 * reads, and does not use, up to ROUNDED_ROWS_PAST rows after x's last. */
#ifdef DFT_ISA_amx
enum { ROUNDED_UNIT = 32, ROUNDED_ROWS_PAST = 15 };
#else
enum { ROUNDED_UNIT = 1, ROUNDED_ROWS_PAST = 0 };
#endif
static inline int rounded_channels(int channels) {
  return (channels + ROUNDED_UNIT - 1) / ROUNDED_UNIT * ROUNDED_UNIT;
}

void DFT_SIMD(dft_gemm_panel)(const panel_call *call, int rows);

/* The same with pairs, by AMX: a sum of its own order (ops.h), then + bias + residual. */
void DFT_SIMD(dft_gemm_tiles)(const panel_call *call, int rows);

/* The whole product of `rows` rows, on the calling thread: a call with all n, w all panels. */
void DFT_SIMD(dft_gemm_whole)(const panel_call *whole, int64_t rows);
void DFT_SIMD(dft_gemm_serial)(const float *x, const float *packed, float *y, int64_t rows, int k, int n,
                               const dft_epilogue *epilogue);

/* Packs the panel of w that begins at column `first`, as gemm_pack does with all; returns its width. */
int DFT_SIMD(dft_gemm_pack_panel)(const float *w, int k, int n, bool transposed, int first, float *packed);

/* A NaN stays one: min and max return their second operand then. */
static inline vf vf_clamp(vf a, vf low, vf high) {
  return vf_min(high, vf_max(low, a));
}

#endif
