#include "transfers.h"
#include "dft/shards.h"
#include <stdlib.h>
#include <string.h>

dft_status dft_places_make(int ranks, const int64_t *leaders, dft_places *places) {
  size_t n = (size_t)ranks;
  *places = (dft_places){.ranks = ranks,
                         .host = calloc(n, sizeof(int)),
                         .begin = calloc(n + 1, sizeof(int)),
                         .members = calloc(n, sizeof(int))};
  if (places->host == NULL || places->begin == NULL || places->members == NULL) {
    dft_places_free(places);
    return dft_fail_memory("places of ranks", n * 3 * sizeof(int));
  }
  for (int r = 0; r < ranks; r++)
    places->host[r] = leaders[r] == r ? places->hosts++ : places->host[leaders[r]];
  for (int h = 0, at = 0; h < places->hosts; h++) {
    for (int r = 0; r < ranks; r++)
      if (places->host[r] == h) places->members[at++] = r;
    places->begin[h + 1] = at;
  }
  return DFT_OK;
}

void dft_places_free(dft_places *places) {
  free(places->host);
  free(places->begin);
  free(places->members);
  *places = (dft_places){0};
}

static int sender(const dft_places *places, int host, int to) {
  int first = places->begin[host], count = places->begin[host + 1] - first;
  return places->members[first + to % count];
}

static int64_t bytes_of_row(const dft_held *held) {
  return (held->hosts + 7) / 8;
}

bool dft_held_make(int levels, int hosts, int64_t rows, dft_held *held) {
  *held = (dft_held){.levels = levels, .hosts = hosts, .rows = rows, .lacking = rows * hosts};
  held->fitting = calloc((size_t)levels * (size_t)hosts, sizeof *held->fitting);
  held->bits = calloc((size_t)levels * (size_t)rows, (size_t)bytes_of_row(held));
  if (held->fitting != NULL && held->bits != NULL) return true;
  dft_held_free(held);
  return false;
}

void dft_held_free(dft_held *held) {
  free(held->fitting);
  free(held->bits);
  *held = (dft_held){0};
}

static unsigned char *bits_of(const dft_held *held, int level, int64_t row) {
  return held->bits + (level * held->rows + row) * bytes_of_row(held);
}

static bool fits(const dft_held *held, int level, int64_t row, int host) {
  return row < held->fitting[level * held->hosts + host];
}

bool dft_held_has(const dft_held *held, int level, int64_t row, int host) {
  return bits_of(held, level, row)[host / 8] >> host % 8 & 1;
}

void dft_held_add(dft_held *held, int level, int64_t row, int host) {
  if (!fits(held, level, row, host) || dft_held_has(held, level, row, host)) return;
  bits_of(held, level, row)[host / 8] |= (unsigned char)(1 << host % 8);
  held->lacking -= level == held->levels - 1;
}

/* One of the hosts that hold the row: the first from `start` on, around. */
static int holder(const dft_held *held, int level, int64_t row, int start) {
  const unsigned char *bits = bits_of(held, level, row);
  int bytes = (int)bytes_of_row(held), at = start / 8;
  unsigned byte = bits[at] & 0xffU << start % 8;
  for (int i = 0; i <= bytes; i++) {
    if (byte != 0) return at * 8 + __builtin_ctz(byte);
    at = at + 1 < bytes ? at + 1 : 0;
    byte = bits[at];
  }
  return -1;
}

int dft_held_source(const dft_held *held, int64_t row, int to, int *level) {
  for (int l = held->levels - 1; l >= 0; l--) {
    if (dft_held_has(held, l, row, to)) return -1;
    if (!fits(held, l, row, to)) continue;
    *level = l;
    int from = holder(held, l, row, (int)((row + to) % held->hosts)); /* each holder has its turn */
    if (from >= 0) return from;
  }
  return -1;
}

static int64_t row_at(const dft_row_batch *batch, int64_t place) {
  return batch->samples[place] * batch->views + batch->view;
}

/* Of the places of rank `to`, those that come from rank `from` (-1: any). */
static int64_t transfers(const dft_places *places, const dft_held *held, const dft_row_batch *batch, int from,
                         int to, dft_transfer *list) {
  int64_t n = 0, end = dft_shard_begin(batch->shards, places->ranks, to + 1, batch->count);
  for (int64_t i = dft_shard_begin(batch->shards, places->ranks, to, batch->count); i < end; i++) {
    dft_transfer t = {.place = i, .row = row_at(batch, i), .to = to};
    int host = dft_held_source(held, t.row, places->host[to], &t.level);
    if (host < 0) continue;
    t.from = sender(places, host, to);
    if (from < 0 || t.from == from) list[n++] = t;
  }
  return n;
}

int64_t dft_transfers_out(const dft_places *places, const dft_held *held, const dft_row_batch *batch,
                          int rank, dft_transfer *list) {
  int64_t n = 0;
  int host = places->host[rank];
  for (int to = 0; to < places->ranks; to++)
    if (places->host[to] != host && sender(places, host, to) == rank)
      n += transfers(places, held, batch, rank, to, list + n);
  return n;
}

static int by_sender(const void *a, const void *b) {
  const dft_transfer *s = a, *t = b;
  if (s->from != t->from) return s->from < t->from ? -1 : 1;
  return s->place < t->place ? -1 : s->place > t->place;
}

int64_t dft_transfers_in(const dft_places *places, const dft_held *held, const dft_row_batch *batch, int rank,
                         dft_transfer *list) {
  int64_t n = transfers(places, held, batch, -1, rank, list);
  qsort(list, (size_t)n, sizeof *list, by_sender);
  return n;
}

/* The deepest level that the host starts from, held or sent; -1: the image. */
static int start_of(const dft_held *held, int64_t row, int host) {
  int level = held->levels - 1;
  if (level == 0) return -1; /* there is nothing between */
  if (dft_held_source(held, row, host, &level) >= 0) return level;
  for (level = held->levels - 1; level >= 0; level--)
    if (dft_held_has(held, level, row, host)) break;
  return level;
}

void dft_held_after(dft_held *held, const dft_places *places, const dft_row_batch *batch) {
  for (int r = 0; r < places->ranks; r++) {
    int64_t end = dft_shard_begin(batch->shards, places->ranks, r + 1, batch->count);
    for (int64_t i = dft_shard_begin(batch->shards, places->ranks, r, batch->count); i < end; i++) {
      int64_t row = row_at(batch, i);
      int from = start_of(held, row, places->host[r]);
      for (int l = from < 0 ? 0 : from; l < held->levels; l++) dft_held_add(held, l, row, places->host[r]);
    }
  }
}
