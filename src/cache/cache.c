#include "dft/cache.h"
#include <stdlib.h>
#include <string.h>

enum { TILE = 32 }; /* images decoded before the first net takes them: bounds memory to a few MB */

/* Rows of one set at one boundary; sample s < fitting has rows[s] when present[s]. */
typedef struct store {
  int64_t fitting;
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
  int trained_from;     /* the boundary of the phase under way */
  int64_t budget_bytes; /* left */
  level levels[DFT_CACHE_LEVELS];
  int count;
  float *tile[2]; /* images or rows of a tile, in turn */
  dft_cache_stats stats;
};

static int64_t samples_of(const dft_cache *c, int set) {
  return c->data[set] != NULL ? dft_dataset_count(c->data[set]) : 0;
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
  *cache = c;
  return DFT_OK;
}

static void drop_stores(dft_cache *c, level *l) {
  for (int s = 0; s < DFT_SETS; s++) {
    store *t = &l->stores[s];
    if (t->rows == NULL) continue;
    c->budget_bytes += t->fitting * l->row * (int64_t)sizeof(float);
    c->share->free(c->share->context, t->rows);
    c->share->free(c->share->context, t->present);
    *t = (store){0};
  }
}

void dft_cache_close(dft_cache *c) {
  if (c == NULL) return;
  for (int i = 0; i < c->count; i++) {
    drop_stores(c, &c->levels[i]);
    dft_folded_free(c->levels[i].net);
  }
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
    if (now != NULL)
      memcpy(now->stores, old[i].stores, sizeof now->stores);
    else
      drop_stores(c, &old[i]);
  }
}

/* Room for the levels that have none, in proportion when not all fits. Collective on the host. */
static dft_status make_room(dft_cache *c) {
  int64_t per_image = 0, images = samples_of(c, DFT_SET_TRAIN) + samples_of(c, DFT_SET_VALIDATION);
  for (int i = 0; i < c->count; i++)
    if (c->levels[i].stores[DFT_SET_TRAIN].rows == NULL)
      per_image += c->levels[i].row * (int64_t)sizeof(float);
  if (per_image == 0 || images == 0) return DFT_OK;
  double share = (double)c->budget_bytes / ((double)per_image * (double)images);
  for (int i = 0; i < c->count; i++) {
    level *l = &c->levels[i];
    if (l->stores[DFT_SET_TRAIN].rows != NULL) continue;
    for (int s = 0; s < DFT_SETS; s++) {
      int64_t n = samples_of(c, s), fitting = share >= 1.0 ? n : (int64_t)(share * (double)n);
      if (fitting == 0) continue;
      size_t bytes = (size_t)fitting * (size_t)l->row * sizeof(float);
      DFT_TRY(c->share->alloc(c->share->context, bytes, (void **)&l->stores[s].rows));
      DFT_TRY(c->share->alloc(c->share->context, (size_t)fitting, (void **)&l->stores[s].present));
      l->stores[s].fitting = fitting;
      c->budget_bytes -= (int64_t)bytes;
    }
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
      status = dft_folded_new(c->model, c->ops, i == 0 ? 0 : firsts[i - 1], l->first, &l->net);
  }
  /* the last phase trained everything from its boundary on: rows behind that are no longer true */
  for (int i = 0; i < old_count; i++)
    if (old[i].first > c->trained_from) drop_stores(c, &old[i]);
  c->trained_from = c->starts[phase];
  take_over(c, old, old_count);
  status = c->share->fence(c->share->context, status);
  return status == DFT_OK ? make_room(c) : status;
}

/* Decodes in parallel. The error that is reported is that of the first failing sample in order. */
static dft_status decode(const dft_dataset *data, const int64_t *samples, int count, int64_t elements,
                         float *out) {
  int failed = count;
#pragma omp parallel for num_threads(dft_ops_threads()) schedule(static) reduction(min : failed)
  for (int i = 0; i < count; i++)
    if (dft_dataset_image(data, samples[i], out + i * elements) != DFT_OK && i < failed) failed = i;
  /* the message is per thread: read the sample again here, on the thread that returns */
  return failed < count ? dft_dataset_image(data, samples[failed], out + failed * elements) : DFT_OK;
}

static bool present(const level *l, dft_set set, int64_t sample) {
  const store *t = &l->stores[set];
  return sample < t->fitting && __atomic_load_n(&t->present[sample], __ATOMIC_ACQUIRE) != 0;
}

