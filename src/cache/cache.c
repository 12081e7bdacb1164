#include "dft/cache.h"
#include "dft/log.h"
#include "rows.h"
#include <stdlib.h>
#include <string.h>

enum {
  TILE = 32,      /* images decoded before the first net takes them: bounds memory to a few MB */
  MOST_NAMED = 10 /* samples left out that get a line each */
};

/* Rows of one set at one boundary. In a file, or in memory, where sample s < fitting has rows[s] when
 * present[s]. */
typedef struct store {
  int64_t fitting;        /* 0: no place */
  dft_rows file;          /* open, or memory: */
  int64_t there;          /* of the file\'s rows, before the phase began */
  unsigned char *present; /* read and written atomically */
  float *rows;
} store;

typedef struct level {
  int first;
  int64_t row; /* floats */
  store stores[DFT_SETS];
  dft_folded_net *net; /* from the level before (or the image) to this one; of the current phase */
} level;

struct dft_cache {
  const dft_config *config;
  const dft_model *model;
  const dft_ops *ops;
  const dft_share *share;
  const dft_dataset *data[DFT_SETS];
  int *starts;
  int phases;
  int trained_from; /* the boundary of the phase under way */
  bool files;       /* rows go to cache.directory, as long as it can be used */
  bool fingerprinted[DFT_SETS];
  uint64_t fingerprint[DFT_SETS];
  int64_t budget_bytes; /* left */
  level levels[DFT_CACHE_LEVELS];
  int count;
  float *tile[2];                   /* images or rows of a tile, in turn */
  unsigned char *corrupt[DFT_SETS]; /* [samples], shared, atomic: cannot be read; NULL: all can */
  int named;
  dft_cache_stats stats;
};

static int64_t samples_of(const dft_cache *c, int set) {
  return c->data[set] != NULL ? dft_dataset_count(c->data[set]) : 0;
}

/* A row per sample and view; none where every epoch has views of its own. */
static int64_t rows_of(const dft_cache *c, int set) {
  return c->data[set] != NULL ? dft_dataset_count(c->data[set]) * dft_dataset_views(c->data[set]) : 0;
}

static int64_t row_of(const dft_cache *c, int set, int64_t sample, int64_t view) {
  return view < 0 ? sample : sample * dft_dataset_views(c->data[set]) + view;
}

dft_status dft_cache_open(const dft_config *config, const dft_model *model, const dft_ops *ops,
                          const dft_share *share, const int *starts, int phases,
                          const dft_dataset *const data[DFT_SETS], dft_cache **cache) {
  *cache = NULL;
  dft_cache *c = calloc(1, sizeof *c);
  if (c == NULL || phases > DFT_CACHE_LEVELS) {
    free(c);
    return c == NULL ? dft_fail_memory("cache", sizeof *c)
                     : dft_fail(DFT_EUSAGE, "phases: %d, at most %d are possible", phases, DFT_CACHE_LEVELS);
  }
  *c = (dft_cache){.config = config, .model = model, .ops = ops, .share = share, .phases = phases};
  c->budget_bytes = config->cache.mode == DFT_CACHE_OFF ? 0 : config->cache.memory_mb * 1000000;
  c->files = config->cache.mode != DFT_CACHE_OFF && config->cache.directory != NULL;
  for (int s = 0; s < DFT_SETS; s++) c->data[s] = data[s];
  int64_t widest = (int64_t)model->height * model->width * 3;
  for (int p = 0; p < phases; p++)
    if (dft_model_boundary(model, starts[p]) > widest) widest = dft_model_boundary(model, starts[p]);
  c->starts = malloc((size_t)phases * sizeof *c->starts);
  for (int t = 0; t < 2; t++) c->tile[t] = dft_aligned_alloc((size_t)(TILE * widest) * sizeof(float));
  if (c->starts == NULL || c->tile[0] == NULL || c->tile[1] == NULL) {
    dft_cache_close(c);
    return dft_fail_memory("cache", (unsigned long long)widest);
  }
  memcpy(c->starts, starts, (size_t)phases * sizeof *starts);
  dft_status status = DFT_OK;
  for (int s = 0; s < DFT_SETS && status == DFT_OK; s++)
    if (data[s] != NULL && dft_dataset_can_fail(data[s]))
      status = share->alloc(share->context, (size_t)samples_of(c, s), (void **)&c->corrupt[s]);
  if (status != DFT_OK) {
    dft_cache_close(c);
    return status;
  }
  *cache = c;
  return DFT_OK;
}

