/* The exchange: sums over all ranks, in the order of the shard tree, the same bits for every number of ranks.
 *
 * A buffer holds one partial sum per owned tree node: data[node][count], node-major with the stride `count`.
 * After the reduction data[0] holds the total on every rank (the other nodes are scratch).
 *
 * N a power of two: one node per rank; recursive doubling below `large_bytes`, recursive halving and doubling
 * (Rabenseifner, "Optimization of collective reduction operations", ICCS 2004) above: both build the same
 * tree. Other N: a node's sum goes to the rank that owns the first shard of its sibling, which completes the
 * parent; the root is then sent down the same way. A reduction advances inside dft_reduce_poll and _wait
 * only.
 *
 * Collective: all ranks start the same reductions in the same order; they may finish in any order. Main
 * thread.
 */
#ifndef DFT_REDUCE_H
#define DFT_REDUCE_H

#include "dft/comm.h"
#include "dft/shards.h"
#include <stddef.h>

typedef struct dft_reducer dft_reducer;
typedef struct dft_reduction_handle dft_reduction_handle;

typedef enum { DFT_F32, DFT_F64 } dft_dtype;

/* `ordered` false: the node sums are added locally and handed to dft_comm_sum_*. */
dft_status dft_reducer_new(dft_comm *comm, int shards, bool ordered, dft_reducer **reducer);
void dft_reducer_free(dft_reducer *r);

/* Starts the reduction of `data` (see above), which must stay in place until it is done. */
dft_status dft_reduce_start(dft_reducer *r, dft_dtype dtype, void *data, size_t count,
                            dft_reduction_handle **handle);
/* Advances everything under way without waiting. Cheap: call it between layers. */
dft_status dft_reduce_poll(dft_reducer *r);
/* Waits for one and releases it; advances the others meanwhile. */
dft_status dft_reduce_wait(dft_reducer *r, dft_reduction_handle *handle);
/* start + wait. */
dft_status dft_reduce(dft_reducer *r, dft_dtype dtype, void *data, size_t count);

/* Counters since the last reset, of this rank. */
typedef struct dft_reduce_stats {
  uint64_t bytes_sent, messages_sent;
  double wait_s;
} dft_reduce_stats;
dft_reduce_stats dft_reducer_stats(const dft_reducer *r);
void dft_reducer_reset(dft_reducer *r);
/* Bytes this algorithm sends from the busiest rank for one buffer of `bytes`, without running it (dft plan).
 */
uint64_t dft_reduce_bytes(int ranks, int shards, uint64_t bytes);

#endif
