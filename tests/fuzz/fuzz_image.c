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

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  if (announces_much(data, size)) return 0;
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
