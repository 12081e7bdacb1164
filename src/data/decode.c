#include "decode.h"
#include "dft/module.h"
#include "row_sink.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- formats ---- */

typedef struct format {
  const char *name;
  int offset, length;
  const char *magic;
  dft_image_format format;
  const dft_raster_reader *reader; /* NULL: the module's */
  const dft_raster_reader *second; /* what reads a file that `reader` fails at; NULL: nothing */
} format;

static const format formats[] = {
    {"JPEG", 0, 3, "\xff\xd8\xff", DFT_IMAGE_JPEG, &dft_jpeg_reader, &dft_plain_jpeg_reader},
    {"PNG", 0, 8, "\x89PNG\r\n\x1a\n", DFT_IMAGE_PNG, NULL, NULL},
    {"WebP", 8, 4, "WEBP", DFT_IMAGE_WEBP, NULL, NULL},
    {"GIF", 0, 5, "GIF87", DFT_IMAGE_GIF, NULL, NULL},
    {"GIF", 0, 5, "GIF89", DFT_IMAGE_GIF, NULL, NULL},
    {"TIFF", 0, 4, "II*\0", DFT_IMAGE_TIFF, NULL, NULL},
    {"TIFF", 0, 4, "MM\0*", DFT_IMAGE_TIFF, NULL, NULL},
    {"TIFF", 0, 4, "II+\0", DFT_IMAGE_TIFF, NULL, NULL},
    {"TIFF", 0, 4, "MM\0+", DFT_IMAGE_TIFF, NULL, NULL},
    {"BMP", 0, 2, "BM", DFT_IMAGE_BMP, &dft_bmp_reader, NULL},
};

/* What people have that is an image and not for us. */
static const format foreign[] = {
    {"HEIF or AVIF", 4, 4, "ftyp", 0, NULL, NULL}, {"JPEG XL", 0, 2, "\xff\x0a", 0, NULL, NULL},
    {"JPEG 2000", 4, 4, "jP  ", 0, NULL, NULL},    {"PDF", 0, 4, "%PDF", 0, NULL, NULL},
    {"SVG", 0, 4, "<svg", 0, NULL, NULL},          {"Photoshop", 0, 4, "8BPS", 0, NULL, NULL},
};

static const format *find_format(const format *table, size_t entries, const void *bytes, size_t count) {
  for (size_t i = 0; i < entries; i++) {
    size_t end = (size_t)(table[i].offset + table[i].length);
    if (count >= end &&
        memcmp((const char *)bytes + table[i].offset, table[i].magic, (size_t)table[i].length) == 0)
      return &table[i];
  }
  return NULL;
}

const char *dft_decode_format(const void *bytes, size_t count) {
  const format *f = find_format(formats, sizeof formats / sizeof *formats, bytes, count);
  return f != NULL ? f->name : NULL;
}

static dft_status recognise(const void *bytes, size_t count, const char *name, const format **f) {
  if (count == 0) return dft_fail(DFT_EDATA, "%s: empty file", name);
  *f = find_format(formats, sizeof formats / sizeof *formats, bytes, count);
  if (*f != NULL) return DFT_OK;
  const format *known = find_format(foreign, sizeof foreign / sizeof *foreign, bytes, count);
  if (known != NULL)
    return dft_fail(DFT_EDATA, "%s: %s is not supported; convert it to JPEG, PNG, WebP, GIF, TIFF or BMP",
                    name, known->name);
  return dft_fail(DFT_EDATA, "%s: not an image (JPEG, PNG, WebP, GIF, TIFF or BMP)", name);
}

/* ---- the module ---- */

static dft_module module = {.file = "dft_decode.so",
                            .variable = "DFT_DECODE_MODULE",
                            .symbol = DFT_RASTER_MODULE_SYMBOL,
                            .library = "libvips",
                            .package = "libvips42",
                            .lock = PTHREAD_MUTEX_INITIALIZER};

static dft_status find_reader(const format *f, const char *name, const dft_raster_reader **reader) {
  *reader = f->reader;
  if (f->reader != NULL) return DFT_OK;
  DFT_TRY(dft_module_need(&module, name, f->name));
  *reader = module.object;
  return DFT_OK;
}

/* ---- one image ---- */

static dft_status check_size(int64_t height, int64_t width, const char *name) {
  if (height < 1 || width < 1) return dft_fail(DFT_EDATA, "%s: an image without pixels", name);
  if (height > DFT_DECODE_MAX_SIDE || width > DFT_DECODE_MAX_SIDE)
    return dft_fail(DFT_EDATA, "%s: %lld x %lld pixels, more than %d on a side are refused", name,
                    (long long)width, (long long)height, DFT_DECODE_MAX_SIDE);
  if (height * width > DFT_DECODE_MAX_PIXELS)
    return dft_fail(DFT_EDATA, "%s: %lld x %lld pixels, more than %lld are refused", name, (long long)width,
                    (long long)height, (long long)DFT_DECODE_MAX_PIXELS);
  return DFT_OK;
}

static dft_status read_rows(const dft_raster_reader *reader, void *handle, dft_row_sink *sink,
                            dft_raster_error *error) {
  const void *rows;
  size_t stride;
  while (sink->row < sink->raster.height) {
    int64_t count;
    if (!reader->rows(handle, sink->raster.height - sink->row, &rows, &stride, &count, error))
      return DFT_EDATA;
    for (int64_t i = 0; i < count; i++) dft_row_sink_put(sink, (const uint8_t *)rows + (size_t)i * stride);
  }
  return DFT_OK;
}

