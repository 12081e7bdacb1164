/* Small products in training, a sample at a time in strips of rows that stay in L1: forward normalises what
 * it reads and sums what it writes; backward makes dz, adds to the sample's weight gradient, and writes dx
 * and the sums for the BatchNorm below, all of one strip. */
#include "../gemm.h"
#include "../tasks.h"
#include "gemm_panel.h"
#include "train.h"
#include <math.h>
#include <string.h>

enum {
  FORWARD_FLOATS = 4096, /* of x and y in a strip together */
  STRIP_FLOATS = 8192,   /* the same backward */
  STRIP_ROWS = 12,       /* whole tiles of the product */
  MOST_ROWS = 512,       /* fewer than 1,024 values are summed in float32 (ops.h) */
  TILE = VF_LANES == 16 ? 8 : 4
};

/* Rows per strip; strips begin anew with each sample. */
static int strip_rows(int floats, int k, int n) {
  int rows = floats / (k + n) / STRIP_ROWS * STRIP_ROWS;
  return rows < STRIP_ROWS ? STRIP_ROWS : rows > MOST_ROWS ? MOST_ROWS : rows;
}

/* The longest strip. */
enum {
  WIDEST_STRIP = STRIP_ROWS * DFT_TRAIN_WIDEST,
  BUFFER = STRIP_FLOATS > WIDEST_STRIP ? STRIP_FLOATS : WIDEST_STRIP
};

INLINE void sum_vectors(const float *z, ptrdiff_t c, int rows, double *sums, int vectors, int lanes) {
  vf sum[3], square[3];
  for (int v = 0; v < vectors; v++) sum[v] = square[v] = vf_zero();
  for (int r = 0; r < rows; r++, z += c)
    for (int v = 0; v < vectors; v++) {
      const vf value = vf_get(z + v * VF_LANES, lanes);
      sum[v] = vf_add(sum[v], value);
      square[v] = vf_fma(value, value, square[v]);
    }
  for (int v = 0; v < vectors; v++) {
    vf_flush(sums + v * VF_LANES, sum[v], lanes);
    vf_flush(sums + c + v * VF_LANES, square[v], lanes);
  }
}

typedef struct forward_job {
  const dft_train_conv *t;
  float *z;
  double *parts; /* [samples][2][n], or NULL */
} forward_job;

static void forward_sample(const void *context, int s) {
  const forward_job *job = context;
  const dft_train_conv *t = job->t;
  const int k = t->conv.in_channels, n = t->conv.channels, pixels = t->conv.in_h * t->conv.in_w;
  const int step = strip_rows(FORWARD_FLOATS, k, n);
  _Alignas(64) float buffer[BUFFER];
  double *part = job->parts == NULL ? NULL : job->parts + (size_t)s * 2 * (size_t)n;
  if (part != NULL) memset(part, 0, 2 * (size_t)n * sizeof *part);
  for (int row = 0; row < pixels; row += step) {
    const int rows = pixels - row < step ? pixels - row : step;
    const int64_t at = (int64_t)s * pixels + row;
    const float *x = t->x + at * k;
    float *out = job->z + at * n;
    if (t->x_norm != NULL) {
      normalise(x, k, t->x_norm, 0, rows, k, buffer, k);
      x = buffer;
    }
    const panel_call call = {
        .x = x, .x_stride = k, .w = t->work, .k = k, .n = n, .y = out, .y_stride = n, .far = out};
    DFT_SIMD(dft_gemm_whole)(&call, rows);
    if (part != NULL) DFT_SIMD(dft_strip_sums)(out, NULL, NULL, 0, n, rows, n, part);
  }
}

void DFT_SIMD(dft_train_pointwise)(const dft_train_conv *t, float *z, double *sums) {
  const int k = t->conv.in_channels, n = t->conv.channels, pixels = t->conv.in_h * t->conv.in_w;
  double *parts = (double *)(void *)(t->work + dft_train_packed_floats(&t->conv));
  const forward_job job = {t, z, sums == NULL ? NULL : parts};
  DFT_SIMD(dft_gemm_pack)(t->weight, k, n, false, t->work);
  dft_run_tasks(&(dft_tasks){forward_sample, &job, t->map->samples}, 1,
                dft_threads_for((int64_t)t->map->samples * pixels * (k + n)));
  if (sums != NULL) DFT_SIMD(dft_fold_doubles)(parts, 2 * n, t->map, sums);
}

