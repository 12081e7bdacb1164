/* Sums over samples in the one order that promise 2 rests on: each shard's samples in order, then the shards
 * of each node of the map in the complete binary tree. A kernel brings only the sum within one shard; work is
 * split over channels or over subtrees, neither of which can change a bit. Nothing allocates: the tree lives
 * on the stack, so channels come in chunks of at most DFT_SUMS_MAX values. */
#ifndef DFT_OPS_CPU_SUMS_H
#define DFT_OPS_CPU_SUMS_H

#include "dft/shards.h"

#define DFT_SUMS_MAX 2304 /* 9 taps of 256 channels: 18 KiB in each of at most 12 levels */

/* Adds to sums[values][width] what samples [first, first + count) give for channels [channel, channel +
 * width). The order within a shard may depend on shapes, never on channel or width. */
typedef void (*dft_sums_leaf)(const void *job, int first, int count, int channel, int width, double *sums);

typedef struct dft_sums {
  dft_sums_leaf leaf;
  const void *job;
  int values, c;
  int64_t work;  /* multiply-adds per sample, roughly: decides whether threads pay */
  double *out64; /* [nodes][values][c]; or NULL and */
  float *out32;  /* the same, rounded to float32 after each shard and each addition */
} dft_sums;

void dft_sum_shards(const dft_sums *s, const dft_shard_map *map);

#endif
