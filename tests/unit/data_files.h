/* Small IDX and npy files in a directory of the test's own, and configs that read them. */
#ifndef DFT_TESTS_DATA_FILES_H
#define DFT_TESTS_DATA_FILES_H

#include "dft/data.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static char test_directory[64];

static inline int enter_directory(void **state) {
  (void)state;
  strcpy(test_directory, "/tmp/dft-test-data-XXXXXX");
  return mkdtemp(test_directory) != NULL && chdir(test_directory) == 0 ? 0 : -1;
}

static inline int leave_directory(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", test_directory);
  return chdir("/") == 0 ? system(command) : -1;
}

typedef struct bytes {
  size_t count;
  uint8_t *data;
} bytes;

static inline void append(bytes *b, const void *data, size_t count) {
  b->data = realloc(b->data, b->count + count + 1);
  assert_non_null(b->data);
  if (count > 0) memcpy(b->data + b->count, data, count);
  b->count += count;
}

/* Plain, or gzip when the name ends in .gz. Releases the bytes. */
static inline void save(const char *path, bytes b) {
  size_t n = strlen(path);
  if (n > 3 && strcmp(path + n - 3, ".gz") == 0) {
    gzFile f = gzopen(path, "wb6");
    assert_non_null(f);
    assert_true(b.count == 0 || gzwrite(f, b.data, (unsigned)b.count) == (int)b.count);
    assert_int_equal(gzclose(f), Z_OK);
  } else {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b.data, 1, b.count, f), b.count);
    assert_int_equal(fclose(f), 0);
  }
  free(b.data);
}

/* Cuts a file to `count` bytes. */
static inline void cut(const char *path, long count) {
  assert_int_equal(truncate(path, count), 0);
}

static inline long size_of(const char *path) {
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  assert_int_equal(fseek(f, 0, SEEK_END), 0);
  long n = ftell(f);
  (void)fclose(f);
  return n;
}

static inline bytes idx_header(int type, int dims, const uint32_t *shape) {
  bytes b = {0};
  append(&b, (uint8_t[]){0, 0, (uint8_t)type, (uint8_t)dims}, 4);
  for (int i = 0; i < dims; i++)
    append(&b,
           (uint8_t[]){(uint8_t)(shape[i] >> 24), (uint8_t)(shape[i] >> 16), (uint8_t)(shape[i] >> 8),
                       (uint8_t)shape[i]},
           4);
  return b;
}

/* A header as numpy.save writes it, or of another version or with any text. */
static inline bytes npy_text(int version, const char *text) {
  size_t start = version == 1 ? 10 : 12, length = strlen(text);
  size_t padded = (start + length + 1 + 63) / 64 * 64 - start;
  bytes b = {0};
  append(&b, "\x93NUMPY", 6);
  append(&b, (uint8_t[]){(uint8_t)version, 0, (uint8_t)padded, (uint8_t)(padded >> 8), 0, 0}, start - 6);
  append(&b, text, length);
  while (b.count < start + padded - 1) append(&b, " ", 1);
  append(&b, "\n", 1);
  return b;
}

static inline bytes npy_header(const char *descr, const char *shape) {
  char text[256];
  snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape);
  return npy_text(1, text);
}

/* The pixel of our test images. */
static inline uint8_t test_pixel(size_t image, size_t i) {
  return (uint8_t)(image * 41 + i * 7 + (i * i) % 13);
}

static inline void save_idx_images(const char *path, uint32_t n, uint32_t h, uint32_t w) {
  bytes b = idx_header(8, 3, (uint32_t[]){n, h, w});
  for (size_t k = 0; k < n; k++)
    for (size_t i = 0; i < (size_t)h * w; i++) append(&b, (uint8_t[]){test_pixel(k, i)}, 1);
  save(path, b);
}

/* Label k is k modulo classes. */
static inline void save_idx_labels(const char *path, uint32_t n, uint32_t classes) {
  bytes b = idx_header(8, 1, &n);
  for (uint32_t k = 0; k < n; k++) append(&b, (uint8_t[]){(uint8_t)(k % classes)}, 1);
  save(path, b);
}

static inline dft_config make_config(dft_data_format format, const char *images, const char *labels,
                                     int classes) {
  dft_config c = {.seed = 42, .model = {.height = 32, .width = 32, .classes = classes}};
  c.data.format = format;
  c.data.preprocessing = DFT_PREPROCESS_NONE;
  c.data.train = (dft_config_split){.present = true, .images = (char *)images, .labels = (char *)labels};
  return c;
}

static inline dft_dataset *open_train_only(const dft_config *c) {
  dft_dataset *train, *validation;
  dft_status status = dft_data_open(c, dft_share_alone(), &train, &validation);
  if (status != DFT_OK) fail_msg("%d: %s", (int)status, dft_error());
  assert_null(validation);
  return train;
}

/* The config is refused with this code and a message that has each of the words. */
#define REFUSED(config, code, ...)                                                                           \
  refused(config, code, (const char *const[]){__VA_ARGS__, NULL}, __FILE__, __LINE__)
static inline void refused(const dft_config *c, dft_status code, const char *const *words, const char *file,
                           int line) {
  dft_dataset *train = (dft_dataset *)1, *validation = (dft_dataset *)1;
  dft_status status = dft_data_open(c, dft_share_alone(), &train, &validation);
  if (status != code) {
    print_error("status %d (%s), expected %d\n", (int)status, status ? dft_error() : "", (int)code);
    _fail(file, line);
  }
  assert_null(train);
  assert_null(validation);
  for (; *words != NULL; words++)
    if (strstr(dft_error(), *words) == NULL) {
      print_error("'%s' is not in: %s\n", *words, dft_error());
      _fail(file, line);
    }
}

#endif