/* One tile of sum[a_columns][b_columns] += a^T . b over some rows. */
INLINE void outer_tile(const float *a, ptrdiff_t a_stride, const float *b, ptrdiff_t b_stride, int rows,
                       float *sum, int height, int vectors, int lanes) {
  vf acc[TILE][3];
#pragma GCC unroll 8
  for (int i = 0; i < height; i++)
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) acc[i][v] = vf_get(sum + i * b_stride + v * VF_LANES, lanes);
  for (; rows > 0; rows--, a += a_stride, b += b_stride) {
    vf bv[3];
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) bv[v] = vf_get(b + v * VF_LANES, lanes);
#pragma GCC unroll 8
    for (int i = 0; i < height; i++) {
      const vf factor = vf_set1(a[i]);
#pragma GCC unroll 3
      for (int v = 0; v < vectors; v++) acc[i][v] = vf_fma(factor, bv[v], acc[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < height; i++)
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) vf_put(sum + i * b_stride + v * VF_LANES, acc[i][v], lanes);
}

/* A column of tiles. */
INLINE void outer_column(const float *a, int a_columns, const float *b, int b_columns, int rows, float *sum,
                         int vectors, int lanes) {
  int i = 0;
  for (; a_columns - i >= TILE; i += TILE)
    outer_tile(a + i, a_columns, b, b_columns, rows, sum + (ptrdiff_t)i * b_columns, TILE, vectors, lanes);
  for (; i < a_columns; i++)
    outer_tile(a + i, a_columns, b, b_columns, rows, sum + (ptrdiff_t)i * b_columns, 1, vectors, lanes);
}

void DFT_SIMD(dft_outer)(const float *a, int a_columns, const float *b, int b_columns, int rows, float *sum) {
  int j = 0;
  for (; b_columns - j >= 3 * VF_LANES; j += 3 * VF_LANES)
    outer_column(a, a_columns, b + j, b_columns, rows, sum + j, 3, VF_LANES);
  for (; b_columns - j >= 2 * VF_LANES; j += 2 * VF_LANES)
    outer_column(a, a_columns, b + j, b_columns, rows, sum + j, 2, VF_LANES);
  for (; j < b_columns; j += VF_LANES)
    WITH_LANES(b_columns - j, outer_column(a, a_columns, b + j, b_columns, rows, sum + j, 1, lanes));
}

INLINE void below_vectors(const float *dy, const float *z, const dft_norm *n, bool relu6, int ch, ptrdiff_t c,
                          int rows, double *sums, int vectors, int lanes) {
  vf scale[3], shift[3], mean[3], beta[3], gamma[3];
  for (int v = 0; v < vectors; v++) {
    scale[v] = vf_get(n->scale + ch + v * VF_LANES, lanes);
    shift[v] = vf_get(n->shift + ch + v * VF_LANES, lanes);
    mean[v] = vf_get(n->mean + ch + v * VF_LANES, lanes);
    beta[v] = gamma[v] = vf_zero();
  }
  for (int r = 0; r < rows; r++, dy += c, z += c)
    for (int v = 0; v < vectors; v++) {
      const vf value = vf_get(z + v * VF_LANES, lanes);
      vf g = vf_get(dy + v * VF_LANES, lanes);
      if (relu6) g = vf_gate6(vf_fma(value, scale[v], shift[v]), g);
      beta[v] = vf_add(beta[v], g);
      gamma[v] = vf_fma(g, vf_sub(value, mean[v]), gamma[v]);
    }
  for (int v = 0; v < vectors; v++) {
    vf_flush(sums + v * VF_LANES, beta[v], lanes);
    vf_flush(sums + c + v * VF_LANES, gamma[v], lanes);
  }
}

void DFT_SIMD(dft_strip_sums)(const float *z, const float *dy, const dft_norm *norm, int ch, ptrdiff_t c,
                              int rows, int width, double *sums) {
  if (width == 2 * VF_LANES) {
    if (norm == NULL)
      sum_vectors(z, c, rows, sums, 2, VF_LANES);
    else
      below_vectors(dy, z, norm, norm->relu6, ch, c, rows, sums, 2, VF_LANES);
  } else if (norm == NULL) {
    OVER_CHANNELS(width, sum_vectors(z + i, c, rows, sums + i, 3, VF_LANES),
                  sum_vectors(z + i, c, rows, sums + i, 1, lanes));
  } else if (norm->relu6) {
    OVER_CHANNELS(width, below_vectors(dy + i, z + i, norm, true, ch + i, c, rows, sums + i, 3, VF_LANES),
                  below_vectors(dy + i, z + i, norm, true, ch + i, c, rows, sums + i, 1, lanes));
  } else {
    OVER_CHANNELS(width, below_vectors(dy + i, z + i, norm, false, ch + i, c, rows, sums + i, 3, VF_LANES),
                  below_vectors(dy + i, z + i, norm, false, ch + i, c, rows, sums + i, 1, lanes));
  }
}

