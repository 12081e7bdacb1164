/* Image files of every kind, as Pillow sees them (make_images.py); cut, damaged and foreign files. */
#include "../src/data/decode.h"
#include "../src/data/raster.h"
#include "../unit/data_files.h"
#include "image_goldens.h"
#include <fcntl.h>
#include <pthread.h>

enum { CHECKS = sizeof image_checks / sizeof *image_checks, EXPECTED_MOST = 1 << 20 };

static uint8_t expected[EXPECTED_MOST];

static bytes read_image(const char *name) {
  char path[512];
  snprintf(path, sizeof path, "%s/images/%s", DFT_GOLDEN_DATA_DIR, name);
  bytes b = {.count = (size_t)size_of(path)};
  b.data = malloc(b.count); /* no byte more, so that a sanitizer sees one read too far */
  FILE *f = fopen(path, "rb");
  assert_true(b.data != NULL && fread(b.data, 1, b.count, f) == b.count);
  (void)fclose(f);
  return b;
}

static int read_expected(void **state) {
  (void)state;
  gzFile f = gzopen(DFT_GOLDEN_DATA_DIR "/images/expected.gz", "rb");
  bool fine = f != NULL && gzread(f, expected, EXPECTED_MOST) > 0;
  if (f != NULL) gzclose(f);
  return fine ? 0 : -1;
}

static void compare(const image_check *c, const dft_bitmap *b) {
  if (b->height != c->height || b->width != c->width)
    fail_msg("%s: %d x %d, Pillow has %d x %d", c->file, b->height, b->width, c->height, c->width);
  size_t values = (size_t)c->height * (size_t)c->width * 3;
  int most = 0;
  double sum = 0;
  for (size_t i = 0; i < values; i++) {
    int difference = abs((int)b->rgb[i] - (int)expected[c->offset + i]);
    if (difference > most) most = difference;
    sum += difference;
  }
  if (most > c->most || sum / (double)values > c->mean)
    fail_msg("%s, %d x %d wanted: differs from Pillow by up to %d, %.3f in the mean", c->file, c->out_height,
             c->out_width, most, sum / (double)values);
}

static void pixels_are_pillows(void **state) {
  (void)state;
  dft_bitmap b = {0};
  for (int i = 0; i < CHECKS; i++) {
    const image_check *c = &image_checks[i];
    bytes file = read_image(c->file);
    if (dft_decode(file.data, file.count, c->file, c->mode, c->out_height, c->out_width, &b) != DFT_OK)
      fail_msg("%s", dft_error());
    compare(c, &b);
    if (c->out_height == 1000) {
      int height, width;
      assert_int_equal(dft_decode_size(file.data, file.count, c->file, &height, &width), DFT_OK);
      assert_true(height == c->height && width == c->width);
    }
    free(file.data);
  }
  dft_bitmap_free(&b);
}

/* What is the golden's problem if it ends in an error or other pixels; NULL: fine. */
static const char *decode_cut(const image_check *c, const bytes *file, size_t count, dft_bitmap *b) {
  uint8_t *cut_file = malloc(count + (count == 0));
  memcpy(cut_file, file->data, count);
  dft_status status = dft_decode(cut_file, count, "cut", c->mode, c->out_height, c->out_width, b);
  free(cut_file);
  if (status == DFT_OK) {
    compare(c, b);
    return NULL;
  }
  assert_int_equal(status, DFT_EDATA);
  return dft_error();
}

/* Cut anywhere, a file gives an error in one line that names it, unless no pixel is missing. */
static void cut_files_are_errors(void **state) {
  (void)state;
  dft_bitmap b = {0};
  int last_kind = 0;
  for (int i = 0; i < CHECKS; i++) {
    const image_check *c = &image_checks[i];
    if (c->out_height != 1000) continue;
    bytes file = read_image(c->file);
    size_t step = file.count / 60 + 1, refused = 0, cuts = 0;
    for (size_t count = 0; count < file.count; count += count < 40 || count + 12 > file.count ? 1 : step) {
      const char *error = decode_cut(c, &file, count, &b);
      cuts++;
      if (error == NULL) continue;
      refused++;
      if (strncmp(error, "cut: ", 5) != 0 || strchr(error, '\n') != NULL) fail_msg("%s: %s", c->file, error);
    }
    if (refused * 100 < cuts * 60) fail_msg("%s: only %zu of %zu cuts are errors", c->file, refused, cuts);
    if (decode_cut(c, &file, file.count / 2, &b) == NULL) last_kind++;
    free(file.data);
  }
  assert_in_range(last_kind, 0, 3); /* files of which half is beside the pixels */
  dft_bitmap_free(&b);
}

