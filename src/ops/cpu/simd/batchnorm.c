/* BatchNorm: memory-bound, so each operation is one pass. Sums run down strips of rows that stay in the first
 * cache, a few vectors of channels at a time in float32; each strip's sums are added to float64 ones. */
#include "../kernels.h"
#include "../sums.h"
#include "lanes.h"

#define STRIP 64 /* rows; at most 1,024 values may be summed in float32 (ops.h) */

typedef struct sums_job {
  const float *dy, *z;
  const dft_norm *norm;
  int pixels, c;
} sums_job;

/* Runs one strip function down a shard's rows: sums[..][width] += strips of `vectors` vectors of channels. */
#define DOWN_STRIPS(job, first, count, width, strip4, strip1)                                                \
  const int64_t begin = (int64_t)(first) * (job)->pixels, end = begin + (int64_t)(count) * (job)->pixels;    \
  for (int64_t from = begin; from < end; from += STRIP) {                                                    \
    const int rows = (int)(end - from < STRIP ? end - from : STRIP);                                         \
    int i = 0;                                                                                               \
    for (; (width)-i >= 4 * VF_LANES; i += 4 * VF_LANES) strip4;                                             \
    for (; i < (width); i += VF_LANES) WITH_LANES((width)-i, strip1);                                        \
  }

INLINE void bn_strip(const sums_job *job, int64_t from, int rows, int ch, int vectors, int lanes, int width,
                     double *sums) {
  const float *z = job->z + from * job->c + ch;
  vf sum[4], square[4];
  for (int v = 0; v < vectors; v++) sum[v] = square[v] = vf_zero();
  for (int r = 0; r < rows; r++, z += job->c)
    for (int v = 0; v < vectors; v++) {
      const vf value = vf_get(z + v * VF_LANES, lanes);
      sum[v] = vf_add(sum[v], value);
      square[v] = vf_fma(value, value, square[v]);
    }
  for (int v = 0; v < vectors; v++) {
    vf_flush(sums + v * VF_LANES, sum[v], lanes);
    vf_flush(sums + width + v * VF_LANES, square[v], lanes);
  }
}

static void bn_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const sums_job *job = context;
  DOWN_STRIPS(job, first, count, width, bn_strip(job, from, rows, channel + i, 4, VF_LANES, width, sums + i),
              bn_strip(job, from, rows, channel + i, 1, lanes, width, sums + i))
}

void DFT_SIMD(dft_bn_sums)(const float *z, int pixels, int c, const dft_shard_map *map, double *sums) {
  const sums_job job = {.z = z, .pixels = pixels, .c = c};
  const dft_sums s = {
      .leaf = bn_leaf, .job = &job, .values = 2, .c = c, .work = (int64_t)pixels * c, .out64 = sums};
  dft_sum_shards(&s, map);
}

INLINE void bn_backward_strip(const sums_job *job, bool relu6, int64_t from, int rows, int ch, int vectors,
                              int lanes, int width, double *sums) {
  const int64_t at = from * job->c + ch;
  const float *dy = job->dy + at, *z = job->z + at;
  const dft_norm *norm = job->norm;
  vf mean[4], beta[4], gamma[4], scale[4], shift[4];
  for (int v = 0; v < vectors; v++) {
    mean[v] = vf_get(norm->mean + ch + v * VF_LANES, lanes);
    if (relu6) {
      scale[v] = vf_get(norm->scale + ch + v * VF_LANES, lanes);
      shift[v] = vf_get(norm->shift + ch + v * VF_LANES, lanes);
    }
    beta[v] = gamma[v] = vf_zero();
  }
  for (int64_t r = 0; r < (int64_t)rows * job->c; r += job->c)
    for (int v = 0; v < vectors; v++) {
      const int64_t i = r + v * VF_LANES;
      const vf value = vf_get(z + i, lanes);
      vf g = vf_get(dy + i, lanes);
      if (relu6) g = vf_gate6(vf_fma(value, scale[v], shift[v]), g);
      beta[v] = vf_add(beta[v], g);
      gamma[v] = vf_fma(g, vf_sub(value, mean[v]), gamma[v]);
    }
  for (int v = 0; v < vectors; v++) {
    vf_flush(sums + v * VF_LANES, beta[v], lanes);
    vf_flush(sums + width + v * VF_LANES, gamma[v], lanes);
  }
}

static void bn_backward_leaf(const void *context, int first, int count, int channel, int width,
                             double *sums) {
  const sums_job *job = context;
  if (job->norm->relu6) {
    DOWN_STRIPS(job, first, count, width,
                bn_backward_strip(job, true, from, rows, channel + i, 4, VF_LANES, width, sums + i),
                bn_backward_strip(job, true, from, rows, channel + i, 1, lanes, width, sums + i))
  } else {
    DOWN_STRIPS(job, first, count, width,
                bn_backward_strip(job, false, from, rows, channel + i, 4, VF_LANES, width, sums + i),
                bn_backward_strip(job, false, from, rows, channel + i, 1, lanes, width, sums + i))
  }
}

void DFT_SIMD(dft_bn_backward_sums)(const float *dy, const float *z, const dft_norm *norm, int pixels, int c,
                                    const dft_shard_map *map, double *sums) {
  const sums_job job = {dy, z, norm, pixels, c};
  const dft_sums s = {
      .leaf = bn_backward_leaf, .job = &job, .values = 2, .c = c, .work = (int64_t)pixels * c, .out64 = sums};
  dft_sum_shards(&s, map);
}

INLINE void row_strip(const sums_job *job, int64_t from, int rows, int ch, int vectors, int lanes,
                      double *sums) {
  const float *x = job->z + from * job->c + ch;
  vf sum[4];
  for (int v = 0; v < vectors; v++) sum[v] = vf_zero();
  for (int r = 0; r < rows; r++, x += job->c)
    for (int v = 0; v < vectors; v++) sum[v] = vf_add(sum[v], vf_get(x + v * VF_LANES, lanes));
  for (int v = 0; v < vectors; v++) vf_flush(sums + v * VF_LANES, sum[v], lanes);
}

static void row_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const sums_job *job = context;
  DOWN_STRIPS(job, first, count, width, row_strip(job, from, rows, channel + i, 4, VF_LANES, sums + i),
              row_strip(job, from, rows, channel + i, 1, lanes, sums + i))
}

void DFT_SIMD(dft_row_sums)(const float *x, int pixels, int c, const dft_shard_map *map, float *sums) {
  const sums_job job = {.z = x, .pixels = pixels, .c = c};
  const dft_sums s = {
      .leaf = row_leaf, .job = &job, .values = 1, .c = c, .work = (int64_t)pixels * c, .out32 = sums};
  dft_sum_shards(&s, map);
}
