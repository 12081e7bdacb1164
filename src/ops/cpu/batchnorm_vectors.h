/* Operations on a BatchNorm's vectors, in plain C that compilers make vectors of: each set compiles them for
 * its instructions, and since every operation is rounded by itself, all with the same bits. Whoever includes
 * this defines VECTORS(name), the function's name in its set. */
#ifndef VECTORS
#error "VECTORS(name) is not defined"
#endif

#include "kernels.h"
#include <math.h>

void VECTORS(dft_bn_statistics)(const double *totals, double count, const float *gamma, const float *beta,
                                double epsilon, int c, const dft_batch_norm_vectors *vectors) {
  const dft_batch_norm_vectors v = *vectors;
#pragma omp simd
  for (int i = 0; i < c; i++) {
    const double mean = totals[i] / count, raw = totals[c + i] / count - mean * mean;
    const double variance = raw < 0.0 ? 0.0 : raw; /* rounding of a constant channel */
    const double invstd = 1.0 / sqrt(variance + epsilon);
    v.mean[i] = (float)mean;
    v.variance[i] = (float)variance;
    v.invstd[i] = (float)invstd;
    v.scale[i] = (float)(gamma[i] * invstd);
    v.shift[i] = (float)(beta[i] - mean * gamma[i] * invstd);
  }
}

void VECTORS(dft_bn_gradients)(const double *totals, double count, const float *gamma, int c,
                               const dft_batch_norm_vectors *vectors) {
  const dft_batch_norm_vectors v = *vectors;
#pragma omp simd
  for (int i = 0; i < c; i++) {
    const double dbeta = totals[i], dgamma = totals[c + i] * (double)v.invstd[i];
    const double a = (double)gamma[i] * v.invstd[i];
    const double b = -a * v.invstd[i] * dgamma / count;
    v.dbeta[i] = (float)dbeta;
    v.dgamma[i] = (float)dgamma;
    v.a[i] = (float)a;
    v.b[i] = (float)b;
    v.d[i] = (float)(-a * dbeta / count - b * v.mean[i]);
  }
}

void VECTORS(dft_bn_frozen)(const float *gamma, const float *beta, const float *mean, const float *variance,
                            float epsilon, int c, float *scale, float *shift) {
#pragma omp simd
  for (int i = 0; i < c; i++) {
    scale[i] = gamma[i] / sqrtf(variance[i] + epsilon);
    shift[i] = beta[i] - mean[i] * scale[i];
  }
}

void VECTORS(dft_bn_commit)(float *mean, float *variance, const dft_batch_norm_vectors *vectors,
                            double momentum, int c, const int *done) {
  (void)done;                                                         /* the caller knows here */
  const float kept = (float)momentum, rate = (float)(1.0 - momentum); /* rounded once, as Keras does */
  const dft_batch_norm_vectors v = *vectors;
#pragma omp simd
  for (int i = 0; i < c; i++) {
    mean[i] = mean[i] * kept + v.mean[i] * rate;
    variance[i] = variance[i] * kept + v.variance[i] * rate;
  }
}
