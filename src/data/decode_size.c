/* The size that the first bytes of a PNG, GIF or WebP file announce (PNG 3rd edition, 11.2.1; GIF89a, 18;
 * WebP container specification). libvips and libwebp ask for memory of that size when they open the file;
 * this is looked at before. */
#include "raster.h"
#include <string.h>

static int64_t little(const uint8_t *p, int bytes) {
  int64_t value = 0;
  for (int i = bytes; i-- > 0;) value = value << 8 | p[i];
  return value;
}

static bool png_size(const uint8_t *p, size_t count, int64_t *height, int64_t *width) {
  if (count < 24) return false;
  *width = (int64_t)p[16] << 24 | p[17] << 16 | p[18] << 8 | p[19];
  *height = (int64_t)p[20] << 24 | p[21] << 16 | p[22] << 8 | p[23];
  return true;
}

static bool gif_size(const uint8_t *p, size_t count, int64_t *height, int64_t *width) {
  if (count < 10) return false;
  *width = little(p + 6, 2);
  *height = little(p + 8, 2);
  return true;
}

/* The first chunk: VP8X with the size of the canvas, or a lossy or lossless image with its own. */
static bool webp_size(const uint8_t *p, size_t count, int64_t *height, int64_t *width) {
  if (count < 30) return false;
  if (memcmp(p + 12, "VP8X", 4) == 0) {
    *width = little(p + 24, 3) + 1;
    *height = little(p + 27, 3) + 1;
  } else if (memcmp(p + 12, "VP8L", 4) == 0) {
    int64_t bits = little(p + 21, 4);
    *width = (bits & 0x3fff) + 1;
    *height = (bits >> 14 & 0x3fff) + 1;
  } else {
    *width = little(p + 26, 2) & 0x3fff;
    *height = little(p + 28, 2) & 0x3fff;
  }
  return true;
}

bool dft_announced_size(dft_image_format format, const void *bytes, size_t count, int64_t *height,
                        int64_t *width) {
  if (format == DFT_IMAGE_PNG) return png_size(bytes, count, height, width);
  if (format == DFT_IMAGE_GIF) return gif_size(bytes, count, height, width);
  if (format == DFT_IMAGE_WEBP) return webp_size(bytes, count, height, width);
  return false;
}