/* Bytes changed anywhere never end the process. */
static void damaged_files_do_no_harm(void **state) {
  (void)state;
  dft_bitmap b = {0};
  uint32_t random = 1;
  for (int i = 0; i < CHECKS; i++) {
    const image_check *c = &image_checks[i];
    if (c->out_height != 1000) continue;
    for (int k = 0; k < 40; k++) {
      bytes file = read_image(c->file);
      for (int n = 0; n < 1 + k / 20; n++) {
        random = random * 1664525 + 1013904223;
        file.data[(random >> 8) % file.count] = (uint8_t)(random >> 24);
      }
      int height, width;
      dft_status status = dft_decode_size(file.data, file.count, "damaged", &height, &width);
      if (status == DFT_OK && (int64_t)height * width < 4000000) /* not a large image for nothing */
        status = dft_decode(file.data, file.count, "damaged", DFT_RESIZE_STRETCH, 8, 8, &b);
      if (status != DFT_OK) assert_true(status == DFT_EDATA && strncmp(dft_error(), "damaged: ", 9) == 0);
      free(file.data);
    }
  }
  dft_bitmap_free(&b);
}

#define REFUSED_FILE(data, count, ...)                                                                       \
  refused_file(data, count, (const char *const[]){__VA_ARGS__, NULL}, __LINE__)
static void refused_file(const void *data, size_t count, const char *const *words, int line) {
  dft_bitmap b = {0};
  int height, width;
  for (int k = 0; k < 2; k++) {
    dft_status status = k == 0 ? dft_decode(data, count, "a/b.jpg", DFT_RESIZE_STRETCH, 8, 8, &b)
                               : dft_decode_size(data, count, "a/b.jpg", &height, &width);
    if (status != DFT_EDATA || strncmp(dft_error(), "a/b.jpg: ", 9) != 0)
      fail_msg("line %d: status %d, %s", line, (int)status, dft_error());
    for (const char *const *w = words; *w != NULL; w++)
      if (strstr(dft_error(), *w) == NULL) fail_msg("line %d: '%s' is not in: %s", line, *w, dft_error());
  }
  assert_null(b.rgb); /* refused before there was memory for it */
}

static void foreign_files_are_refused(void **state) {
  (void)state;
  REFUSED_FILE("", 0, "empty file");
  REFUSED_FILE("This is text.\n", 14, "not an image");
  REFUSED_FILE("\xff", 1, "not an image");
  REFUSED_FILE("%PDF-1.7", 8, "PDF is not supported", "convert");
  REFUSED_FILE("\0\0\0\x18"
               "ftypheic....",
               16, "HEIF");
  REFUSED_FILE("BM", 2, "BMP", "truncated");
  REFUSED_FILE("\xff\xd8\xff\xd9", 4, "JPEG");
}

/* Sizes are taken at their word in the headers of files of some hundred bytes. */
static void bombs_are_refused(void **state) {
  (void)state;
  bytes png = read_image("rgb.png");
  memcpy(png.data + 16, "\0\0\x75\x30\0\0\x75\x30", 8); /* 30,000 x 30,000 */
  memcpy(png.data + 29, "\x00\x00\x00\x00", 4);
  /* the header's CRC, without which libpng would refuse it for that */
  uLong crc = crc32(0, png.data + 12, 17);
  for (int i = 0; i < 4; i++) png.data[29 + i] = (uint8_t)(crc >> (24 - 8 * i));
  REFUSED_FILE(png.data, png.count, "30000 x 30000 pixels", "178956970");
  free(png.data);
  bytes jpeg = read_image("420.jpg");
  for (size_t i = 0; i + 9 < jpeg.count; i++)
    if (jpeg.data[i] == 0xff && jpeg.data[i + 1] == 0xc0) {
      memcpy(jpeg.data + i + 5, "\xff\x00\xff\x00", 4);
      break;
    }
  REFUSED_FILE(jpeg.data, jpeg.count, "65280 x 65280 pixels");
  free(jpeg.data);
  bytes gif = read_image("plain.gif");
  memcpy(gif.data + 6, "\xff\xff\xff\xff", 4);
  REFUSED_FILE(gif.data, gif.count, "65535 x 65535 pixels");
  free(gif.data);
  bytes webp = read_image("animated.webp"); /* begins with VP8X */
  memcpy(webp.data + 24, "\xff\xff\0\xff\xff\0", 6);
  REFUSED_FILE(webp.data, webp.count, "65536 x 65536 pixels");
  free(webp.data);
  webp = read_image("lossless.webp");
  memcpy(webp.data + 21, "\xff\xff\xff\xff", 4);
  REFUSED_FILE(webp.data, webp.count, "16384 x 16384 pixels");
  free(webp.data);
  webp = read_image("lossy.webp");
  memcpy(webp.data + 26, "\xff\xff\xff\xff", 4);
  REFUSED_FILE(webp.data, webp.count, "16383 x 16383 pixels");
  free(webp.data);
  bytes bmp = read_image("plain.bmp");
  memcpy(bmp.data + 18, "\0\0\1\0\0\0\1\0", 8);
  REFUSED_FILE(bmp.data, bmp.count, "truncated");
  free(bmp.data);
}

