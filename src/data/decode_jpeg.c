/* JPEG through libjpeg, with Huffman decoding of our own where the file is a plain one (jpeg_entropy.h).
 * Damage that libjpeg papers over (it warns, fills up with grey and goes on) is an error here, but not what
 * leaves the pixels whole, such as bytes between segments. */
#include "jpeg_entropy.h"
#include "raster.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* libjpeg's message codes, for which Debian installs no header of their own. */
#define JMESSAGE(code, string) code,
typedef enum {
#include <jerror.h>
  LAST_CODE
} message_code;

enum { MAX_SCANS = 500, STRIP_ROWS = 16 };

typedef struct jpeg_image {
  struct jpeg_decompress_struct c;
  struct jpeg_error_mgr errors;
  struct jpeg_progress_mgr progress;
  jmp_buf escape;
  dft_raster_error *error;
  dft_jpeg_entropy *entropy; /* the thread's; NULL: libjpeg's own Huffman decoding */
  uint8_t *strip;            /* [STRIP_ROWS][stride] */
  size_t stride;
} jpeg_image;

static _Noreturn void fail_with(jpeg_image *j, const char *what) {
  (void)dft_raster_refuse(j->error, what);
  longjmp(j->escape, 1);
}

/* libjpeg's memory may also end at what JPEGMEM of the environment allows it. */
static void fail(j_common_ptr c) {
  jpeg_image *j = c->client_data;
  char text[JMSG_LENGTH_MAX];
  c->err->format_message(c, text);
  j->error->out_of_memory =
      c->err->msg_code == JERR_OUT_OF_MEMORY || c->err->msg_code == JERR_NO_BACKING_STORE;
  fail_with(j, text);
}

static const char unusual[] = "not a plain baseline file"; /* never the last word: libjpeg tries again */

void dft_jpeg_unusual(j_decompress_ptr cinfo) {
  fail_with(cinfo->client_data, unusual);
}

dft_jpeg_entropy *dft_jpeg_entropy_of(j_decompress_ptr cinfo) {
  return ((jpeg_image *)cinfo->client_data)->entropy;
}

/* Tables stay with the thread. NULL: there is no memory, or no key, for them. */
static pthread_key_t entropy_key;
static pthread_once_t entropy_once = PTHREAD_ONCE_INIT;
static int entropy_error;

static void make_entropy_key(void) {
  entropy_error = pthread_key_create(&entropy_key, dft_jpeg_entropy_free);
}

static dft_jpeg_entropy *get_entropy(void) {
  if (pthread_once(&entropy_once, make_entropy_key) != 0 || entropy_error != 0) return NULL;
  dft_jpeg_entropy *e = pthread_getspecific(entropy_key);
  if (e != NULL || (e = dft_jpeg_entropy_make()) == NULL) return e;
  if (pthread_setspecific(entropy_key, e) == 0) return e;
  dft_jpeg_entropy_free(e);
  return NULL;
}

static void warn(j_common_ptr c, int level) {
  if (level >= 0) return; /* a trace */
  switch (c->err->msg_code) {
  case JWRN_JPEG_EOF:
  case JWRN_HIT_MARKER:
  case JWRN_HUFF_BAD_CODE:
  case JWRN_ARITH_BAD_CODE:
  case JWRN_MUST_RESYNC:
  case JWRN_NOT_SEQUENTIAL:
  case JWRN_BOGUS_PROGRESSION:
    fail(c);
    break;
  default:
    break;
  }
}

static void say_nothing(j_common_ptr c) {
  (void)c;
}

/* A small progressive file can ask for any number of passes over a large image. */
static void count_scans(j_common_ptr c) {
  jpeg_image *j = c->client_data;
  if (j->c.input_scan_number <= MAX_SCANS) return;
  char text[64];
  snprintf(text, sizeof text, "more than %d scans", MAX_SCANS);
  fail_with(j, text);
}

static void close_jpeg(void *handle) {
  jpeg_image *j = handle;
  jpeg_destroy_decompress(&j->c);
  free(j->strip);
  free(j);
}

static int find_orientation(const struct jpeg_decompress_struct *c) {
  for (const struct jpeg_marker_struct *m = c->marker_list; m != NULL; m = m->next)
    if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && memcmp(m->data, "Exif\0", 6) == 0)
      return dft_exif_orientation(m->data + 6, m->data_length - 6);
  return 1;
}

