/* Our Huffman decoding beside libjpeg's own: the same pixels of every good file, and libjpeg's word about
 * every other. */
#include "../src/data/decode.h"
#include "../src/data/raster.h"
#include "../unit/data_files.h"
#include <glob.h>
/* after stdio.h */
#include <jpeglib.h>

/* The rows that a reader gives; NULL: it refuses the file, for the reason in message. */
static uint8_t *read_rows(const dft_raster_reader *reader, const bytes *file, int shrink, size_t *size,
                          dft_raster_error *error) {
  dft_raster r;
  void *handle;
  const void *rows;
  size_t stride;
  int64_t count;
  if (!reader->open(DFT_IMAGE_JPEG, file->data, file->count, &r, &handle, error)) return NULL;
  uint8_t *all = NULL, *to = NULL;
  bool fine = r.height * r.width < 4000000 && reader->start(handle, shrink, &r, error);
  if (fine) {
    size_t line = (size_t)(r.width * r.bands);
    to = all = malloc((size_t)r.height * line);
    assert_non_null(all);
    *size = (size_t)r.height * line;
    for (int64_t y = 0; y < r.height && fine; y += count) {
      fine = reader->rows(handle, r.height - y, &rows, &stride, &count, error);
      for (int64_t i = 0; i < count && fine; i++, to += line)
        memcpy(to, (const uint8_t *)rows + (size_t)i * stride, line);
    }
  }
  reader->close(handle);
  if (fine) return all;
  free(all);
  return NULL;
}

/* What we read, libjpeg alone reads to the same pixels; a good file (`ours`) we do read; and whether a file
 * is refused, and why, is libjpeg's business. */
static void same_as_libjpeg(const char *name, const bytes *file, bool ours) {
  dft_raster_error error, plain_error;
  dft_bitmap b = {0};
  int height, width;
  if (dft_decode_size(file->data, file->count, name, &height, &width) != DFT_OK || height * width > 40000)
    return;
  for (int shrink = 1; shrink <= 8; shrink *= 2) {
    size_t size = 0, plain_size = 0;
    uint8_t *plain = read_rows(&dft_plain_jpeg_reader, file, shrink, &plain_size, &plain_error);
    uint8_t *fast = read_rows(&dft_fast_jpeg_reader, file, shrink, &size, &error);
    if (ours && fast == NULL) fail_msg("%s: left to libjpeg", name);
    if (fast != NULL && (plain == NULL || size != plain_size || memcmp(fast, plain, size) != 0))
      fail_msg("%s: libjpeg has other pixels, reduced by %d", name, shrink);
    dft_status status = dft_decode(file->data, file->count, name, DFT_RESIZE_STRETCH,
                                   (height + shrink - 1) / shrink, (width + shrink - 1) / shrink, &b);
    if ((status == DFT_OK) != (plain != NULL) ||
        (plain == NULL && strstr(dft_error(), plain_error.text) == NULL))
      fail_msg("%s, reduced by %d: %s, libjpeg says: %s", name, shrink,
               status == DFT_OK ? "read" : dft_error(), plain != NULL ? "read" : plain_error.text);
    free(plain);
    free(fast);
  }
  dft_bitmap_free(&b);
}

typedef struct jpeg_kind {
  int quality, across, down, restart_interval, components;
  boolean optimize;
} jpeg_kind;

static bytes write_jpeg(const jpeg_kind *k) {
  enum { HEIGHT = 61, WIDTH = 99 };
  struct jpeg_compress_struct c;
  struct jpeg_error_mgr errors;
  unsigned char *out = NULL;
  unsigned long count = 0;
  c.err = jpeg_std_error(&errors);
  jpeg_create_compress(&c);
  jpeg_mem_dest(&c, &out, &count);
  c.image_height = HEIGHT;
  c.image_width = WIDTH;
  c.input_components = k->components;
  c.in_color_space = k->components == 1 ? JCS_GRAYSCALE : k->components == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&c);
  jpeg_set_quality(&c, k->quality, TRUE);
  if (k->components == 4) jpeg_set_colorspace(&c, JCS_YCCK);
  c.comp_info[0].h_samp_factor = k->across;
  c.comp_info[0].v_samp_factor = k->down;
  c.restart_interval = (unsigned)k->restart_interval;
  c.optimize_coding = k->optimize;
  jpeg_start_compress(&c, TRUE);
  for (size_t y = 0; y < HEIGHT; y++) {
    uint8_t line[WIDTH * 4];
    JSAMPROW row = line;
    for (size_t i = 0; i < sizeof line; i++) /* smooth, noisy and flat parts */
      line[i] = (uint8_t)(i % 150 < 50 ? i + y : i % 150 < 100 ? (i * i * 31 + y * 77) >> 3 : 200);
    jpeg_write_scanlines(&c, &row, 1);
  }
  jpeg_finish_compress(&c);
  jpeg_destroy_compress(&c);
  bytes b = {0};
  append(&b, out, count);
  free(out);
  return b;
}

