/* The common part of fuzz_idx.c and fuzz_npy.c: the input as a file in memory, through the whole data module.
 */
#ifndef DFT_FUZZ_DATA_H
#define DFT_FUZZ_DATA_H

#include "../../src/data/source.h"
#include "dft/data.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

enum { FUZZ_SIDE = 32, FUZZ_CLASSES = 10 };

static inline void fuzz_images(const char *path) {
  static float out[3 * FUZZ_SIDE * FUZZ_SIDE];
  dft_dataset *images;
  if (dft_data_open_images(path, FUZZ_SIDE, FUZZ_SIDE, DFT_PREPROCESS_UNIT, DFT_RESIZE_PAD, dft_share_alone(),
                           &images) != DFT_OK)
    return;
  int64_t n = dft_dataset_count(images), step = n / 8 + 1;
  for (int64_t i = 0; i < n; i += step)
    if (dft_dataset_image(images, i, out) != DFT_OK) abort();
  if (dft_dataset_image(images, n - 1, out) != DFT_OK) abort();
  (void)dft_dataset_fingerprint(images);
  dft_dataset_free(images);
}

static inline void fuzz_training(dft_data_format format, char *path) {
  dft_config c = {.seed = 1, .model = {.height = FUZZ_SIDE, .width = FUZZ_SIDE, .classes = FUZZ_CLASSES}};
  c.data.format = format;
  c.data.train = (dft_config_split){.present = true, .images = path, .labels = path};
  c.data.validation = (dft_config_split){.present = true, .split = 0.3};
  dft_dataset *train, *validation;
  if (dft_data_open(&c, dft_share_alone(), &train, &validation) != DFT_OK) return;
  dft_dataset_free(train);
  dft_dataset_free(validation);
}

static inline void fuzz_labels(dft_data_format format, const char *path) {
  int64_t *labels, count;
  dft_selection s = {0};
  int64_t columns;
  if (dft_labels_read(path, format, &labels, &count, &columns) != DFT_OK) return;
  dft_config c = {.model = {.classes = FUZZ_CLASSES}};
  if (dft_select_classes(&c, path, labels, count, true, &s) == DFT_OK)
    if (dft_select_limits(1, FUZZ_CLASSES, 3, 7, &s) != DFT_OK) abort();
  dft_selection_free(&s);
  free(labels);
}

static inline void fuzz_array_file(dft_data_format format, const unsigned char *data, size_t size) {
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  fuzz_images(path);
  fuzz_labels(format, path);
  fuzz_training(format, path);
  close(fd);
}

#endif
