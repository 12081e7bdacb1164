/* Any bytes as an image file: JPEG and BMP by themselves, the others through libvips where its module is
 * found (DFT_DECODE_MODULE). What has at most 100,000 pixels is decoded, at several sizes. */
#include "../../src/data/decode.h"
#include "../../src/data/raster.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* libvips takes memory for what these announce, up to dft's limit: too much for a fuzzer. */
static int announces_much(const unsigned char *data, size_t size) {
  static const struct {
    unsigned char first;
    dft_image_format format;
  } formats[] = {{'R', DFT_IMAGE_WEBP}, {'G', DFT_IMAGE_GIF}, {0x89, DFT_IMAGE_PNG}};
  int64_t height, width;
  for (int i = 0; i < 3; i++)
    if (size > 0 && data[0] == formats[i].first &&
        dft_announced_size(formats[i].format, data, size, &height, &width))
      return (double)height * (double)width > 1e5;
  return 0;
}

/* Rows of a JPEG file of at most 100,000 pixels into `pixels`; 0: it is refused. */
static int read_rows(const dft_raster_reader *reader, const unsigned char *data, size_t size, int shrink,
                     unsigned char *pixels, size_t *used, dft_raster_error *error) {
  dft_raster r;
  void *handle;
  const void *rows;
  size_t stride;
  if (!reader->open(DFT_IMAGE_JPEG, data, size, &r, &handle, error)) return 0;
  int fine = reader->start(handle, shrink, &r, error);
  size_t line = (size_t)(r.width * r.bands);
  *used = (size_t)r.height * line;
  for (int64_t y = 0, count = 0; fine && y < r.height; y += count) {
    fine = reader->rows(handle, r.height - y, &rows, &stride, &count, error);
    for (int64_t i = 0; fine && i < count; i++)
      memcpy(pixels + (size_t)(y + i) * line, (const char *)rows + (size_t)i * stride, line);
  }
  reader->close(handle);
  return fine;
}

/* What our Huffman decoding reads, libjpeg alone reads to the same pixels; and what becomes of a file, pixels
 * or a message, is what libjpeg alone makes of it. */
static void compare_with_libjpeg(const unsigned char *data, size_t size) {
  static unsigned char pixels[2][400000];
  static dft_bitmap bitmap;
  dft_raster_error ours, libjpegs;
  int height, width;
  if (dft_decode_size(data, size, "fuzz", &height, &width) != DFT_OK || (int64_t)height * width > 100000)
    return;
  for (int shrink = 1; shrink <= 8; shrink *= 2) {
    size_t used[2] = {0};
    int plain = read_rows(&dft_plain_jpeg_reader, data, size, shrink, pixels[0], &used[0], &libjpegs);
    int fast = read_rows(&dft_fast_jpeg_reader, data, size, shrink, pixels[1], &used[1], &ours);
    if (fast && (!plain || used[0] != used[1] || memcmp(pixels[0], pixels[1], used[0]) != 0)) abort();
    if (shrink > 1) continue;
    int read = dft_decode(data, size, "fuzz", DFT_RESIZE_STRETCH, 100000, 100000, &bitmap) == DFT_OK;
    if (read != plain || (!read && strstr(dft_error(), libjpegs.text) == NULL)) abort();
  }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  if (announces_much(data, size)) return 0;
  if (size > 2 && data[0] == 0xff && data[1] == 0xd8) compare_with_libjpeg(data, size);
  static const int sides[][2] = {{1000, 1000}, {7, 5}, {1, 64}};
  static dft_bitmap bitmap;
  int height, width;
  for (int i = 0; i < 3; i++) {
    if (dft_decode_size(data, size, "fuzz", &height, &width) != DFT_OK) return 0;
    if (height < 1 || width < 1 || (int64_t)height * width > DFT_DECODE_MAX_PIXELS) abort();
    if ((int64_t)height * width > 100000) return 0;
    if (dft_decode(data, size, "fuzz", (dft_resize)(i % 3), sides[i][0], sides[i][1], &bitmap) != DFT_OK)
      continue;
    if (bitmap.height < 1 || bitmap.width < 1 || bitmap.height > height || bitmap.width > width) abort();
    unsigned sum = 0; /* reads all of it */
    for (size_t k = 0; k < (size_t)bitmap.height * (size_t)bitmap.width * 3; k++) sum += bitmap.rgb[k];
    if (sum > 765u * (unsigned)bitmap.height * (unsigned)bitmap.width) abort();
  }
  return 0;
}
