#include "dft/fetch.h"
#include "dft/arena.h"
#include "dft/clock.h"
#include "dft/log.h"
#include "stores.h"
#include "transfers.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGE_BYTES = 1 << 30 /* larger ones are not sent, their rows computed */ };
static const int64_t max_table_bytes = INT64_C(1) << 30; /* of each rank */

/* Messages of one direction. Each is a byte per row, whether it is there, then the rows that are. */
typedef struct mail {
  dft_transfer *list; /* one message's after another's */
  int64_t count;
  dft_message *slots; /* [ranks] */
  int messages;
  char *bytes;
  size_t room;
} mail;

struct dft_fetch {
  dft_comm *comm;
  dft_cache *cache;
  const dft_config *config;
  int shards, rank;
  dft_places places;
  bool active; /* in this phase; the same on all ranks */
  dft_held held;
  int64_t *order; /* [samples] of the epoch, shared by the ranks of a host */
  int64_t epoch;  /* of `order` */
  int64_t position;
  dft_row_batch batch; /* at `position` */
  bool posted;         /* the batch's rows are under way */
  mail in, out;
  dft_fetch_stats stats;
};

static const dft_dataset *train_of(const dft_fetch *f) {
  return f->cache->images.data[DFT_SET_TRAIN];
}

static size_t row_bytes(const dft_fetch *f, int level) {
  return (size_t)f->cache->levels[level].row * sizeof(float);
}

static dft_store *store_of(const dft_fetch *f, int level) {
  return &f->cache->levels[level].stores[DFT_SET_TRAIN];
}

dft_status dft_fetch_open(dft_comm *comm, dft_cache *cache, const dft_config *config, int shards,
                          dft_fetch **fetch) {
  *fetch = NULL;
  if (dft_comm_hosts(comm) < 2) return DFT_OK;
  const dft_share *share = dft_comm_share(comm);
  int64_t leader = dft_comm_rank(comm);
  void *leaders;
  DFT_TRY(share->broadcast(share->context, &leader, sizeof leader));
  DFT_TRY(dft_comm_allgather_new(comm, &leader, sizeof leader, &leaders));
  dft_status status = DFT_OK;
  dft_fetch *f = *fetch = calloc(1, sizeof *f);
  if (f == NULL)
    status = dft_fail_memory("fetch", sizeof *f);
  else {
    const size_t ranks = (size_t)dft_comm_size(comm);
    *f = (dft_fetch){
        .comm = comm, .cache = cache, .config = config, .shards = shards, .rank = dft_comm_rank(comm)};
    f->in.slots = calloc(ranks, sizeof *f->in.slots);
    f->out.slots = calloc(ranks, sizeof *f->out.slots);
    status = f->in.slots == NULL || f->out.slots == NULL ? dft_fail_memory("messages", ranks)
                                                         : dft_places_make((int)ranks, leaders, &f->places);
  }
  free(leaders);
  return dft_comm_agree(comm, status);
}

/* Completes messages, as far as the communicator stands. */
static dft_status complete(dft_fetch *f, mail *m) {
  for (int i = 0; i < m->messages; i++) DFT_TRY(dft_comm_wait(f->comm, &m->slots[i]));
  m->messages = 0;
  return DFT_OK;
}

static void drop_mail(mail *m) {
  free(m->list);
  if (m->messages == 0) free(m->bytes); /* else a peer was lost, and MPI may still write there */
  m->list = NULL;
  m->bytes = NULL;
  m->room = 0;
}

void dft_fetch_end(dft_fetch *f) {
  if (f == NULL) return;
  if (complete(f, &f->in) == DFT_OK) (void)complete(f, &f->out);
  f->posted = f->active = false;
  drop_mail(&f->in);
  drop_mail(&f->out);
  dft_held_free(&f->held);
}

void dft_fetch_close(dft_fetch *f) {
  if (f == NULL) return;
  dft_fetch_end(f);
  const dft_share *share = dft_comm_share(f->comm);
  if (f->order != NULL) share->free(share->context, f->order);
  dft_places_free(&f->places);
  free(f->in.slots);
  free(f->out.slots);
  free(f);
}

