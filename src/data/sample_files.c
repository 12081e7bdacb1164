/* Samples that are files of their own, or members of tar files: read, decoded, looked at. */
#include "dataset.h"
#include "decode.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Each thread that reads image files keeps tables and a bitmap. */
static pthread_key_t reader_key;
static pthread_once_t reader_once = PTHREAD_ONCE_INIT;
static int reader_error;

static void free_reader(void *reader) {
  dft_image_reader_free(reader);
  free(reader);
}

static void make_reader_key(void) {
  reader_error = pthread_key_create(&reader_key, free_reader);
}

/* Of this thread, for this dataset; NULL: out of memory. */
static dft_image_reader *get_reader(const dft_dataset *d, dft_preprocessing preprocessing) {
  const dft_loader *l = &d->loader;
  if (pthread_once(&reader_once, make_reader_key) != 0 || reader_error != 0) return NULL;
  dft_image_reader *r = pthread_getspecific(reader_key);
  if (r != NULL && r->mode == d->resize && r->out_height == l->out_height && r->out_width == l->out_width &&
      r->preprocessing == preprocessing)
    return r;
  if (r != NULL)
    dft_image_reader_free(r);
  else if ((r = malloc(sizeof *r)) == NULL)
    return NULL;
  *r = dft_image_reader_make(d->resize, l->out_height, l->out_width, preprocessing);
  if (pthread_setspecific(reader_key, r) == 0) return r;
  free_reader(r);
  return NULL;
}

/* What the name's ending promises against what the first bytes are. */
static void look_at(const char *name, const void *bytes, size_t count, char *warning, size_t warning_bytes) {
  static const struct {
    const char *ending, *format;
  } promises[] = {{".jpg", "JPEG"}, {".jpeg", "JPEG"}, {".png", "PNG"},   {".webp", "WebP"},
                  {".gif", "GIF"},  {".tif", "TIFF"},  {".tiff", "TIFF"}, {".bmp", "BMP"}};
  const char *format = dft_decode_format(bytes, count), *dot = strrchr(name, '.');
  warning[0] = '\0';
  for (size_t i = 0; format != NULL && dot != NULL && i < sizeof promises / sizeof *promises; i++)
    if (strcasecmp(dot, promises[i].ending) == 0 && strcmp(format, promises[i].format) != 0)
      snprintf(warning, warning_bytes, "%s: named %s, but its content is %s", name, dot, format);
}

static dft_status read_file(const dft_dataset *d, dft_preprocessing preprocessing, int64_t origin, float *out,
                            char *warning, size_t warning_bytes) {
  char name[2 * DFT_PATH_BYTES];
  uint8_t *bytes;
  size_t count;
  dft_image_reader *reader = get_reader(d, preprocessing);
  if (reader == NULL) return dft_fail_memory("image reader", sizeof *reader);
  DFT_TRY(dft_manifest_read(d->manifest, origin, &bytes, &count));
  dft_manifest_name(d->manifest, origin, true, name, sizeof name);
  if (warning != NULL) look_at(name, bytes, count, warning, warning_bytes);
  dft_status status = dft_image_reader_file(reader, bytes, count, name, out);
  free(bytes);
  return status;
}

dft_status dft_file_image(const dft_dataset *d, dft_preprocessing preprocessing, int64_t origin, float *out) {
  uint64_t stamp;
  if (d->decoded == NULL) return read_file(d, preprocessing, origin, out, NULL, 0);
  dft_image_reader *reader = get_reader(d, preprocessing);
  if (reader == NULL) return dft_fail_memory("image reader", sizeof *reader);
  dft_bitmap *bitmap = &reader->bitmap;
  if (dft_decoded_get(d->decoded, origin, bitmap, &stamp))
    return dft_image_reader_pixels(reader, bitmap->rgb, bitmap->height, bitmap->width, out);
  DFT_TRY(read_file(d, preprocessing, origin, out, NULL, 0));
  dft_decoded_put(d->decoded, origin, bitmap, stamp);
  return DFT_OK;
}

dft_status dft_dataset_check(const dft_dataset *d, int64_t sample, float *out, char *warning,
                             size_t warning_bytes) {
  warning[0] = '\0';
  if (d->manifest == NULL) return dft_dataset_image(d, sample, out);
  return read_file(d, d->loader.preprocessing, d->selection.origin[sample], out, warning, warning_bytes);
}

int64_t dft_dataset_passed_over(const dft_dataset *d, const char **example) {
  *example = "";
  return d->manifest != NULL ? dft_manifest_passed_over(d->manifest, example) : 0;
}
