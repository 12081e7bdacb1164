/* BatchNorm's maps from values to values: rows of channels, one pass, coefficients per channel. */
#include "../kernels.h"
#include "lanes.h"

/* Threads take runs of rows [from, to). */
#define SPLIT_ROWS(rows, c, statement)                                                                       \
  do {                                                                                                       \
    const int threads = dft_threads_for((rows) * (c));                                                       \
    _Pragma("omp parallel for schedule(static) num_threads(threads) if (threads > 1)") for (int t = 0;       \
                                                                                            t < threads;     \
                                                                                            t++) {           \
      int64_t from, to;                                                                                      \
      dft_part(rows, 1, t, threads, &from, &to);                                                             \
      for (int64_t row = from; row < to; row++) statement;                                                   \
    }                                                                                                        \
  } while (0)

typedef struct forward_job {
  const float *z, *scale, *shift, *residual;
  float *y;
  bool relu6;
} forward_job;

INLINE void forward_lanes(const forward_job *job, int64_t at, int ch, int lanes) {
  vf v = vf_fma(vf_get(job->z + at, lanes), vf_get(job->scale + ch, lanes), vf_get(job->shift + ch, lanes));
  if (job->relu6) v = vf_relu6(v);
  if (job->residual != NULL) v = vf_add(v, vf_get(job->residual + at, lanes));
  vf_put(job->y + at, v, lanes);
}

static void forward_row(const forward_job *job, int64_t row, int c) {
  for (int ch = 0; ch < c; ch += VF_LANES) WITH_LANES(c - ch, forward_lanes(job, row * c + ch, ch, lanes));
}

void DFT_SIMD(dft_scale_shift)(const float *z, const float *scale, const float *shift, const float *residual,
                               bool relu6, float *y, int64_t rows, int c) {
  const forward_job job = {z, scale, shift, residual, y, relu6};
  SPLIT_ROWS(rows, c, forward_row(&job, row, c));
}

typedef struct backward_job {
  const float *dy, *z;
  const dft_norm *norm;
  float *dz;
} backward_job;

INLINE void backward_lanes(const backward_job *job, int64_t at, int ch, int lanes) {
  const dft_norm *n = job->norm;
  const vf a = vf_get(n->a + ch, lanes);
  vf g = vf_get(job->dy + at, lanes), z = vf_zero();
  if (n->relu6 || n->b != NULL) z = vf_get(job->z + at, lanes);
  if (n->relu6) g = vf_gate6(vf_fma(z, vf_get(n->scale + ch, lanes), vf_get(n->shift + ch, lanes)), g);
  if (n->b == NULL)
    g = vf_mul(a, g);
  else
    g = vf_fma(a, g, vf_fma(vf_get(n->b + ch, lanes), z, vf_get(n->d + ch, lanes)));
  vf_put(job->dz + at, g, lanes);
}

static void backward_row(const backward_job *job, int64_t row, int c) {
  for (int ch = 0; ch < c; ch += VF_LANES) WITH_LANES(c - ch, backward_lanes(job, row * c + ch, ch, lanes));
}

void DFT_SIMD(dft_bn_backward)(const float *dy, const float *z, const dft_norm *norm, float *dz, int64_t rows,
                               int c) {
  const backward_job job = {dy, z, norm, dz};
  SPLIT_ROWS(rows, c, backward_row(&job, row, c));
}
