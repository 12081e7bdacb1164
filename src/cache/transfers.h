/* Which rows go from which host to which rank before a batch: pure functions, the same on all ranks. */
#ifndef DFT_CACHE_TRANSFERS_H
#define DFT_CACHE_TRANSFERS_H

#include "dft/status.h"
#include <stdbool.h>
#include <stdint.h>

/* Ranks by host. Hosts are numbered by their lowest rank, and may have any ranks. */
typedef struct dft_places {
  int ranks, hosts;
  int *host;    /* [ranks] */
  int *begin;   /* [hosts+1] in members */
  int *members; /* [ranks] ascending within a host */
} dft_places;

/* leaders[r]: the lowest rank on r's host. */
dft_status dft_places_make(int ranks, const int64_t *leaders, dft_places *places);
void dft_places_free(dft_places *places);

/* Who holds what: a bit per level (shallow to deep), row and host. */
typedef struct dft_held {
  int levels, hosts;
  int64_t rows;
  int64_t *fitting;    /* [levels][hosts] the host has a place for the rows below this number */
  unsigned char *bits; /* [levels][rows][bytes of a bit per host] */
  int64_t lacking;     /* pairs of host and row that are not held at the last level */
} dft_held;

/* Nobody holds anything, or has a place for it. False: no memory. */
bool dft_held_make(int levels, int hosts, int64_t rows, dft_held *held);
void dft_held_free(dft_held *held);
bool dft_held_has(const dft_held *held, int level, int64_t row, int host);
/* Nothing where the host has no place for the row. */
void dft_held_add(dft_held *held, int level, int64_t row, int host);
/* The host that sends a row to host `to`, and the level: the deepest that some host holds. -1: there is no
 * need, no holder, or no place for it. */
int dft_held_source(const dft_held *held, int64_t row, int to, int *level);

/* A global batch: the sample at each place, one view of each. */
typedef struct dft_row_batch {
  const int64_t *samples; /* [count] */
  int64_t count;
  int64_t views, view; /* row = sample * views + view */
  int shards;
} dft_row_batch;

typedef struct dft_transfer {
  int64_t place, row; /* place in the batch */
  int from, to;       /* ranks */
  int level;
} dft_transfer;

/* What `rank` sends, by destination, or receives, by sender, by place within each; returns how many. `list`
 * has room for batch->count, or for the places of `rank`. A sender is the rank of its host whose number there
 * is the destination's modulo the host's ranks. */
int64_t dft_transfers_out(const dft_places *places, const dft_held *held, const dft_row_batch *batch,
                          int rank, dft_transfer *list);
int64_t dft_transfers_in(const dft_places *places, const dft_held *held, const dft_row_batch *batch, int rank,
                         dft_transfer *list);
/* What is held when all ranks have had the batch: what was sent arrived, the rest was computed. */
void dft_held_after(dft_held *held, const dft_places *places, const dft_row_batch *batch);

#endif
