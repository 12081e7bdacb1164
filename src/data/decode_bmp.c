/* Windows bitmaps as they are met: uncompressed, 1, 4 or 8 bits with a palette, 24 or 32 bits, bottom-up or
 * top-down (https://learn.microsoft.com/windows/win32/gdi/bitmap-storage). The fourth byte of 32 bits is
 * dropped. RLE, 16 bits and embedded JPEG or PNG are refused. */
#include "raster.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  FILE_HEADER_BYTES = 14,
  CORE_HEADER_BYTES = 12,
  INFO_HEADER_BYTES = 40,
  COMPRESSION_NONE = 0,
  COMPRESSION_BITFIELDS = 3
};

typedef struct bmp_image {
  const uint8_t *pixels;
  int64_t height, width, stride, next; /* next: the row to be read, from the top */
  int bits;
  bool top_down;
  uint8_t palette[256][3]; /* R, G, B; black where the file has none */
  uint8_t *line;
} bmp_image;

static uint32_t get16(const uint8_t *p) {
  return (uint32_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p) {
  return get16(p) | get16(p + 2) << 16;
}

/* The usual masks are B, G, R from the lowest byte up; any others are refused. */
static bool check_compression(const uint8_t *file, size_t count, uint32_t header, int bits,
                              dft_raster_error *error) {
  uint32_t compression = header == CORE_HEADER_BYTES ? COMPRESSION_NONE : get32(file + 30);
  if (compression == COMPRESSION_NONE) return true;
  if (compression != COMPRESSION_BITFIELDS || bits != 32 || count < 66)
    return dft_raster_unsupported(error, "a compressed bitmap is not supported");
  if (get32(file + 54) != 0xff0000 || get32(file + 58) != 0xff00 || get32(file + 62) != 0xff)
    return dft_raster_unsupported(error, "a bitmap with these colour masks is not supported");
  return true;
}

static void read_palette(const uint8_t *file, size_t count, uint32_t header, bmp_image *b) {
  size_t entry = header == CORE_HEADER_BYTES ? 3 : 4;
  size_t colours = header == CORE_HEADER_BYTES ? 0 : get32(file + 46), at = FILE_HEADER_BYTES + header;
  size_t most = (size_t)1 << b->bits;
  if (colours == 0 || colours > most) colours = most;
  for (size_t i = 0; i < colours && at + entry <= count; i++, at += entry)
    for (size_t c = 0; c < 3; c++) b->palette[i][c] = file[at + 2 - c];
}

static bool read_header(const uint8_t *file, size_t count, bmp_image *b, dft_raster_error *error) {
  if (count < FILE_HEADER_BYTES + CORE_HEADER_BYTES)
    return dft_raster_refuse(error, "truncated in its header");
  uint32_t offset = get32(file + 10), header = get32(file + 14);
  if (header != CORE_HEADER_BYTES && (header < INFO_HEADER_BYTES || header > 1024))
    return dft_raster_refuse(error, "its header is damaged");
  if (count < FILE_HEADER_BYTES + (size_t)header) return dft_raster_refuse(error, "truncated in its header");
  bool core = header == CORE_HEADER_BYTES;
  b->width = core ? (int32_t)get16(file + 18) : (int32_t)get32(file + 18);
  b->height = core ? (int32_t)get16(file + 20) : (int32_t)get32(file + 22);
  b->bits = (int)get16(file + (core ? 24 : 28));
  b->top_down = b->height < 0;
  if (b->top_down) b->height = -b->height;
  if (b->width < 1 || b->height < 1) return dft_raster_refuse(error, "its header is damaged");
  if (b->bits != 1 && b->bits != 4 && b->bits != 8 && b->bits != 24 && b->bits != 32) {
    char what[64];
    snprintf(what, sizeof what, "a bitmap of %d bits per pixel is not supported", b->bits);
    return dft_raster_unsupported(error, what);
  }
  if (!check_compression(file, count, header, b->bits, error)) return false;
  b->stride = (b->width * b->bits + 31) / 32 * 4;
  if (offset < FILE_HEADER_BYTES + header) return dft_raster_refuse(error, "its header is damaged");
  if (offset > count || (uint64_t)b->height > (count - offset) / (uint64_t)b->stride)
    return dft_raster_refuse(error, "truncated");
  b->pixels = file + offset;
  if (b->bits <= 8) read_palette(file, count, header, b);
  return true;
}

static bool open_bmp(dft_image_format format, const void *bytes, size_t count, dft_raster *raster,
                     void **handle, dft_raster_error *error) {
  (void)format;
  *handle = NULL;
  bmp_image *b = calloc(1, sizeof *b);
  if (b == NULL) return dft_raster_no_memory(error);
  if (!read_header(bytes, count, b, error)) {
    free(b);
    return false;
  }
  *raster = (dft_raster){.height = b->height,
                         .width = b->width,
                         .bands = 3,
                         .sample_bytes = 1,
                         .colour = DFT_COLOUR_RGB,
                         .orientation = 1};
  *handle = b;
  return true;
}

static bool start_bmp(void *handle, int shrink, dft_raster *raster, dft_raster_error *error) {
  bmp_image *b = handle;
  (void)shrink;
  (void)raster;
  b->line = malloc((size_t)b->width * 3);
  return b->line != NULL || dft_raster_no_memory(error);
}

static bool bmp_rows(void *handle, int64_t most, const void **rows, size_t *stride_bytes, int64_t *count,
                     dft_raster_error *error) {
  bmp_image *b = handle;
  (void)error;
  (void)most;
  int64_t y = b->top_down ? b->next : b->height - 1 - b->next;
  const uint8_t *row = b->pixels + y * b->stride;
  b->next++;
  for (int64_t x = 0; x < b->width; x++) {
    uint8_t *to = b->line + 3 * x;
    if (b->bits <= 8) {
      int64_t bit = x * b->bits;
      unsigned index = (unsigned)row[bit / 8] >> (8 - b->bits - bit % 8) & ((1u << b->bits) - 1);
      memcpy(to, b->palette[index], 3);
    } else {
      const uint8_t *from = row + x * (b->bits / 8);
      for (int c = 0; c < 3; c++) to[c] = from[2 - c];
    }
  }
  *rows = b->line;
  *stride_bytes = (size_t)b->width * 3;
  *count = 1;
  return true;
}

static void close_bmp(void *handle) {
  bmp_image *b = handle;
  free(b->line);
  free(b);
}

const dft_raster_reader dft_bmp_reader = {
    .open = open_bmp, .start = start_bmp, .rows = bmp_rows, .close = close_bmp};
