/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC'11). A number is a pure function of (seed, stream, index), so it depends on no rank, thread or order.
 * Pure functions; any thread. */
#ifndef DFT_RNG_H
#define DFT_RNG_H

#include <stddef.h>
#include <stdint.h>

/* What a number is for. Streams never share numbers. The values are part of what a run means: append only. */
typedef enum dft_stream {
  DFT_STREAM_SHUFFLE = 1,
  DFT_STREAM_SPLIT = 2,
  DFT_STREAM_LIMIT = 3,
  DFT_STREAM_RANDOM_IMAGE = 4,
  DFT_STREAM_RANDOM_LABEL = 5,
  DFT_STREAM_INIT = 6,
  DFT_STREAM_DROPOUT = 7,
  DFT_STREAM_AUGMENT = 8,
  DFT_STREAM_MIX = 9,
  DFT_STREAM_MIX_PARTNER = 10
} dft_stream;

typedef struct dft_philox {
  uint32_t v[4];
} dft_philox;

/* Philox4x32-10 of counter (index low, index high, sub, stream) under the key `seed`. */
dft_philox dft_rng_block(uint64_t seed, dft_stream stream, uint32_t sub, uint64_t index);

float dft_rng_float(uint32_t bits); /* uniform in [0, 1), 24 bits */
/* values[i] = dft_rng_float of number i % 4 of block first + i / 4. */
void dft_rng_floats(uint64_t seed, dft_stream stream, uint32_t sub, uint64_t first, float *values,
                    size_t count);
/* Standard normal of one block by Box-Muller (the cosine branch, in double). */
double dft_rng_normal(dft_philox b);

/* Position -> index under a keyed permutation of [0, n): a Feistel network of 6 rounds over the next even
 * number of bits, walked until it lands inside (Black & Rogaway 2002). O(1) on average; n <= 2^40. */
uint64_t dft_rng_permute(uint64_t seed, dft_stream stream, uint32_t sub, uint64_t n, uint64_t position);

#endif