/* bitmap NULL: the size alone. DFT_EDATA without a message of dft: what is wrong is in *error. */
static dft_status decode(const format *f, const dft_raster_reader *reader, const void *bytes, size_t count,
                         const char *name, dft_resize mode, int *height, int *width, dft_bitmap *bitmap,
                         dft_raster_error *error) {
  dft_raster raster;
  dft_row_sink sink = {0};
  void *handle;
  int64_t announced_height, announced_width;
  *error = (dft_raster_error){0};
  if (dft_announced_size(f->format, bytes, count, &announced_height, &announced_width))
    DFT_TRY(check_size(announced_height, announced_width, name));
  if (f->format == DFT_IMAGE_TIFF && dft_tiff_is_ycbcr(bytes, count)) {
    dft_raster_unsupported(error, "its colour space (YCbCr) is not supported; save it as RGB");
    return DFT_EDATA;
  }
  if (!reader->open(f->format, bytes, count, &raster, &handle, error)) return DFT_EDATA;
  dft_status status = check_size(raster.height, raster.width, name);
  if (status == DFT_OK && bitmap != NULL) {
    dft_factors by = dft_factors_for(&raster, mode, *height, *width);
    if (!reader->start(handle, dft_factors_shrink(by), &raster, error)) status = DFT_EDATA;
    by = dft_factors_for(&raster, mode, *height, *width);
    if (status == DFT_OK) status = dft_row_sink_init(&sink, &raster, by, bitmap);
    if (status == DFT_OK) status = read_rows(reader, handle, &sink, error);
    dft_row_sink_free(&sink);
  } else if (status == DFT_OK) {
    bool turned = raster.orientation >= 5;
    *height = (int)(turned ? raster.width : raster.height);
    *width = (int)(turned ? raster.height : raster.width);
  }
  reader->close(handle);
  return status;
}

/* libvips keeps the errors of all threads in one place. So that a message is this image's, a failed one is
 * decoded again with nobody beside it. */
static pthread_rwlock_t vips_lock = PTHREAD_RWLOCK_INITIALIZER;

static dft_status decode_named(const void *bytes, size_t count, const char *name, dft_resize mode,
                               int *height, int *width, dft_bitmap *bitmap) {
  const format *f;
  const dft_raster_reader *reader;
  dft_raster_error error;
  DFT_TRY(recognise(bytes, count, name, &f));
  DFT_TRY(find_reader(f, name, &reader));
  bool shared = f->reader == NULL;
  if (shared) pthread_rwlock_rdlock(&vips_lock);
  dft_status status = decode(f, reader, bytes, count, name, mode, height, width, bitmap, &error);
  if (shared) pthread_rwlock_unlock(&vips_lock);
  if (shared && error.text[0] != '\0') {
    pthread_rwlock_wrlock(&vips_lock);
    status = decode(f, reader, bytes, count, name, mode, height, width, bitmap, &error);
    pthread_rwlock_unlock(&vips_lock);
  }
  if (f->second != NULL && error.text[0] != '\0' && !error.out_of_memory)
    status = decode(f, f->second, bytes, count, name, mode, height, width, bitmap, &error);
  if (error.text[0] == '\0') return status;
  if (error.out_of_memory) return dft_fail_memory(name, 0);
  return dft_fail(DFT_EDATA, "%s: %s%s: %s", name, error.unsupported ? "" : "damaged or truncated ", f->name,
                  error.text);
}

dft_status dft_decode_size(const void *bytes, size_t count, const char *name, int *height, int *width) {
  return decode_named(bytes, count, name, DFT_RESIZE_STRETCH, height, width, NULL);
}

dft_status dft_decode(const void *bytes, size_t count, const char *name, dft_resize mode, int out_height,
                      int out_width, dft_bitmap *bitmap) {
  return decode_named(bytes, count, name, mode, &out_height, &out_width, bitmap);
}

void dft_bitmap_free(dft_bitmap *bitmap) {
  free(bitmap->rgb);
  *bitmap = (dft_bitmap){0};
}

/* ---- to the model's size ---- */

dft_image_reader dft_image_reader_make(dft_resize mode, int out_height, int out_width,
                                       dft_preprocessing preprocessing) {
  return (dft_image_reader){
      .mode = mode, .out_height = out_height, .out_width = out_width, .preprocessing = preprocessing};
}

void dft_image_reader_free(dft_image_reader *r) {
  dft_bitmap_free(&r->bitmap);
  dft_loader_free(&r->loader);
}

dft_status dft_image_reader_pixels(dft_image_reader *r, const uint8_t *rgb, int height, int width,
                                   float *out) {
  if (r->loader.height != height || r->loader.width != width) {
    dft_loader_free(&r->loader);
    r->loader = (dft_loader){.height = height,
                             .width = width,
                             .channels = 3,
                             .type = DFT_TYPE_U8,
                             .out_height = r->out_height,
                             .out_width = r->out_width,
                             .preprocessing = r->preprocessing};
    dft_status status = dft_loader_init(&r->loader, r->mode);
    if (status != DFT_OK) {
      r->loader.height = 0; /* there are no tables */
      return status;
    }
  }
  dft_loader_image(&r->loader, rgb, out);
  return DFT_OK;
}

dft_status dft_image_reader_file(dft_image_reader *r, const void *bytes, size_t count, const char *name,
                                 float *out) {
  DFT_TRY(dft_decode(bytes, count, name, r->mode, r->out_height, r->out_width, &r->bitmap));
  return dft_image_reader_pixels(r, r->bitmap.rgb, r->bitmap.height, r->bitmap.width, out);
}
