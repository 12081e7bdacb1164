/* Which rows travel between hosts, for many worlds: every rank finds the same transfers, each row that a host
 * lacks comes from exactly one that holds it, and over epochs no image is computed twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../../src/cache/transfers.h"
#include "dft/data.h"
#include "dft/shards.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_RANKS = 40, MAX_LEVELS = 3, MAX_ROWS = 400 };

static unsigned noise = 1;

static int pick(int below) {
  noise = noise * 1664525U + 1013904223U;
  return (int)((noise >> 8) % (unsigned)below);
}

typedef struct world {
  dft_places places;
  dft_held held;
  int shards;
} world;

/* Ranks on hosts in any order, and hosts of any size: rank r is where rank `leaders[r]` is. */
static void make_world(world *w, int ranks, int hosts, int levels, int64_t rows) {
  int64_t leaders[MAX_RANKS] = {0}, first[MAX_RANKS] = {0};
  int used = 0;
  for (int r = 0; r < ranks; r++) {
    int host = ranks - r <= hosts - used ? used : pick(used < hosts ? used + 1 : hosts);
    if (host == used) first[used++] = r;
    leaders[r] = first[host];
  }
  assert_int_equal(dft_places_make(ranks, leaders, &w->places), DFT_OK);
  assert_int_equal(w->places.hosts, hosts);
  for (int r = 0; r < ranks; r++) assert_int_equal(first[w->places.host[r]], leaders[r]);
  assert_true(dft_held_make(levels, hosts, rows, &w->held));
  w->shards = dft_shards_auto(ranks);
}

static void free_world(world *w) {
  dft_places_free(&w->places);
  dft_held_free(&w->held);
}

static int owner(const world *w, const dft_row_batch *b, int64_t place) {
  int64_t shard = place * b->shards / b->count;
  for (int r = 0;; r++)
    if ((int64_t)(r + 1) * b->shards / w->places.ranks > shard) return r;
}

/* By definition: the deepest level that `to` lacks, has a place for, and another host holds; none when `to`
 * holds one as deep. */
static int wanted_level(const dft_held *h, int64_t row, int to) {
  for (int l = h->levels - 1; l >= 0; l--) {
    if (dft_held_has(h, l, row, to)) return -1;
    bool there = false;
    for (int host = 0; host < h->hosts; host++) there = there || dft_held_has(h, l, row, host);
    if (there && row < h->fitting[l * h->hosts + to]) return l;
  }
  return -1;
}

static void check_batch(const world *w, const dft_row_batch *b) {
  static dft_transfer in[MAX_ROWS], out[MAX_RANKS][MAX_ROWS];
  int64_t outs[MAX_RANKS], next[MAX_RANKS] = {0}, sent = 0, seen = 0;
  int expected[MAX_ROWS];
  for (int64_t i = 0; i < b->count; i++)
    expected[i] = wanted_level(&w->held, b->samples[i] * b->views + b->view, w->places.host[owner(w, b, i)]);
  for (int r = 0; r < w->places.ranks; r++) {
    outs[r] = dft_transfers_out(&w->places, &w->held, b, r, out[r]);
    sent += outs[r];
    for (int64_t i = 1; i < outs[r]; i++) assert_true(out[r][i - 1].to <= out[r][i].to);
  }
  for (int r = 0; r < w->places.ranks; r++) {
    int64_t ins = dft_transfers_in(&w->places, &w->held, b, r, in);
    seen += ins;
    for (int64_t i = 0; i < ins; i++) {
      const dft_transfer *t = &in[i];
      assert_int_equal(t->to, r);
      assert_int_equal(owner(w, b, t->place), r);
      assert_int_equal(t->row, b->samples[t->place] * b->views + b->view);
      assert_int_equal(t->level, expected[t->place]);
      expected[t->place] = -1; /* once */
      assert_int_not_equal(w->places.host[t->from], w->places.host[r]);
      assert_true(dft_held_has(&w->held, t->level, t->row, w->places.host[t->from]));
      if (i == 0 || in[i - 1].from != t->from) { /* a message: the sender has the same list */
        assert_true(i == 0 || in[i - 1].from < t->from);
        next[t->from] = 0;
        while (next[t->from] < outs[t->from] && out[t->from][next[t->from]].to != r) next[t->from]++;
      }
      assert_true(next[t->from] < outs[t->from]);
      const dft_transfer *s = &out[t->from][next[t->from]++];
      assert_true(s->place == t->place && s->row == t->row && s->level == t->level);
      assert_true(s->from == t->from && s->to == t->to);
    }
  }
  assert_int_equal(sent, seen);
  for (int64_t i = 0; i < b->count; i++) assert_int_equal(expected[i], -1);
}

