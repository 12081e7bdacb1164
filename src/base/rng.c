#include "dft/rng.h"
#include "rng_blocks.h"
#include <math.h>

enum { ROUNDS = DFT_RNG_ROUNDS, LANES = 16 };
static const uint32_t weyl_0 = DFT_RNG_WEYL_0, weyl_1 = DFT_RNG_WEYL_1;

static inline float to_float(uint32_t bits) {
  return (float)(int32_t)(bits >> 8) * 0x1p-24f; /* the cast: vectors convert signed integers only */
}

/* A round of Philox4x32 (Salmon et al., SC'11, section 4.2). */
static inline dft_philox philox_round(dft_philox c, uint32_t k0, uint32_t k1) {
  const uint64_t p0 = (uint64_t)DFT_RNG_MUL_0 * c.v[0], p1 = (uint64_t)DFT_RNG_MUL_1 * c.v[2];
  return (dft_philox){
      {(uint32_t)(p1 >> 32) ^ c.v[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c.v[3] ^ k1, (uint32_t)p0}};
}

dft_philox dft_rng_block(uint64_t seed, dft_stream stream, uint32_t sub, uint64_t index) {
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  dft_philox c = {{(uint32_t)index, (uint32_t)(index >> 32), sub, (uint32_t)stream}};
  for (int round = 0; round < ROUNDS; round++, k0 += weyl_0, k1 += weyl_1) c = philox_round(c, k0, k1);
  return c;
}

/* Blocks first, first + 1, ... side by side: v[word][block]. */
static void side_by_side(uint64_t seed, dft_stream stream, uint32_t sub, uint64_t first,
                         uint32_t v[4][LANES]) {
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int i = 0; i < LANES; i++) {
    const uint64_t index = first + (uint64_t)i;
    v[0][i] = (uint32_t)index;
    v[1][i] = (uint32_t)(index >> 32);
    v[2][i] = sub;
    v[3][i] = (uint32_t)stream;
  }
  for (int round = 0; round < ROUNDS; round++, k0 += weyl_0, k1 += weyl_1)
    for (int i = 0; i < LANES; i++) {
      const dft_philox c = philox_round((dft_philox){{v[0][i], v[1][i], v[2][i], v[3][i]}}, k0, k1);
      for (int word = 0; word < 4; word++) v[word][i] = c.v[word];
    }
}

size_t dft_rng_groups(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t first, float *values,
                      size_t count) {
  uint32_t v[4][LANES];
  size_t done = 0;
  for (; count - done >= sizeof v / sizeof **v; done += sizeof v / sizeof **v, first += LANES) {
    side_by_side(seed, (dft_stream)stream, sub, first, v);
    for (int i = 0; i < LANES; i++)
      for (int word = 0; word < 4; word++) values[done + (size_t)(4 * i + word)] = to_float(v[word][i]);
  }
  return done;
}

void dft_rng_floats(uint64_t seed, dft_stream stream, uint32_t sub, uint64_t first, float *values,
                    size_t count) {
  size_t done = dft_rng_groups_avx512(seed, (uint32_t)stream, sub, first, values, count);
  if (done == 0) done = dft_rng_groups(seed, (uint32_t)stream, sub, first, values, count);
  for (dft_philox b; done < count; done++) {
    if (done % 4 == 0) b = dft_rng_block(seed, stream, sub, first + done / 4);
    values[done] = to_float(b.v[done % 4]);
  }
}

float dft_rng_float(uint32_t bits) {
  return to_float(bits);
}

double dft_rng_normal(dft_philox b) {
  double u = ((double)b.v[0] + 0.5) * 0x1p-32; /* never 0 */
  double v = (double)b.v[1] * 0x1p-32;
  return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

static uint64_t feistel(uint64_t seed, dft_stream stream, uint32_t sub, int half_bits, uint64_t x) {
  uint64_t mask = ((uint64_t)1 << half_bits) - 1;
  uint64_t left = x >> half_bits, right = x & mask;
  for (uint32_t round = 0; round < 6; round++) {
    dft_philox b = dft_rng_block(seed, stream, sub, (right << 3) | round);
    uint64_t next = left ^ (((uint64_t)b.v[1] << 32 | b.v[0]) & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

uint64_t dft_rng_permute(uint64_t seed, dft_stream stream, uint32_t sub, uint64_t n, uint64_t position) {
  if (n < 2) return 0;
  int bits = 64 - __builtin_clzll(n - 1);
  int half_bits = (bits + 1) / 2;
  uint64_t x = position;
  do x = feistel(seed, stream, sub, half_bits, x);
  while (x >= n);
  return x;
}