/* The most places of this rank in a batch: of a full one or the last. */
static int64_t most_places(const dft_fetch *f) {
  int64_t n = dft_dataset_count(train_of(f)), b = f->config->data.batch_size, most = 0;
  const int64_t sizes[] = {n < b ? n : b, n % b};
  for (int i = 0; i < 2; i++) {
    int64_t places = dft_shard_begin(f->shards, f->places.ranks, f->rank + 1, sizes[i]) -
                     dft_shard_begin(f->shards, f->places.ranks, f->rank, sizes[i]);
    if (places > most) most = places;
  }
  return most;
}

static size_t flags_bytes(int64_t rows) {
  return (size_t)(rows + 7) / 8 * 8;
}

/* What the phase needs, on this rank alone. */
static dft_status allocate(dft_fetch *f) {
  dft_cache *c = f->cache;
  int64_t rows = dft_cache_rows_of(c, DFT_SET_TRAIN), places = most_places(f);
  size_t widest = 0;
  for (int l = 0; l < c->count; l++)
    if (row_bytes(f, l) > widest) widest = row_bytes(f, l);
  int64_t table = c->count * rows * ((f->places.hosts + 7) / 8);
  if (table > max_table_bytes || !dft_held_make(c->count, f->places.hosts, rows, &f->held))
    return dft_fail_memory("table of the rows of each host", (unsigned long long)table);
  f->in.room = (size_t)places * (widest + 8) + 64 * (size_t)f->places.ranks;
  f->in.bytes = malloc(f->in.room);
  f->in.list = malloc((size_t)(places + 1) * sizeof *f->in.list);
  f->out.list = malloc((size_t)f->config->data.batch_size * sizeof *f->out.list);
  return f->in.bytes == NULL || f->in.list == NULL || f->out.list == NULL
             ? dft_fail_memory("rows of other hosts", f->in.room)
             : DFT_OK;
}

/* What a rank says of its host. */
typedef struct word {
  int64_t fitting[DFT_CACHE_LEVELS], there[DFT_CACHE_LEVELS];
} word;

static word own_word(const dft_fetch *f) {
  word w = {0};
  for (int l = 0; l < f->held.levels; l++) {
    w.fitting[l] = store_of(f, l)->fitting;
    for (int64_t r = 0; r < w.fitting[l]; r++) w.there[l] += dft_store_has(store_of(f, l), r);
  }
  return w;
}

/* A host's first rank tells all which rows of a level it has. */
static dft_status tell_rows(dft_fetch *f, int level, int host, unsigned char *bits) {
  int64_t rows = f->held.rows;
  size_t bytes = (size_t)(rows + 7) / 8;
  int root = f->places.members[f->places.begin[host]];
  memset(bits, 0, bytes);
  for (int64_t r = 0; f->rank == root && r < store_of(f, level)->fitting; r++)
    bits[r / 8] |= (unsigned char)(dft_store_has(store_of(f, level), r) << r % 8);
  DFT_TRY(dft_comm_bcast(f->comm, root, bits, bytes));
  for (int64_t r = 0; r < rows; r++)
    if (bits[r / 8] >> r % 8 & 1) dft_held_add(&f->held, level, r, host);
  return DFT_OK;
}

/* Fills the table. Collective. */
static dft_status exchange_table(dft_fetch *f, word *words, unsigned char *bits) {
  word mine = own_word(f);
  DFT_TRY(dft_comm_allgather(f->comm, &mine, sizeof mine, words));
  bool places = false;
  for (int l = 0; l < f->held.levels; l++)
    for (int h = 0; h < f->places.hosts; h++) {
      const word *w = &words[f->places.members[f->places.begin[h]]];
      f->held.fitting[l * f->places.hosts + h] = w->fitting[l];
      places = places || w->fitting[l] > 0;
      if (w->there[l] > 0) DFT_TRY(tell_rows(f, l, h, bits));
    }
  f->active = places; /* else there is no cache */
  return DFT_OK;
}

