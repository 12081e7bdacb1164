#include "dft/cache.h"
#include "stores.h"
#include <stdlib.h>
#include <string.h>

/* Images decoded before the first net takes them: bounds memory to a few MB. A device wants more at a time.
 */
enum { TILE = 32, DEVICE_TILE = 256 };

static int64_t samples_of(const dft_cache *c, int set) {
  return c->images.data[set] != NULL ? dft_dataset_count(c->images.data[set]) : 0;
}

/* What this rank has for itself; NULL when out of memory. */
static dft_cache *new_cache(const dft_config *config, const dft_model *model, const dft_ops *ops,
                            const dft_share *share, const int *starts, int phases) {
  dft_cache *c = calloc(1, sizeof *c);
  if (c == NULL) return NULL;
  *c = (dft_cache){.config = config, .model = model, .ops = ops, .share = share, .phases = phases};
  c->budget_bytes = config->cache.mode == DFT_CACHE_OFF ? 0 : config->cache.memory_mb * 1000000;
  c->files = config->cache.mode != DFT_CACHE_OFF && config->cache.directory != NULL;
  int64_t widest = 1; /* row */
  for (int p = 0; p < phases; p++)
    if (starts[p] > 0 && dft_model_boundary(model, starts[p]) > widest)
      widest = dft_model_boundary(model, starts[p]);
  const int64_t image = (int64_t)model->height * model->width * 3;
  c->starts = malloc((size_t)phases * sizeof *c->starts);
  c->tile_samples = ops->device != NULL ? DEVICE_TILE : TILE;
  const int64_t floats[] = {image > widest ? image : widest, widest};
  for (int t = 0; t < 2; t++)
    c->tile[t] = dft_aligned_alloc((size_t)(c->tile_samples * floats[t]) * sizeof(float));
  if (c->starts == NULL || c->tile[0] == NULL || c->tile[1] == NULL) {
    dft_cache_close(c);
    return NULL;
  }
  memcpy(c->starts, starts, (size_t)phases * sizeof *starts);
  return c;
}

dft_status dft_cache_open(const dft_config *config, const dft_model *model, const dft_ops *ops,
                          const dft_share *share, const int *starts, int phases,
                          const dft_dataset *const data[DFT_SETS], dft_cache **cache) {
  *cache = NULL;
  dft_cache *c = new_cache(config, model, ops, share, starts, phases);
  dft_status status = c != NULL ? DFT_OK : dft_fail_memory("cache", sizeof *c);
  status = share->fence(share->context, status); /* what follows needs all ranks of the host */
  if (status == DFT_OK) status = dft_images_open(config, share, data, &c->images);
  if (status == DFT_OK)
    *cache = c;
  else
    dft_cache_close(c);
  return status;
}

void dft_cache_close(dft_cache *c) {
  if (c == NULL) return;
  for (int i = 0; i < c->count; i++) {
    dft_stores_drop(c, &c->levels[i]);
    dft_folded_free(c->levels[i].net);
  }
  dft_images_close(&c->images);
  free(c->tile[0]);
  free(c->tile[1]);
  free(c->starts);
  free(c);
}

dft_status dft_cache_phase(dft_cache *c, int phase) {
  dft_level old[DFT_CACHE_LEVELS];
  int old_count = c->count, firsts[DFT_CACHE_LEVELS];
  memcpy(old, c->levels, sizeof old);
  memset(c->levels, 0, sizeof c->levels);
  c->count = dft_cache_levels(c->starts, c->phases, phase, firsts);
  for (int i = 0; i < c->count; i++) {
    c->levels[i].first = firsts[i];
    c->levels[i].row = dft_model_boundary(c->model, firsts[i]);
  }
  /* the last phase trained everything from its boundary on: rows behind that are no longer true */
  for (int i = 0; i < old_count; i++)
    if (old[i].first > c->trained_from) dft_stores_drop(c, &old[i]);
  c->trained_from = c->starts[phase];
  dft_stores_take_over(c, old, old_count);
  DFT_TRY(dft_stores_open_files(c));
  return dft_stores_alloc(c);
}

typedef struct wanted {
  dft_item items[DEVICE_TILE];
  int count;
} wanted;

void dft_cache_use(dft_cache *c, dft_prefetch *ahead) {
  c->images.ahead = ahead;
}

void dft_cache_ahead(dft_cache *c, dft_set set, int64_t sample, int64_t view, const dft_mix *mix,
                     int64_t turn, bool later) {
  if (dft_images_corrupt(&c->images, set, sample)) return;
  if (dft_cache_rows_of(c, set) > 0 &&
      dft_cache_has_row(c, set, dft_dataset_row(c->images.data[set], sample, view), later))
    return;
  dft_prefetch_ask(c->images.ahead, turn, c->images.data[set], sample, view, mix);
}

bool dft_cache_has_all(const dft_cache *c, dft_set set) {
  int64_t n = dft_cache_rows_of(c, set);
  int views = dft_dataset_views(c->images.data[set]);
  for (int64_t i = n; i-- > 0;)
    if (!dft_cache_has_row(c, set, i, false) && !dft_images_corrupt(&c->images, set, i / views)) return false;
  return n > 0;
}

bool dft_cache_keeps_all(const dft_cache *c, dft_set set) {
  int64_t n = dft_cache_rows_of(c, set);
  return n > 0 && dft_cache_has_row(c, set, n - 1, true);
}

/* Makes the net that leads to level k, when the first row is computed: in a phase after the one that filled
 * the cache that is never. */