static jpeg_kind kind_of(int i) {
  static const int qualities[] = {1, 40, 90, 100}, sampling[][2] = {{1, 1}, {2, 1}, {2, 2}, {1, 2}},
                   intervals[] = {0, 1, 5}, components[] = {1, 3, 4};
  return (jpeg_kind){.quality = qualities[i % 4],
                     .across = sampling[i / 4 % 4][0],
                     .down = sampling[i / 4 % 4][1],
                     .restart_interval = intervals[i / 16 % 3],
                     .optimize = i / 48 % 2,
                     .components = components[i / 96]};
}

static void huffman_is_libjpegs(void **state) {
  (void)state;
#if defined(__has_include) && __has_include(<jpegint.h>)
  assert_true(dft_jpeg_entropy_works());
#else
  skip(); /* libjpeg decodes by itself */
#endif
  uint32_t random = 7;
  for (int i = 0; i < 4 * 4 * 3 * 2 * 3; i++) {
    const jpeg_kind k = kind_of(i);
    char name[128];
    snprintf(name, sizeof name, "quality %d, %dx%d, restarts %d, %d components", k.quality, k.across, k.down,
             k.restart_interval, k.components);
    bytes file = write_jpeg(&k);
    same_as_libjpeg(name, &file, true);
    for (int n = 0; n < 2; n++) { /* then damaged, in data as a rule */
      random = random * 1664525 + 1013904223;
      file.data[file.count - 1 - (random >> 8) % (file.count / 3)] = (uint8_t)random;
      same_as_libjpeg(name, &file, false);
    }
    free(file.data);
  }
}

/* Orientation, progressive files, CMYK, others' tables; what is not for us goes to libjpeg. */
static void golden_files_are_libjpegs(void **state) {
  (void)state;
  glob_t found;
  assert_int_equal(glob(DFT_GOLDEN_DATA_DIR "/images/*.jpg", 0, NULL, &found), 0);
  for (size_t i = 0; i < found.gl_pathc; i++) {
    const char *path = found.gl_pathv[i];
    uint8_t data[16384];
    bytes file = {.data = data};
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    file.count = fread(data, 1, sizeof data, f);
    assert_true(file.count > 100 && file.count < sizeof data);
    (void)fclose(f);
    same_as_libjpeg(path, &file, strstr(path, "progressive") == NULL);
  }
  globfree(&found);
}

/* A fill byte before a stuffed zero, ff ff 00, is not allowed, and all else of such a file is fine. libjpeg
 * takes it for ff, but where its fast decoder met it first, coefficients of that attempt stay in the MCU. */
static void fill_bytes_are_libjpegs(void **state) {
  (void)state;
  const jpeg_kind k = {.quality = 100, .across = 2, .down = 2, .components = 3};
  bytes file = write_jpeg(&k);
  int found = 0;
  for (size_t at = file.count - 3; at > 700; at--) {
    if (file.data[at] != 0xff || file.data[at + 1] != 0) continue;
    bytes filled = {0};
    append(&filled, file.data, at);
    append(&filled, "\xff", 1);
    append(&filled, file.data + at, file.count - at);
    same_as_libjpeg("ff ff 00", &filled, false);
    free(filled.data);
    found++;
  }
  assert_true(found > 10);
  free(file.data);
}

/* Bytes written over data at many places: fill bytes, markers too early or out of order, zeros, ones. */
static void odd_data_is_libjpegs(void **state) {
  (void)state;
  static const struct {
    const char *bytes;
    int count;
  } odd[] = {{"\xff\xff\x00", 3},    {"\xff\xff\xff\xff\xff\xff\xff\xff\x00", 9},
             {"\xff\xd9", 2},        {"\xff\xd0", 2},
             {"\xff\xd3", 2},        {"\xff\x01", 2},
             {"\xff\xff\xd9", 3},    {"\0\0\0\0\0\0", 6},
             {"\xfe\xfe\xfe\xfe", 4}};
  for (size_t o = 0; o < sizeof odd / sizeof *odd; o++)
    for (int interval = 0; interval < 2; interval++) {
      const jpeg_kind k = {
          .quality = 90, .across = 2, .down = 2, .restart_interval = 9 * interval, .components = 3};
      bytes file = write_jpeg(&k);
      size_t step = file.count / 40;
      for (size_t at = file.count - 2; at > 700; at -= step < at ? step : at) {
        uint8_t saved[16];
        size_t n = (size_t)odd[o].count < file.count - at ? (size_t)odd[o].count : file.count - at;
        memcpy(saved, file.data + at, n);
        memcpy(file.data + at, odd[o].bytes, n);
        char name[64];
        snprintf(name, sizeof name, "odd bytes %zu at %zu of %zu", o, at, file.count);
        same_as_libjpeg(name, &file, false);
        memcpy(file.data + at, saved, n);
      }
      for (size_t cut = 1; cut < 12; cut++) {
        bytes shorter = {.data = file.data, .count = file.count - cut};
        same_as_libjpeg("cut", &shorter, false);
      }
      free(file.data);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(huffman_is_libjpegs),
      cmocka_unit_test(golden_files_are_libjpegs),
      cmocka_unit_test(fill_bytes_are_libjpegs),
      cmocka_unit_test(odd_data_is_libjpegs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
