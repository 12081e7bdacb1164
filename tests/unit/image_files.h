/* Small image files and trees of them, for tests of folders and tar files. */
#ifndef DFT_TESTS_IMAGE_FILES_H
#define DFT_TESTS_IMAGE_FILES_H

#include "data_files.h"
#include <errno.h>
#include <sys/stat.h>

/* Makes the directories above `path`. */
static inline void make_way(const char *path) {
  char text[512];
  snprintf(text, sizeof text, "%s", path);
  for (char *slash = strchr(text, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    assert_true(mkdir(text, 0777) == 0 || errno == EEXIST);
    *slash = '/';
  }
}

static inline void save_bytes(const char *path, const void *data, size_t count) {
  bytes b = {0};
  make_way(path);
  append(&b, data, count);
  save(path, b);
}

/* A BMP of 2x1 pixels: (red, 0, 0), (0, 0, 255). 24 bits, from the bottom up, rows of a multiple of 4 bytes.
 */
enum { BMP_BYTES = 62 };
static inline void make_bmp(uint8_t red, uint8_t bmp[BMP_BYTES]) {
  static const uint8_t header[54] = {
      'B', 'M', BMP_BYTES, [10] = 54, [14] = 40, [18] = 2, [22] = 1, [26] = 1, [28] = 24};
  memset(bmp, 0, BMP_BYTES);
  memcpy(bmp, header, sizeof header);
  bmp[56] = red; /* blue, green, red */
  bmp[57] = 255;
}

static inline void save_bmp(const char *path, uint8_t red) {
  uint8_t bmp[BMP_BYTES];
  make_bmp(red, bmp);
  save_bytes(path, bmp, sizeof bmp);
}

static inline dft_config folder_config(dft_data_format format, const char *path, int classes) {
  dft_config c = make_config(format, NULL, NULL, classes);
  c.data.train.path = (char *)path;
  return c;
}

/* The red of the left half of a sample, resized by stretch. */
static inline int red_of(const dft_dataset *d, int64_t sample) {
  static float out[3 * 32 * 32];
  dft_status status = dft_dataset_image(d, sample, out);
  if (status != DFT_OK) fail_msg("%d: %s", (int)status, dft_error());
  return (int)out[0];
}

static inline void expect_name(const dft_dataset *d, int64_t sample, const char *name) {
  char text[256];
  dft_dataset_name(d, sample, text, sizeof text);
  assert_string_equal(text, name);
}

#endif
