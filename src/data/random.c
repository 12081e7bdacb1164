#include "dft/rng.h"
#include "source.h"

void dft_random_image(uint64_t seed, uint32_t part, int64_t sample, float *values, size_t count) {
  uint64_t blocks = (count + 3) / 4, first = (uint64_t)sample * blocks;
  size_t done = 0;
  for (uint64_t b = 0; b < count / 4; b++, done += 4) {
    dft_philox random = dft_rng_block(seed, DFT_STREAM_RANDOM_IMAGE, part, first + b);
    for (int i = 0; i < 4; i++) values[done + i] = dft_rng_float(random.v[i]);
  }
  if (done == count) return;
  dft_philox random = dft_rng_block(seed, DFT_STREAM_RANDOM_IMAGE, part, first + blocks - 1);
  for (int i = 0; done < count; i++, done++) values[done] = dft_rng_float(random.v[i]);
}

int64_t dft_random_label(uint64_t seed, uint32_t part, int64_t sample, int64_t classes) {
  uint64_t bits = dft_rng_block(seed, DFT_STREAM_RANDOM_LABEL, part, (uint64_t)sample).v[0];
  return (int64_t)((bits * (uint64_t)classes) >> 32);
}
