/* How a global batch falls into shards, ranks and tree nodes (design section 6).
 *
 * Sample i of a batch of B belongs to shard floor(i*S/B). Rank r of N owns the shards [floor(r*S/N),
 * floor((r+1)*S/N)). Sums are taken within a shard in sample order, then over shards in the complete binary
 * tree over S leaves. What a rank can sum alone is a set of aligned tree nodes. Pure functions; any thread;
 * not collective.
 */
#ifndef DFT_SHARDS_H
#define DFT_SHARDS_H

#include "dft/status.h"
#include <stdint.h>

#define DFT_MAX_SHARDS 4096
#define DFT_MAX_NODES  24 /* a contiguous range in a tree of 4096 leaves needs at most 2*log2(4096) */

/* The rank's share of one batch. All indices are local: sample 0 is batch position `begin`. */
typedef struct dft_shard_map {
  int shards; /* owned by this rank; may be 0 only if N > S (refused) */
  int *first; /* [shards+1] first local sample of each shard; first[shards] = samples */
  int nodes;  /* owned aligned tree nodes, left to right */
  int node_first[DFT_MAX_NODES + 1]; /* first local shard of each node; node_first[nodes] = shards */
  int samples;                       /* local samples */
  int64_t begin;                     /* batch position of local sample 0 */
} dft_shard_map;

/* Fills *map for rank r of n with s shards and a batch of b samples. `first` is allocated on the first use
 * (map zeroed) and reused after. */
dft_status dft_shard_map_set(dft_shard_map *map, int s, int n, int r, int64_t b);
/* The batch position of rank r's first sample; of r = n: b. */
int64_t dft_shard_begin(int s, int n, int r, int64_t b);
/* Takes the local samples with bad[i] != 0 out of the map: shards shrink, what is left keeps its order and
 * its shard. `begin` stays. */
void dft_shard_map_leave_out(dft_shard_map *map, const unsigned char *bad);
void dft_shard_map_free(dft_shard_map *map);

/* The default shard count: 8, or the next power of two at or above n. */
int dft_shards_auto(int n);

#endif
