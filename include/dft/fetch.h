/* Rows of frozen work that another host has, brought here before the step that needs them: shuffling moves
 * samples between hosts, and no image shall pass through the frozen layers again for that.
 *
 * Nobody asks for anything. All ranks know the order of samples, who owns which place of a batch, and which
 * host holds which rows: a table that is exchanged when a phase begins and from then on advanced by all ranks
 * alike (src/cache/transfers.h). While a step computes, the rows of the next one travel, one message per pair
 * of ranks; those of an epoch's first step travel when it begins. What has arrived is kept by the receiving
 * host as if it had been computed there, as far as cache.memory_mb goes.
 *
 * The table says what should be held. A row that is not (its sample cannot be read, its file was damaged) is
 * named as missing in the message and computed by whom it was for. Rows have the same bits wherever they were
 * computed, so results do not depend on any of this.
 *
 * Training images only: a rank evaluates the same images each time. On one host, without a cache, and where
 * every epoch has images of its own, there is nothing to fetch: the functions return at once.
 *
 * Collective over the world: dft_fetch_open, _phase, and all ranks go through the same batches. Main thread;
 * OpenMP inside. DFT_EPEER where a peer is lost; nothing else ends a run: a host that lacks the memory for
 * the table makes all go without, with a warning.
 */
#ifndef DFT_FETCH_H
#define DFT_FETCH_H

#include "dft/cache.h"
#include "dft/comm.h"

typedef struct dft_fetch dft_fetch;

/* *fetch is NULL on one host, and NULL is fine for all functions. `cache` and the communicator must outlive
 * it. */
dft_status dft_fetch_open(dft_comm *comm, dft_cache *cache, const dft_config *config, int shards,
                          dft_fetch **fetch);
void dft_fetch_close(dft_fetch *f);

/* After dft_cache_phase has succeeded on all ranks: who holds what of the phase's levels. */
dft_status dft_fetch_phase(dft_fetch *f);
/* Waits for what is under way: before a phase's end, whatever its status. */
void dft_fetch_end(dft_fetch *f);

/* Before the rows of the batch at `position` of `epoch` are asked of the cache: waits for those that come
 * from other hosts. `count` samples, over all ranks. */
dft_status dft_fetch_batch(dft_fetch *f, int64_t epoch, int64_t position, int64_t count);
/* After this rank has them all: has the rows of the epoch's next batch, `next` samples, sent. 0: it was the
 * last. */
dft_status dft_fetch_next(dft_fetch *f, int64_t next);

/* Whether a sample's row will come from another host: its image is not needed. */
bool dft_fetch_expects(const dft_fetch *f, dft_set set, int64_t sample, int64_t view);

/* Of this rank, since the last call: rows and bytes received, and seconds without those that were needed. */
typedef struct dft_fetch_stats {
  int64_t rows, bytes;
  double waited_s;
} dft_fetch_stats;
dft_fetch_stats dft_fetch_take_stats(dft_fetch *f);

#endif
