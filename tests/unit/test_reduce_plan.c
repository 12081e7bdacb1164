/* The exchange plans of all ranks, played in one process: every rank must end with the bits of the serial
 * shard tree, for any number of ranks and shards and every route. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../../src/reduce/exchange_plan.h"
#include "dft/reduce.h"
#include "dft/shards.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RANKS = 40 };

static float shard_value(int shard, int i) {
  /* magnitudes from 1e-8 to 1e4, so that another order of summation gives other bits */
  const unsigned h = ((unsigned)shard * 2654435761u + (unsigned)i * 40503u) ^ 0x9e3779b9u;
  return ((float)(h % 20011u) - 10005.0f) * powf(10.0f, (float)(h / 20011u % 9u) - 8.0f);
}

/* The tree by its definition. */
static float tree(int first, int size, int i) {
  return size == 1 ? shard_value(first, i) : tree(first, size / 2, i) + tree(first + size / 2, size / 2, i);
}

typedef struct player {
  dft_exchange_plan plan;
  float *data, *scratch;
  int stage;
  bool posted;
} player;

typedef struct letter {
  int from, to;
  size_t bytes;
  float *words;
  struct letter *next;
} letter;

static letter *post_box, **post_end = &post_box;

static float *place(player *p, size_t bytes, int row, int first) {
  if (row >= 0)
    return p->data + ((size_t)row * bytes + dft_exchange_plan_offset(&p->plan, bytes, first)) / sizeof(float);
  return p->scratch + (size_t)(-1 - row) * dft_exchange_plan_piece_bytes(&p->plan, bytes) / sizeof(float);
}

static size_t span_bytes(player *p, size_t bytes, int first, int last) {
  return dft_exchange_plan_offset(&p->plan, bytes, last) - dft_exchange_plan_offset(&p->plan, bytes, first);
}

static void drop(int from, int to, const float *words, size_t bytes) {
  letter *l = malloc(sizeof *l);
  *l = (letter){.from = from, .to = to, .bytes = bytes, .words = malloc(bytes + 1)};
  memcpy(l->words, words, bytes);
  *post_end = l;
  post_end = &l->next;
}

static letter *find(int from, int to, int skip) {
  for (letter *l = post_box; l != NULL; l = l->next)
    if (l->from == from && l->to == to && skip-- == 0) return l;
  return NULL;
}

static void discard(letter *gone) {
  for (letter **link = &post_box; *link != NULL; link = &(*link)->next) {
    if (*link != gone) continue;
    *link = gone->next;
    if (post_end == &gone->next) post_end = link;
    free(gone->words);
    free(gone);
    return;
  }
}

static void post(player *p, int rank, int ranks, size_t bytes, int from, int to) {
  for (int i = from; i < to; ++i) {
    const dft_exchange_plan_message *m = &p->plan.message[i];
    assert_in_range(m->peer, 0, ranks - 1);
    assert_int_not_equal(m->peer, rank);
    if (!m->receiving)
      drop(rank, m->peer, place(p, bytes, m->row, m->first), span_bytes(p, bytes, m->first, m->last));
  }
}

/* Sends the stage's messages once; true when the stage could be completed. */
static bool play(player *p, int rank, int ranks, size_t bytes) {
  const dft_exchange_plan *plan = &p->plan;
  const int from = p->stage == 0 ? 0 : plan->stage[p->stage - 1].messages_end;
  const int to = plan->stage[p->stage].messages_end;
  if (!p->posted) post(p, rank, ranks, bytes, from, to);
  p->posted = true;
  int expected[MAX_RANKS] = {0};
  for (int i = from; i < to; ++i) {
    const dft_exchange_plan_message *m = &plan->message[i];
    if (m->receiving && find(m->peer, rank, expected[m->peer]++) == NULL) return false;
  }
  for (int i = from; i < to; ++i) {
    const dft_exchange_plan_message *m = &plan->message[i];
    if (!m->receiving) continue;
    letter *l = find(m->peer, rank, 0);
    assert_int_equal(l->bytes, span_bytes(p, bytes, m->first, m->last));
    memcpy(place(p, bytes, m->row, m->first), l->words, l->bytes);
    discard(l);
  }
  const int sums_from = p->stage == 0 ? 0 : plan->stage[p->stage - 1].sums_end;
  for (int i = sums_from; i < plan->stage[p->stage].sums_end; ++i) {
    const dft_exchange_plan_sum *s = &plan->sum[i];
    float *sum = place(p, bytes, s->to, s->first);
    const float *left = place(p, bytes, s->left, s->first), *right = place(p, bytes, s->right, s->first);
    for (size_t k = 0; k < span_bytes(p, bytes, s->first, s->last) / sizeof(float); ++k)
      sum[k] = left[k] + right[k];
  }
  p->stage++;
  p->posted = false;
  return true;
}

