/* Global pooling: one vector of channels down the pixels of a sample. */
#include "../kernels.h"
#include "lanes.h"

INLINE void avg_lanes(const float *x, float *y, int pixels, int c, int lanes) {
  vf sum = vf_zero();
  for (int64_t p = 0; p < pixels; p++) sum = vf_add(sum, vf_get(x + p * c, lanes));
  vf_put(y, vf_div(sum, vf_set1((float)pixels)), lanes);
}

void DFT_SIMD(dft_pool_avg)(const float *x, float *y, int samples, int pixels, int c) {
  const int threads = dft_threads_for((int64_t)samples * pixels * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t s = 0; s < samples; s++)
    for (int ch = 0; ch < c; ch += VF_LANES)
      WITH_LANES(c - ch, avg_lanes(x + s * pixels * c + ch, y + s * c + ch, pixels, c, lanes));
}

INLINE void avg_dx_lanes(const float *dy, float *dx, int pixels, int c, int lanes) {
  const vf share = vf_div(vf_get(dy, lanes), vf_set1((float)pixels));
  for (int64_t p = 0; p < pixels; p++) vf_put(dx + p * c, share, lanes);
}

void DFT_SIMD(dft_pool_avg_dx)(const float *dy, float *dx, int samples, int pixels, int c) {
  const int threads = dft_threads_for((int64_t)samples * pixels * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t s = 0; s < samples; s++)
    for (int ch = 0; ch < c; ch += VF_LANES)
      WITH_LANES(c - ch, avg_dx_lanes(dy + s * c + ch, dx + s * pixels * c + ch, pixels, c, lanes));
}

INLINE void max_lanes(const float *x, float *y, int pixels, int c, int lanes) {
  vf most = vf_get(x, lanes);
  for (int64_t p = 1; p < pixels; p++) most = vf_max_or_nan(vf_get(x + p * c, lanes), most);
  vf_put(y, most, lanes);
}

void DFT_SIMD(dft_pool_max)(const float *x, float *y, int samples, int pixels, int c) {
  const int threads = dft_threads_for((int64_t)samples * pixels * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t s = 0; s < samples; s++)
    for (int ch = 0; ch < c; ch += VF_LANES)
      WITH_LANES(c - ch, max_lanes(x + s * pixels * c + ch, y + s * c + ch, pixels, c, lanes));
}

INLINE void max_dx_lanes(const float *x, const float *y, const float *dy, float *dx, int pixels, int c,
                         int lanes) {
  const vf most = vf_get(y, lanes);
  vf equal = vf_zero();
  for (int64_t p = 0; p < pixels; p++)
    equal = vf_add(equal, vf_where_equal(vf_get(x + p * c, lanes), most, vf_set1(1)));
  const vf share = vf_div(vf_get(dy, lanes), equal);
  for (int64_t p = 0; p < pixels; p++)
    vf_put(dx + p * c, vf_where_equal(vf_get(x + p * c, lanes), most, share), lanes);
}

void DFT_SIMD(dft_pool_max_dx)(const float *x, const float *y, const float *dy, float *dx, int samples,
                               int pixels, int c) {
  const int threads = dft_threads_for((int64_t)samples * pixels * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t s = 0; s < samples; s++)
    for (int ch = 0; ch < c; ch += VF_LANES) {
      const int64_t in = s * pixels * c + ch, out = s * c + ch;
      WITH_LANES(c - ch, max_dx_lanes(x + in, y + out, dy + out, dx + in, pixels, c, lanes));
    }
}