static void drop_stores(dft_cache *c, level *l) {
  for (int s = 0; s < DFT_SETS; s++) {
    store *t = &l->stores[s];
    if (t->rows != NULL) {
      c->budget_bytes += t->fitting * l->row * (int64_t)sizeof(float);
      c->share->free(c->share->context, t->rows);
      c->share->free(c->share->context, t->present);
    }
    dft_rows_close(&t->file);
    *t = (store){0};
  }
}

void dft_cache_close(dft_cache *c) {
  if (c == NULL) return;
  for (int i = 0; i < c->count; i++) {
    drop_stores(c, &c->levels[i]);
    dft_folded_free(c->levels[i].net);
  }
  for (int s = 0; s < DFT_SETS; s++)
    if (c->corrupt[s] != NULL) c->share->free(c->share->context, c->corrupt[s]);
  free(c->tile[0]);
  free(c->tile[1]);
  free(c->starts);
  free(c);
}

/* Keeps the stores of levels that still stand, in `old`, for the levels of the new phase. */
static void take_over(dft_cache *c, level *old, int old_count) {
  for (int i = 0; i < old_count; i++) {
    level *now = NULL;
    for (int k = 0; k < c->count; k++)
      if (c->levels[k].first == old[i].first) now = &c->levels[k];
    dft_folded_free(old[i].net);
    if (now == NULL) {
      drop_stores(c, &old[i]);
      continue;
    }
    memcpy(now->stores, old[i].stores, sizeof now->stores);
    for (int s = 0; s < DFT_SETS; s++) {
      store *t = &now->stores[s];
      if (t->file.data != NULL) t->there = dft_rows_there(&t->file);
    }
  }
}

/* A lost peer ends the run; of anything else that keeps rows from having a place, people are told once per
 * host, and the run goes on without. `status` is the same on all ranks of the host. */
static dft_status do_without(dft_cache *c, dft_status status, const char *instead) {
  if (status == DFT_EPEER) return status;
  if (status != DFT_OK && c->share->writer) dft_warn("cache: %s; %s", dft_error(), instead);
  return DFT_OK;
}

/* Maps the file of a level and set on all ranks of the host: the writer first, which makes it. */
static dft_status open_file(dft_cache *c, int at, int set) {
  level *l = &c->levels[at];
  const dft_share *share = c->share;
  const char *directory = c->config->cache.directory;
  int firsts[DFT_CACHE_LEVELS];
  for (int i = 0; i <= at; i++) firsts[i] = c->levels[i].first;
  dft_rows_key key = {0};
  dft_rows *rows = &l->stores[set].file;
  dft_status status = DFT_OK;
  if (share->writer) {
    status = dft_rows_prepare(directory);
    if (!c->fingerprinted[set]) c->fingerprint[set] = dft_dataset_fingerprint(c->data[set]);
    c->fingerprinted[set] = true;
    key = dft_rows_key_of(c->config, c->model, c->ops, firsts, at, c->fingerprint[set], rows_of(c, set),
                          dft_dataset_augments(c->data[set]));
    if (status == DFT_OK) status = dft_rows_open(directory, &key, true, rows);
    if (status == DFT_OK) l->stores[set].there = dft_rows_there(rows);
  }
  status = share->fence(share->context, status);
  if (status == DFT_OK) status = share->tell(share->context, &key, sizeof key);
  if (status == DFT_OK) {
    if (!share->writer) status = dft_rows_open(directory, &key, false, rows);
    status = share->fence(share->context, status);
  }
  if (status != DFT_OK) {
    dft_rows_close(rows);
    l->stores[set].there = 0;
  } else
    l->stores[set].fitting = key.count;
  return status;
}

