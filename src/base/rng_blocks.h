/* Philox4x32-10 for many counters side by side: as dft_rng_floats (rng.h), but only for the whole groups of
 * blocks among `count`. They return how many values they made. Pure functions; any thread. */
#ifndef DFT_RNG_BLOCKS_H
#define DFT_RNG_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

/* Salmon et al., SC'11, table 2. */
enum { DFT_RNG_ROUNDS = 10 };
#define DFT_RNG_WEYL_0 0x9E3779B9u /* from a round's key to the next one's */
#define DFT_RNG_WEYL_1 0xBB67AE85u
#define DFT_RNG_MUL_0  0xD2511F53u
#define DFT_RNG_MUL_1  0xCD9E8D57u

/* Any CPU. */
size_t dft_rng_groups(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t first, float *values,
                      size_t count);
/* AVX-512; 0 on a CPU without it. */
size_t dft_rng_groups_avx512(uint64_t seed, uint32_t stream, uint32_t sub, uint64_t first, float *values,
                             size_t count);

#endif