static dft_status need_net(dft_cache *c, int k) {
  dft_level *l = &c->levels[k];
  if (l->net != NULL) return DFT_OK;
  return dft_folded_new(c->model, c->ops, k == 0 ? 0 : c->levels[k - 1].first, l->first,
                        c->config->compute.prefix, &l->net);
}

/* Rows at level `from` (-1: images) lie in tile[0]: computes them up to the last level, keeping each on the
 * way. */
static dft_status go_on(dft_cache *c, dft_set set, int from, const wanted *w, float *x) {
  int in = 0;
  for (int k = from + 1; k < c->count; k++, in = 1 - in) {
    dft_level *l = &c->levels[k];
    DFT_TRY(need_net(c, k));
    DFT_TRY(dft_folded_run(l->net, c->tile[in], c->tile[1 - in], w->count));
    for (int i = 0; i < w->count; i++)
      dft_store_keep(l, set, w->items[i].number, c->tile[1 - in] + i * l->row);
  }
  int64_t row = c->levels[c->count - 1].row;
  for (int i = 0; i < w->count; i++)
    memcpy(x + w->items[i].place * row, c->tile[in] + i * row, (size_t)row * sizeof(float));
  return DFT_OK;
}

/* Takes those that level `at` has out of `w`, into `has`, their rows into `rows` one after another. */
static void take(const dft_cache *c, int at, dft_set set, wanted *w, wanted *has, float *rows) {
  const dft_level *l = &c->levels[at];
  int left = 0;
  has->count = 0;
  for (int i = 0; i < w->count; i++) {
    if (dft_store_fetch(l, set, w->items[i].number, rows + has->count * l->row))
      has->items[has->count++] = w->items[i];
    else
      w->items[left++] = w->items[i];
  }
  w->count = left;
}

/* The images of `w` into tile[0], one after another; those that cannot be read leave it. */
static dft_status images(dft_cache *c, dft_set set, wanted *w, unsigned char *bad) {
  int64_t elements = c->images.floats;
  unsigned char failed[DEVICE_TILE];
  DFT_TRY(dft_images_read(&c->images, set, w->items, w->count, c->tile[0], failed));
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
  const dft_level *last = &c->levels[c->count - 1];
  wanted has;
  int left = 0;
  memset(bad, 0, (size_t)w->count);
  for (int i = 0; i < w->count; i++)
    if (!dft_store_fetch(last, set, w->items[i].number, x + i * last->row)) w->items[left++] = w->items[i];
  c->stats.found += w->count - left;
  w->count = left;
  for (int at = c->count - 2; at >= 0 && w->count > 0; at--) {
    take(c, at, set, w, &has, c->tile[0]);
    if (has.count > 0) DFT_TRY(go_on(c, set, at, &has, x));
  }
  if (w->count == 0) return DFT_OK;
  DFT_TRY(images(c, set, w, bad));
  c->stats.decoded += w->count;
  return go_on(c, set, -1, w, x);
}

dft_status dft_cache_rows(dft_cache *c, dft_set set, const int64_t *samples, int count, int64_t view,
                          dft_mix *mixes, float *x, unsigned char *bad) {
  bool at_image = c->count == 0; /* the phase starts there */
  int64_t row = at_image ? (int64_t)c->model->height * c->model->width * 3 : c->levels[c->count - 1].row;
  for (int first = 0; first < count; first += c->tile_samples) {
    wanted w = {.count = count - first < c->tile_samples ? count - first : c->tile_samples};
    for (int i = 0; i < w.count; i++) {
      int64_t sample = samples[first + i];
      w.items[i] = (dft_item){.sample = sample,
                              .view = view,
                              .number = dft_dataset_row(c->images.data[set], sample, view),
                              .mix = mixes != NULL ? &mixes[first + i] : NULL,
                              .place = i};
    }
    DFT_TRY(at_image ? dft_images_read(&c->images, set, w.items, w.count, x + first * row, bad + first)
                     : rows_of_tile(c, set, &w, x + first * row, bad + first));
    for (int i = 0; at_image && i < w.count; i++) c->stats.decoded += !bad[first + i];
  }
  return DFT_OK;
}

dft_cache_report dft_cache_describe(const dft_cache *c) {
  dft_cache_report r = {0};
  for (int s = 0; s < DFT_SETS; s++)
    r.images += dft_cache_rows_of(c, s) > 0 ? dft_cache_rows_of(c, s) : samples_of(c, s);
  r.fitting = c->count > 0 ? r.images : 0;
  r.files = c->count > 0;
  for (int i = 0; i < c->count; i++) {
    const dft_level *l = &c->levels[i];
    int64_t fitting = l->stores[DFT_SET_TRAIN].fitting + l->stores[DFT_SET_VALIDATION].fitting;
    if (fitting < r.fitting) r.fitting = fitting;
    r.bytes_per_image += l->row * (int64_t)sizeof(float);
    r.there = 0;
    for (int s = 0; s < DFT_SETS; s++) {
      const dft_rows *file = &l->stores[s].file;
      r.there += l->stores[s].there;
      r.files = r.files && (file->data != NULL || dft_cache_rows_of(c, s) == 0);
    }
  }
  return r;
}

dft_cache_stats dft_cache_take_stats(dft_cache *c) {
  dft_cache_stats s = c->stats;
  s.waited_s = c->images.waited_s;
  c->stats = (dft_cache_stats){0};
  c->images.waited_s = 0;
  return s;
}