typedef struct backward_job {
  const dft_train_conv *t;
  const dft_train_gradient *g;
  float *weights; /* [samples][k][n], or [n][k] where k is the wider: the wider side makes the vectors */
  double *below;  /* [samples][2][k] */
} backward_job;

static void backward_sample(const void *context, int s) {
  const backward_job *job = context;
  const dft_train_conv *t = job->t;
  const dft_train_gradient *g = job->g;
  _Alignas(64) float dz[BUFFER], x_read[BUFFER];
  const int k = t->conv.in_channels, n = t->conv.channels, pixels = t->conv.in_h * t->conv.in_w;
  const int step = strip_rows(STRIP_FLOATS, k, n);
  float *weights = job->weights + (size_t)s * (size_t)k * (size_t)n;
  double *below = job->below + (size_t)s * 2 * (size_t)k;
  if (g->dw != NULL) memset(weights, 0, (size_t)k * (size_t)n * sizeof *weights);
  if (g->below_sums != NULL) memset(below, 0, 2 * (size_t)k * sizeof *below);
  for (int row = 0; row < pixels; row += step) {
    const int rows = pixels - row < step ? pixels - row : step;
    const int64_t at = (int64_t)s * pixels + row;
    gradient(g->dy + at * n, g->z + at * n, n, g->norm, (ptrdiff_t)rows * n, 0, rows, n, dz, n);
    if (g->dw != NULL) {
      const float *x = t->x + at * k;
      if (t->x_norm != NULL) {
        normalise(x, k, t->x_norm, 0, rows, k, x_read, k);
        x = x_read;
      }
      if (k > n)
        DFT_SIMD(dft_outer)(dz, n, x, k, rows, weights);
      else
        DFT_SIMD(dft_outer)(x, k, dz, n, rows, weights);
    }
    if (g->dx == NULL) continue;
    float *dx = g->dx + at * k;
    const panel_call call = {.x = dz,
                             .x_stride = n,
                             .w = t->work,
                             .k = n,
                             .n = k,
                             .residual = g->skip == NULL ? NULL : g->skip + at * k,
                             .y = dx,
                             .y_stride = k,
                             .far = dx};
    DFT_SIMD(dft_gemm_whole)(&call, rows);
    if (g->below_sums != NULL)
      DFT_SIMD(dft_strip_sums)(g->below_z + at * k, dx, g->below_norm, 0, k, rows, k, below);
  }
}

/* [n][k] -> [k][n], in place. */
static void transpose(float *w, int k, int n) {
  float copy[DFT_TRAIN_SMALL];
  memcpy(copy, w, (size_t)k * (size_t)n * sizeof *w);
  for (int i = 0; i < k; i++)
    for (int j = 0; j < n; j++) w[(size_t)i * n + j] = copy[(size_t)j * k + i];
}

void DFT_SIMD(dft_train_pointwise_backward)(const dft_train_conv *t, const dft_train_gradient *g) {
  const int k = t->conv.in_channels, n = t->conv.channels, samples = t->map->samples;
  const size_t weights = (size_t)k * (size_t)n, sums = 2 * (size_t)k;
  double *below = (double *)(void *)(t->work + dft_train_packed_floats(&t->conv));
  float *parts = (float *)(below + (size_t)samples * sums);
  const backward_job job = {t, g, parts, below};
  if (g->dx != NULL) DFT_SIMD(dft_gemm_pack)(t->weight, n, k, true, t->work);
  dft_run_tasks(&(dft_tasks){backward_sample, &job, samples}, 1,
                dft_threads_for((int64_t)samples * t->conv.in_h * t->conv.in_w * (k + n)));
  if (g->below_sums != NULL) DFT_SIMD(dft_fold_doubles)(below, (int)sums, t->map, g->below_sums);
  if (g->dw == NULL) return;
  DFT_SIMD(dft_fold_floats)(parts, (int)weights, t->map, g->dw);
  for (int node = 0; node < t->map->nodes && k > n; node++) transpose(g->dw + (size_t)node * weights, k, n);
}
