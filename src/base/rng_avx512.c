#include "rng_blocks.h"

#ifdef __x86_64__
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f")))
enum { LANES = 8, GROUP = 4 * LANES };

/* Eight blocks, one in each 64-bit lane. Only the lower half of a lane counts: the products read no more. */
typedef struct lanes {
  __m512i v[4];
} lanes;

AVX512 static inline __m512i all(uint32_t value) {
  return _mm512_set1_epi64((long long)value);
}

AVX512 static inline __m512i xor3(__m512i a, __m512i b, __m512i c) {
  return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}

AVX512 static inline lanes philox_round(lanes c, uint32_t k0, uint32_t k1) {
  const __m512i p0 = _mm512_mul_epu32(c.v[0], all(DFT_RNG_MUL_0));
  const __m512i p1 = _mm512_mul_epu32(c.v[2], all(DFT_RNG_MUL_1));
  return (lanes){{xor3(_mm512_srli_epi64(p1, 32), c.v[1], all(k0)), p1,
                  xor3(_mm512_srli_epi64(p0, 32), c.v[3], all(k1)), p0}};
}

/* Words a and b of each block beside each other. */
AVX512 static inline __m512i pair(__m512i a, __m512i b) {
  return _mm512_mask_blend_epi32(0xAAAA, a, _mm512_slli_epi64(b, 32));
}

AVX512 static inline void store(float *to, __m512i bits) {
  const __m512 whole = _mm512_cvtepi32_ps(_mm512_srli_epi32(bits, 8));
  _mm512_storeu_ps(to, _mm512_mul_ps(whole, _mm512_set1_ps(0x1p-24F)));
}

AVX512 static size_t groups(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t first, float *values,
                            size_t count) {
  const __m512i lower = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  const __m512i upper = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  __m512i index =
      _mm512_add_epi64(_mm512_set1_epi64((long long)first), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
  size_t done = 0;
  for (; count - done >= GROUP; done += GROUP) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    lanes c = {{index, _mm512_srli_epi64(index, 32), all(sub), all(stream)}};
    for (int round = 0; round < DFT_RNG_ROUNDS; round++, k0 += DFT_RNG_WEYL_0, k1 += DFT_RNG_WEYL_1)
      c = philox_round(c, k0, k1);
    const __m512i left = pair(c.v[0], c.v[1]), right = pair(c.v[2], c.v[3]);
    store(values + done, _mm512_permutex2var_epi64(left, lower, right));
    store(values + done + 16, _mm512_permutex2var_epi64(left, upper, right));
    index = _mm512_add_epi64(index, _mm512_set1_epi64(LANES));
  }
  return done;
}

size_t dft_rng_groups_avx512(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t first, float *values,
                             size_t count) {
  return __builtin_cpu_supports("avx512f") ? groups(seed, stream, sub, first, values, count) : 0;
}
#else
size_t dft_rng_groups_avx512(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t first, float *values,
                             size_t count) {
  (void)seed, (void)stream, (void)sub, (void)first, (void)values, (void)count;
  return 0;
}
#endif
