#include "dft/data.h"
#include "dft/rng.h"

int64_t dft_sampler(uint64_t seed, bool shuffle, int64_t epoch, int64_t n, int64_t position) {
  if (!shuffle) return position;
  return (int64_t)dft_rng_permute(seed, DFT_STREAM_SHUFFLE, (uint32_t)epoch, (uint64_t)n, (uint64_t)position);
}
