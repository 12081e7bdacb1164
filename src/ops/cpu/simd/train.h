/* What the fused training kernels share: BatchNorm's maps and sums over a strip of rows that is in L1 or on
 * its way there, up to three vectors of channels at a time (expanded widths are multiples of 48) so that
 * coefficients stay in registers. What is read is fetched ahead by a strip: rows of one channel group are too
 * far apart for the CPU to guess. */
#ifndef DFT_SIMD_TRAIN_H
#define DFT_SIMD_TRAIN_H

#include "../kernels.h"
#include "../train_composed.h"
#include "lanes.h"
#include <math.h>

/* Runs `wide` (three whole vectors) and `single` (one, maybe not whole) over channels i of c. */
#define OVER_CHANNELS(c, wide, single)                                                                       \
  do {                                                                                                       \
    int i = 0;                                                                                               \
    for (; (c)-i >= 3 * VF_LANES; i += 3 * VF_LANES) wide;                                                   \
    for (; i < (c); i += VF_LANES) WITH_LANES((c)-i, single);                                                \
  } while (0)

INLINE void normalise_vectors(const float *z, ptrdiff_t z_stride, const dft_norm *n, int ch, int rows,
                              float *y, ptrdiff_t y_stride, int vectors, int lanes) {
  vf scale[3], shift[3];
  const vf low = vf_set1(n->relu6 ? 0 : -INFINITY), high = vf_set1(n->relu6 ? 6 : INFINITY);
  for (int v = 0; v < vectors; v++) {
    scale[v] = vf_get(n->scale + ch + v * VF_LANES, lanes);
    shift[v] = vf_get(n->shift + ch + v * VF_LANES, lanes);
  }
  const ptrdiff_t next = rows * z_stride;
  for (int r = 0; r < rows; r++, z += z_stride, y += y_stride)
    for (int v = 0; v < vectors; v++) {
      __builtin_prefetch(z + next + v * VF_LANES, 0, 2);
      const vf value = vf_fma(vf_get(z + v * VF_LANES, lanes), scale[v], shift[v]);
      vf_put(y + v * VF_LANES, vf_min(high, vf_max(low, value)), lanes);
    }
}

/* y = norm(z) for channels [ch, ch + c); z and y point at the first of them. */
static inline void normalise(const float *z, ptrdiff_t z_stride, const dft_norm *n, int ch, int rows, int c,
                             float *y, ptrdiff_t y_stride) {
  OVER_CHANNELS(c, normalise_vectors(z + i, z_stride, n, ch + i, rows, y + i, y_stride, 3, VF_LANES),
                normalise_vectors(z + i, z_stride, n, ch + i, rows, y + i, y_stride, 1, lanes));
}

INLINE void gradient_vectors(const float *dy, const float *z, ptrdiff_t stride, const dft_norm *n, bool relu6,
                             ptrdiff_t next, int ch, int rows, float *dz, ptrdiff_t dz_stride, int vectors,
                             int lanes) {
  vf scale[3], shift[3], a[3], b[3], d[3];
  for (int v = 0; v < vectors; v++) {
    const int at = ch + v * VF_LANES;
    scale[v] = vf_get(n->scale + at, lanes);
    shift[v] = vf_get(n->shift + at, lanes);
    a[v] = vf_get(n->a + at, lanes);
    b[v] = n->b == NULL ? vf_zero() : vf_get(n->b + at, lanes);
    d[v] = n->d == NULL ? vf_zero() : vf_get(n->d + at, lanes);
  }
  for (int r = 0; r < rows; r++, dy += stride, z += stride, dz += dz_stride)
    for (int v = 0; v < vectors; v++) {
      __builtin_prefetch(z + next + v * VF_LANES, 0, 2);
      __builtin_prefetch(dy + next + v * VF_LANES, 0, 2);
      const vf value = vf_get(z + v * VF_LANES, lanes);
      vf g = vf_get(dy + v * VF_LANES, lanes);
      if (relu6) g = vf_gate6(vf_fma(value, scale[v], shift[v]), g);
      vf_put(dz + v * VF_LANES, vf_fma(a[v], g, vf_fma(b[v], value, d[v])), lanes);
    }
}

/* dz of dy and z, as dft_norm says; what lies `next` floats ahead is fetched (0: nothing). */
static inline void gradient(const float *dy, const float *z, ptrdiff_t stride, const dft_norm *n,
                            ptrdiff_t next, int ch, int rows, int c, float *dz, ptrdiff_t dz_stride) {
  if (n->relu6)
    OVER_CHANNELS(
        c,
        gradient_vectors(dy + i, z + i, stride, n, true, next, ch + i, rows, dz + i, dz_stride, 3, VF_LANES),
        gradient_vectors(dy + i, z + i, stride, n, true, next, ch + i, rows, dz + i, dz_stride, 1, lanes));
  else
    OVER_CHANNELS(
        c,
        gradient_vectors(dy + i, z + i, stride, n, false, next, ch + i, rows, dz + i, dz_stride, 3, VF_LANES),
        gradient_vectors(dy + i, z + i, stride, n, false, next, ch + i, rows, dz + i, dz_stride, 1, lanes));
}

/* Sums over samples, each of which has its own: part[sample][values]. Filled in parallel, then folded in the
 * one order of promise 2. */
void DFT_SIMD(dft_fold_doubles)(const double *part, int values, const dft_shard_map *map, double *sums);
void DFT_SIMD(dft_fold_floats)(const float *part, int values, const dft_shard_map *map, float *sums);

/* sum[a_columns][b_columns] += a^T . b over some rows; the wider side makes b's vectors best. */
void DFT_SIMD(dft_outer)(const float *a, int a_columns, const float *b, int b_columns, int rows, float *sum);

/* gram[k+1][k]: x^T.x and the sum of x, of one sample's x[pixels][k]. */
void DFT_SIMD(dft_gram)(const float *x, int k, int pixels, double *gram);

/* Sums over a strip of rows, `stride` apart, for some channels of c: sums[0 ... width) and sums[c ...) +=
 * those of z and z^2, or, with a norm, bn_backward_sums of dy and z through it (of the channels from ch on).
 */
void DFT_SIMD(dft_strip_sums)(const float *z, const float *dy, const dft_norm *norm, int ch, ptrdiff_t c,
                              int rows, int width, double *sums);

/* False where a shape is not theirs: nothing has been done. */
void DFT_SIMD(dft_train_pointwise)(const dft_train_conv *t, float *z, double *sums);
void DFT_SIMD(dft_train_pointwise_backward)(const dft_train_conv *t, const dft_train_gradient *g);
bool DFT_SIMD(dft_train_large)(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums);
bool DFT_SIMD(dft_train_large_backward)(const dft_ops *ops, const dft_train_conv *t,
                                        const dft_train_gradient *g);
bool DFT_SIMD(dft_train_stem)(const dft_train_conv *t, float *z, double *sums);
bool DFT_SIMD(dft_train_stem_backward)(const dft_train_conv *t, const dft_train_gradient *g);
bool DFT_SIMD(dft_train_depthwise)(const dft_train_conv *t, float *z, double *sums);
bool DFT_SIMD(dft_train_depthwise_backward)(const dft_train_conv *t, const dft_train_gradient *g);

#endif
