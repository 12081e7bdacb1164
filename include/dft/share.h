/* Memory that all ranks of one host see: how modules below comm/ (the data sources) keep one copy per host
 * without knowing MPI. comm/ implements it; dft_share_alone() is the one-process version.
 * Collective over the ranks of a host: every rank calls alloc, fence and free in the same order. */
#ifndef DFT_SHARE_H
#define DFT_SHARE_H

#include "dft/status.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct dft_share {
  void *context;
  bool writer; /* this rank fills the blocks (exactly one per host) */
  /* Collective on the host: a zeroed block of `bytes`, the same on all ranks of the host, in *block. All of
   * the host's ranks get the same status. Pass the same bytes on all ranks. */
  dft_status (*alloc)(void *context, size_t bytes, void **block);
  void (*free)(void *context, void *block);
  /* Collective on the host: agrees on the worst `status` (a failing writer's message reaches everyone), and
   * makes what was written before visible after. */
  dft_status (*fence)(void *context, dft_status status);
  /* Collective on the host: the writer's `bytes` of `data` reach the others. */
  dft_status (*broadcast)(void *context, void *data, size_t bytes);
  /* "This rank is at work", from the main thread, more often than the run's timeout: while the writer reads
   * for long, the others wait. Not collective. */
  void (*tick)(void *context);
} dft_share;

const dft_share *dft_share_alone(void);

#endif
