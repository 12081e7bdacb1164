/* More of the vector type: what kernels over channels need. A function that takes `lanes` (1 ... VF_LANES
 * channels, the rest of the vector is neither read nor written) is inlined with a constant VF_LANES for whole
 * vectors and once more for the tail. */
#ifndef DFT_LANES_H
#define DFT_LANES_H

#include "simd.h"

#define INLINE static inline __attribute__((always_inline))

INLINE vf vf_get(const float *p, int lanes) {
  return lanes == VF_LANES ? vf_load(p) : vf_load_n(p, lanes);
}

INLINE void vf_put(float *p, vf a, int lanes) {
  if (lanes == VF_LANES)
    vf_store(p, a);
  else
    vf_store_n(p, a, lanes);
}

/* A NaN stays one: min and max give their second operand then. */
INLINE vf vf_relu6(vf a) {
  return vf_min(vf_set1(6), vf_max(vf_zero(), a));
}

#if defined(DFT_ISA_avx512)

/* x where 0 < y < 6, else 0 */
INLINE vf vf_gate6(vf y, vf x) {
  const __mmask16 positive = _mm512_cmp_ps_mask(y, vf_zero(), _CMP_GT_OQ);
  return _mm512_maskz_mov_ps(_mm512_mask_cmp_ps_mask(positive, y, vf_set1(6), _CMP_LT_OQ), x);
}

/* x where a == b, else 0 */
INLINE vf vf_where_equal(vf a, vf b, vf x) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), x);
}

/* p[VF_LANES] += a */
INLINE void vf_flush_all(double *p, vf a) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
  _mm512_storeu_pd(p, _mm512_add_pd(_mm512_loadu_pd(p), low));
  _mm512_storeu_pd(p + 8, _mm512_add_pd(_mm512_loadu_pd(p + 8), high));
}

#else

INLINE vf vf_gate6(vf y, vf x) {
  const vf positive = _mm256_cmp_ps(y, vf_zero(), _CMP_GT_OQ);
  return _mm256_and_ps(_mm256_and_ps(positive, _mm256_cmp_ps(y, vf_set1(6), _CMP_LT_OQ)), x);
}

INLINE vf vf_where_equal(vf a, vf b, vf x) {
  return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ), x);
}

INLINE void vf_flush_all(double *p, vf a) {
  const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
  const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
  _mm256_storeu_pd(p, _mm256_add_pd(_mm256_loadu_pd(p), low));
  _mm256_storeu_pd(p + 4, _mm256_add_pd(_mm256_loadu_pd(p + 4), high));
}

#endif

/* p[lanes] += a */
INLINE void vf_flush(double *p, vf a, int lanes) {
  if (lanes == VF_LANES) {
    vf_flush_all(p, a);
    return;
  }
  float values[VF_LANES];
  vf_store(values, a);
  for (int i = 0; i < lanes; i++) p[i] += (double)values[i];
}

/* Calls statement with `lanes` constant for a whole vector, as it is for a tail. */
#define WITH_LANES(lanes_left, call)                                                                         \
  do {                                                                                                       \
    if ((lanes_left) >= VF_LANES) {                                                                          \
      enum { lanes = VF_LANES };                                                                             \
      call;                                                                                                  \
    } else {                                                                                                 \
      const int lanes = (lanes_left);                                                                        \
      call;                                                                                                  \
    }                                                                                                        \
  } while (0)

#endif
