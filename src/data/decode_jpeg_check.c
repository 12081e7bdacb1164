/* Whether jpeg_entropy.c does in this process what it should: its place in libjpeg is a struct that is not
 * part of libjpeg's interface, so it is tried before the first file. */
#include "raster.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after stdio.h: it names FILE */
#include <jpeglib.h>

enum { HEIGHT = 40, WIDTH = 56, ROW_BYTES = 3 * WIDTH };

typedef struct writer {
  struct jpeg_compress_struct c;
  struct jpeg_error_mgr errors;
  jmp_buf escape;
  unsigned char *bytes;
  unsigned long count;
} writer;

static _Noreturn void leave(j_common_ptr c) {
  longjmp(((writer *)c->client_data)->escape, 1);
}

static void say_nothing(j_common_ptr c) {
  (void)c;
}

/* Smooth on the left, noise on the right; 4:2:0, with restarts. */
static void write_rows(writer *w) {
  uint32_t random = 1;
  for (int y = 0; y < HEIGHT; y++) {
    uint8_t line[ROW_BYTES];
    JSAMPROW row = line;
    for (int i = 0; i < ROW_BYTES; i++) {
      random = random * 1664525 + 1013904223;
      line[i] = i < ROW_BYTES / 2 ? (uint8_t)(i + 3 * y) : (uint8_t)(random >> 24);
    }
    jpeg_write_scanlines(&w->c, &row, 1);
  }
}

static bool write_image(writer *w) {
  w->c.err = jpeg_std_error(&w->errors);
  w->errors.error_exit = leave;
  w->errors.output_message = say_nothing;
  w->c.client_data = w;
  if (setjmp(w->escape)) return false;
  jpeg_create_compress(&w->c);
  jpeg_mem_dest(&w->c, &w->bytes, &w->count);
  w->c.image_height = HEIGHT;
  w->c.image_width = WIDTH;
  w->c.input_components = 3;
  w->c.in_color_space = JCS_RGB;
  jpeg_set_defaults(&w->c);
  jpeg_set_quality(&w->c, 90, TRUE);
  w->c.restart_interval = 5;
  jpeg_start_compress(&w->c, TRUE);
  write_rows(w);
  jpeg_finish_compress(&w->c);
  return true;
}

/* All rows into `pixels`, zeros at first. */
static bool read_image(const dft_raster_reader *reader, const writer *w, int shrink, uint8_t *pixels) {
  dft_raster_error error = {0};
  dft_raster r;
  void *handle;
  const void *rows;
  size_t stride;
  int64_t count;
  if (!reader->open(DFT_IMAGE_JPEG, w->bytes, w->count, &r, &handle, &error)) return false;
  bool fine = reader->start(handle, shrink, &r, &error) && r.height <= HEIGHT && r.width <= WIDTH;
  for (int64_t y = 0; fine && y < r.height; y += count) {
    fine = reader->rows(handle, r.height - y, &rows, &stride, &count, &error);
    for (int64_t i = 0; fine && i < count; i++, pixels += ROW_BYTES)
      memcpy(pixels, (const uint8_t *)rows + (size_t)i * stride, (size_t)(3 * r.width));
  }
  reader->close(handle);
  return fine;
}

static bool same_pixels(const writer *w, int shrink) {
  static uint8_t pixels[2][HEIGHT * ROW_BYTES];
  memset(pixels, 0, sizeof pixels);
  return read_image(&dft_fast_jpeg_reader, w, shrink, pixels[0]) &&
         read_image(&dft_plain_jpeg_reader, w, shrink, pixels[1]) &&
         memcmp(pixels[0], pixels[1], sizeof pixels[0]) == 0;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool works;

static void check(void) {
  writer w = {0};
  works = write_image(&w) && same_pixels(&w, 1) && same_pixels(&w, 8);
  jpeg_destroy_compress(&w.c);
  free(w.bytes);
}

bool dft_jpeg_entropy_works(void) {
  return pthread_once(&once, check) == 0 && works;
}