/* Files for the stores that have no place; after the first that cannot be had, none. */
static dft_status open_files(dft_cache *c) {
  for (int i = 0; i < c->count && c->files; i++)
    for (int s = 0; s < DFT_SETS && c->files; s++) {
      if (rows_of(c, s) == 0 || c->levels[i].stores[s].fitting > 0) continue;
      dft_status status = open_file(c, i, s);
      c->files = status == DFT_OK;
      DFT_TRY(do_without(c, status, "cache.directory is left alone, rows are kept in memory"));
    }
  return DFT_OK;
}

static dft_status alloc_store(dft_cache *c, store *t, int64_t fitting, size_t row_bytes) {
  const dft_share *share = c->share;
  void *rows = NULL, *present = NULL;
  DFT_TRY(share->alloc(share->context, (size_t)fitting * row_bytes, &rows));
  dft_status status = share->alloc(share->context, (size_t)fitting, &present);
  if (status != DFT_OK) {
    share->free(share->context, rows);
    return status;
  }
  *t = (store){.fitting = fitting, .rows = rows, .present = present};
  c->budget_bytes -= fitting * (int64_t)row_bytes;
  return DFT_OK;
}

/* Memory for the stores that have no place, in proportion when not all fits. */
static dft_status alloc_memory(dft_cache *c) {
  double wanted = 0;
  for (int i = 0; i < c->count; i++)
    for (int s = 0; s < DFT_SETS; s++)
      if (c->levels[i].stores[s].fitting == 0)
        wanted += (double)rows_of(c, s) * (double)c->levels[i].row * sizeof(float);
  double part = wanted > 0 ? (double)c->budget_bytes / wanted : 0;
  for (int i = 0; i < c->count; i++)
    for (int s = 0; s < DFT_SETS; s++) {
      level *l = &c->levels[i];
      int64_t n = rows_of(c, s), fitting = part >= 1.0 ? n : (int64_t)(part * (double)n);
      if (l->stores[s].fitting > 0 || fitting == 0) continue;
      dft_status status = alloc_store(c, &l->stores[s], fitting, (size_t)l->row * sizeof(float));
      if (status == DFT_OK) continue;
      c->budget_bytes = 0; /* there is no more: do not ask again */
      return do_without(c, status, "what has no room is computed again each time");
    }
  return DFT_OK;
}

dft_status dft_cache_phase(dft_cache *c, int phase) {
  level old[DFT_CACHE_LEVELS];
  int old_count = c->count, firsts[DFT_CACHE_LEVELS];
  memcpy(old, c->levels, sizeof old);
  memset(c->levels, 0, sizeof c->levels);
  c->count = dft_cache_levels(c->starts, c->phases, phase, firsts);
  dft_status status = DFT_OK;
  for (int i = 0; i < c->count; i++) {
    level *l = &c->levels[i];
    l->first = firsts[i];
    l->row = dft_model_boundary(c->model, l->first);
    if (status == DFT_OK)
      status = dft_folded_new(c->model, c->ops, i == 0 ? 0 : firsts[i - 1], l->first,
                              c->config->compute.prefix, &l->net);
  }
  /* the last phase trained everything from its boundary on: rows behind that are no longer true */
  for (int i = 0; i < old_count; i++)
    if (old[i].first > c->trained_from) drop_stores(c, &old[i]);
  c->trained_from = c->starts[phase];
  take_over(c, old, old_count);
  status = c->share->fence(c->share->context, status);
  if (status == DFT_OK) status = open_files(c);
  return status == DFT_OK ? alloc_memory(c) : status;
}

/* A sample of a tile whose row is still wanted. */
typedef struct item {
  int64_t sample, view;
  int64_t number; /* of its row */
  dft_mix *mix;
  int place; /* in the caller's x */
} item;

typedef struct wanted {
  item items[TILE];
  int count;
} wanted;

