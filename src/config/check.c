#include "keys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct checking {
  const dft_config *config;
  const char *file;
  const dft_node *root;
} checking;

#define REFUSE(c, path, ...) dft_fail_at((c)->file, dft_tree_line((c)->root, path), path ": " __VA_ARGS__)

/* A validation set is own data of the format, or a split: exactly one of them. */
static dft_status check_validation(const checking *c) {
  const dft_config_split *v = &c->config->data.validation;
  if (!v->present) {
    if (c->config->checkpoint.monitor == DFT_MONITOR_VAL_ACCURACY)
      return REFUSE(c, "checkpoint.monitor", "val_accuracy needs data.validation");
    return DFT_OK;
  }
  bool own = v->path != NULL || v->images != NULL || v->labels != NULL || v->samples > 0;
  if (own == (v->split > 0))
    return REFUSE(c, "data.validation", "%s",
                  own ? "give either data of its own or a split, not both (data.validation.split=0 for none)"
                      : "give data of its own, or split: a fraction of the training data; without validation "
                        "data.validation=null");
  if ((v->images != NULL) != (v->labels != NULL))
    return REFUSE(c, "data.validation", "%s is missing", v->images ? "labels" : "images");
  return DFT_OK;
}

static int compare_labels(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static int compare_texts(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Two equal elements of an array, or NULL; the array itself is not touched. */
static dft_status find_repeat(const void *values, int count, size_t size,
                              int (*compare)(const void *, const void *), const void **repeat,
                              void **sorted) {
  *repeat = NULL;
  *sorted = malloc((size_t)count * size);
  if (*sorted == NULL) return dft_fail_memory("config", (size_t)count * size);
  memcpy(*sorted, values, (size_t)count * size);
  qsort(*sorted, (size_t)count, size, compare);
  for (int i = 1; i < count && *repeat == NULL; i++) {
    const char *here = (const char *)*sorted + (size_t)i * size;
    if (compare(here - size, here) == 0) *repeat = here;
  }
  return DFT_OK;
}

static dft_status check_classes(const checking *c) {
  const dft_config *g = c->config;
  const void *repeat = NULL;
  void *sorted = NULL;
  dft_status status = DFT_OK;
  if (g->model.class_name_count > 0 && g->model.class_name_count != g->model.classes)
    return REFUSE(c, "model.class_names", "%d names for %d classes", g->model.class_name_count,
                  g->model.classes);
  if (g->data.classes_subset_count > 0 && g->data.classes_subset_count != g->model.classes)
    return REFUSE(c, "data.classes_subset", "%d labels for model.classes %d", g->data.classes_subset_count,
                  g->model.classes);
  if (g->data.classes_subset_count > 0) {
    DFT_TRY(find_repeat(g->data.classes_subset, g->model.classes, sizeof(int64_t), compare_labels, &repeat,
                        &sorted));
    if (repeat != NULL)
      status =
          REFUSE(c, "data.classes_subset", "label %lld is there twice", (long long)*(const int64_t *)repeat);
    free(sorted);
  }
  if (g->model.class_name_count > 0 && status == DFT_OK) {
    DFT_TRY(
        find_repeat(g->model.class_names, g->model.classes, sizeof(char *), compare_texts, &repeat, &sorted));
    if (repeat != NULL)
      status = REFUSE(c, "model.class_names", "'%s' is there twice", *(char *const *)repeat);
    free(sorted);
  }
  return status;
}

static bool is_on(const double range[2], double off) {
  return range[0] != off || range[1] != off;
}

bool dft_config_augments(const dft_config_augment *a) {
  return a->flip != DFT_FLIP_NONE || is_on(a->crop_scale, 1) || is_on(a->rotation, 0) || is_on(a->zoom, 0) ||
         is_on(a->translation, 0) || a->num_ops > 0 || is_on(a->brightness, 0) || is_on(a->contrast, 0) ||
         is_on(a->saturation, 0) || a->erasing > 0;
}

static dft_status check_augment(const checking *c) {
  const dft_config_augment *a = &c->config->data.augment;
  int views = c->config->cache.views;
  if (a->value_range[0] >= a->value_range[1])
    return REFUSE(c, "data.augment.value_range", "the two numbers of [low, high] are equal");
  if (views > 0 && (a->mixup > 0 || a->cutmix > 0))
    return REFUSE(c, "cache.views",
                  "does not go with data.augment.mixup and cutmix, whose images are new in every "
                  "epoch; leave out one of them");
  if (views > 0 && !dft_config_augments(a))
    return REFUSE(c, "cache.views", "needs something in data.augment to make views of");
  return DFT_OK;
}

static dft_status check_phase(const checking *c, int phase) {
  const dft_config_phase *p = &c->config->phases[phase];
  char path[DFT_KEY_PATH_BYTES];
  snprintf(path, sizeof path, "phases.%d", phase);
  int line = dft_tree_line(c->root, path);
  if ((p->unfreeze_last > 0) + (p->unfreeze_from != NULL) + (p->unfreeze_count > 0) > 1)
    return dft_fail_at(c->file, line, "%s: at most one of unfreeze_last, unfreeze_from and unfreeze", path);
  for (int i = 0; i < phase; i++)
    if (strcmp(c->config->phases[i].name, p->name) == 0)
      return dft_fail_at(c->file, line, "%s: phases.%d has the name '%.100s' too", path, i, p->name);
  return DFT_OK;
}

dft_status dft_config_check(const dft_config *config, const char *file, const dft_node *root) {
  checking c = {config, file, root};
  DFT_TRY(check_validation(&c));
  DFT_TRY(check_classes(&c));
  DFT_TRY(check_augment(&c));
  for (int i = 0; i < config->phase_count; i++) DFT_TRY(check_phase(&c, i));
  return DFT_OK;
}
