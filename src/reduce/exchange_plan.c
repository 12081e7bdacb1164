#include "exchange_plan.h"
#include "dft/shards.h"
#include <stdlib.h>

enum { UNIT_BYTES = 64 }; /* pieces begin on cache lines and never cut an element */

/* A plan under construction; `status` keeps the first failure. */
typedef struct builder {
  dft_exchange_plan *plan;
  int rank;
  dft_status status;
} builder;

/* Room for one more element; the arrays double when full, that is at every power of two. */
static void *grown(builder *b, void *items, int count, size_t item_bytes) {
  if (count != 0 && (count & (count - 1)) != 0) return items;
  void *more = realloc(items, (count == 0 ? 1 : 2 * (size_t)count) * item_bytes);
  if (more == NULL) b->status = dft_fail_memory("exchange plan", 2ULL * (size_t)count * item_bytes);
  return more;
}

static void add_message(builder *b, bool receiving, int peer, int row, int first, int last) {
  dft_exchange_plan *p = b->plan;
  if (b->status != DFT_OK) return;
  void *items = grown(b, p->message, p->messages, sizeof *p->message);
  if (items == NULL) return;
  p->message = items;
  p->message[p->messages++] = (dft_exchange_plan_message){
      .peer = peer, .row = row, .first = first, .last = last, .receiving = receiving};
}

static void send(builder *b, int peer, int row, int first, int last) {
  add_message(b, false, peer, row, first, last);
}

static void receive(builder *b, int peer, int row, int first, int last) {
  add_message(b, true, peer, row, first, last);
}

static void sum(builder *b, dft_exchange_plan_sum sum) {
  dft_exchange_plan *p = b->plan;
  if (b->status != DFT_OK) return;
  void *items = grown(b, p->sum, p->sums, sizeof *p->sum);
  if (items == NULL) return;
  p->sum = items;
  p->sum[p->sums++] = sum;
}

static void end_stage(builder *b) {
  dft_exchange_plan *p = b->plan;
  if (b->status != DFT_OK) return;
  const dft_exchange_plan_stage before =
      p->stages == 0 ? (dft_exchange_plan_stage){0} : p->stage[p->stages - 1];
  if (before.messages_end == p->messages && before.sums_end == p->sums) return;
  void *items = grown(b, p->stage, p->stages, sizeof *p->stage);
  if (items == NULL) return;
  p->stage = items;
  p->stage[p->stages++] = (dft_exchange_plan_stage){.messages_end = p->messages, .sums_end = p->sums};
}

static int scratch(int piece) {
  return -1 - piece;
}

/* What is summed now is complete for these pieces. */
static void end_part(builder *b, int first, int last) {
  b->plan->part_stages = b->plan->stages;
  b->plan->part_first = first;
  b->plan->part_last = last;
}

/* The sum with a partner's row of scratch: the lower rank's tree node is the left child. */
static void sum_with_partner(builder *b, int partner, int first, int last) {
  const int left = b->rank < partner ? 0 : scratch(0), right = b->rank < partner ? scratch(0) : 0;
  sum(b, (dft_exchange_plan_sum){.to = 0, .left = left, .right = right, .first = first, .last = last});
}

static void make_doubling(builder *b, int ranks) {
  b->plan->pieces = b->plan->scratch_pieces = 1;
  for (int distance = 1; distance < ranks; distance *= 2) {
    const int partner = b->rank ^ distance;
    receive(b, partner, scratch(0), 0, 1);
    send(b, partner, 0, 0, 1);
    sum_with_partner(b, partner, 0, 1);
    end_stage(b);
  }
  end_part(b, 0, 1);
}

static void make_halving(builder *b, int ranks) {
  b->plan->pieces = ranks;
  b->plan->scratch_pieces = ranks / 2;
  int first = 0, last = ranks; /* what this rank still sums */
  for (int distance = 1; distance < ranks; distance *= 2) {
    const int partner = b->rank ^ distance, middle = (first + last) / 2;
    const bool lower = (b->rank & distance) == 0;
    const int keep_first = lower ? first : middle, keep_last = lower ? middle : last;
    receive(b, partner, scratch(0), keep_first, keep_last);
    send(b, partner, 0, lower ? middle : first, lower ? last : middle);
    sum_with_partner(b, partner, keep_first, keep_last);
    end_stage(b);
    first = keep_first;
    last = keep_last;
  }
  end_part(b, first, last);
  for (int distance = ranks / 2; distance > 0; distance /= 2) {
    const int partner = b->rank ^ distance, length = last - first;
    const bool lower = (b->rank & distance) == 0;
    const int other = lower ? last : first - length;
    receive(b, partner, 0, other, other + length);
    send(b, partner, 0, first, last);
    end_stage(b);
    first = lower ? first : other;
    last = first + 2 * length;
  }
}

