#include "dft/rng.h"
#include "source.h"
#include <math.h>
#include <stdlib.h>

static dft_status reserve(dft_selection *s, int64_t count) {
  *s = (dft_selection){.origin = calloc((size_t)count + 1, sizeof *s->origin),
                       .label = calloc((size_t)count + 1, sizeof *s->label)};
  if (s->origin != NULL && s->label != NULL) return DFT_OK;
  dft_selection_free(s);
  return dft_fail_memory("selected samples", (unsigned long long)count * 12);
}

void dft_selection_free(dft_selection *s) {
  free(s->origin);
  free(s->label);
  *s = (dft_selection){0};
}

static void add(dft_selection *s, int64_t origin, int32_t label) {
  s->origin[s->count] = origin;
  s->label[s->count++] = label;
}

/* classes_subset by label: what is kept, and its new number. */
typedef struct kept {
  int64_t label;
  int32_t number;
} kept;

static int compare_kept(const void *a, const void *b) {
  const int64_t x = ((const kept *)a)->label, y = ((const kept *)b)->label;
  return (x > y) - (x < y);
}

/* -1: not kept. */
static int32_t renumber(const kept *table, int count, int64_t label) {
  const kept *found = bsearch(&(kept){.label = label}, table, (size_t)count, sizeof *table, compare_kept);
  return found != NULL ? found->number : -1;
}

static dft_status sort_subset(const dft_config *config, kept **table) {
  int n = config->data.classes_subset_count;
  *table = NULL;
  if (n > config->model.classes)
    return dft_fail(DFT_EUSAGE, "data.classes_subset names %d classes, more than model.classes (%d)", n,
                    config->model.classes);
  kept *t = malloc(((size_t)n + 1) * sizeof *t);
  if (t == NULL) return dft_fail_memory("data.classes_subset", (unsigned long long)n * sizeof *t);
  for (int c = 0; c < n; c++) t[c] = (kept){config->data.classes_subset[c], c};
  qsort(t, (size_t)n, sizeof *t, compare_kept);
  for (int c = 1; c < n; c++)
    if (t[c].label == t[c - 1].label) {
      dft_status status =
          dft_fail(DFT_EUSAGE, "data.classes_subset names the label %lld twice", (long long)t[c].label);
      free(t);
      return status;
    }
  *table = t;
  return DFT_OK;
}

static int64_t *count_classes(const dft_selection *s, int classes) {
  int64_t *counts = calloc((size_t)classes + 1, sizeof *counts);
  if (counts == NULL) return NULL;
  for (int64_t i = 0; i < s->count; i++) counts[s->label[i]]++;
  return counts;
}

static dft_status check_every_class(const dft_config *config, const char *where, const dft_selection *s) {
  int64_t *counts = count_classes(s, config->model.classes);
  if (counts == NULL) return dft_fail_memory("class counts", (unsigned long long)config->model.classes * 8);
  dft_status status = DFT_OK;
  for (int c = 0; c < config->data.classes_subset_count && status == DFT_OK; c++)
    if (counts[c] == 0)
      status = dft_fail(DFT_EDATA, "%s: no sample has the label %lld of data.classes_subset", where,
                        (long long)config->data.classes_subset[c]);
  free(counts);
  return status;
}

dft_status dft_select_classes(const dft_config *config, const char *where, const int64_t *labels,
                              int64_t count, bool every_class, dft_selection *s) {
  bool subset = config->data.classes_subset_count > 0;
  *s = (dft_selection){0};
  kept *table;
  DFT_TRY(sort_subset(config, &table));
  dft_status status = reserve(s, count);
  if (status != DFT_OK) {
    free(table);
    return status;
  }
  for (int64_t i = 0; i < count && status == DFT_OK; i++) {
    if (!subset && (labels[i] < 0 || labels[i] >= config->model.classes))
      status = dft_fail(DFT_EDATA,
                        "%s: label %lld at position %lld is outside the %d classes (0..%d); set "
                        "model.classes or data.classes_subset",
                        where, (long long)labels[i], (long long)i, config->model.classes,
                        config->model.classes - 1);
    int32_t label =
        subset ? renumber(table, config->data.classes_subset_count, labels[i]) : (int32_t)labels[i];
    if (status == DFT_OK && label >= 0) add(s, i, label);
  }
  free(table);
  if (status == DFT_OK && subset && every_class) status = check_every_class(config, where, s);
  if (status != DFT_OK) dft_selection_free(s);
  return status;
}

