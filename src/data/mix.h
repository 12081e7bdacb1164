/* mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) on the global batch, as keras.layers.MixUp and
 * CutMix: each position has its own weight, drawn from Beta(alpha, alpha), and its partner by a random
 * permutation of the batch. With both alphas each batch has one of the two. Pure functions; any thread. */
#ifndef DFT_DATA_MIX_H
#define DFT_DATA_MIX_H

#include "dft/data.h"

typedef struct dft_mixing {
  uint64_t seed;
  double mixup, cutmix; /* alphas; 0: off */
  int64_t samples;
  int batch_size, height, width;
} dft_mixing;

dft_mix dft_mix_none(void);
/* The mix of a position in an epoch; its partner is a position in the epoch. */
dft_mix dft_mix_of(const dft_mixing *m, int64_t epoch, int64_t position);
/* image[height][width][3] = the two, mixed. */
void dft_mix_images(const dft_mix *mix, int height, int width, float *image, const float *partner);

/* One draw of Beta(alpha, alpha), keyed by (seed, sub, index < 2^56). */
double dft_mix_beta(uint64_t seed, uint32_t sub, uint64_t index, double alpha);

#endif
