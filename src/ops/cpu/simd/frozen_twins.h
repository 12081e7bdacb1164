/* Narrow products of the frozen forward: with 8, 16 or 24 columns a row would leave half a vector empty, or
 * load as often as it multiplies. So rows go by two: a vector has 8 columns of both, and a factor is two
 * neighbouring floats, one of each row. */
#ifndef DFT_SIMD_FROZEN_TWINS_H
#define DFT_SIMD_FROZEN_TWINS_H

#include "simd.h"
#include <stdbool.h>

enum { TWINS = VF_LANES == 16, TWIN_COLUMNS = 8, TWIN_VECTORS = 3 };

/* Whether a product of n columns on rows of `width` pixels goes so, if it has no clamp (none of the network's
 * narrow ones has). */
static inline bool twins_fit(int n, int width) {
  return TWINS && n % TWIN_COLUMNS == 0 && n <= TWIN_VECTORS * TWIN_COLUMNS && width % 2 == 0;
}

/* y[rows][n] = bias + x . w[k][n] + residual, one FMA per k in order onto the bias, as any product. */
typedef struct twins_call {
  const float *x;        /* [rows / 2][k][2] */
  const float *w, *bias; /* [k][n][2] and [n][2]: each column twice */
  int k, n;
  const float *residual; /* like y, or NULL */
  float *y;
} twins_call;

void DFT_SIMD(dft_twins_run)(const twins_call *call, int64_t rows);

#endif