static bool choose_colour(jpeg_image *j, dft_raster *raster) {
  struct jpeg_decompress_struct *c = &j->c;
  raster->bands = c->num_components;
  if (c->num_components == 1) {
    c->out_color_space = JCS_GRAYSCALE;
    raster->colour = DFT_COLOUR_GREY;
  } else if (c->num_components == 3) {
    c->out_color_space = JCS_RGB;
    raster->colour = DFT_COLOUR_RGB;
  } else if (c->num_components == 4) {
    c->out_color_space = JCS_CMYK;
    raster->colour = DFT_COLOUR_CMYK;
    raster->inverted = true; /* all of them, as Pillow has it */
  } else {
    snprintf(j->error->text, sizeof j->error->text, "%d colour components", c->num_components);
    return false;
  }
  return true;
}

static bool open_jpeg(dft_image_format format, const void *bytes, size_t count, dft_raster *raster,
                      void **handle, dft_raster_error *error) {
  (void)format;
  *handle = NULL;
  jpeg_image *j = calloc(1, sizeof *j);
  if (j == NULL) return dft_raster_no_memory(error);
  j->error = error;
  j->c.err = jpeg_std_error(&j->errors);
  j->errors.error_exit = fail;
  j->errors.emit_message = warn;
  j->errors.output_message = say_nothing;
  j->c.client_data = j;
  if (setjmp(j->escape)) {
    close_jpeg(j);
    return false;
  }
  jpeg_create_decompress(&j->c);
  j->progress.progress_monitor = count_scans;
  j->c.progress = &j->progress;
  jpeg_mem_src(&j->c, bytes, (unsigned long)count);
  jpeg_save_markers(&j->c, JPEG_APP0 + 1, 0xffff);
  jpeg_read_header(&j->c, TRUE);
  *raster = (dft_raster){.height = j->c.image_height, .width = j->c.image_width, .sample_bytes = 1};
  raster->orientation = find_orientation(&j->c);
  if (!choose_colour(j, raster)) {
    close_jpeg(j);
    return false;
  }
  *handle = j;
  return true;
}

static bool start_plain(void *handle, int shrink, dft_raster *raster, dft_raster_error *error) {
  jpeg_image *j = handle;
  j->error = error;
  if (setjmp(j->escape)) return false;
  j->c.scale_num = 1;
  j->c.scale_denom = (unsigned)shrink;
  jpeg_start_decompress(&j->c);
  raster->height = j->c.output_height;
  raster->width = j->c.output_width;
  j->stride = (size_t)j->c.output_width * (size_t)j->c.output_components;
  j->strip = malloc(STRIP_ROWS * j->stride);
  return j->strip != NULL || dft_raster_no_memory(error);
}

/* From here on libjpeg asks our decoder for coefficients; false: it cannot read this file. */
static bool take_entropy(jpeg_image *j, bool always) {
  j->entropy = get_entropy();
  if (j->entropy != NULL && !dft_jpeg_entropy_take(j->entropy, &j->c, always)) j->entropy = NULL;
  return j->entropy != NULL;
}

static bool start_jpeg(void *handle, int shrink, dft_raster *raster, dft_raster_error *error) {
  if (!start_plain(handle, shrink, raster, error)) return false;
  if (dft_jpeg_entropy_works()) (void)take_entropy(handle, false);
  return true;
}

static bool start_fast(void *handle, int shrink, dft_raster *raster, dft_raster_error *error) {
  if (!start_plain(handle, shrink, raster, error)) return false;
  return take_entropy(handle, true) || dft_raster_refuse(error, unusual);
}

static bool jpeg_rows(void *handle, int64_t most, const void **rows, size_t *stride_bytes, int64_t *count,
                      dft_raster_error *error) {
  jpeg_image *j = handle;
  j->error = error;
  JSAMPROW lines[STRIP_ROWS];
  for (int i = 0; i < STRIP_ROWS; i++) lines[i] = j->strip + (size_t)i * j->stride;
  *rows = j->strip;
  *stride_bytes = j->stride;
  *count = 0;
  if (setjmp(j->escape)) return false;
  int64_t want = most < STRIP_ROWS ? most : STRIP_ROWS;
  while (*count < want) *count += jpeg_read_scanlines(&j->c, lines + *count, (JDIMENSION)(want - *count));
  if (j->entropy != NULL && j->c.output_scanline == j->c.output_height &&
      !dft_jpeg_entropy_complete(j->entropy))
    dft_jpeg_unusual(&j->c);
  return true;
}

const dft_raster_reader dft_jpeg_reader = {
    .open = open_jpeg, .start = start_jpeg, .rows = jpeg_rows, .close = close_jpeg};
const dft_raster_reader dft_plain_jpeg_reader = {
    .open = open_jpeg, .start = start_plain, .rows = jpeg_rows, .close = close_jpeg};
const dft_raster_reader dft_fast_jpeg_reader = {
    .open = open_jpeg, .start = start_fast, .rows = jpeg_rows, .close = close_jpeg};
