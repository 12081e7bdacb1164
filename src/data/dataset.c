#include "dataset.h"
#include "augment.h"
#include "mix.h"
#include <isa-l/crc64.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Up to this much, every selected pixel is in the fingerprint; beyond it, this many rows evenly spread. */
enum { FINGERPRINT_BYTES = 64 << 20, FINGERPRINT_ROWS = 1024 };

void dft_dataset_free(dft_dataset *d) {
  if (d == NULL) return;
  dft_pixels_unref(d->pixels);
  dft_decoded_free(d->decoded);
  dft_manifest_unref(d->manifest);
  free(d->class_names);
  dft_loader_free(&d->loader);
  dft_selection_free(&d->selection);
  free(d);
}

int64_t dft_dataset_count(const dft_dataset *d) {
  return d->selection.count;
}

int dft_dataset_label(const dft_dataset *d, int64_t sample) {
  return d->selection.label[sample];
}

const char *const *dft_dataset_class_names(const dft_dataset *d) {
  return d->class_names;
}

static size_t elements(const dft_dataset *d) {
  return (size_t)d->loader.out_height * (size_t)d->loader.out_width * 3;
}

/* The resized image under a loader that differs from the dataset's at most in preprocessing. */
static dft_status read_image(const dft_dataset *d, const dft_loader *loader, int64_t sample, float *out) {
  if (sample < 0 || sample >= d->selection.count)
    return dft_fail(DFT_EINTERNAL, "sample %lld of %lld", (long long)sample, (long long)d->selection.count);
  int64_t origin = d->selection.origin[sample];
  if (d->pixels != NULL) {
    dft_loader_image(loader, dft_pixels_row(d->pixels, origin), out);
    return DFT_OK;
  }
  if (d->manifest != NULL) return dft_file_image(d, loader->preprocessing, origin, out);
  size_t count = elements(d);
  dft_random_image(d->seed, d->part, origin, out, count);
  dft_preprocess(loader->preprocessing, out, count);
  return DFT_OK;
}

/* The largest magnitude among some samples of an array of floats. */
static float largest(const dft_dataset *d, int64_t samples) {
  const int64_t values = dft_pixels_file(d->pixels)->sample_bytes / (int64_t)sizeof(float);
  float most = 0;
  for (int64_t s = 0; s < samples; s++) {
    const char *row = dft_pixels_row(d->pixels, d->selection.origin[s * d->selection.count / samples]);
    for (int64_t i = 0; i < values; i++) {
      float value;
      memcpy(&value, row + i * (int64_t)sizeof value, sizeof value);
      if (fabsf(value) > most) most = fabsf(value);
    }
  }
  return most;
}

void dft_dataset_doubt(const dft_dataset *d, char *text, size_t text_bytes) {
  enum { LOOKED_AT = 16 };
  const dft_preprocessing p = d->loader.preprocessing;
  text[0] = '\0';
  if (d->pixels == NULL || d->loader.type != DFT_TYPE_F32 || p == DFT_PREPROCESS_NONE) return;
  const float most = largest(d, d->selection.count < LOOKED_AT ? d->selection.count : LOOKED_AT);
  if (most == 0 || most > 1) return;
  snprintf(text, text_bytes,
           "%s: no value seems to be beyond 1, but data.preprocessing: %s takes 0 ... 255; multiply by 255%s",
           dft_pixels_file(d->pixels)->path, p == DFT_PREPROCESS_UNIT ? "unit" : "mobilenet_v2",
           p == DFT_PREPROCESS_UNIT ? ", or set it to none"
                                    : ", or make it -1 ... 1 and set preprocessing: none");
}

bool dft_dataset_can_fail(const dft_dataset *d) {
  return d->manifest != NULL; /* random, idx and npy are whole or not opened */
}

dft_status dft_dataset_image(const dft_dataset *d, int64_t sample, float *out) {
  return read_image(d, &d->loader, sample, out);
}

bool dft_dataset_augments(const dft_dataset *d) {
  return d->augments;
}

bool dft_dataset_mixes(const dft_dataset *d) {
  return d->augment.mixup > 0 || d->augment.cutmix > 0;
}

int dft_dataset_views(const dft_dataset *d) {
  if (dft_dataset_mixes(d)) return 0;
  return d->augments ? d->views : 1;
}

int64_t dft_dataset_row(const dft_dataset *d, int64_t sample, int64_t view) {
  return view == DFT_VIEW_PLAIN ? sample : sample * dft_dataset_views(d) + view;
}

int64_t dft_dataset_view_of(const dft_dataset *d, int64_t epoch) {
  if (!d->augments) return DFT_VIEW_PLAIN;
  return d->views > 0 ? epoch % d->views : epoch;
}

dft_mix dft_dataset_mix(const dft_dataset *d, int64_t epoch, int64_t position) {
  const dft_mixing mixing = {.seed = d->seed,
                             .mixup = d->augment.mixup,
                             .cutmix = d->augment.cutmix,
                             .samples = d->selection.count,
                             .batch_size = d->batch_size,
                             .height = d->loader.out_height,
                             .width = d->loader.out_width};
  dft_mix mix = dft_mix_of(&mixing, epoch, position);
  if (mix.partner >= 0)
    mix.partner = dft_sampler(d->seed, d->shuffle, epoch, d->selection.count, mix.partner);
  return mix;
}

