#include "kernels.h"
#include "plain.h"
#include <math.h>

void dft_pool_avg_plain(const float *x, float *y, int samples, int pixels, int c) {
  const int threads = dft_threads_for((int64_t)samples * pixels * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int s = 0; s < samples; s++) {
    float *yp = y + (int64_t)s * c;
    for (int i = 0; i < c; i++) yp[i] = 0;
    for (int64_t p = 0; p < pixels; p++)
      for (int i = 0; i < c; i++) yp[i] += x[((int64_t)s * pixels + p) * c + i];
    for (int i = 0; i < c; i++) yp[i] /= (float)pixels;
  }
}

void dft_pool_avg_dx_plain(const float *dy, float *dx, int samples, int pixels, int c) {
  const int threads = dft_threads_for((int64_t)samples * pixels * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int s = 0; s < samples; s++)
    for (int64_t p = 0; p < pixels; p++)
      for (int i = 0; i < c; i++)
        dx[((int64_t)s * pixels + p) * c + i] = dy[(int64_t)s * c + i] / (float)pixels;
}

void dft_pool_max_plain(const float *x, float *y, int samples, int pixels, int c) {
  const int threads = dft_threads_for((int64_t)samples * pixels * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int s = 0; s < samples; s++) {
    const float *xp = x + (int64_t)s * pixels * c;
    float *yp = y + (int64_t)s * c;
    for (int i = 0; i < c; i++) yp[i] = xp[i];
    for (int64_t p = 1; p < pixels; p++)
      for (int i = 0; i < c; i++) /* once not a number, it stays so */
        yp[i] = xp[p * c + i] <= yp[i] || isnan(yp[i]) ? yp[i] : xp[p * c + i];
  }
}

void dft_pool_max_dx_plain(const float *x, const float *y, const float *dy, float *dx, int samples,
                           int pixels, int c) {
  const int threads = dft_threads_for((int64_t)samples * pixels * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int s = 0; s < samples; s++) {
    const float *xp = x + (int64_t)s * pixels * c;
    float *dxp = dx + (int64_t)s * pixels * c;
    for (int i = 0; i < c; i++) {
      const int64_t at = (int64_t)s * c + i;
      int equal = 0;
      for (int64_t p = 0; p < pixels; p++) equal += xp[p * c + i] == y[at];
      for (int64_t p = 0; p < pixels; p++)
        dxp[p * c + i] = xp[p * c + i] == y[at] ? dy[at] / (float)equal : 0;
    }
  }
}
