/* The product's inner part, for the kernels that fuse it with something else. */
#ifndef DFT_SIMD_GEMM_PANEL_H
#define DFT_SIMD_GEMM_PANEL_H

#include "dft/ops.h"
#include "simd.h"
#include <stdbool.h>
#include <stddef.h>

/* A packed matrix is a row of panels, each [k][columns] of some whole vectors; missing columns are zero. */
enum { PANEL_VECTORS = VF_LANES == 16 ? 4 : 2, PANEL = PANEL_VECTORS * VF_LANES };

/* Vectors of the panel that begins where so many columns are left; `pairs` as below. Tiles of three vectors
 * by nine rows, or of four by six, load the least for each FMA that 32 registers allow; AMX works in squares
 * of two. */
static inline int panel_vectors(int columns, bool pairs) {
  const int vectors = (columns + VF_LANES - 1) / VF_LANES;
#ifdef DFT_ISA_amx
  if (pairs) return vectors < 2 ? vectors : 2;
#endif
  (void)pairs;
  if (vectors <= PANEL_VECTORS) return vectors;
  return PANEL_VECTORS == 4 && (vectors % 3 == 0 || vectors == 5) ? 3 : PANEL_VECTORS;
}
static inline int panel_columns(int columns, bool pairs) {
  const int width = panel_vectors(columns, pairs) * VF_LANES;
  return columns < width ? columns : width;
}
/* Of a matrix of n columns of float32: the first column of panel `index`, n if there are no more; and the
 * panels.
 */
static inline int panel_first(int n, int index) {
  int first = 0;
  for (; index > 0 && first < n; index--) first += panel_columns(n - first, false);
  return first;
}
static inline int panel_count(int n) {
  int count = 0;
  for (int first = 0; first < n; first += panel_columns(n - first, false)) count++;
  return count;
}

/* What one panel does: y[rows][n] = relu6?(bias + x[rows][k] . w[k][n] + residual), 1 <= n <= PANEL. Strides
 * in floats; residual has y's stride and may alias y. With y_row, y is an image with a border: after each
 * y_row rows (pixels) it skips y_gap floats. Each element is one FMA per k, in order, onto the bias: a row's
 * bits do not depend on `rows`.
 *
 * With `pairs`, the factors are bfloat16, and what x and w hold, and k and x_stride count, are words of two
 * neighbours in k: packed by the same function from words. Each element is one vf_word_fma per word then. */
typedef struct panel_call {
  const float *x;
  ptrdiff_t x_stride;
  const float *w;     /* the panel */
  ptrdiff_t w_stride; /* of its rows, each of whole vectors; 0: packed */
  int k, n;
  const float *bias; /* [n] or NULL */
  const float *residual;
  float *y;
  ptrdiff_t y_stride;
  int y_row;
  ptrdiff_t y_gap;
  bool relu6;
  bool pairs;
  /* What to fetch on the way, or NULL: the next panel as it lies before it is packed, k rows of vectors
   * next_stride apart (NULL: packed, behind w); and what is as far as y: y or what is read beside it next. */
  const float *next;
  ptrdiff_t next_stride;
  const float *far;
  vf_bf16 *rounded; /* y once more as bfloat16, with its own stride and no border; or NULL */
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
/* Packs columns [from, from + n) of w[k][stride] as a matrix of their own. */
void DFT_SIMD(dft_gemm_pack_columns)(const float *w, int k, int stride, int from, int n, bool pairs,
                                     float *packed);

/* A NaN stays one: min and max return their second operand then. */
static inline vf vf_clamp(vf a, vf low, vf high) {
  return vf_min(high, vf_max(low, a));
}

#endif