static void unsupported_bitmaps_are_named(void **state) {
  (void)state;
  bytes bmp = read_image("plain.bmp");
  bmp.data[28] = 16;
  REFUSED_FILE(bmp.data, bmp.count, "16 bits per pixel");
  bmp.data[28] = 24;
  bmp.data[30] = 1;
  REFUSED_FILE(bmp.data, bmp.count, "compressed");
  if (strstr(dft_error(), "damaged") != NULL) fail_msg("nothing is damaged: %s", dft_error());
  free(bmp.data);
}

/* OS/2's bitmaps have three bytes for a colour, and no count of them. */
static void core_bitmaps_have_short_palettes(void **state) {
  (void)state;
  uint8_t bmp[26 + 3 * 256 + 4] = {
      'B', 'M', [10] = 26 + 3 * 256 % 256, [11] = 3, [14] = 12, [18] = 3, [20] = 1, [22] = 1, [24] = 8};
  for (int i = 0; i < 256; i++)
    memcpy(bmp + 26 + 3 * i, (uint8_t[]){(uint8_t)i, (uint8_t)(i / 2), (uint8_t)(255 - i)}, 3);
  memcpy(bmp + 26 + 3 * 256, (uint8_t[]){0, 7, 200}, 3);
  static const uint8_t pixels[] = {255, 0, 0, 248, 3, 7, 55, 100, 200};
  dft_bitmap b = {0};
  if (dft_decode(bmp, sizeof bmp, "core.bmp", DFT_RESIZE_STRETCH, 500, 500, &b) != DFT_OK)
    fail_msg("%s", dft_error());
  assert_true(b.height == 1 && b.width == 3);
  assert_memory_equal(b.rgb, pixels, sizeof pixels);
  dft_bitmap_free(&b);
}

/* The orientation is one number of 1, 2 or 4 bytes, in either order of bytes. */
static void orientations_of_every_type(void **state) {
  (void)state;
  static const char *const good[] = {
      "II*\0\10\0\0\0\1\0\22\1\1\0\1\0\0\0\6\0\0\0", "II*\0\10\0\0\0\1\0\22\1\3\0\1\0\0\0\6\0\0\0",
      "II*\0\10\0\0\0\1\0\22\1\4\0\1\0\0\0\6\0\0\0", "MM\0*\0\0\0\10\0\1\1\22\0\1\0\0\0\1\6\0\0\0",
      "MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\6\0\0", "MM\0*\0\0\0\10\0\1\1\22\0\4\0\0\0\1\0\0\0\6"};
  static const char *const bad[] = {"II*\0\10\0\0\0\1\0\22\1\3\0\2\0\0\0\6\0\0\0", /* two of them */
                                    "II*\0\10\0\0\0\1\0\22\1\2\0\1\0\0\0\6\0\0\0", /* a text */
                                    "MM\0*\0\0\0\10\0\1\1\22\0\4\0\0\0\1\0\6\0\6", /* too large */
                                    "II*\0\10\0\0\0\1\0\22\1\3\0\1\0\0\0\11\0\0\0"};
  static const uint8_t big[] =
      "II+\0\10\0\0\0\20\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\22\1\3\0\1\0\0\0\0\0\0\0\6\0\0\0\0\0\0\0";
  enum { BYTES = 22 };
  assert_int_equal(dft_exif_orientation(big, sizeof big - 1), 6); /* BigTIFF */
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    assert_int_equal(dft_exif_orientation((const uint8_t *)good[i], BYTES), 6);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(dft_exif_orientation((const uint8_t *)bad[i], BYTES), 1);
}

/* A directory that says: LZW, YCbCr. */
static void raw_ycbcr_is_refused(void **state) {
  (void)state;
  uint8_t tiff[] = "II*\0\10\0\0\0\2\0\3\1\3\0\1\0\0\0\5\0\0\0\6\1\3\0\1\0\0\0\6\0\0\0\0\0\0";
  REFUSED_FILE(tiff, sizeof tiff, "a/b.jpg: TIFF: its colour space (YCbCr) is not supported; save it as RGB");
  tiff[24] = 4; /* LONG */
  REFUSED_FILE(tiff, sizeof tiff, "(YCbCr) is not supported");
  const uint8_t big[] =
      "MM\0+\0\10\0\0\0\0\0\0\0\0\0\20\0\0\0\0\0\0\0\1\1\6\0\3\0\0\0\0\0\0\0\1\0\6\0\0\0\0\0\0";
  REFUSED_FILE(big, sizeof big, "(YCbCr) is not supported");
  tiff[18] = 7; /* JPEG's is libvips' to convert */
  REFUSED_FILE(tiff, sizeof tiff, "damaged or truncated TIFF");
}

