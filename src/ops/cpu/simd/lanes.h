/* More of the vector type: what kernels over channels need. A function that takes `lanes` (1 ... VF_LANES
 * channels, the rest of the vector is neither read nor written) is inlined with a constant VF_LANES for whole
 * vectors and once more for the tail. */
#ifndef DFT_LANES_H
#define DFT_LANES_H

#include "simd.h"
#include <stdbool.h>

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

/* *sum += a * b, in the register where the sum is: left to itself, gcc puts sums where factors were when it
 * unrolls, and runs out of registers. */
INLINE void vf_accumulate(vf *sum, vf a, vf b) {
  __asm__("vfmadd231ps %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
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

/* a[0], b[0], a[1], b[1] ...: the lower half of both in *low, the upper in *high. */
INLINE void vf_interleave(vf a, vf b, vf *low, vf *high) {
  *low =
      _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), b);
  *high = _mm512_permutex2var_ps(
      a, _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), b);
}

/* The larger one; not a number if either is not. */
INLINE vf vf_max_or_nan(vf a, vf b) {
  return _mm512_mask_mov_ps(vf_max(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}

/* p[VF_LANES] += a */
INLINE void vf_flush_all(double *p, vf a) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
  _mm512_storeu_pd(p, _mm512_add_pd(_mm512_loadu_pd(p), low));
  _mm512_storeu_pd(p + 8, _mm512_add_pd(_mm512_loadu_pd(p + 8), high));
}

/* row[i] lane j <-> row[j] lane i */
INLINE void vf_transpose(vf row[16]) {
  vf t[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) { /* 4x4 blocks within each quarter */
    const vf a = _mm512_unpacklo_ps(row[i], row[i + 1]), b = _mm512_unpackhi_ps(row[i], row[i + 1]);
    const vf c = _mm512_unpacklo_ps(row[i + 2], row[i + 3]), d = _mm512_unpackhi_ps(row[i + 2], row[i + 3]);
    t[i] = _mm512_shuffle_ps(a, c, 0x44);
    t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
    t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
    t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) { /* quarters of rows i, 4 + i, 8 + i, 12 + i */
    const vf a = _mm512_shuffle_f32x4(t[i], t[4 + i], 0x88), b = _mm512_shuffle_f32x4(t[i], t[4 + i], 0xdd);
    const vf c = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], 0x88),
             d = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], 0xdd);
    row[i] = _mm512_shuffle_f32x4(a, c, 0x88);
    row[4 + i] = _mm512_shuffle_f32x4(b, d, 0x88);
    row[8 + i] = _mm512_shuffle_f32x4(a, c, 0xdd);
    row[12 + i] = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

#else

/* row[i] lane j <-> row[j] lane i */
INLINE void vf_transpose(vf row[8]) {
  vf t[8];
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) { /* 4x4 blocks within each half */
    const vf a = _mm256_unpacklo_ps(row[i], row[i + 1]), b = _mm256_unpackhi_ps(row[i], row[i + 1]);
    const vf c = _mm256_unpacklo_ps(row[i + 2], row[i + 3]), d = _mm256_unpackhi_ps(row[i + 2], row[i + 3]);
    t[i] = _mm256_shuffle_ps(a, c, 0x44);
    t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
    t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
    t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    row[i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x20);
    row[4 + i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x31);
  }
}

INLINE vf vf_gate6(vf y, vf x) {
  const vf positive = _mm256_cmp_ps(y, vf_zero(), _CMP_GT_OQ);
  return _mm256_and_ps(_mm256_and_ps(positive, _mm256_cmp_ps(y, vf_set1(6), _CMP_LT_OQ)), x);
}

INLINE vf vf_where_equal(vf a, vf b, vf x) {
  return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ), x);
}

INLINE void vf_interleave(vf a, vf b, vf *low, vf *high) {
  const vf even = _mm256_unpacklo_ps(a, b), odd = _mm256_unpackhi_ps(a, b);
  *low = _mm256_permute2f128_ps(even, odd, 0x20);
  *high = _mm256_permute2f128_ps(even, odd, 0x31);
}

INLINE vf vf_max_or_nan(vf a, vf b) {
  return _mm256_blendv_ps(vf_max(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
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

/* p[lanes] = a */
INLINE void vf_put_doubles(double *p, vf a, int lanes) {
  for (int i = 0; i < lanes; i++) p[i] = 0;
  vf_flush(p, a, lanes);
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