static void random_tables(void **state) {
  (void)state;
  for (int round = 0; round < 400; round++) {
    world w;
    int ranks = 1 + pick(MAX_RANKS), hosts = 1 + pick(ranks), levels = 1 + pick(MAX_LEVELS);
    int views = 1 + pick(2), samples = 1 + pick(MAX_ROWS / 2);
    int64_t order[MAX_ROWS], rows = (int64_t)samples * views;
    make_world(&w, ranks, hosts, levels, rows);
    for (int i = 0; i < levels * hosts; i++) w.held.fitting[i] = pick(4) == 0 ? pick((int)rows + 1) : rows;
    int density = 1 + pick(12);
    int64_t held = 0;
    for (int l = 0; l < levels; l++)
      for (int64_t r = 0; r < rows; r++)
        for (int h = 0; h < hosts; h++)
          if (pick(density) == 0) dft_held_add(&w.held, l, r, h);
    for (int64_t r = 0; r < rows; r++)
      for (int h = 0; h < hosts; h++) {
        held += dft_held_has(&w.held, levels - 1, r, h);
        assert_true(!dft_held_has(&w.held, levels - 1, r, h) || r < w.held.fitting[(levels - 1) * hosts + h]);
      }
    assert_int_equal(w.held.lacking, rows * hosts - held);
    for (int i = 0; i < samples; i++) order[i] = (i * 7 + round) % samples;
    dft_row_batch b = {.samples = order,
                       .count = 1 + pick(samples),
                       .views = views,
                       .view = pick(views),
                       .shards = w.shards};
    check_batch(&w, &b);
    free_world(&w);
  }
}

/* Epochs of shuffled batches: each row is computed from its image exactly once, where there is room. */
static void epochs(void **state) {
  (void)state;
  static const struct {
    int ranks, hosts, levels, samples, views, batch, room;
  } cases[] = {{4, 2, 2, 100, 1, 10, 100},  {3, 3, 1, 44, 1, 10, 100},  {7, 3, 2, 61, 1, 13, 100},
               {40, 40, 3, 97, 1, 48, 100}, {16, 4, 2, 50, 2, 50, 100}, {5, 2, 1, 30, 1, 8, 60},
               {1, 1, 1, 20, 1, 6, 100}};
  for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
    world w;
    int n = cases[k].samples, levels = cases[k].levels, hosts = cases[k].hosts;
    int64_t rows = (int64_t)n * cases[k].views, room = rows * cases[k].room / 100, order[MAX_ROWS];
    int computed[MAX_ROWS] = {0}, epochs = 4 * cases[k].views;
    make_world(&w, cases[k].ranks, hosts, levels, rows);
    for (int i = 0; i < levels * hosts; i++) w.held.fitting[i] = room;
    for (int e = 0; e < epochs; e++) {
      for (int i = 0; i < n; i++) order[i] = dft_sampler(3, true, e, n, i);
      for (int at = 0; at < n; at += cases[k].batch) {
        dft_row_batch b = {.samples = order + at,
                           .count = n - at < cases[k].batch ? n - at : cases[k].batch,
                           .views = cases[k].views,
                           .view = e % cases[k].views,
                           .shards = w.shards};
        check_batch(&w, &b);
        for (int64_t i = 0; i < b.count; i++) {
          int64_t row = b.samples[i] * b.views + b.view;
          int host = w.places.host[owner(&w, &b, i)];
          bool there = wanted_level(&w.held, row, host) >= 0;
          for (int l = 0; l < levels; l++) there = there || dft_held_has(&w.held, l, row, host);
          computed[row] += !there;
        }
        dft_held_after(&w.held, &w.places, &b);
        for (int64_t i = 0; i < b.count; i++)
          for (int l = levels - 1; l < levels; l++) {
            int64_t row = b.samples[i] * b.views + b.view;
            assert_int_equal(dft_held_has(&w.held, l, row, w.places.host[owner(&w, &b, i)]), row < room);
          }
      }
    }
    for (int64_t r = 0; r < rows; r++) assert_int_equal(computed[r], r < room ? 1 : epochs / cases[k].views);
    free_world(&w);
  }
}

/* Rows that several hosts hold come from each of them in turn, through each of a host's ranks. */
static void load_is_spread(void **state) {
  (void)state;
  world w;
  const int64_t leaders[] = {0, 0, 2, 2, 4, 4, 6, 6};
  int64_t order[MAX_ROWS];
  static dft_transfer out[MAX_ROWS];
  assert_int_equal(dft_places_make(8, leaders, &w.places), DFT_OK);
  assert_true(dft_held_make(1, 4, MAX_ROWS, &w.held));
  for (int h = 0; h < 4; h++) w.held.fitting[h] = MAX_ROWS;
  for (int64_t r = 0; r < MAX_ROWS; r++)
    for (int h = 0; h < 3; h++) dft_held_add(&w.held, 0, order[r] = r, h);
  dft_row_batch b = {.samples = order, .count = MAX_ROWS, .views = 1, .shards = 8};
  check_batch(&w, &b); /* a quarter of the batch is for host 3 */
  for (int r = 0; r < 6; r++) {
    int64_t n = dft_transfers_out(&w.places, &w.held, &b, r, out);
    assert_in_range(n, MAX_ROWS / 4 / 6 - 10, MAX_ROWS / 4 / 6 + 10);
  }
  free_world(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(random_tables), cmocka_unit_test(epochs),
                                     cmocka_unit_test(load_is_spread)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
