#include "kernels.h"
#include "plain.h"
#include "sums.h"

typedef struct sums_job {
  const float *dy, *z;
  const dft_norm *norm;
  int pixels, c;
} sums_job;

/* dy where the activation let the gradient through; value i belongs to channel ch. */
static float gated(const float *dy, const float *z, const dft_norm *norm, int64_t i, int ch) {
  if (!norm->relu6) return dy[i];
  const float y = z[i] * norm->scale[ch] + norm->shift[ch];
  return y > 0 && y < 6 ? dy[i] : 0;
}

static void bn_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const sums_job *job = context;
  const int64_t from = (int64_t)first * job->pixels, rows = (int64_t)count * job->pixels;
  for (int64_t r = from; r < from + rows; r++) {
    const float *z = job->z + r * job->c + channel;
#pragma omp simd
    for (int i = 0; i < width; i++) {
      sums[i] += (double)z[i];
      sums[width + i] += (double)z[i] * (double)z[i];
    }
  }
}

void dft_bn_sums_plain(const float *z, int pixels, int c, const dft_shard_map *map, double *sums) {
  const sums_job job = {.z = z, .pixels = pixels, .c = c};
  const dft_sums s = {
      .leaf = bn_leaf, .job = &job, .values = 2, .c = c, .work = (int64_t)pixels * c, .out64 = sums};
  dft_sum_shards(&s, map);
}

void dft_scale_shift_plain(const float *z, const float *scale, const float *shift, const float *residual,
                           bool relu6, float *y, int64_t rows, int c) {
  const int threads = dft_threads_for(rows * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t r = 0; r < rows; r++) {
    const float *zp = z + r * c;
    const float *added = residual == NULL ? NULL : residual + r * c;
    float *yp = y + r * c;
    for (int i = 0; i < c; i++) {
      const float v = zp[i] * scale[i] + shift[i], clamped = relu6 ? plain_relu6(v) : v;
      yp[i] = added == NULL ? clamped : clamped + added[i];
    }
  }
}

static void bn_backward_leaf(const void *context, int first, int count, int channel, int width,
                             double *sums) {
  const sums_job *job = context;
  const int64_t from = (int64_t)first * job->pixels, rows = (int64_t)count * job->pixels;
  for (int64_t r = from; r < from + rows; r++) {
    for (int i = 0; i < width; i++) {
      const int64_t at = r * job->c + channel + i;
      const double g = (double)gated(job->dy, job->z, job->norm, at, channel + i);
      sums[i] += g;
      sums[width + i] += g * ((double)job->z[at] - (double)job->norm->mean[channel + i]);
    }
  }
}

void dft_bn_backward_sums_plain(const float *dy, const float *z, const dft_norm *norm, int pixels, int c,
                                const dft_shard_map *map, double *sums) {
  const sums_job job = {dy, z, norm, pixels, c};
  const dft_sums s = {
      .leaf = bn_backward_leaf, .job = &job, .values = 2, .c = c, .work = (int64_t)pixels * c, .out64 = sums};
  dft_sum_shards(&s, map);
}

void dft_bn_backward_plain(const float *dy, const float *z, const dft_norm *norm, float *dz, int64_t rows,
                           int c) {
  const int threads = dft_threads_for(rows * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t r = 0; r < rows; r++)
    for (int i = 0; i < c; i++) {
      const float g = norm->a[i] * gated(dy, z, norm, r * c + i, i);
      dz[r * c + i] = norm->b == NULL ? g : g + (norm->b[i] * z[r * c + i] + norm->d[i]);
    }
}

static void row_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const sums_job *job = context;
  const int64_t from = (int64_t)first * job->pixels, rows = (int64_t)count * job->pixels;
  for (int64_t r = from; r < from + rows; r++) {
    const float *z = job->z + r * job->c + channel;
#pragma omp simd
    for (int i = 0; i < width; i++) sums[i] += (double)z[i];
  }
}

void dft_row_sums_plain(const float *x, int pixels, int c, const dft_shard_map *map, float *sums) {
  const sums_job job = {.z = x, .pixels = pixels, .c = c};
  const dft_sums s = {
      .leaf = row_leaf, .job = &job, .values = 1, .c = c, .work = (int64_t)pixels * c, .out32 = sums};
  dft_sum_shards(&s, map);
}
