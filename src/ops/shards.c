#include "dft/shards.h"
#include <limits.h>
#include <stdlib.h>

/* Shard boundaries of rank r: floor(r*s/n). */
static int boundary(int s, int n, int r) {
  return (int)((int64_t)r * s / n);
}

/* Shard j begins at the first i with floor(i*s/b) >= j, that is at ceil(j*b/s). */
static int64_t first_sample(int s, int64_t b, int j) {
  return ((int64_t)j * b + s - 1) / s;
}

int64_t dft_shard_begin(int s, int n, int r, int64_t b) {
  return first_sample(s, b, boundary(s, n, r));
}

/* The largest aligned node that begins at shard `at` and ends at or before `end`. */
static int node_size(int s, int at, int end) {
  int size = s;
  while (at % size != 0 || at + size > end) size /= 2;
  return size;
}

dft_status dft_shard_map_set(dft_shard_map *map, int s, int n, int r, int64_t b) {
  if (s < 1 || s > DFT_MAX_SHARDS || (s & (s - 1)) != 0)
    return dft_fail(DFT_EUSAGE, "distributed.shards is %d: it must be a power of two from 1 to %d", s,
                    DFT_MAX_SHARDS);
  if (n > s)
    return dft_fail(DFT_EUSAGE,
                    "%d ranks share %d shards: start at most %d ranks, or raise distributed.shards", n, s, s);
  if (n < 1 || r < 0 || r >= n) return dft_fail(DFT_EINTERNAL, "shard map: rank %d of %d", r, n);
  if (b < 0 || b > INT_MAX)
    return dft_fail(DFT_EUSAGE, "a batch of %lld samples: it must be from 0 to %d", (long long)b, INT_MAX);

  const int from = boundary(s, n, r), to = boundary(s, n, r + 1);
  if (map->first == NULL || to - from > map->shards) {
    const size_t bytes = (size_t)(to - from + 1) * sizeof *map->first;
    int *first = realloc(map->first, bytes);
    if (first == NULL) return dft_fail_memory("shard map", bytes);
    map->first = first;
  }
  map->shards = to - from;
  map->begin = dft_shard_begin(s, n, r, b);
  for (int j = from; j <= to; j++) map->first[j - from] = (int)(first_sample(s, b, j) - map->begin);
  map->samples = map->first[map->shards];

  map->nodes = 0;
  for (int at = from; at < to; at += node_size(s, at, to)) map->node_first[map->nodes++] = at - from;
  map->node_first[map->nodes] = to - from;
  return DFT_OK;
}

void dft_shard_map_leave_out(dft_shard_map *map, const unsigned char *bad) {
  int left = 0;
  for (int j = 0, i = 0; j < map->shards; j++) {
    int begin = left;
    for (; i < map->first[j + 1]; i++) left += bad[i] == 0;
    map->first[j] = begin;
  }
  map->first[map->shards] = left;
  map->samples = left;
}

void dft_shard_map_free(dft_shard_map *map) {
  free(map->first);
  *map = (dft_shard_map){0};
}

int dft_shards_auto(int n) {
  int s = 8;
  while (s < n) s *= 2;
  return s;
}
