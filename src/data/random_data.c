#include "dft/rng.h"
#include "source.h"

void dft_random_image(uint64_t seed, uint32_t part, int64_t sample, float *values, size_t count) {
  const uint64_t blocks = (count + 3) / 4;
  dft_rng_floats(seed, DFT_STREAM_RANDOM_IMAGE, part, (uint64_t)sample * blocks, values, count);
}

int64_t dft_random_label(uint64_t seed, uint32_t part, int64_t sample, int64_t classes) {
  uint64_t bits = dft_rng_block(seed, DFT_STREAM_RANDOM_LABEL, part, (uint64_t)sample).v[0];
  return (int64_t)((bits * (uint64_t)classes) >> 32);
}
