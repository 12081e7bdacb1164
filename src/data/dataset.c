#include "dataset.h"
#include <isa-l/crc64.h>
#include <stdio.h>
#include <stdlib.h>

/* Up to this much, every selected pixel is in the fingerprint; beyond it, this many rows evenly spread. */
enum { FINGERPRINT_BYTES = 64 << 20, FINGERPRINT_ROWS = 1024 };

void dft_dataset_free(dft_dataset *d) {
  if (d == NULL) return;
  dft_pixels_unref(d->pixels);
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
  (void)d; /* random, idx and npy know no names */
  return NULL;
}

dft_status dft_dataset_image(const dft_dataset *d, int64_t sample, float *out) {
  if (sample < 0 || sample >= d->selection.count)
    return dft_fail(DFT_EINTERNAL, "sample %lld of %lld", (long long)sample, (long long)d->selection.count);
  int64_t origin = d->selection.origin[sample];
  if (d->pixels != NULL) {
    dft_loader_image(&d->loader, dft_pixels_row(d->pixels, origin), out);
    return DFT_OK;
  }
  size_t count = (size_t)d->loader.out_height * (size_t)d->loader.out_width * 3;
  dft_random_image(d->seed, d->part, origin, out, count);
  dft_preprocess(d->loader.preprocessing, out, count);
  return DFT_OK;
}

bool dft_dataset_can_fail(const dft_dataset *d) {
  (void)d; /* random, idx and npy are whole or not opened */
  return false;
}

void dft_dataset_name(const dft_dataset *d, int64_t sample, char *text, size_t bytes) {
  const char *source = d->pixels != NULL ? dft_basename(dft_pixels_file(d->pixels)->path)
                       : d->part == 0    ? "random train"
                                         : "random validation";
  snprintf(text, bytes, "%s[%lld]", source, (long long)d->selection.origin[sample]);
}

static uint64_t add_number(uint64_t crc, int64_t value) {
  return crc64_ecma_refl(crc, (const unsigned char *)&value, sizeof value);
}

uint64_t dft_dataset_fingerprint(const dft_dataset *d) {
  const dft_selection *s = &d->selection;
  uint64_t crc = add_number(0, s->count);
  crc = crc64_ecma_refl(crc, (const unsigned char *)s->label, (uint64_t)s->count * sizeof *s->label);
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