static void open_player(player *p, dft_route route, int ranks, int shards, int rank, int count) {
  *p = (player){0};
  assert_int_equal(dft_exchange_plan_make(&p->plan, route, ranks, shards, rank), DFT_OK);
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, shards, ranks, rank, shards), DFT_OK);
  const size_t bytes = (size_t)count * sizeof(float);
  p->data = malloc((size_t)map.nodes * bytes + 1);
  p->scratch = malloc((size_t)p->plan.scratch_pieces * dft_exchange_plan_piece_bytes(&p->plan, bytes) + 1);
  for (int node = 0; node < map.nodes; ++node) {
    const int first = (int)map.begin + map.node_first[node];
    for (int i = 0; i < count; ++i)
      p->data[node * count + i] = tree(first, map.node_first[node + 1] - map.node_first[node], i);
  }
  dft_shard_map_free(&map);
}

static void close_player(player *p) {
  dft_exchange_plan_free(&p->plan);
  free(p->data);
  free(p->scratch);
}

/* Once a rank has played the stages of its part. */
static void check_part(const player *p, int shards, int count) {
  const dft_exchange_plan *plan = &p->plan;
  const size_t bytes = (size_t)count * sizeof(float);
  const int first = (int)(dft_exchange_plan_offset(plan, bytes, plan->part_first) / sizeof(float));
  const int last = (int)(dft_exchange_plan_offset(plan, bytes, plan->part_last) / sizeof(float));
  for (int i = first; i < last; ++i) {
    const float total = tree(0, shards, i);
    assert_memory_equal(&p->data[i], &total, sizeof total);
  }
}

static void check_parts_are_all(const player *players, int ranks, dft_route route) {
  const bool parted = route == DFT_ROUTE_HALVING || route == DFT_ROUTE_PIECES;
  int pieces = 0;
  for (int r = 0; r < ranks; ++r) {
    const dft_exchange_plan *plan = &players[r].plan;
    assert_true(plan->part_first < plan->part_last && plan->part_last <= plan->pieces);
    for (int other = 0; other < r && parted; ++other)
      assert_true(players[other].plan.part_last <= plan->part_first ||
                  players[other].plan.part_first >= plan->part_last);
    pieces += plan->part_last - plan->part_first;
  }
  assert_int_equal(pieces, parted ? players[0].plan.pieces : ranks);
}

static void check_route(dft_route route, int ranks, int shards, int count) {
  static player players[MAX_RANKS];
  const size_t bytes = (size_t)count * sizeof(float);
  for (int r = 0; r < ranks; ++r) open_player(&players[r], route, ranks, shards, r, count);
  bool moved = true;
  while (moved) {
    moved = false;
    for (int r = ranks; r-- > 0;)
      while (players[r].stage < players[r].plan.stages && play(&players[r], r, ranks, bytes)) {
        moved = true;
        if (players[r].stage == players[r].plan.part_stages) check_part(&players[r], shards, count);
      }
  }
  check_parts_are_all(players, ranks, route);
  for (int r = 0; r < ranks; ++r) {
    assert_int_equal(players[r].stage, players[r].plan.stages); /* nobody waits forever */
    for (int i = 0; i < count; ++i) {
      const float total = tree(0, shards, i);
      if (memcmp(&players[r].data[i], &total, sizeof total) != 0)
        fail_msg("route %d, rank %d of %d, %d shards, [%d]: %.9g instead of %.9g", route, r, ranks, shards, i,
                 players[r].data[i], total);
    }
  }
  assert_null(post_box);
  for (int r = 0; r < ranks; ++r) close_player(&players[r]);
}

