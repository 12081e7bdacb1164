/* Register tiles of row pairs by vectors (frozen_twins.h). */
#include "frozen_twins.h"

#include "lanes.h"
#include "register_tiles.h"

#if VF_LANES == 16

enum { UNROLLED = 4 }; /* of k, in the inner loop */

/* Two neighbouring floats, in all pairs of lanes. */
INLINE vf both(const float *pair) {
  double bits;
  memcpy(&bits, pair, sizeof bits);
  return _mm512_castpd_ps(_mm512_set1_pd(bits));
}

/* Lanes of two vectors that hold the even row of 8 columns each, the odd row, or the first's even and the
 * second's odd one. */
INLINE vf even_rows(vf a, vf b) {
  return _mm512_permutex2var_ps(
      a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b);
}
INLINE vf odd_rows(vf a, vf b) {
  return _mm512_permutex2var_ps(
      a, _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), b);
}
INLINE vf even_and_odd_rows(vf a, vf b) {
  return _mm512_permutex2var_ps(
      a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31), b);
}

/* The sums of two rows as they lie in memory, one row after the other. */
INLINE void separate(const vf sum[TWIN_VECTORS], vf y[TWIN_VECTORS], int vectors) {
  if (vectors == 1) {
    y[0] = even_and_odd_rows(sum[0], sum[0]);
  } else if (vectors == 2) {
    y[0] = even_rows(sum[0], sum[1]);
    y[1] = odd_rows(sum[0], sum[1]);
  } else {
    y[0] = even_rows(sum[0], sum[1]);
    y[1] = even_and_odd_rows(sum[2], sum[0]);
    y[2] = odd_rows(sum[1], sum[2]);
  }
}

/* sum[p][v] += the k-th factors of pair p times w[v] */
INLINE void multiply(const row_factors *x, ptrdiff_t x_stride, int k, const float *w, vf sum[][TWIN_VECTORS],
                     int pairs, int vectors) {
  vf column[TWIN_VECTORS];
#pragma GCC unroll 3
  for (int v = 0; v < vectors; v++) column[v] = vf_load(w + v * VF_LANES);
#pragma GCC unroll 12
  for (int p = 0; p < pairs; p++) {
    const vf factor = both(factor_at(x, p, x_stride, 2 * k));
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) vf_accumulate(&sum[p][v], factor, column[v]);
  }
}

/* `count` tiles below each other; `pairs` and `vectors` are constants where this is inlined. */
INLINE void twins(const twins_call *call, int64_t first, int64_t count, int pairs, int vectors) {
  const ptrdiff_t x_stride = 2 * (ptrdiff_t)call->k, y_stride = (ptrdiff_t)vectors * VF_LANES;
  const float *x = call->x + first * x_stride, *const w_begin = call->w, *const residual = call->residual;
  float *const y = call->y;
  const int depth = call->k;
  for (ptrdiff_t at = first * y_stride; count > 0; count--, x += pairs * x_stride) {
    vf sum[TILE_ROWS][TWIN_VECTORS];
    for (int v = 0; v < vectors; v++) {
      const vf bias = vf_load(call->bias + v * VF_LANES);
#pragma GCC unroll 12
      for (int p = 0; p < pairs; p++) sum[p][v] = bias;
    }
    const float *w = w_begin;
    row_factors f;
    begin_factors(&f, x, pairs, x_stride);
    int k = depth;
    for (; k >= UNROLLED; k -= UNROLLED) {
#pragma GCC unroll 4
      for (int j = 0; j < UNROLLED; j++, w += y_stride) multiply(&f, x_stride, j, w, sum, pairs, vectors);
      advance_factors(&f, pairs, 2 * UNROLLED);
    }
    for (; k > 0; k--, w += y_stride) {
      multiply(&f, x_stride, 0, w, sum, pairs, vectors);
      advance_factors(&f, pairs, 2);
    }
#pragma GCC unroll 12
    for (int p = 0; p < pairs; p++, at += y_stride) {
      vf rows[TWIN_VECTORS];
      separate(sum[p], rows, vectors);
#pragma GCC unroll 3
      for (int v = 0; v < vectors; v++) {
        if (residual) rows[v] = vf_add(rows[v], vf_load(residual + at + v * VF_LANES));
        vf_store(y + at + v * VF_LANES, rows[v]);
      }
    }
  }
}

#define TILE(pairs, vectors)                                                                                 \
  static void twins_##pairs##x##vectors(const twins_call *call, int64_t first, int64_t count) {              \
    twins(call, first, count, pairs, vectors);                                                               \
  }
TILES_TO_12(TILE, 1)
TILES_TO_12(TILE, 2)
TILES_TO_9(TILE, 3)

/* Tiles as even as can be: some of a height, the others one lower. */
void DFT_SIMD(dft_twins_run)(const twins_call *call, int64_t rows) {
  typedef void tile_kernel(const twins_call *call, int64_t first, int64_t count);
  static tile_kernel *const kernels[TWIN_VECTORS][TILE_ROWS] = {
      {NAMES_TO_12(twins, 1)}, {NAMES_TO_12(twins, 2)}, {NAMES_TO_9(twins, 3)}};
  const int vectors = call->n / TWIN_COLUMNS, most = most_rows[vectors - 1];
  tile_kernel *const *kernel = kernels[vectors - 1] - 1;
  const int64_t pairs = rows / 2, count = (pairs + most - 1) / most;
  const int height = (int)((pairs + count - 1) / count);
  const int64_t lower = count * height - pairs;
  kernel[height](call, 0, count - lower);
  if (lower > 0) kernel[height - 1](call, (count - lower) * height, lower);
}

#endif
