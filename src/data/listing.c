/* Folders and shards against the config: are these the classes it speaks of? */
#include "dataset.h"
#include "dft/file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEW_NAMES = 8 };

/* "ant, bee, cat, ... ": the first few. */
static const char *few_names(const dft_listing *l, char *text, size_t bytes) {
  size_t n = 0;
  text[0] = '\0';
  for (int64_t i = 0; i < l->class_count && i < FEW_NAMES && n < bytes; i++)
    n += (size_t)snprintf(text + n, bytes - n, "%s%.40s", i > 0 ? ", " : "", l->text + l->classes[i]);
  if (l->class_count > FEW_NAMES && n < bytes) snprintf(text + n, bytes - n, ", ...");
  return text;
}

/* Without a subset the data's classes are the model's. */
static dft_status check_class_count(const dft_config *config, const char *path, const dft_listing *l) {
  char names[512];
  bool folder = config->data.format == DFT_DATA_IMAGE_FOLDER;
  if (l->class_count == 0 || config->data.classes_subset_count > 0 || l->class_count == config->model.classes)
    return DFT_OK;
  if (l->class_count == 1)
    return dft_fail(DFT_EDATA,
                    "%s: only one class (%s), but model.classes is %d; name what holds all of them", path,
                    few_names(l, names, sizeof names), config->model.classes);
  return dft_fail(DFT_EDATA,
                  "%s: %lld %s (%s), but model.classes is %d; set it to %lld, or choose with "
                  "data.classes_subset",
                  path, (long long)l->class_count, folder ? "class folders" : "names in classes.txt",
                  few_names(l, names, sizeof names), config->model.classes, (long long)l->class_count);
}

/* Labels that are chosen must have names where there are names; without a subset all must be in the model. */
static dft_status check_labels(const dft_config *config, const char *path, const dft_listing *l) {
  int64_t classes = l->class_count > 0 ? l->class_count : DFT_MAX_CLASSES;
  if (config->data.classes_subset_count == 0) classes = config->model.classes;
  for (int i = 0; i < config->data.classes_subset_count; i++)
    if (config->data.classes_subset[i] >= classes)
      return dft_fail(DFT_EDATA, "%s: data.classes_subset has the label %lld, but there are %lld classes",
                      path, (long long)config->data.classes_subset[i], (long long)classes);
  for (int64_t i = 0; i < l->count; i++) {
    const dft_entry *e = &l->entries[i];
    if (e->label < classes) continue;
    return dft_fail(DFT_EDATA,
                    "%s: %s: the label %d is outside the %lld classes (0..%lld); set model.classes or "
                    "data.classes_subset",
                    e->shard >= 0 ? l->text + l->shards[e->shard] : path, l->text + e->name, e->label,
                    (long long)classes, (long long)classes - 1);
  }
  return DFT_OK;
}

/* model.class_names, where the order of the classes is not theirs already. */
static dft_status check_names(const dft_config *config, const char *path, const dft_listing *l) {
  const dft_config *c = config;
  if (c->model.class_names == NULL || l->class_count == 0) return DFT_OK;
  for (int i = 0; i < c->model.classes; i++) {
    int64_t at = c->data.classes_subset_count > 0 ? c->data.classes_subset[i] : i;
    const char *name = l->text + l->classes[at];
    if (strcmp(name, c->model.class_names[i]) != 0)
      return dft_fail(DFT_EDATA, "%s: class %d is '%s', but model.class_names says '%s'", path, i, name,
                      c->model.class_names[i]);
  }
  return DFT_OK;
}

/* Shards may have a list of names or none. */
static dft_status check_like(const char *path, const dft_listing *l, const dft_known_classes *like) {
  int classes = like != NULL ? like->count : 0;
  if (classes == 0 || l->class_count == 0) return DFT_OK;
  for (int i = 0; i < classes && i < l->class_count; i++) {
    const char *mine = l->text + l->classes[i], *theirs = like->names[i];
    if (strcmp(mine, theirs) != 0)
      return dft_fail(DFT_EDATA, "%s: class %d is '%s', but '%s' in %s", path, i, mine, theirs, like->from);
  }
  if (classes == l->class_count) return DFT_OK;
  return dft_fail(DFT_EDATA, "%s: %lld classes, but %d in %s", path, (long long)l->class_count, classes,
                  like->from);
}

