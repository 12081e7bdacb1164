/* Opening: the host's writer reads labels and headers, or lists files, and tells the others; then every rank
 * selects alike. */
#include "dataset.h"
#include <stdlib.h>
#include <string.h>

typedef struct source {
  const char *where; /* names the labels in messages */
  int64_t count;
  int64_t *labels;
  dft_image_file file;    /* idx, npy */
  dft_manifest *manifest; /* image_folder, tar */
  uint32_t part;
} source;

static int64_t random_classes(const dft_config *config) {
  int64_t classes = config->model.classes;
  for (int i = 0; i < config->data.classes_subset_count; i++)
    if (config->data.classes_subset[i] >= classes) classes = config->data.classes_subset[i] + 1;
  return classes;
}

static dft_status draw_labels(const dft_config *config, source *s) {
  s->labels = calloc((size_t)s->count + 1, sizeof *s->labels);
  if (s->labels == NULL) return dft_fail_memory("labels", (unsigned long long)s->count * sizeof *s->labels);
  int64_t classes = random_classes(config);
  for (int64_t i = 0; i < s->count; i++)
    s->labels[i] = dft_random_label((uint64_t)config->seed, s->part, i, classes);
  return DFT_OK;
}

static dft_status read_files(const dft_config *config, const dft_config_split *split, source *s) {
  DFT_TRY(dft_image_file_open(split->images, config->data.format, &s->file));
  int64_t columns = 0;
  DFT_TRY(dft_labels_read(split->labels, config->data.format, &s->labels, &s->count, &columns));
  if (columns > 0 && columns != config->model.classes && config->data.classes_subset_count == 0)
    return dft_fail(DFT_EDATA, "%s: one-hot labels of %lld classes, but model.classes is %d", split->labels,
                    (long long)columns, config->model.classes);
  if (s->file.count != s->count)
    return dft_fail(DFT_EDATA, "%s: %lld images, but %s has %lld labels", split->images,
                    (long long)s->file.count, split->labels, (long long)s->count);
  return DFT_OK;
}

/* Collective: the writer's source reaches the host's other ranks. */
static dft_status tell_source(source *s, const dft_share *share) {
  DFT_TRY(share->broadcast(share->context, &s->count, sizeof s->count));
  DFT_TRY(share->broadcast(share->context, &s->file, sizeof s->file));
  size_t bytes = (size_t)s->count * sizeof *s->labels;
  dft_status status = DFT_OK;
  if (s->labels == NULL) {
    s->labels = malloc(bytes + 1);
    if (s->labels == NULL) status = dft_fail_memory("labels", bytes);
  }
  DFT_TRY(share->fence(share->context, status));
  return bytes == 0 ? DFT_OK : share->broadcast(share->context, s->labels, bytes);
}

static void close_source(source *s) {
  dft_manifest_unref(s->manifest); /* the datasets hold it */
  free(s->labels);
}

/* Collective. `like`: classes that it must have, or NULL. */
static dft_status open_source(const dft_config *config, const dft_config_split *split, uint32_t part,
                              const dft_known_classes *like, const dft_share *share, source *s) {
  const char *key = part == 0 ? "train" : "validation";
  *s = (source){.part = part};
  if (config->data.format == DFT_DATA_RANDOM) {
    s->where = "random";
    s->count = split->samples;
    if (s->count < 1) return dft_fail(DFT_EUSAGE, "data.%s.samples must be at least 1", key);
    return share->fence(share->context, draw_labels(config, s));
  }
  if (config->data.format == DFT_DATA_IMAGE_FOLDER || config->data.format == DFT_DATA_TAR) {
    s->where = split->path;
    if (split->path == NULL) return dft_fail(DFT_EUSAGE, "data.%s.path is not set", key);
    DFT_TRY(dft_listed_open(config, split->path, like, share, &s->manifest, &s->labels));
    s->count = dft_manifest_count(s->manifest);
    return DFT_OK;
  }
  if (split->images == NULL || split->labels == NULL)
    return dft_fail(DFT_EUSAGE, "data.%s.%s is not set", key, split->images == NULL ? "images" : "labels");
  s->where = split->labels;
  DFT_TRY(share->fence(share->context, share->writer ? read_files(config, split, s) : DFT_OK));
  return tell_source(s, share);
}

static dft_status fail_empty(const char *where, const char *key) {
  return dft_fail(DFT_EDATA, "%s: data.%s selects no samples", where, key);
}