/* The tree nodes that ranks can sum alone, left to right over all ranks. */
typedef struct owned {
  int count;
  int *first_shard; /* [count+1], the last is the shard count */
  int *rank;        /* [count] */
  int *row;         /* [count] the node's row on its rank */
} owned;

static void owned_free(owned *o) {
  free(o->first_shard);
  free(o->rank);
  free(o->row);
}

static dft_status owned_make(owned *o, int ranks, int shards) {
  *o = (owned){.first_shard = malloc(((size_t)shards + 1) * sizeof(int)),
               .rank = malloc((size_t)shards * sizeof(int)),
               .row = malloc((size_t)shards * sizeof(int))};
  if (o->first_shard == NULL || o->rank == NULL || o->row == NULL)
    return dft_fail_memory("exchange plan", 3ULL * (unsigned)shards * sizeof(int));
  dft_shard_map map = {0};
  dft_status status = DFT_OK;
  for (int r = 0; r < ranks && status == DFT_OK; ++r) {
    status = dft_shard_map_set(&map, shards, ranks, r, shards); /* one sample per shard: begin is a shard */
    for (int i = 0; i < map.nodes && status == DFT_OK; ++i) {
      o->first_shard[o->count] = (int)map.begin + map.node_first[i];
      o->rank[o->count] = r;
      o->row[o->count++] = i;
    }
  }
  o->first_shard[o->count] = shards;
  dft_shard_map_free(&map);
  return status;
}

/* All sums that complete parents of owned nodes, from the leaves up: calls `combine` with the indices of the
 * left and the right node, and whether the parent is the root. A parent keeps the index of its left child.
 * `live` is the caller's memory for `count` indices. */
static void for_each_parent(builder *b, const owned *o, int shards, int *live,
                            void (*combine)(builder *b, const owned *o, int left, int right, bool root)) {
  int count = o->count;
  for (int i = 0; i < count; ++i) live[i] = i;
  for (int size = 1; size < shards; size *= 2) {
    int kept = 0;
    for (int i = 0; i < count; ++i) {
      const int at = o->first_shard[live[i]];
      const bool left_child = at % (2 * size) == 0;
      if (left_child && i + 1 < count && o->first_shard[live[i + 1]] == at + size)
        combine(b, o, live[i], live[i + 1], 2 * size == shards);
      if (left_child) live[kept++] = live[i];
    }
    count = kept;
    end_stage(b);
  }
}

static void combine_at_owner(builder *b, const owned *o, int left, int right, bool root) {
  (void)root;
  const int to = o->rank[left], from = o->rank[right];
  if (b->rank == from && from != to) send(b, to, o->row[right], 0, 1);
  if (b->rank != to) return;
  if (from != to) receive(b, from, scratch(0), 0, 1);
  sum(b, (dft_exchange_plan_sum){.to = o->row[left],
                                 .left = o->row[left],
                                 .right = from == to ? o->row[right] : scratch(0),
                                 .first = 0,
                                 .last = 1});
}

/* Up to rank 0, which owns the first shard; then down a binomial tree. At each level a rank completes at most
 * one parent with a foreign child (that of its last nodes), so one row of scratch is enough. */
static void make_tree(builder *b, const owned *o, int ranks, int shards, int *live) {
  b->plan->pieces = b->plan->scratch_pieces = 1;
  for_each_parent(b, o, shards, live, combine_at_owner);
  int top = 1;
  while (top < ranks) top *= 2;
  for (int distance = top / 2; distance > 0; distance /= 2) {
    if (b->rank % (2 * distance) == 0 && b->rank + distance < ranks) send(b, b->rank + distance, 0, 0, 1);
    if (b->rank % (2 * distance) == distance) receive(b, b->rank - distance, 0, 0, 1);
    end_stage(b);
  }
  end_part(b, 0, 1);
}

/* Node i of all: in the caller's rows where this rank owns it, else in scratch. */
static int row_of(const builder *b, const owned *o, int i) {
  return o->rank[i] == b->rank ? o->row[i] : scratch(i);
}

