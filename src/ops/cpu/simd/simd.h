/* One readable source per kernel, compiled once per instruction set: the vector type and the few operations
 * that kernels need. DFT_SIMD(name) gives each function its set's suffix (name_avx2, name_avx512). Loads and
 * stores need only float alignment; the _n forms touch only the first n lanes (0 <= n <= VF_LANES; the other
 * lanes load as 0).
 *
 * bfloat16: products take their factors as vf_bf16, BF16_IN_WORD of them in 32 bits. With VF_PAIRS a word is
 * a pair, the even element in its low half, and vf_word_fma(a, b, c) is VDPBF16PS (Intel SDM, volume 2): c +
 * odd*odd, then + even*even, each rounded once to nearest even, with denormals taken and given as zero.
 * Without, a word is a float and the two elements of each pair have changed places, so that FMAs in order
 * give the same bits while vf_begin_bfloat16 is in force. vf_store_rounded stores n lanes (1 ... VF_LANES,
 * even unless nobody reads them) as VCVTNEPS2BF16 rounds them: to nearest even, NaNs quiet, denormals as
 * zero, or in floats as denormals, which those FMAs take as zero. The sets agree to the bit but for a NaN's
 * payload. */
#ifndef DFT_SIMD_H
#define DFT_SIMD_H

#include "../denormals.h"
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

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
#ifdef __AVX512BF16__
#define VF_PAIRS 1
typedef uint16_t vf_bf16;
static inline vf vf_word_fma(vf a, vf b, vf c) {
  return _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}
static inline void vf_store_rounded(vf_bf16 *p, vf a, int n) {
  const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(a);
  if (n == VF_LANES)
    _mm256_storeu_si256((__m256i *)(void *)p, rounded);
  else
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), rounded);
}
#else
static inline void vf_store_rounded(float *p, vf a, int n) {
  /* Denormals are of a zero's class where they are taken as zero. */
  enum { NANS = 0x81, DENORMAL = 0x20, ZEROS = 0x06 };
  const __m512i bits = _mm512_castps_si512(a), one = _mm512_set1_epi32(1);
  const __m512i half =
      _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(_mm512_srli_epi32(bits, 16), one));
  const __mmask16 as_it_is = _mm512_fpclass_ps_mask(a, NANS | DENORMAL | ZEROS);
  __m512i value = _mm512_mask_add_epi32(bits, _knot_mask16(as_it_is), bits, half);
  value = _mm512_and_si512(value, _mm512_set1_epi32((int)0xffff0000u));
  value =
      _mm512_mask_or_epi32(value, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), value, _mm512_set1_epi32(0x400000));
  vf_store_n(p, _mm512_permute_ps(_mm512_castsi512_ps(value), 0xb1), n);
}
#endif

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
static inline void vf_store_rounded(float *p, vf a, int n) {
  const __m256i bits = _mm256_castps_si256(a), exponent = _mm256_set1_epi32(0x7f800000);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i half = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  const __m256i tiny = _mm256_cmpeq_epi32(_mm256_and_si256(bits, exponent), _mm256_setzero_si256());
  __m256i value = _mm256_add_epi32(bits, _mm256_andnot_si256(_mm256_or_si256(nan, tiny), half));
  value = _mm256_and_si256(value, _mm256_set1_epi32((int)0xffff0000u));
  value = _mm256_or_si256(value, _mm256_and_si256(nan, _mm256_set1_epi32(0x400000)));
  vf_store_n(p, _mm256_permute_ps(_mm256_castsi256_ps(value), 0xb1), n);
}

#else
#error "simd/ is compiled per instruction set: DFT_ISA_avx2 or DFT_ISA_avx512"
#endif

#ifndef VF_PAIRS
#define VF_PAIRS 0
typedef float vf_bf16;
static inline vf vf_word_fma(vf a, vf b, vf c) {
  return vf_fma(a, b, c);
}
#endif
enum { BF16_IN_WORD = VF_PAIRS ? 2 : 1 };

/* From here to vf_end_bfloat16, on the same thread: arithmetic takes and gives denormals as zero, and AMX
 * tiles are 16 rows of 64 bytes. */
static inline unsigned vf_begin_bfloat16(void) {
  const unsigned before = (unsigned)dft_begin_flush();
#ifdef DFT_ISA_amx
  static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } tiles = {
      .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
  _tile_loadconfig(&tiles);
#endif
  return before;
}
static inline void vf_end_bfloat16(unsigned before) {
#ifdef DFT_ISA_amx
  _tile_release();
#endif
  dft_end_flush(before);
}

#endif