/* A lossless image below twice the model's size gives what its pixels in an array give. */
static void same_as_an_array(void **state) {
  (void)state;
  static const struct {
    int height, width;
    dft_resize mode;
  } sizes[] = {{23, 31, DFT_RESIZE_STRETCH}, {12, 16, DFT_RESIZE_STRETCH}, {12, 16, DFT_RESIZE_CROP},
               {40, 50, DFT_RESIZE_PAD},     {96, 96, DFT_RESIZE_CROP},    {13, 90, DFT_RESIZE_PAD}};
  bytes file = read_image("rgb.png");
  dft_bitmap b = {0};
  assert_int_equal(dft_decode(file.data, file.count, "rgb.png", DFT_RESIZE_STRETCH, 500, 500, &b), DFT_OK);
  static float out[2][3 * 96 * 96];
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    int height = sizes[i].height, width = sizes[i].width;
    dft_loader loader = {.height = 23,
                         .width = 31,
                         .channels = 3,
                         .type = DFT_TYPE_U8,
                         .out_height = height,
                         .out_width = width,
                         .preprocessing = DFT_PREPROCESS_MOBILENET_V2};
    assert_int_equal(dft_loader_init(&loader, sizes[i].mode), DFT_OK);
    dft_loader_image(&loader, b.rgb, out[0]);
    dft_loader_free(&loader);
    dft_image_reader r = dft_image_reader_make(sizes[i].mode, height, width, DFT_PREPROCESS_MOBILENET_V2);
    for (int again = 0; again < 2; again++) {
      assert_int_equal(dft_image_reader_file(&r, file.data, file.count, "rgb.png", out[1]), DFT_OK);
      assert_memory_equal(out[0], out[1], (size_t)height * (size_t)width * 3 * sizeof(float));
    }
    dft_image_reader_free(&r);
  }
  dft_bitmap_free(&b);
  free(file.data);
}

/* Threads decode good and cut files at once: same pixels, and each error is the file's own. */
static void *decode_all(void *wrong) {
  dft_bitmap b = {0};
  for (int i = 0; i < CHECKS; i++) {
    const image_check *c = &image_checks[i];
    bytes file = read_image(c->file);
    dft_status status = dft_decode(file.data, file.count, c->file, c->mode, c->out_height, c->out_width, &b);
    if (status != DFT_OK || b.height != c->height) ++*(int *)wrong;
    file.count /= 3;
    if (dft_decode(file.data, file.count, c->file, c->mode, c->out_height, c->out_width, &b) != DFT_OK &&
        strncmp(dft_error(), c->file, strlen(c->file)) != 0)
      ++*(int *)wrong;
    free(file.data);
  }
  dft_bitmap_free(&b);
  return NULL;
}

static void threads_decode_at_once(void **state) {
  (void)state;
  enum { THREADS = 4 };
  pthread_t threads[THREADS];
  int wrong[THREADS] = {0};
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, decode_all, &wrong[i]), 0);
  for (int i = 0; i < THREADS; i++) {
    assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(wrong[i], 0);
  }
}

/* Nothing of all this was printed: stderr was a file. */
static int saved_stderr;

static int silence(void **state) {
  (void)fflush(stderr);
  saved_stderr = dup(2);
  int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
  if (fd < 0 || dup2(fd, 2) < 0) return -1;
  close(fd);
  return read_expected(state);
}

static void nothing_was_printed(void **state) {
  (void)state;
  (void)fflush(stderr);
  off_t printed = lseek(2, 0, SEEK_END);
  char text[400] = {0};
  if (printed > 0 && pread(2, text, sizeof text - 1, 0) < 0) text[0] = '\0';
  dup2(saved_stderr, 2);
  if (printed != 0) fail_msg("on stderr: %s", text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pixels_are_pillows),
      cmocka_unit_test(cut_files_are_errors),
      cmocka_unit_test(damaged_files_do_no_harm),
      cmocka_unit_test(foreign_files_are_refused),
      cmocka_unit_test(bombs_are_refused),
      cmocka_unit_test(unsupported_bitmaps_are_named),
      cmocka_unit_test(raw_ycbcr_is_refused),
      cmocka_unit_test(same_as_an_array),
      cmocka_unit_test(core_bitmaps_have_short_palettes),
      cmocka_unit_test(orientations_of_every_type),
      cmocka_unit_test(threads_decode_at_once),
      cmocka_unit_test(nothing_was_printed),
  };
  return cmocka_run_group_tests(tests, silence, NULL);
}
