#include "sums.h"
#include "kernels.h"
#include <string.h>

#define GROUPS_MAX 16 /* subtrees of one node that threads take side by side */

typedef struct block {
  int channel, width;
} block;

static void round_float(double *sums, int count) {
#pragma omp simd
  for (int i = 0; i < count; i++) sums[i] = (double)(float)sums[i];
}

/* left += right. In float32 the double sum of two floats is exact but for one rounding, so this is the
 * float addition. */
static void add(const dft_sums *s, double *left, const double *right, int count) {
#pragma omp simd
  for (int i = 0; i < count; i++) left[i] += right[i];
  if (s->out32 != NULL) round_float(left, count);
}

/* The sums of the subtree over shards [shard, shard + count), count a power of two. */
static void subtree(const dft_sums *s, const dft_shard_map *map, int shard, int count, block b,
                    double *sums) {
  const int size = s->values * b.width;
  const int first = map->first[shard], samples = map->first[shard + count] - first;
  if (samples == 0 || count == 1) {
    memset(sums, 0, (size_t)size * sizeof *sums);
    if (samples == 0) return;
    s->leaf(s->job, first, samples, b.channel, b.width, sums);
    if (s->out32 != NULL) round_float(sums, size);
    return;
  }
  double right[DFT_SUMS_MAX];
  subtree(s, map, shard, count / 2, b, sums);
  subtree(s, map, shard + count / 2, count / 2, b, right);
  add(s, sums, right, size);
}

static void store(const dft_sums *s, int node, block b, const double *sums) {
  for (int v = 0; v < s->values; v++) {
    const int64_t at = ((int64_t)node * s->values + v) * s->c + b.channel;
    const double *from = sums + (size_t)v * (size_t)b.width;
    if (s->out64 != NULL) memcpy(s->out64 + at, from, (size_t)b.width * sizeof *from);
    if (s->out32 != NULL)
      for (int ch = 0; ch < b.width; ch++) s->out32[at + ch] = (float)from[ch];
  }
}

static block nth_block(int c, int width, int i) {
  const int channel = i * width;
  return (block){channel, c - channel < width ? c - channel : width};
}

/* Threads take blocks of channels. */
static void split_channels(const dft_sums *s, const dft_shard_map *map, int width, int threads) {
  const int blocks = (s->c + width - 1) / width;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int task = 0; task < map->nodes * blocks; task++) {
    const int node = task / blocks, shard = map->node_first[node];
    const block b = nth_block(s->c, width, task % blocks);
    double sums[DFT_SUMS_MAX];
    subtree(s, map, shard, map->node_first[node + 1] - shard, b, sums);
    store(s, node, b, sums);
  }
}

/* Threads take subtrees of one node; their sums are folded in the same tree. */
static void split_shards(const dft_sums *s, const dft_shard_map *map, int node, block b, int threads) {
  const int shard = map->node_first[node], count = map->node_first[node + 1] - shard;
  const int groups = count < GROUPS_MAX ? count : GROUPS_MAX, each = count / groups;
  double sums[GROUPS_MAX][DFT_SUMS_MAX];
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (groups > 1)
  for (int g = 0; g < groups; g++) subtree(s, map, shard + g * each, each, b, sums[g]);
  for (int step = 1; step < groups; step *= 2)
    for (int g = 0; g < groups; g += 2 * step) add(s, sums[g], sums[g + step], s->values * b.width);
  store(s, node, b, sums[0]);
}

void dft_sum_shards(const dft_sums *s, const dft_shard_map *map) {
  const int threads = dft_threads_for(s->work * map->samples);
  const int widest = DFT_SUMS_MAX / s->values / 16 * 16;
  const bool narrow = s->c < 64 * threads;
  if (threads == 1 || !narrow || map->shards < threads) {
    const int share = ((s->c + threads - 1) / threads + 15) / 16 * 16;
    split_channels(s, map, share < widest ? share : widest, threads);
    return;
  }
  for (int node = 0; node < map->nodes; node++)
    for (int i = 0; i * widest < s->c; i++) split_shards(s, map, node, nth_block(s->c, widest, i), threads);
}