/* A dataset of a selection, which it takes over. Without pixels and manifest: random. */
static dft_status make_dataset(const dft_config *config, uint32_t part, dft_selection *selection,
                               dft_pixels *pixels, dft_manifest *manifest, dft_dataset **dataset) {
  dft_dataset *d = calloc(1, sizeof *d);
  *dataset = NULL;
  if (d == NULL) return dft_fail_memory("dataset", sizeof *d);
  d->seed = (uint64_t)config->seed;
  d->part = part;
  d->resize = config->data.resize;
  d->loader = (dft_loader){.height = config->model.height,
                           .width = config->model.width,
                           .channels = 3,
                           .type = DFT_TYPE_F32,
                           .out_height = config->model.height,
                           .out_width = config->model.width,
                           .preprocessing = config->data.preprocessing};
  if (pixels != NULL) {
    const dft_image_file *file = dft_pixels_file(pixels);
    d->loader.height = file->height;
    d->loader.width = file->width;
    d->loader.channels = file->channels;
    d->loader.type = file->type;
  }
  dft_status status = dft_loader_init(&d->loader, config->data.resize);
  if (status == DFT_OK && manifest != NULL) status = dft_listed_names(config, manifest, &d->class_names);
  if (status != DFT_OK) {
    dft_loader_free(&d->loader);
    free(d);
    return status;
  }
  d->selection = *selection;
  *selection = (dft_selection){0};
  if (pixels != NULL) d->pixels = dft_pixels_ref(pixels);
  if (manifest != NULL) d->manifest = dft_manifest_ref(manifest);
  *dataset = d;
  return DFT_OK;
}

/* Collective: datasets of selections `a` and, unless second is NULL, `b` over one source. */
static dft_status finish(const dft_config *config, const source *s, const dft_share *share, dft_selection *a,
                         dft_selection *b, dft_dataset **first, dft_dataset **second) {
  dft_pixels *pixels = NULL;
  dft_manifest *m = s->manifest;
  dft_status status = DFT_OK;
  if (m == NULL && config->data.format != DFT_DATA_RANDOM)
    DFT_TRY(dft_pixels_open(&s->file, a, second == NULL ? NULL : b, share, &pixels));
  if (m != NULL) status = dft_listed_sizes(config, m, a);
  if (status == DFT_OK && m != NULL && second != NULL) status = dft_listed_sizes(config, m, b);
  if (status == DFT_OK) status = make_dataset(config, s->part, a, pixels, m, first);
  if (status == DFT_OK && second != NULL) status = make_dataset(config, s->part, b, pixels, m, second);
  status = share->fence(share->context, status);
  dft_pixels_unref(pixels); /* the datasets hold it */
  return status;
}

/* Subset, split, limits. *validation stays empty without data.validation.split. */
static dft_status select_train(const dft_config *config, const source *s, dft_selection *train,
                               dft_selection *validation) {
  uint64_t seed = (uint64_t)config->seed;
  int classes = config->model.classes;
  double fraction = config->data.validation.present ? config->data.validation.split : 0;
  DFT_TRY(dft_select_classes(config, s->where, s->labels, s->count, true, train));
  if (fraction > 0) {
    DFT_TRY(dft_select_split(seed, classes, fraction, train, validation));
    if (validation->count == 0) return fail_empty(s->where, "validation.split");
  }
  DFT_TRY(dft_select_limits(seed, classes, config->data.limit_per_class, config->data.limit, train));
  return train->count == 0 ? fail_empty(s->where, "train") : DFT_OK;
}

/* What only training data have. */
static void set_training(const dft_config *config, dft_dataset *d) {
  d->augment = config->data.augment;
  d->augments = dft_config_augments(&d->augment);
  d->views = config->cache.views;
  d->batch_size = config->data.batch_size;
  d->shuffle = config->data.shuffle;
  d->on_corrupt = config->data.on_corrupt;
}

static dft_status open_train(const dft_config *config, const dft_share *share, dft_dataset **train,
                             dft_dataset **validation) {
  source s;
  dft_selection a = {0}, b = {0};
  dft_status status = open_source(config, &config->data.train, 0, NULL, share, &s);
  if (status == DFT_OK) status = share->fence(share->context, select_train(config, &s, &a, &b));
  if (status == DFT_OK) status = finish(config, &s, share, &a, &b, train, b.count > 0 ? validation : NULL);
  if (status == DFT_OK) set_training(config, *train);
  dft_selection_free(&a);
  dft_selection_free(&b);
  close_source(&s);
  return status;
}

static dft_status select_validation(const dft_config *config, const source *s, dft_selection *a) {
  DFT_TRY(dft_select_classes(config, s->where, s->labels, s->count, false, a));
  return a->count == 0 ? fail_empty(s->where, "validation") : DFT_OK;
}

static dft_status open_validation(const dft_config *config, const dft_known_classes *like,
                                  const dft_share *share, dft_dataset **validation) {
  source s;
  dft_selection a = {0};
  dft_status status = open_source(config, &config->data.validation, 1, like, share, &s);
  if (status == DFT_OK) status = share->fence(share->context, select_validation(config, &s, &a));
  if (status == DFT_OK) status = finish(config, &s, share, &a, NULL, validation, NULL);
  dft_selection_free(&a);
  close_source(&s);
  return status;
}

