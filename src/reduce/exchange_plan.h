/* The exchange as data: which pieces of which rows a rank sends, receives and adds, stage by stage.
 *
 * A vector is cut into `pieces` of nearly equal length at multiples of 64 bytes. Rows 0, 1, ... are the owned
 * nodes in the caller's buffer; row -1-k is scratch memory from piece k on. In each stage all messages travel
 * together; when they are complete its sums follow in order. The total ends in row 0 of every rank. After
 * part_stages it is there for pieces [part_first, part_last), which with the large routes are other ones on
 * every rank, and all of them together.
 *
 * Pure functions of (ranks, shards, rank): not collective, any thread.
 */
#ifndef DFT_REDUCE_EXCHANGE_PLAN_H
#define DFT_REDUCE_EXCHANGE_PLAN_H

#include "dft/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dft_route {
  DFT_ROUTE_DOUBLING, /* N a power of two, few steps: whole vectors with the neighbour at 1, 2, 4, ... */
  DFT_ROUTE_HALVING,  /* N a power of two, few bytes: halves on the way up, doubles on the way back */
  DFT_ROUTE_TREE,     /* any N, few steps: up to the owner of the parent, then down from rank 0 */
  DFT_ROUTE_PIECES    /* any N, few bytes: rank p completes the tree for piece p and hands it to all */
} dft_route;

dft_route dft_route_for(int ranks, bool large);

typedef struct dft_exchange_plan_message {
  int peer, row, first, last; /* pieces [first, last) */
  bool receiving;
} dft_exchange_plan_message;

/* row `to` = row `left` + row `right`, for pieces [first, last). `to` may be one of the two. */
typedef struct dft_exchange_plan_sum {
  int to, left, right, first, last;
} dft_exchange_plan_sum;

typedef struct dft_exchange_plan_stage {
  int messages_end, sums_end; /* each stage begins where the one before ends */
} dft_exchange_plan_stage;

typedef struct dft_exchange_plan {
  int pieces, scratch_pieces;
  int stages, messages, sums;
  int part_stages, part_first, part_last;
  dft_exchange_plan_stage *stage;
  dft_exchange_plan_message *message;
  dft_exchange_plan_sum *sum;
} dft_exchange_plan;

/* The plan of one rank; *plan is overwritten. */
dft_status dft_exchange_plan_make(dft_exchange_plan *plan, dft_route route, int ranks, int shards, int rank);
void dft_exchange_plan_free(dft_exchange_plan *plan);

/* The offset at which piece p of a vector of `bytes` begins (p = pieces: its end), and the longest piece. */
size_t dft_exchange_plan_offset(const dft_exchange_plan *plan, size_t bytes, int p);
size_t dft_exchange_plan_piece_bytes(const dft_exchange_plan *plan, size_t bytes);
/* What the rank of this plan sends. */
uint64_t dft_exchange_plan_sent(const dft_exchange_plan *plan, size_t bytes);

#endif