static dft_status read_view(const dft_dataset *d, int64_t sample, int64_t view, float *out) {
  if (view < 0 || !d->augments) return dft_dataset_image(d, sample, out);
  const dft_loader *l = &d->loader;
  dft_loader raw = *l;
  raw.preprocessing = DFT_PREPROCESS_NONE;
  DFT_TRY(read_image(d, &raw, sample, out));
  DFT_TRY(dft_augment(&d->augment, d->seed, sample, view, l->out_height, l->out_width, out));
  dft_preprocess(l->preprocessing, out, elements(d));
  return DFT_OK;
}

dft_status dft_dataset_view(const dft_dataset *d, int64_t sample, int64_t view, dft_mix *mix, float *out) {
  DFT_TRY(read_view(d, sample, view, out));
  if (mix == NULL || mix->partner < 0) return DFT_OK;
  float *partner = malloc(elements(d) * sizeof *partner);
  if (partner == NULL) return dft_fail_memory("mixed image", elements(d) * sizeof *partner);
  dft_status status = read_view(d, mix->partner, view, partner);
  if (status == DFT_OK)
    dft_mix_images(mix, d->loader.out_height, d->loader.out_width, out, partner);
  else if (status == DFT_EDATA && d->on_corrupt == DFT_CORRUPT_SKIP) {
    *mix = dft_mix_none();
    status = DFT_OK;
  }
  free(partner);
  return status;
}

void dft_dataset_name(const dft_dataset *d, int64_t sample, char *text, size_t bytes) {
  if (d->manifest != NULL) {
    dft_manifest_name(d->manifest, d->selection.origin[sample], false, text, bytes);
    return;
  }
  const char *source = d->pixels != NULL ? dft_basename(dft_pixels_file(d->pixels)->path)
                       : d->part == 0    ? "random train"
                                         : "random validation";
  snprintf(text, bytes, "%s[%lld]", source, (long long)d->selection.origin[sample]);
}

static uint64_t add_number(uint64_t crc, int64_t value) {
  return crc64_ecma_refl(crc, (const unsigned char *)&value, sizeof value);
}

/* Names and sizes; contents are not read. */
static uint64_t add_files(uint64_t crc, const dft_manifest *m, const dft_selection *s) {
  for (int64_t i = 0; i < s->count; i++) {
    const dft_entry *e = dft_manifest_entry(m, s->origin[i]);
    const char *name = dft_manifest_text(m, e->name);
    crc = crc64_ecma_refl(crc, (const unsigned char *)name, strlen(name) + 1);
    crc = add_number(crc, e->bytes);
  }
  return crc;
}

uint64_t dft_dataset_fingerprint(const dft_dataset *d) {
  const dft_selection *s = &d->selection;
  uint64_t crc = add_number(0, s->count);
  crc = crc64_ecma_refl(crc, (const unsigned char *)s->label, (uint64_t)s->count * sizeof *s->label);
  if (d->manifest != NULL) return add_files(crc, d->manifest, s);
  if (d->pixels == NULL) {
    crc = add_number(crc, (int64_t)d->seed);
    crc = add_number(crc, d->part);
    return crc64_ecma_refl(crc, (const unsigned char *)s->origin, (uint64_t)s->count * sizeof *s->origin);
  }
  const dft_image_file *file = dft_pixels_file(d->pixels);
  const int64_t shape[] = {file->height, file->width, file->channels, (int64_t)dft_type_bytes(file->type)};
  for (int i = 0; i < 4; i++) crc = add_number(crc, shape[i]);
  bool all = file->sample_bytes <= FINGERPRINT_BYTES / (s->count + 1) || s->count <= FINGERPRINT_ROWS;
  int64_t rows = all ? s->count : FINGERPRINT_ROWS;
  for (int64_t i = 0; i < rows; i++) {
    int64_t sample = all ? i : (int64_t)((__int128)i * s->count / rows);
    crc = crc64_ecma_refl(crc, dft_pixels_row(d->pixels, s->origin[sample]), (uint64_t)file->sample_bytes);
  }
  return crc;
}

static uint64_t add_stamps(uint64_t crc, const dft_manifest *m, const dft_selection *s,
                           const dft_share *share) {
  uint64_t stamps[DFT_STAT_BATCH];
  for (int64_t first = 0; first < s->count; first += DFT_STAT_BATCH) {
    const int64_t count = s->count - first < DFT_STAT_BATCH ? s->count - first : DFT_STAT_BATCH;
#pragma omp parallel for num_threads(DFT_STAT_THREADS) schedule(dynamic, 64) if (count > 1024)
    for (int64_t i = 0; i < count; i++) stamps[i] = dft_manifest_stamp(m, s->origin[first + i]);
    crc = crc64_ecma_refl(crc, (const unsigned char *)stamps, (uint64_t)count * sizeof *stamps);
    share->tick(share->context);
  }
  return crc;
}

uint64_t dft_dataset_contents(const dft_dataset *d, const dft_share *share) {
  const uint64_t crc = add_number(0, (int64_t)dft_dataset_fingerprint(d));
  if (d->manifest != NULL) return add_stamps(crc, d->manifest, &d->selection, share);
  struct stat info;
  if (d->pixels == NULL || stat(dft_pixels_file(d->pixels)->path, &info) != 0) return crc;
  const int64_t facts[] = {info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
  return crc64_ecma_refl(crc, (const unsigned char *)facts, sizeof facts);
}
