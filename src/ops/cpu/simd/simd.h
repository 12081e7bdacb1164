/* One readable source per kernel, compiled once per instruction set: the vector type and the few operations
 * that kernels need. DFT_SIMD(name) gives each function its set's suffix (name_avx2, name_avx512). Loads and
 * stores need only float alignment; the _n forms touch only the first n lanes (0 <= n <= VF_LANES; the other
 * lanes load as 0). */
#ifndef DFT_SIMD_H
#define DFT_SIMD_H

#include <immintrin.h>

#define DFT_SIMD_JOIN2(a, b) a##b
#define DFT_SIMD_JOIN(a, b)  DFT_SIMD_JOIN2(a, b)
#define DFT_SIMD(name)       DFT_SIMD_JOIN(name, DFT_SIMD_SUFFIX)

#if defined(DFT_ISA_avx512)

#define VF_LANES 16
typedef __m512 vf;

static inline vf vf_zero(void) {
  return _mm512_setzero_ps();
}
static inline vf vf_set1(float a) {
  return _mm512_set1_ps(a);
}
static inline vf vf_load(const float *p) {
  return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf a) {
  _mm512_storeu_ps(p, a);
}
static inline vf vf_load_n(const float *p, int n) {
  return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void vf_store_n(float *p, vf a, int n) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
static inline vf vf_add(vf a, vf b) {
  return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
  return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
  return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
  return _mm512_div_ps(a, b);
}
static inline vf vf_sqrt(vf a) {
  return _mm512_sqrt_ps(a);
}
static inline vf vf_fma(vf a, vf b, vf c) {
  return _mm512_fmadd_ps(a, b, c);
} /* a*b + c */
static inline vf vf_min(vf a, vf b) {
  return _mm512_min_ps(a, b);
}
static inline vf vf_max(vf a, vf b) {
  return _mm512_max_ps(a, b);
}

#elif defined(DFT_ISA_avx2)

#define VF_LANES 8
typedef __m256 vf;

static inline __m256i vf_mask(int n) {
  static const int lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
  return _mm256_loadu_si256((const __m256i *)(lanes + 8 - n));
}
static inline vf vf_zero(void) {
  return _mm256_setzero_ps();
}
static inline vf vf_set1(float a) {
  return _mm256_set1_ps(a);
}
static inline vf vf_load(const float *p) {
  return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf a) {
  _mm256_storeu_ps(p, a);
}
static inline vf vf_load_n(const float *p, int n) {
  return _mm256_maskload_ps(p, vf_mask(n));
}
static inline void vf_store_n(float *p, vf a, int n) {
  _mm256_maskstore_ps(p, vf_mask(n), a);
}
static inline vf vf_add(vf a, vf b) {
  return _mm256_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
  return _mm256_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
  return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
  return _mm256_div_ps(a, b);
}
static inline vf vf_sqrt(vf a) {
  return _mm256_sqrt_ps(a);
}
static inline vf vf_fma(vf a, vf b, vf c) {
  return _mm256_fmadd_ps(a, b, c);
} /* a*b + c */
static inline vf vf_min(vf a, vf b) {
  return _mm256_min_ps(a, b);
}
static inline vf vf_max(vf a, vf b) {
  return _mm256_max_ps(a, b);
}

#else
#error "simd/ is compiled per instruction set: DFT_ISA_avx2 or DFT_ISA_avx512"
#endif

#endif