static bool is_corrupt(const dft_cache *c, dft_set set, int64_t sample) {
  return c->corrupt[set] != NULL && __atomic_load_n(&c->corrupt[set][sample], __ATOMIC_RELAXED) != 0;
}

/* A sample that could not be read, once more: the message is per thread, and wanted on the one that returns.
 * Then it is left out, where that is what people want. */
static dft_status read_again(dft_cache *c, dft_set set, const item *it, float *out, unsigned char *bad) {
  dft_status status = dft_dataset_view(c->data[set], it->sample, it->view, it->mix, out);
  *bad = status != DFT_OK;
  if (status != DFT_EDATA || c->corrupt[set] == NULL || c->config->data.on_corrupt == DFT_CORRUPT_FAIL)
    return status;
  __atomic_store_n(&c->corrupt[set][it->sample], 1, __ATOMIC_RELAXED);
  c->named++;
  if (c->named <= MOST_NAMED) dft_warn("left out: %s", dft_error());
  if (c->named == MOST_NAMED) dft_warn("further samples that cannot be read are left out without a line");
  return DFT_OK;
}

/* Decodes in parallel. The error that is reported is that of the first failing sample in order. */
static dft_status decode(dft_cache *c, dft_set set, const wanted *w, float *out, unsigned char *bad) {
  int64_t elements = (int64_t)c->model->height * c->model->width * 3;
#pragma omp parallel for num_threads(dft_ops_threads()) schedule(static)
  for (int i = 0; i < w->count; i++) {
    const item *it = &w->items[i];
    bad[i] = is_corrupt(c, set, it->sample) ||
             dft_dataset_view(c->data[set], it->sample, it->view, it->mix, out + i * elements) != DFT_OK;
  }
  for (int i = 0; i < w->count; i++)
    if (bad[i] && !is_corrupt(c, set, w->items[i].sample))
      DFT_TRY(read_again(c, set, &w->items[i], out + i * elements, &bad[i]));
  return DFT_OK;
}

/* Copies a row out if it is there. */
static bool fetch(const level *l, dft_set set, int64_t number, float *row) {
  const store *t = &l->stores[set];
  if (number >= t->fitting) return false;
  if (t->file.data != NULL) return dft_rows_get(&t->file, number, row);
  if (__atomic_load_n(&t->present[number], __ATOMIC_ACQUIRE) == 0) return false;
  memcpy(row, t->rows + number * l->row, (size_t)l->row * sizeof *row);
  return true;
}

static void keep(level *l, dft_set set, int64_t number, const float *row) {
  store *t = &l->stores[set];
  if (number >= t->fitting) return;
  if (t->file.data != NULL) {
    dft_rows_put(&t->file, number, row);
    return;
  }
  memcpy(t->rows + number * l->row, row, (size_t)l->row * sizeof *row);
  __atomic_store_n(&t->present[number], 1, __ATOMIC_RELEASE);
}

/* Rows at level `from` (-1: images) lie in tile[0]: computes them up to the last level, keeping each on the
 * way. */
static void go_on(dft_cache *c, dft_set set, int from, const wanted *w, float *x) {
  int in = 0;
  for (int k = from + 1; k < c->count; k++, in = 1 - in) {
    level *l = &c->levels[k];
    dft_folded_run(l->net, c->tile[in], c->tile[1 - in], w->count);
    for (int i = 0; i < w->count; i++) keep(l, set, w->items[i].number, c->tile[1 - in] + i * l->row);
  }
  int64_t row = c->levels[c->count - 1].row;
  for (int i = 0; i < w->count; i++)
    memcpy(x + w->items[i].place * row, c->tile[in] + i * row, (size_t)row * sizeof(float));
}

/* Takes those that level `at` has out of `w`, into `has`, their rows into `rows` one after another. */
static void take(const dft_cache *c, int at, dft_set set, wanted *w, wanted *has, float *rows) {
  const level *l = &c->levels[at];
  int left = 0;
  has->count = 0;
  for (int i = 0; i < w->count; i++) {
    if (fetch(l, set, w->items[i].number, rows + has->count * l->row))
      has->items[has->count++] = w->items[i];
    else
      w->items[left++] = w->items[i];
  }
  w->count = left;
}