/* *all is the same on all ranks: when one cannot have what it needs, all go without. */
static dft_status allocate_all(dft_fetch *f, word **words, unsigned char **bits, bool *all) {
  const dft_share *share = dft_comm_share(f->comm);
  int64_t n = dft_dataset_count(train_of(f)), ok;
  dft_status status = allocate(f);
  *words = malloc((size_t)f->places.ranks * sizeof **words);
  *bits = malloc((size_t)(f->held.rows + 7) / 8 + 1);
  if (status == DFT_OK && (*words == NULL || *bits == NULL)) status = dft_fail_memory("table", 0);
  ok = status == DFT_OK;
  if (!ok) dft_warn("%s; what other hosts have is computed again", dft_error());
  if (f->order == NULL) {
    void *order = NULL;
    status = share->alloc(share->context, (size_t)n * sizeof *f->order, &order);
    if (status == DFT_EPEER) return status;
    if (status != DFT_OK && share->writer)
      dft_warn("%s; what other hosts have is computed again", dft_error());
    f->order = order;
    ok = ok && status == DFT_OK;
  }
  DFT_TRY(dft_comm_min(f->comm, &ok));
  *all = ok;
  return DFT_OK;
}

dft_status dft_fetch_phase(dft_fetch *f) {
  if (f == NULL) return DFT_OK;
  dft_fetch_end(f);
  if (f->cache->count == 0 || dft_cache_rows_of(f->cache, DFT_SET_TRAIN) == 0) return DFT_OK;
  word *words = NULL;
  unsigned char *bits = NULL;
  bool all = false;
  f->epoch = f->position = -1;
  dft_status status = allocate_all(f, &words, &bits, &all);
  if (status == DFT_OK && all) status = exchange_table(f, words, bits);
  free(words);
  free(bits);
  if (status != DFT_OK || !f->active) dft_fetch_end(f);
  return status;
}

/* The epoch's order, each rank of the host a part of it. Collective on the host. */
static dft_status set_order(dft_fetch *f, int64_t epoch) {
  const dft_share *share = dft_comm_share(f->comm);
  int64_t n = dft_dataset_count(train_of(f));
  int parts = dft_comm_local_size(f->comm), part = dft_comm_local_rank(f->comm);
  int64_t begin = n * part / parts, end = n * (part + 1) / parts;
#pragma omp parallel for num_threads(dft_ops_threads()) schedule(static)
  for (int64_t i = begin; i < end; i++)
    f->order[i] = dft_sampler((uint64_t)f->config->seed, f->config->data.shuffle, epoch, n, i);
  f->epoch = epoch;
  return share->fence(share->context, DFT_OK);
}

static void set_batch(dft_fetch *f, int64_t position, int64_t count) {
  int64_t view = dft_dataset_view_of(train_of(f), f->epoch);
  f->position = position;
  f->batch = (dft_row_batch){.samples = f->order + position,
                             .count = count,
                             .views = view < 0 ? 1 : dft_dataset_views(train_of(f)),
                             .view = view < 0 ? 0 : view,
                             .shards = f->shards};
}

/* The end of the message that begins at transfer `first`, and its size when all its rows are there. */
static int64_t message_end(const dft_fetch *f, const mail *m, int64_t first, bool receiving, size_t *bytes) {
  const dft_transfer *t = m->list;
  int64_t end = first;
  *bytes = 0;
  while (end < m->count && (receiving ? t[end].from == t[first].from : t[end].to == t[first].to))
    *bytes += row_bytes(f, t[end++].level);
  *bytes += flags_bytes(end - first);
  return end;
}

static dft_status post_receives(dft_fetch *f) {
  mail *m = &f->in;
  size_t at = 0, bytes;
  m->count = dft_transfers_in(&f->places, &f->held, &f->batch, f->rank, m->list);
  for (int64_t first = 0, end; first < m->count; first = end) {
    end = message_end(f, m, first, true, &bytes);
    memset(m->bytes + at, 0, flags_bytes(end - first)); /* an empty message leaves it so */
    if (bytes <= MAX_MESSAGE_BYTES)
      DFT_TRY(dft_comm_irecv(f->comm, m->list[first].from, DFT_TAG_ROWS, m->bytes + at, bytes,
                             &m->slots[m->messages++]));
    at += dft_aligned_bytes(bytes);
  }
  return DFT_OK;
}

/* Room for all messages. Without, they say that no row is there. */
static bool make_room(dft_fetch *f, mail *m) {
  size_t room = 0, bytes;
  for (int64_t first = 0; first < m->count;) {
    first = message_end(f, m, first, false, &bytes);
    room += dft_aligned_bytes(bytes);
  }
  if (room <= m->room) return true;
  free(m->bytes);
  m->bytes = malloc(room);
  m->room = m->bytes != NULL ? room : 0;
  return m->bytes != NULL;
}

