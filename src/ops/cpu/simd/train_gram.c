/* The Gram matrix of an expansion's input (train_pair.c): x^T.x and, below it, the sum of x, of one sample.
 * The matrix is symmetric to the last bit, for products commute: a vector of columns meets only the rows from
 * its own first on, the others are copied. */
#include "train.h"
#include <string.h>

enum {
  STRIP_ROWS = 96,               /* summed in float32 before they join float64 */
  TALL = VF_LANES == 16 ? 16 : 8 /* as many sums as registers allow */
};

/* gram[row ... row + height)[column ... column + lanes) += of some pixels, and with `sums` gram[k][column
 * ...].
 */
INLINE void tile(const float *x, int k, int rows, int row, int column, bool sums, int height, int lanes,
                 double *gram) {
  vf acc[TALL], sum = vf_zero();
#pragma GCC unroll 16
  for (int i = 0; i < height; i++) acc[i] = vf_zero();
  for (const float *end = x + (ptrdiff_t)rows * k; x < end; x += k) {
    const vf value = vf_get(x + column, lanes);
    if (sums) sum = vf_add(sum, value);
#pragma GCC unroll 16
    for (int i = 0; i < height; i++) acc[i] = vf_fma(vf_set1(x[row + i]), value, acc[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < height; i++) vf_flush(gram + (ptrdiff_t)(row + i) * k + column, acc[i], lanes);
  if (sums) vf_flush(gram + (ptrdiff_t)k * k + column, sum, lanes);
}

/* A vector of columns of some pixels. */
INLINE void columns(const float *x, int k, int rows, int column, int lanes, double *gram) {
  int row = column;
  bool first = true;
  for (; k - row >= TALL; row += TALL, first = false) tile(x, k, rows, row, column, first, TALL, lanes, gram);
  for (; k - row >= 8; row += 8, first = false) tile(x, k, rows, row, column, first, 8, lanes, gram);
  for (; row < k; row++, first = false) tile(x, k, rows, row, column, first, 1, lanes, gram);
}

void DFT_SIMD(dft_gram)(const float *x, int k, int pixels, double *gram) {
  memset(gram, 0, (size_t)(k + 1) * (size_t)k * sizeof *gram);
  for (int row = 0; row < pixels; row += STRIP_ROWS, x += (ptrdiff_t)STRIP_ROWS * k) {
    const int rows = pixels - row < STRIP_ROWS ? pixels - row : STRIP_ROWS;
    for (int column = 0; column < k; column += VF_LANES)
      WITH_LANES(k - column, columns(x, k, rows, column, lanes, gram));
  }
  for (int i = 0; i < k; i++)
    for (int j = i / VF_LANES * VF_LANES + VF_LANES; j < k; j++) gram[i * k + j] = gram[j * k + i];
}