static dft_status keep_decoded(const dft_config *config, const dft_share *share, dft_dataset *d) {
  const char *directory = config->data.decoded_cache;
  if (d == NULL || d->manifest == NULL || directory == NULL) return DFT_OK;
  return dft_decoded_new(directory, d->manifest, d->resize, d->loader.out_height, d->loader.out_width,
                         share->writer, &d->decoded);
}

dft_status dft_data_open(const dft_config *config, const dft_share *share, dft_dataset **train,
                         dft_dataset **validation) {
  const dft_config_split *v = &config->data.validation;
  *train = *validation = NULL;
  dft_status status = open_train(config, share, train, validation);
  if (status == DFT_OK && v->present && v->split <= 0) {
    const dft_manifest *m = (*train)->manifest;
    dft_known_classes like = {.from = "data.train.path"};
    if (m != NULL) like.names = dft_manifest_class_names(m);
    if (m != NULL) like.count = dft_manifest_classes(m);
    status = open_validation(config, m != NULL ? &like : NULL, share, validation);
  }
  if (status == DFT_OK) status = keep_decoded(config, share, *train);
  if (status == DFT_OK) status = keep_decoded(config, share, *validation);
  if (status != DFT_OK) {
    dft_dataset_free(*train);
    dft_dataset_free(*validation);
    *train = *validation = NULL;
  }
  return status;
}

dft_status dft_data_open_validation(const dft_config *config, const char *const *names, const char *from,
                                    const dft_share *share, dft_dataset **validation) {
  const dft_known_classes like = {names, config->model.classes, from};
  *validation = NULL;
  dft_status status = open_validation(config, names != NULL ? &like : NULL, share, validation);
  if (status == DFT_OK) status = keep_decoded(config, share, *validation);
  if (status != DFT_OK) {
    dft_dataset_free(*validation);
    *validation = NULL;
  }
  return status;
}

/* ---- images alone ---- */

static dft_status all_images(const char *where, int64_t count, dft_selection *s) {
  if (count == 0) return dft_fail(DFT_EDATA, "%s: no images", where);
  s->origin = calloc((size_t)count, sizeof *s->origin);
  s->label = calloc((size_t)count, sizeof *s->label);
  if (s->origin == NULL || s->label == NULL)
    return dft_fail_memory("samples", (unsigned long long)count * 12);
  s->count = count;
  for (int64_t i = 0; i < s->count; i++) {
    s->origin[i] = i;
    s->label[i] = -1;
  }
  return DFT_OK;
}

/* Collective: a dataset of all images of the source, which it closes. */
static dft_status open_all(source *s, dft_status status, int64_t count, int height, int width,
                           dft_preprocessing preprocessing, dft_resize resize, const dft_share *share,
                           dft_dataset **images) {
  dft_config config = {.model.height = height, .model.width = width};
  config.data.format = DFT_DATA_IMAGE_FOLDER;
  config.data.preprocessing = preprocessing;
  config.data.resize = resize;
  config.data.on_corrupt = DFT_CORRUPT_SKIP;
  dft_selection all = {0};
  if (status == DFT_OK) status = share->fence(share->context, all_images(s->where, count, &all));
  if (status == DFT_OK) status = finish(&config, s, share, &all, NULL, images, NULL);
  dft_selection_free(&all);
  close_source(s);
  if (status != DFT_OK) {
    dft_dataset_free(*images);
    *images = NULL;
  }
  return status;
}

dft_status dft_data_open_images(const char *path, int height, int width, dft_preprocessing preprocessing,
                                dft_resize resize, const dft_share *share, dft_dataset **images) {
  source s = {.where = path};
  *images = NULL;
  dft_status status = share->fence(
      share->context, share->writer ? dft_image_file_open(path, DFT_DATA_EITHER_ARRAY, &s.file) : DFT_OK);
  if (status == DFT_OK) status = share->broadcast(share->context, &s.file, sizeof s.file);
  return open_all(&s, status, s.file.count, height, width, preprocessing, resize, share, images);
}

static dft_status list_paths(const char *const *paths, int64_t count, dft_listing *l) {
  l->root = -1;
  for (int64_t i = 0; i < count; i++)
    DFT_TRY(dft_listing_add(l, paths[i], (dft_entry){.bytes = -1, .label = -1, .shard = -1}));
  return DFT_OK;
}

dft_status dft_data_open_files(const char *const *paths, int64_t count, int height, int width,
                               dft_preprocessing preprocessing, dft_resize resize, const dft_share *share,
                               dft_dataset **files) {
  source s = {.where = "image files"};
  dft_listing l = {0};
  *files = NULL;
  dft_status status = share->fence(share->context, share->writer ? list_paths(paths, count, &l) : DFT_OK);
  if (status == DFT_OK) status = dft_manifest_share(&l, share, &s.manifest);
  dft_listing_free(&l);
  return open_all(&s, status, count, height, width, preprocessing, resize, share, files);
}
