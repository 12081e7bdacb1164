/* The module dft_decode.so: PNG, WebP, GIF and TIFF through libvips. It is loaded by dlopen, so that only
 * runs that meet such images start libvips.
 *
 * Rows are pulled on the calling thread through a region, a strip at a time: libvips' own threads stay out
 * of it, many images are decoded at once by many threads, and a large image never lies in memory as a whole
 * unless its format needs that (interlaced PNG, WebP, GIF). */
#include "../raster.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vips/vips.h>

enum { STRIP_ROWS = 32 };

typedef struct vips_handle {
  dft_image_format format;
  const void *bytes;
  size_t count;
  VipsImage *image;
  VipsRegion *region;
  int64_t next;
} vips_handle;

/* ---- start ---- */

static GLogWriterOutput no_log(GLogLevelFlags level, const GLogField *fields, gsize count, gpointer data) {
  (void)level;
  (void)fields;
  (void)count;
  (void)data;
  return G_LOG_WRITER_HANDLED;
}

static void no_old_log(const gchar *domain, GLogLevelFlags level, const gchar *text, gpointer data) {
  (void)domain;
  (void)level;
  (void)text;
  (void)data;
}

static gpointer start_vips(gpointer unused) {
  (void)unused;
  g_log_set_writer_func(no_log, NULL, NULL);
  g_log_set_default_handler(no_old_log, NULL);
  if (vips_init("dft") != 0) return "no";
  vips_concurrency_set(1);
  vips_cache_set_max(0);
  return "yes";
}

static bool started(void) {
  static GOnce once = G_ONCE_INIT;
  return strcmp(g_once(&once, start_vips, NULL), "yes") == 0;
}

/* ---- messages ---- */

/* libvips collects lines, one "loader: what" each, on all threads alike; the first says it. Lack of memory is
 * told apart where libvips allocates pixels itself; the libraries below it have many words for that, and some
 * of them for damage, too. */
static bool fail(dft_raster_error *error) {
  static const char no_memory[] = "vips_tracked: out of memory";
  const char *text = vips_error_buffer();
  error->out_of_memory = strncmp(text, no_memory, strlen(no_memory)) == 0;
  const char *colon = strstr(text, ": "), *end = strchr(text, '\n');
  if (colon != NULL && (end == NULL || colon < end)) text = colon + 2;
  int length = end != NULL && end > text ? (int)(end - text) : (int)strlen(text);
  snprintf(error->text, sizeof error->text, "%.*s", length, text);
  if (error->text[0] == '\0') snprintf(error->text, sizeof error->text, "cannot be decoded");
  vips_error_clear();
  return false;
}

/* ---- images ---- */

static bool load(vips_handle *v, int shrink) {
  void *bytes = (void *)v->bytes;
  const char *strict = "fail_on", *access = "access";
  VipsFailOn fail_on = VIPS_FAIL_ON_ERROR;
  VipsAccess order = VIPS_ACCESS_SEQUENTIAL;
  switch (v->format) {
  case DFT_IMAGE_PNG:
    return vips_pngload_buffer(bytes, v->count, &v->image, access, order, strict, fail_on, NULL) == 0;
  case DFT_IMAGE_WEBP:
    return vips_webpload_buffer(bytes, v->count, &v->image, "scale", 1.0 / shrink, access, order, strict,
                                fail_on, NULL) == 0;
  case DFT_IMAGE_GIF:
    return vips_gifload_buffer(bytes, v->count, &v->image, access, order, strict, fail_on, NULL) == 0;
  case DFT_IMAGE_TIFF:
    return vips_tiffload_buffer(bytes, v->count, &v->image, access, order, strict, fail_on, NULL) == 0;
  default:
    return false;
  }
}

static bool describe(VipsImage *image, dft_raster *raster, dft_raster_error *error) {
  VipsBandFormat type = vips_image_get_format(image);
  VipsInterpretation space = vips_image_get_interpretation(image);
  *raster = (dft_raster){.height = vips_image_get_height(image),
                         .width = vips_image_get_width(image),
                         .bands = vips_image_get_bands(image),
                         .sample_bytes = type == VIPS_FORMAT_USHORT ? 2 : 1,
                         .orientation = vips_image_get_orientation(image)};
  if (type != VIPS_FORMAT_UCHAR && type != VIPS_FORMAT_USHORT)
    return dft_raster_unsupported(
        error, "samples that are not 8 or 16 bits are not supported; save it as 8-bit RGB");
  if (vips_image_get_coding(image) != VIPS_CODING_NONE || space == VIPS_INTERPRETATION_LAB ||
      space == VIPS_INTERPRETATION_LABS || space == VIPS_INTERPRETATION_XYZ)
    return dft_raster_unsupported(error, "its colour space is not supported; save it as RGB");
  if (space == VIPS_INTERPRETATION_CMYK && raster->bands >= 4)
    raster->colour = DFT_COLOUR_CMYK;
  else if (raster->bands <= 2)
    raster->colour = DFT_COLOUR_GREY;
  else if (raster->bands <= 4)
    raster->colour = DFT_COLOUR_RGB;
  else
    return dft_raster_unsupported(error,
                                  "more than four colour components are not supported; save it as RGB");
  return true;
}

static void drop(vips_handle *v) {
  g_clear_object(&v->region);
  g_clear_object(&v->image);
}

static void close_vips(void *handle) {
  drop(handle);
  free(handle);
}

static bool open_vips(dft_image_format format, const void *bytes, size_t count, dft_raster *raster,
                      void **handle, dft_raster_error *error) {
  *handle = NULL;
  if (!started()) return dft_raster_refuse(error, "libvips does not start");
  vips_handle *v = calloc(1, sizeof *v);
  if (v == NULL) return dft_raster_no_memory(error);
  *v = (vips_handle){.format = format, .bytes = bytes, .count = count};
  bool fine = load(v, 1) || fail(error);
  if (fine) fine = describe(v->image, raster, error);
  if (!fine) {
    close_vips(v);
    return false;
  }
  *handle = v;
  return true;
}

static bool start(void *handle, int shrink, dft_raster *raster, dft_raster_error *error) {
  vips_handle *v = handle;
  if (v->format == DFT_IMAGE_WEBP && shrink > 1) {
    drop(v);
    if (!load(v, shrink)) return fail(error);
    raster->height = vips_image_get_height(v->image);
    raster->width = vips_image_get_width(v->image);
  }
  v->region = vips_region_new(v->image);
  return v->region != NULL || fail(error);
}

static bool rows(void *handle, int64_t most, const void **pixels, size_t *stride_bytes, int64_t *count,
                 dft_raster_error *error) {
  vips_handle *v = handle;
  *count = most < STRIP_ROWS ? most : STRIP_ROWS;
  VipsRect strip = {0, (int)v->next, v->image->Xsize, (int)*count};
  if (vips_region_prepare(v->region, &strip) != 0) return fail(error);
  *pixels = VIPS_REGION_ADDR(v->region, 0, (int)v->next);
  *stride_bytes = VIPS_REGION_LSKIP(v->region);
  v->next += *count;
  return true;
}

extern const dft_raster_reader dft_raster_module_3;
const dft_raster_reader dft_raster_module_3 = {
    .open = open_vips, .start = start, .rows = rows, .close = close_vips};