/* Folders are classes: what a run writes among them would be classes the next time. */
static dft_status check_outputs(const dft_config *config, const char *path) {
  const struct {
    const char *key, *directory;
  } outputs[] = {{"run_dir", config->run_dir},
                 {"cache.directory", config->cache.directory},
                 {"data.decoded_cache", config->data.decoded_cache}};
  for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++)
    if (outputs[i].directory != NULL && dft_is_inside(outputs[i].directory, path))
      return dft_fail(DFT_EUSAGE, "%s: %s is inside %s, whose folders are classes; name one outside",
                      outputs[i].key, outputs[i].directory, path);
  return DFT_OK;
}

static dft_status list(const dft_config *config, const char *path, const dft_known_classes *like,
                       const dft_share *share, dft_listing *l) {
  if (config->data.format == DFT_DATA_TAR) {
    DFT_TRY(dft_list_shards(path, share, l));
    return check_like(path, l, like);
  }
  DFT_TRY(check_outputs(config, path));
  if (like != NULL) return dft_list_folder(path, like->names, like->count, like->from, share, l);
  if (config->model.class_names != NULL && config->data.classes_subset_count == 0)
    return dft_list_folder(path, (const char *const *)config->model.class_names, config->model.classes,
                           "model.class_names", share, l);
  return dft_list_folder(path, NULL, 0, NULL, share, l);
}

static dft_status list_and_check(const dft_config *config, const char *path, const dft_known_classes *like,
                                 const dft_share *share, dft_listing *l) {
  dft_status status = list(config, path, like, share, l);
  if (status == DFT_OK) status = check_class_count(config, path, l);
  if (status == DFT_OK) status = check_labels(config, path, l);
  if (status == DFT_OK) status = check_names(config, path, l);
  if (status != DFT_OK) dft_listing_free(l);
  return status;
}

dft_status dft_listed_open(const dft_config *config, const char *path, const dft_known_classes *like,
                           const dft_share *share, dft_manifest **manifest, int64_t **labels) {
  dft_listing l = {0};
  *manifest = NULL;
  *labels = NULL;
  DFT_TRY(
      share->fence(share->context, share->writer ? list_and_check(config, path, like, share, &l) : DFT_OK));
  dft_status status = dft_manifest_share(&l, share, manifest);
  dft_listing_free(&l);
  if (status != DFT_OK) return status;
  int64_t count = dft_manifest_count(*manifest);
  *labels = malloc(((size_t)count + 1) * sizeof **labels);
  DFT_TRY(
      share->fence(share->context, *labels == NULL ? dft_fail_memory("labels", (size_t)count * 8) : DFT_OK));
  for (int64_t i = 0; i < count; i++) (*labels)[i] = dft_manifest_entry(*manifest, i)->label;
  return DFT_OK;
}

dft_status dft_listed_names(const dft_config *config, const dft_manifest *m, const char ***names) {
  const char *const *all = dft_manifest_class_names(m);
  int chosen = config->data.classes_subset_count;
  *names = NULL;
  if (all == NULL) return DFT_OK;
  *names = calloc((size_t)config->model.classes, sizeof **names);
  if (*names == NULL) return dft_fail_memory("class names", 0);
  for (int i = 0; i < config->model.classes; i++)
    (*names)[i] = all[chosen > 0 ? config->data.classes_subset[i] : i];
  return DFT_OK;
}

dft_status dft_listed_sizes(const dft_config *config, const dft_manifest *m, const dft_selection *s) {
  char name[2 * DFT_PATH_BYTES];
  if (config->data.on_corrupt != DFT_CORRUPT_FAIL) return DFT_OK;
  for (int64_t i = 0; i < s->count; i++) {
    if (dft_manifest_entry(m, s->origin[i])->bytes != 0) continue;
    dft_manifest_name(m, s->origin[i], true, name, sizeof name);
    return dft_fail(DFT_EDATA, "%s: zero bytes (data.on_corrupt: fail)", name);
  }
  return DFT_OK;
}
