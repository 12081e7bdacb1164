/* The exchange: sums over all ranks, in the order of the shard tree, the same bits for every number of ranks.
 *
 * A buffer holds one partial sum per owned tree node: data[node][count], node-major with the stride `count`.
 * After the reduction data[0] holds the total on every rank (the other nodes are scratch), or, after
 * dft_reduce_start_part, this rank's part of it.
 *
 * N a power of two: one node per rank; recursive doubling below `large_bytes`, recursive halving and doubling
 * (Rabenseifner, "Optimization of collective reduction operations", ICCS 2004) above: both build the same
 * tree. Other N: a node's sum goes to the rank that owns the first shard of its sibling, which completes the
 * parent; the root is then sent down the same way. A reduction advances inside dft_reduce_poll and _wait
 * only.
 *
 * Collective: all ranks start the same reductions in the same order; they may finish in any order. Main
 * thread.
 *
 * With a device (device.h) buffers are in its memory, and the same sums come out, bit for bit:
 *   one rank: nothing is copied, enqueued or waited for;
 *   with NCCL (dft_comm_use_nccl): start enqueues the whole plan on the exchange's stream, behind what is on
 *     the first stream, wait makes the first stream wait for it; the host waits for neither, so that a step
 *     can be recorded as a graph. Once such a buffer's size has passed, nothing is allocated, and what is
 *     recorded stays usable until the reducer is freed;
 *   else (MPI): the buffer comes to the host when the device has come so far (in poll where it has, in wait
 *     for certain), is reduced there, and is enqueued to go back. Not for recording.
 */
#ifndef DFT_REDUCE_H
#define DFT_REDUCE_H

#include "dft/comm.h"
#include "dft/device.h"
#include "dft/shards.h"
#include <stddef.h>

typedef struct dft_reducer dft_reducer;
typedef struct dft_reduction_handle dft_reduction_handle;

typedef enum { DFT_F32, DFT_F64 } dft_dtype;

/* `ordered` false: the node sums are added locally and handed to dft_comm_sum_*, or NCCL's. `device` NULL:
 * buffers are the host's. */
dft_status dft_reducer_new(dft_comm *comm, int shards, bool ordered, const dft_device *device,
                           dft_reducer **reducer);
void dft_reducer_free(dft_reducer *r);
const dft_device *dft_reducer_device(const dft_reducer *r);

/* Starts the reduction of `data` (see above), which must stay in place until it is done. */
dft_status dft_reduce_start(dft_reducer *r, dft_dtype dtype, void *data, size_t count,
                            dft_reduction_handle **handle);
/* The same on the host, where each rank needs the total of its part only: half the way for a large buffer. */
dft_status dft_reduce_start_part(dft_reducer *r, dft_dtype dtype, void *data, size_t count,
                                 dft_reduction_handle **handle);
/* This rank's part of a buffer: so many elements from *first on. The ranks' parts are the whole buffer. */
size_t dft_reduce_part(const dft_reducer *r, dft_dtype dtype, size_t count, size_t *first);
/* Advances everything under way without waiting. Cheap: call it between layers. */
dft_status dft_reduce_poll(dft_reducer *r);
/* Waits for one and releases it; advances the others meanwhile. */
dft_status dft_reduce_wait(dft_reducer *r, dft_reduction_handle *handle);
/* start + wait. */
dft_status dft_reduce(dft_reducer *r, dft_dtype dtype, void *data, size_t count);

/* Waits until the device has done everything enqueued so far, as patiently as for a message: a peer whose
 * part does not come ends it with DFT_EPEER, as does an error of this rank's device, which the others cannot
 * be told of. Use it in the place of device->finish whenever a reduction is on the way. Without a device
 * nothing. */
dft_status dft_reducer_finish(dft_reducer *r);

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