/* The root comes to row 0, wherever the first node lies. */
static void combine_here(builder *b, const owned *o, int left, int right, bool root) {
  const int at = row_of(b, o, left);
  sum(b, (dft_exchange_plan_sum){.to = root ? 0 : at,
                                 .left = at,
                                 .right = row_of(b, o, right),
                                 .first = b->rank,
                                 .last = b->rank + 1});
}

static void make_pieces(builder *b, const owned *o, int ranks, int shards, int *live) {
  b->plan->pieces = ranks;
  b->plan->scratch_pieces = o->count;
  for (int i = 0; i < o->count; ++i)
    if (o->rank[i] != b->rank) receive(b, o->rank[i], scratch(i), b->rank, b->rank + 1);
  for (int i = 0; i < o->count; ++i) {
    if (o->rank[i] != b->rank) continue;
    for (int step = 1; step < ranks; ++step) {
      const int peer = (b->rank + step) % ranks; /* not everyone to rank 0 first */
      send(b, peer, o->row[i], peer, peer + 1);
    }
  }
  /* The sums belong to the stage of the messages: end_stage inside comes after the first level's. */
  for_each_parent(b, o, shards, live, combine_here);
  end_part(b, b->rank, b->rank + 1);
  for (int step = 1; step < ranks; ++step) {
    const int from = (b->rank + ranks - step) % ranks;
    receive(b, from, 0, from, from + 1);
  }
  for (int step = 1; step < ranks; ++step) send(b, (b->rank + step) % ranks, 0, b->rank, b->rank + 1);
  end_stage(b);
}

static dft_status make_any(builder *b, dft_route route, int ranks, int shards) {
  owned o;
  int *live = malloc((size_t)shards * sizeof *live);
  dft_status status = owned_make(&o, ranks, shards);
  if (status == DFT_OK && live == NULL)
    status = dft_fail_memory("exchange plan", (unsigned)shards * sizeof *live);
  if (status == DFT_OK) (route == DFT_ROUTE_TREE ? make_tree : make_pieces)(b, &o, ranks, shards, live);
  free(live);
  owned_free(&o);
  return status != DFT_OK ? status : b->status;
}

dft_route dft_route_for(int ranks, bool large) {
  if ((ranks & (ranks - 1)) == 0) return large ? DFT_ROUTE_HALVING : DFT_ROUTE_DOUBLING;
  return large ? DFT_ROUTE_PIECES : DFT_ROUTE_TREE;
}

dft_status dft_exchange_plan_make(dft_exchange_plan *plan, dft_route route, int ranks, int shards, int rank) {
  *plan = (dft_exchange_plan){.pieces = 1, .part_last = 1};
  dft_shard_map map = {0};
  dft_status status = dft_shard_map_set(&map, shards, ranks, rank, shards); /* refuses what is impossible */
  dft_shard_map_free(&map);
  DFT_TRY(status);
  builder b = {.plan = plan, .rank = rank};
  if (route == DFT_ROUTE_DOUBLING)
    make_doubling(&b, ranks);
  else if (route == DFT_ROUTE_HALVING)
    make_halving(&b, ranks);
  else if (ranks > 1)
    b.status = make_any(&b, route, ranks, shards);
  if (b.status != DFT_OK) dft_exchange_plan_free(plan);
  return b.status;
}

void dft_exchange_plan_free(dft_exchange_plan *plan) {
  free(plan->stage);
  free(plan->message);
  free(plan->sum);
  *plan = (dft_exchange_plan){.pieces = 1};
}

static uint64_t units(size_t bytes) {
  return (bytes + UNIT_BYTES - 1) / UNIT_BYTES;
}

size_t dft_exchange_plan_offset(const dft_exchange_plan *plan, size_t bytes, int p) {
  const uint64_t at = units(bytes) * (uint64_t)p / (uint64_t)plan->pieces * UNIT_BYTES;
  return at < bytes ? (size_t)at : bytes;
}

size_t dft_exchange_plan_piece_bytes(const dft_exchange_plan *plan, size_t bytes) {
  const uint64_t n = (uint64_t)plan->pieces;
  return (size_t)((units(bytes) + n - 1) / n * UNIT_BYTES);
}

uint64_t dft_exchange_plan_sent(const dft_exchange_plan *plan, size_t bytes) {
  uint64_t sent = 0;
  for (int i = 0; i < plan->messages; ++i) {
    const dft_exchange_plan_message *m = &plan->message[i];
    if (!m->receiving)
      sent +=
          dft_exchange_plan_offset(plan, bytes, m->last) - dft_exchange_plan_offset(plan, bytes, m->first);
  }
  return sent;
}