/* Chooses wanted[c] samples of each class by a keyed permutation of the class' members, and marks them. The
 * first k of a permutation are among its first k+1, so a larger limit keeps what a smaller one chose. */
static dft_status choose(uint64_t seed, dft_stream stream, int classes, const int64_t *wanted,
                         const dft_selection *s, bool *chosen) {
  int64_t *counts = count_classes(s, classes);
  int64_t *start = calloc((size_t)classes + 1, sizeof *start);
  int64_t *members = calloc((size_t)s->count + 1, sizeof *members); /* grouped by class, in order */
  dft_status status = DFT_OK;
  if (counts == NULL || start == NULL || members == NULL) {
    status = dft_fail_memory("samples by class", (unsigned long long)s->count * sizeof *members);
    goto done;
  }
  for (int c = 0; c < classes; c++) start[c + 1] = start[c] + counts[c];
  for (int64_t i = s->count; i-- > 0;) members[start[s->label[i]] + --counts[s->label[i]]] = i;
  for (int c = 0; c < classes; c++) {
    int64_t n = start[c + 1] - start[c];
    for (int64_t k = 0; k < wanted[c] && k < n; k++)
      chosen[members[start[c] +
                     (int64_t)dft_rng_permute(seed, stream, (uint32_t)c, (uint64_t)n, (uint64_t)k)]] = true;
  }
done:
  free(counts);
  free(start);
  free(members);
  return status;
}

static void keep(dft_selection *s, const bool *chosen, bool which) {
  int64_t n = s->count;
  s->count = 0;
  for (int64_t i = 0; i < n; i++)
    if (chosen[i] == which) add(s, s->origin[i], s->label[i]);
}

dft_status dft_select_split(uint64_t seed, int classes, double fraction, dft_selection *train,
                            dft_selection *validation) {
  *validation = (dft_selection){0};
  int64_t *wanted = count_classes(train, classes);
  bool *chosen = calloc((size_t)train->count + 1, sizeof *chosen);
  dft_status status = DFT_OK;
  if (wanted == NULL || chosen == NULL) {
    status = dft_fail_memory("split", (unsigned long long)train->count);
    goto done;
  }
  for (int c = 0; c < classes; c++) {
    int64_t n = wanted[c];
    wanted[c] = (int64_t)floor((double)n * fraction + 0.5);
    if (n >= 2 && wanted[c] >= n) wanted[c] = n - 1;
  }
  DFT_TRY_TO(status, choose(seed, DFT_STREAM_SPLIT, classes, wanted, train, chosen), done);
  DFT_TRY_TO(status, reserve(validation, train->count), done);
  for (int64_t i = 0; i < train->count; i++)
    if (chosen[i]) add(validation, train->origin[i], train->label[i]);
  keep(train, chosen, false);
done:
  free(wanted);
  free(chosen);
  return status;
}

dft_status dft_select_limits(uint64_t seed, int classes, int64_t per_class, int64_t limit, dft_selection *s) {
  bool *chosen = calloc((size_t)s->count + 1, sizeof *chosen);
  int64_t *wanted = calloc((size_t)classes + 1, sizeof *wanted);
  dft_status status = DFT_OK;
  if (chosen == NULL || wanted == NULL) {
    status = dft_fail_memory("limits", (unsigned long long)s->count);
    goto done;
  }
  if (per_class > 0) {
    for (int c = 0; c < classes; c++) wanted[c] = per_class;
    DFT_TRY_TO(status, choose(seed, DFT_STREAM_LIMIT, classes, wanted, s, chosen), done);
    keep(s, chosen, true);
  }
  if (limit > 0 && limit < s->count) {
    uint64_t n = (uint64_t)s->count;
    for (uint64_t i = 0; i < n; i++) chosen[i] = false;
    for (uint64_t k = 0; k < (uint64_t)limit; k++) /* no class has the number of this sub key */
      chosen[dft_rng_permute(seed, DFT_STREAM_LIMIT, UINT32_MAX, n, k)] = true;
    keep(s, chosen, true);
  }
done:
  free(chosen);
  free(wanted);
  return status;
}
