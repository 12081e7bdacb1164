/* Operations on a BatchNorm's vectors and other small things, each O(channels) or O(features). */
#include "dft/rng.h"
#include "kernels.h"
#include <math.h>
#include <string.h>

void dft_bn_statistics_plain(const double *totals, double count, const float *gamma, const float *beta,
                             double epsilon, int c, const dft_batch_norm_vectors *v) {
  for (int i = 0; i < c; i++) {
    const double mean = totals[i] / count;
    double variance = totals[c + i] / count - mean * mean;
    if (variance < 0.0) variance = 0.0; /* rounding of a constant channel */
    const double invstd = 1.0 / sqrt(variance + epsilon);
    v->mean[i] = (float)mean;
    v->variance[i] = (float)variance;
    v->invstd[i] = (float)invstd;
    v->scale[i] = (float)(gamma[i] * invstd);
    v->shift[i] = (float)(beta[i] - mean * gamma[i] * invstd);
  }
}

void dft_bn_gradients_plain(const double *totals, double count, const float *gamma, int c,
                            const dft_batch_norm_vectors *v) {
  for (int i = 0; i < c; i++) {
    const double dbeta = totals[i], dgamma = totals[c + i] * (double)v->invstd[i];
    const double a = (double)gamma[i] * v->invstd[i];
    const double b = -a * v->invstd[i] * dgamma / count;
    v->dbeta[i] = (float)dbeta;
    v->dgamma[i] = (float)dgamma;
    v->a[i] = (float)a;
    v->b[i] = (float)b;
    v->d[i] = (float)(-a * dbeta / count - b * v->mean[i]);
  }
}

void dft_bn_frozen_plain(const float *gamma, const float *beta, const float *mean, const float *variance,
                         float epsilon, int c, float *scale, float *shift) {
  for (int i = 0; i < c; i++) {
    scale[i] = gamma[i] / sqrtf(variance[i] + epsilon);
    shift[i] = beta[i] - mean[i] * scale[i];
  }
}

void dft_bn_commit_plain(float *mean, float *variance, const dft_batch_norm_vectors *v, double momentum,
                         int c, const int *done) {
  (void)done;                                                         /* the caller knows here */
  const float kept = (float)momentum, rate = (float)(1.0 - momentum); /* rounded once, as Keras does */
  for (int i = 0; i < c; i++) {
    mean[i] = mean[i] * kept + v->mean[i] * rate;
    variance[i] = variance[i] * kept + v->variance[i] * rate;
  }
}

void dft_dropout_plain(const float *in, float *out, const int64_t *samples, uint64_t seed, uint32_t epoch,
                       double rate, int count, int features) {
  const float keep = (float)(1.0 - rate), scale = 1.0F / keep;
  for (int s = 0; s < count; s++)
    for (int f = 0; f < features; f++) {
      const uint64_t index = (uint64_t)samples[s] * (uint64_t)features + (uint64_t)f;
      const dft_philox b = dft_rng_block(seed, DFT_STREAM_DROPOUT, epoch, index / 4);
      const size_t i = (size_t)s * (size_t)features + (size_t)f;
      out[i] = dft_rng_float(b.v[index % 4]) < keep ? in[i] * scale : 0.0F;
    }
}

void dft_copy_nodes_plain(const float *from, float *to, size_t stride, int64_t count, int nodes) {
  for (int n = 0; n < nodes; n++)
    memcpy(to + (size_t)n * stride, from + (size_t)n * (size_t)count, (size_t)count * sizeof *to);
}