/* The images of `w` into tile[0], one after another; those that cannot be read leave it. */
static dft_status images(dft_cache *c, dft_set set, wanted *w, unsigned char *bad) {
  int64_t elements = (int64_t)c->model->height * c->model->width * 3;
  unsigned char failed[TILE];
  DFT_TRY(decode(c, set, w, c->tile[0], failed));
  int left = 0;
  for (int i = 0; i < w->count; i++) {
    bad[w->items[i].place] = failed[i];
    if (failed[i]) continue;
    if (left < i)
      memcpy(c->tile[0] + left * elements, c->tile[0] + i * elements, (size_t)elements * sizeof(float));
    w->items[left++] = w->items[i];
  }
  w->count = left;
  return DFT_OK;
}

/* A tile's samples, each from the deepest level that has it, the rest from their images. */
static dft_status rows_of_tile(dft_cache *c, dft_set set, wanted *w, float *x, unsigned char *bad) {
  const level *last = &c->levels[c->count - 1];
  wanted has;
  int left = 0;
  memset(bad, 0, (size_t)w->count);
  for (int i = 0; i < w->count; i++)
    if (!fetch(last, set, w->items[i].number, x + i * last->row)) w->items[left++] = w->items[i];
  c->stats.found += w->count - left;
  w->count = left;
  for (int at = c->count - 2; at >= 0 && w->count > 0; at--) {
    take(c, at, set, w, &has, c->tile[0]);
    if (has.count > 0) go_on(c, set, at, &has, x);
  }
  if (w->count == 0) return DFT_OK;
  DFT_TRY(images(c, set, w, bad));
  c->stats.decoded += w->count;
  go_on(c, set, -1, w, x);
  return DFT_OK;
}

dft_status dft_cache_rows(dft_cache *c, dft_set set, const int64_t *samples, int count, int64_t view,
                          dft_mix *mixes, float *x, unsigned char *bad) {
  bool at_image = c->count == 0; /* the phase starts there */
  int64_t row = at_image ? (int64_t)c->model->height * c->model->width * 3 : c->levels[c->count - 1].row;
  for (int first = 0; first < count; first += TILE) {
    wanted w = {.count = count - first < TILE ? count - first : TILE};
    for (int i = 0; i < w.count; i++) {
      int64_t sample = samples[first + i];
      w.items[i] = (item){.sample = sample,
                          .view = view,
                          .number = row_of(c, set, sample, view),
                          .mix = mixes != NULL ? &mixes[first + i] : NULL,
                          .place = i};
    }
    if (at_image) c->stats.decoded += w.count;
    DFT_TRY(at_image ? decode(c, set, &w, x + first * row, bad + first)
                     : rows_of_tile(c, set, &w, x + first * row, bad + first));
  }
  return DFT_OK;
}

dft_cache_report dft_cache_describe(const dft_cache *c) {
  dft_cache_report r = {0};
  for (int s = 0; s < DFT_SETS; s++) r.images += rows_of(c, s) > 0 ? rows_of(c, s) : samples_of(c, s);
  r.fitting = c->count > 0 ? r.images : 0;
  r.files = c->count > 0;
  for (int i = 0; i < c->count; i++) {
    const level *l = &c->levels[i];
    int64_t fitting = l->stores[DFT_SET_TRAIN].fitting + l->stores[DFT_SET_VALIDATION].fitting;
    if (fitting < r.fitting) r.fitting = fitting;
    r.bytes_per_image += l->row * (int64_t)sizeof(float);
    r.there = 0;
    for (int s = 0; s < DFT_SETS; s++) {
      const dft_rows *file = &l->stores[s].file;
      r.there += l->stores[s].there;
      r.files = r.files && (file->data != NULL || rows_of(c, s) == 0);
    }
  }
  return r;
}

dft_cache_stats dft_cache_take_stats(dft_cache *c) {
  dft_cache_stats s = c->stats;
  c->stats = (dft_cache_stats){0};
  return s;
}
