/* Per-sample values to per-node sums: within a shard in sample order, then the node's shards in the tree's
 * order. */
#include "train.h"

typedef double (*value_at)(const void *values, int sample);

static double float_at(const void *values, int sample) {
  return ((const float *)values)[sample];
}
static double byte_at(const void *values, int sample) {
  return ((const unsigned char *)values)[sample];
}

static double tree_sum(const dft_shard_map *map, int first_shard, int shards, const void *values,
                       value_at at) {
  if (shards > 1)
    return tree_sum(map, first_shard, shards / 2, values, at) +
           tree_sum(map, first_shard + shards / 2, shards / 2, values, at);
  double sum = 0.0;
  for (int s = map->first[first_shard]; s < map->first[first_shard + 1]; s++) sum += at(values, s);
  return sum;
}

static void node_sums(const dft_shard_map *map, const void *values, value_at at, double *out, size_t stride) {
  for (int n = 0; n < map->nodes; n++)
    out[(size_t)n * stride] =
        tree_sum(map, map->node_first[n], map->node_first[n + 1] - map->node_first[n], values, at);
}

void dft_node_sums(const dft_shard_map *map, const float *values, double *out, size_t stride) {
  node_sums(map, values, float_at, out, stride);
}

void dft_node_sums_u8(const dft_shard_map *map, const unsigned char *values, double *out, size_t stride) {
  node_sums(map, values, byte_at, out, stride);
}