static void every_rank_gets_the_bits_of_the_tree(void **state) {
  (void)state;
  static const int counts[] = {1, 7, 100};
  for (int shards = 1; shards <= 64; shards *= 2)
    for (int ranks = 1; ranks <= shards && ranks <= MAX_RANKS; ++ranks)
      for (size_t c = 0; c < sizeof counts / sizeof *counts; ++c) {
        check_route(DFT_ROUTE_TREE, ranks, shards, counts[c]);
        check_route(DFT_ROUTE_PIECES, ranks, shards, counts[c]);
        if ((ranks & (ranks - 1)) != 0) continue;
        check_route(DFT_ROUTE_DOUBLING, ranks, shards, counts[c]);
        check_route(DFT_ROUTE_HALVING, ranks, shards, counts[c]);
      }
}

static void order_matters_to_this_test(void **state) {
  (void)state;
  int differ = 0;
  for (int i = 0; i < 100; ++i) {
    float serial = 0;
    for (int s = 0; s < 8; ++s) serial += shard_value(s, i);
    differ += serial != tree(0, 8, i);
  }
  assert_true(differ > 10);
}

static void the_routes_chosen_are_those_of_the_design(void **state) {
  (void)state;
  assert_int_equal(dft_route_for(8, false), DFT_ROUTE_DOUBLING);
  assert_int_equal(dft_route_for(8, true), DFT_ROUTE_HALVING);
  assert_int_equal(dft_route_for(5, false), DFT_ROUTE_TREE);
  assert_int_equal(dft_route_for(5, true), DFT_ROUTE_PIECES);
}

static void large_buckets_cost_what_a_ring_costs(void **state) {
  (void)state;
  const uint64_t bytes = 4200000;
  for (int ranks = 2; ranks <= 64; ranks *= 2) {
    const double ring = 2.0 * (ranks - 1) / ranks * (double)bytes;
    const double sent = (double)dft_reduce_bytes(ranks, 64, bytes);
    assert_true(fabs(sent - ring) <= 64.0 * ranks);
  }
  assert_int_equal(dft_reduce_bytes(1, 8, bytes), 0);
  /* 5 ranks of 8 shards: at most two nodes to the four others, then one piece to four */
  assert_true((double)dft_reduce_bytes(5, 8, bytes) <= (2 * 0.8 + 0.8) * (double)bytes + 64 * 12);
  /* small ones: log2(N) times the whole vector */
  assert_int_equal(dft_reduce_bytes(8, 8, 1000), 3000);
}

static void impossible_worlds_are_refused(void **state) {
  (void)state;
  dft_exchange_plan plan;
  assert_int_equal(dft_exchange_plan_make(&plan, DFT_ROUTE_TREE, 9, 8, 0), DFT_EUSAGE);
  assert_int_equal(dft_exchange_plan_make(&plan, DFT_ROUTE_TREE, 3, 12, 0), DFT_EUSAGE);
  assert_non_null(strstr(dft_error(), "power of two"));
  assert_int_equal(dft_reduce_bytes(9, 8, 100), 0);
}

static int reallocs_left = -1; /* until one fails; -1: none does */

void *__real_realloc(void *block, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes) {
  return reallocs_left >= 0 && reallocs_left-- == 0 ? NULL : __real_realloc(block, bytes);
}

/* However far it has come, no plan that lacks its end is called good. */
static void out_of_memory_is_told(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    const dft_route route = (dft_route)i;
    const int ranks = route == DFT_ROUTE_DOUBLING || route == DFT_ROUTE_HALVING ? 4 : 3;
    int lacking = 0;
    for (bool enough = false; !enough; lacking++) {
      dft_exchange_plan plan;
      reallocs_left = lacking;
      const dft_status status = dft_exchange_plan_make(&plan, route, ranks, 8, 0);
      enough = reallocs_left >= 0; /* none has failed */
      reallocs_left = -1;
      assert_int_equal(status, enough ? DFT_OK : DFT_EINTERNAL);
      dft_exchange_plan_free(&plan);
    }
    assert_true(lacking > 5);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_rank_gets_the_bits_of_the_tree),
      cmocka_unit_test(order_matters_to_this_test),
      cmocka_unit_test(the_routes_chosen_are_those_of_the_design),
      cmocka_unit_test(large_buckets_cost_what_a_ring_costs),
      cmocka_unit_test(impossible_worlds_are_refused),
      cmocka_unit_test(out_of_memory_is_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