/* Transfers [first, end) as a message at `to`; returns its bytes. */
static size_t pack(dft_fetch *f, const mail *m, int64_t first, int64_t end, char *to) {
  size_t at = flags_bytes(end - first);
  memset(to, 0, at);
  for (int64_t i = first; i < end; i++) {
    const dft_transfer *t = &m->list[i];
    const dft_level *level = &f->cache->levels[t->level];
    if (!dft_store_fetch(level, DFT_SET_TRAIN, t->row, (float *)(void *)(to + at))) continue;
    to[i - first] = 1;
    at += row_bytes(f, t->level);
  }
  return at;
}

static dft_status post_sends(dft_fetch *f) {
  static const char none[8];
  mail *m = &f->out;
  size_t at = 0, bytes;
  DFT_TRY(complete(f, m));
  m->count = dft_transfers_out(&f->places, &f->held, &f->batch, f->rank, m->list);
  bool room = make_room(f, m);
  for (int64_t first = 0, end; first < m->count; first = end) {
    end = message_end(f, m, first, false, &bytes);
    if (bytes > MAX_MESSAGE_BYTES) continue;
    const char *message = room ? m->bytes + at : none;
    size_t sent = room ? pack(f, m, first, end, m->bytes + at) : 0;
    DFT_TRY(
        dft_comm_isend(f->comm, m->list[first].to, DFT_TAG_ROWS, message, sent, &m->slots[m->messages++]));
    at += dft_aligned_bytes(bytes);
  }
  return DFT_OK;
}

static dft_status post(dft_fetch *f) {
  f->posted = true;
  if (f->held.lacking == 0) return DFT_OK; /* all have all */
  DFT_TRY(post_receives(f));
  return post_sends(f);
}

/* What has arrived goes to the host's rows. */
static void unpack(dft_fetch *f, int64_t first, int64_t end, const char *message) {
  size_t at = flags_bytes(end - first);
  for (int64_t i = first; i < end; i++) {
    const dft_transfer *t = &f->in.list[i];
    if (!message[i - first]) continue;
    dft_store_keep(&f->cache->levels[t->level], DFT_SET_TRAIN, t->row,
                   (const float *)(const void *)(message + at));
    at += row_bytes(f, t->level);
    f->stats.rows++;
    f->stats.bytes += (int64_t)row_bytes(f, t->level);
  }
}

static dft_status receive(dft_fetch *f) {
  mail *m = &f->in;
  size_t at = 0, bytes;
  double start_s = dft_now_s();
  DFT_TRY(complete(f, m));
  f->stats.waited_s += dft_now_s() - start_s;
  for (int64_t first = 0, end; first < m->count; first = end) {
    end = message_end(f, m, first, true, &bytes);
    unpack(f, first, end, m->bytes + at);
    at += dft_aligned_bytes(bytes);
  }
  m->count = 0;
  return DFT_OK;
}

dft_status dft_fetch_batch(dft_fetch *f, int64_t epoch, int64_t position, int64_t count) {
  if (f == NULL || !f->active) return DFT_OK;
  if (epoch != f->epoch) DFT_TRY(set_order(f, epoch));
  if (!f->posted) {
    set_batch(f, position, count);
    DFT_TRY(post(f));
  }
  f->posted = false;
  return receive(f);
}

dft_status dft_fetch_next(dft_fetch *f, int64_t next) {
  if (f == NULL || !f->active) return DFT_OK;
  if (f->held.lacking > 0) dft_held_after(&f->held, &f->places, &f->batch);
  if (next == 0) return DFT_OK;
  set_batch(f, f->position + f->batch.count, next);
  return post(f);
}

bool dft_fetch_expects(const dft_fetch *f, dft_set set, int64_t sample, int64_t view) {
  if (f == NULL || !f->active || set != DFT_SET_TRAIN) return false;
  int level;
  int64_t row = dft_dataset_row(train_of(f), sample, view);
  return dft_held_source(&f->held, row, f->places.host[f->rank], &level) >= 0;
}

dft_fetch_stats dft_fetch_take_stats(dft_fetch *f) {
  dft_fetch_stats s = {0};
  if (f == NULL) return s;
  s = f->stats;
  f->stats = (dft_fetch_stats){0};
  return s;
}
