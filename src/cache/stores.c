#include "stores.h"
#include "dft/log.h"
#include <string.h>

int64_t dft_cache_rows_of(const dft_cache *c, int set) {
  return c->images.data[set] != NULL
             ? dft_dataset_count(c->images.data[set]) * dft_dataset_views(c->images.data[set])
             : 0;
}

void dft_stores_drop(dft_cache *c, dft_level *l) {
  for (int s = 0; s < DFT_SETS; s++) {
    dft_store *t = &l->stores[s];
    if (t->rows != NULL) {
      c->budget_bytes += t->fitting * l->row * (int64_t)sizeof(float);
      c->share->free(c->share->context, t->rows);
      c->share->free(c->share->context, t->present);
    }
    dft_rows_close(&t->file);
    *t = (dft_store){0};
  }
}

void dft_stores_take_over(dft_cache *c, dft_level *old, int old_count) {
  for (int i = 0; i < old_count; i++) {
    dft_level *now = NULL;
    for (int k = 0; k < c->count; k++)
      if (c->levels[k].first == old[i].first) now = &c->levels[k];
    dft_folded_free(old[i].net);
    if (now == NULL) {
      dft_stores_drop(c, &old[i]);
      continue;
    }
    memcpy(now->stores, old[i].stores, sizeof now->stores);
    for (int s = 0; s < DFT_SETS; s++) {
      dft_store *t = &now->stores[s];
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
  dft_level *l = &c->levels[at];
  const dft_share *share = c->share;
  const char *directory = c->config->cache.directory;
  int firsts[DFT_CACHE_LEVELS];
  for (int i = 0; i <= at; i++) firsts[i] = c->levels[i].first;
  dft_rows_key key = {0};
  dft_rows *rows = &l->stores[set].file;
  dft_status status = DFT_OK;
  if (share->writer) {
    status = dft_rows_prepare(directory);
    if (status == DFT_OK && !c->asked[set]) {
      c->contents[set] = dft_dataset_contents(c->images.data[set], share);
      c->asked[set] = true;
    }
    key = dft_rows_key_of(c->config, c->model, c->ops, firsts, at, c->contents[set],
                          dft_cache_rows_of(c, set), dft_dataset_augments(c->images.data[set]));
    if (status == DFT_OK) status = dft_rows_open(directory, &key, true, rows);
    if (status == DFT_OK) l->stores[set].there = dft_rows_there(rows);
  }
  status = share->fence(share->context, status);
  if (status == DFT_OK) status = share->broadcast(share->context, &key, sizeof key);
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

dft_status dft_stores_open_files(dft_cache *c) {
  for (int i = 0; i < c->count && c->files; i++)
    for (int s = 0; s < DFT_SETS && c->files; s++) {
      if (dft_cache_rows_of(c, s) == 0 || c->levels[i].stores[s].fitting > 0) continue;
      dft_status status = open_file(c, i, s);
      c->files = status == DFT_OK;
      DFT_TRY(do_without(c, status, "cache.directory is left alone, rows are kept in memory"));
    }
  return DFT_OK;
}

static dft_status alloc_store(dft_cache *c, dft_store *t, int64_t fitting, size_t row_bytes) {
  const dft_share *share = c->share;
  void *rows = NULL, *present = NULL;
  DFT_TRY(share->alloc(share->context, (size_t)fitting * row_bytes, &rows));
  dft_status status = share->alloc(share->context, (size_t)fitting, &present);
  if (status != DFT_OK) {
    share->free(share->context, rows);
    return status;
  }
  *t = (dft_store){.fitting = fitting, .rows = rows, .present = present};
  c->budget_bytes -= fitting * (int64_t)row_bytes;
  return DFT_OK;
}

dft_status dft_stores_alloc(dft_cache *c) {
  double wanted = 0;
  for (int i = 0; i < c->count; i++)
    for (int s = 0; s < DFT_SETS; s++)
      if (c->levels[i].stores[s].fitting == 0)
        wanted += (double)dft_cache_rows_of(c, s) * (double)c->levels[i].row * sizeof(float);
  double part = wanted > 0 ? (double)c->budget_bytes / wanted : 0;
  for (int i = 0; i < c->count; i++)
    for (int s = 0; s < DFT_SETS; s++) {
      dft_level *l = &c->levels[i];
      int64_t n = dft_cache_rows_of(c, s), fitting = part >= 1.0 ? n : (int64_t)(part * (double)n);
      if (l->stores[s].fitting > 0 || fitting == 0) continue;
      dft_status status = alloc_store(c, &l->stores[s], fitting, (size_t)l->row * sizeof(float));
      if (status == DFT_OK) continue;
      c->budget_bytes = 0; /* there is no more: do not ask again */
      return do_without(c, status, "what has no room is computed again each time");
    }
  return DFT_OK;
}

bool dft_store_has(const dft_store *t, int64_t number) {
  if (number >= t->fitting) return false;
  return t->file.data != NULL ? dft_rows_has(&t->file, number)
                              : __atomic_load_n(&t->present[number], __ATOMIC_RELAXED) != 0;
}

bool dft_cache_has_row(const dft_cache *c, dft_set set, int64_t number, bool or_place) {
  for (int i = c->count - 1; i >= 0; i--) {
    const dft_store *t = &c->levels[i].stores[set];
    if (or_place ? number < t->fitting : dft_store_has(t, number)) return true;
  }
  return false;
}

bool dft_store_fetch(const dft_level *l, dft_set set, int64_t number, float *row) {
  const dft_store *t = &l->stores[set];
  if (number >= t->fitting) return false;
  if (t->file.data != NULL) return dft_rows_get(&t->file, number, row);
  if (__atomic_load_n(&t->present[number], __ATOMIC_ACQUIRE) == 0) return false;
  memcpy(row, t->rows + number * l->row, (size_t)l->row * sizeof *row);
  return true;
}

void dft_store_keep(dft_level *l, dft_set set, int64_t number, const float *row) {
  dft_store *t = &l->stores[set];
  if (number >= t->fitting) return;
  if (t->file.data != NULL) {
    dft_rows_put(&t->file, number, row);
    return;
  }
  memcpy(t->rows + number * l->row, row, (size_t)l->row * sizeof *row);
  __atomic_store_n(&t->present[number], 1, __ATOMIC_RELEASE);
}