static void keep(level *l, dft_set set, int64_t sample, const float *row) {
  store *t = &l->stores[set];
  if (sample >= t->fitting) return;
  memcpy(t->rows + sample * l->row, row, (size_t)l->row * sizeof *row);
  __atomic_store_n(&t->present[sample], 1, __ATOMIC_RELEASE);
}

/* The deepest level that has the sample, or -1: only the image is there. */
static int deepest(const dft_cache *c, dft_set set, int64_t sample) {
  for (int i = c->count - 1; i >= 0; i--)
    if (present(&c->levels[i], set, sample)) return i;
  return -1;
}

/* Rows of a tile of samples whose deepest level is `from`, computed up to the last level, into out[order[i]].
 */
static dft_status compute(dft_cache *c, dft_set set, int from, const int64_t *samples, const int *order,
                          int count, float *out) {
  int in = 0;
  if (from < 0) {
    DFT_TRY(
        decode(c->data[set], samples, count, (int64_t)c->model->height * c->model->width * 3, c->tile[0]));
    c->stats.decoded += count;
  } else {
    const level *l = &c->levels[from];
    for (int i = 0; i < count; i++)
      memcpy(c->tile[0] + i * l->row, l->stores[set].rows + samples[i] * l->row,
             (size_t)l->row * sizeof(float));
  }
  for (int k = from + 1; k < c->count; k++, in = 1 - in) {
    level *l = &c->levels[k];
    dft_folded_run(l->net, c->tile[in], c->tile[1 - in], count);
    for (int i = 0; i < count; i++) keep(l, set, samples[i], c->tile[1 - in] + i * l->row);
  }
  int64_t row = c->levels[c->count - 1].row;
  for (int i = 0; i < count; i++)
    memcpy(out + order[i] * row, c->tile[in] + i * row, (size_t)row * sizeof(float));
  return DFT_OK;
}

/* A tile's samples, by the level each starts from. The levels are looked up once: they fill up meanwhile. */
static dft_status rows_of_tile(dft_cache *c, dft_set set, const int64_t *samples, int count, float *x) {
  const level *last = &c->levels[c->count - 1];
  int from[TILE];
  for (int i = 0; i < count; i++) {
    from[i] = deepest(c, set, samples[i]);
    if (from[i] < c->count - 1) continue;
    memcpy(x + i * last->row, last->stores[set].rows + samples[i] * last->row,
           (size_t)last->row * sizeof(float));
    c->stats.found++;
  }
  for (int start = -1; start < c->count - 1; start++) {
    int64_t some[TILE];
    int order[TILE], n = 0;
    for (int i = 0; i < count; i++) {
      if (from[i] != start) continue;
      some[n] = samples[i];
      order[n++] = i;
    }
    if (n > 0) DFT_TRY(compute(c, set, start, some, order, n, x));
  }
  return DFT_OK;
}

dft_status dft_cache_rows(dft_cache *c, dft_set set, const int64_t *samples, int count, float *x) {
  if (c->count == 0) { /* the phase starts at the image */
    c->stats.decoded += count;
    return decode(c->data[set], samples, count, (int64_t)c->model->height * c->model->width * 3, x);
  }
  int64_t row = c->levels[c->count - 1].row;
  for (int first = 0; first < count; first += TILE)
    DFT_TRY(
        rows_of_tile(c, set, samples + first, count - first < TILE ? count - first : TILE, x + first * row));
  return DFT_OK;
}

dft_cache_report dft_cache_describe(const dft_cache *c) {
  dft_cache_report r = {.images = samples_of(c, DFT_SET_TRAIN) + samples_of(c, DFT_SET_VALIDATION)};
  r.fitting = c->count > 0 ? r.images : 0;
  for (int i = 0; i < c->count; i++) {
    const level *l = &c->levels[i];
    int64_t fitting = l->stores[DFT_SET_TRAIN].fitting + l->stores[DFT_SET_VALIDATION].fitting;
    if (fitting < r.fitting) r.fitting = fitting;
    r.bytes_per_image += l->row * (int64_t)sizeof(float);
  }
  return r;
}

dft_cache_stats dft_cache_take_stats(dft_cache *c) {
  dft_cache_stats s = c->stats;
  c->stats = (dft_cache_stats){0};
  return s;
}
