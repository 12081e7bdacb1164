/* Out of memory is told as such, whatever was being read: no good file is called damaged, passed over or left
 * out. */
#include "../src/data/decode.h"
#include "dft/onnx.h"
#include "unit/checkpoint_sample.h"
#include "unit/data_files.h"
#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
/* after stdio.h */
#include <jpeglib.h>

/* Blocks of some MB, each a mapping of its own (see main), so that nothing freed before has room for them. */
enum { VALUES = 1 << 20, SIDE = 1500, LINE = 1000000, STEP_BYTES = 1 << 17, MOST_STEPS = 400, OTHER = 99 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LIMITS_WORK = false }; /* a sanitizer's own memory would be limited, too */
#else
enum { LIMITS_WORK = true };
#endif

/* From here on the process can take so many bytes more. */
static bool limit_memory(size_t more_bytes) {
  char text[128] = {0};
  int fd = open("/proc/self/statm", O_RDONLY);
  bool known = fd >= 0 && read(fd, text, sizeof text - 1) > 0;
  size_t most = strtoull(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) + more_bytes;
  return known && setrlimit(RLIMIT_AS, &(struct rlimit){most, most}) == 0;
}

/* A child's exit code: the status of the work, or OTHER if it has other words for lack of memory. */
static int work_in_little(dft_status (*work)(const bytes *), const bytes *file, size_t more_bytes) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    int code = limit_memory(more_bytes) ? (int)work(file) : OTHER;
    if (code == DFT_EINTERNAL && strncmp(dft_error(), "out of memory (", 15) != 0) code = OTHER;
    if (code != DFT_OK && code != DFT_EINTERNAL) dprintf(STDERR_FILENO, "%d: %s\n", code, dft_error());
    _exit(code);
  }
  int end;
  assert_int_equal(waitpid(child, &end, 0), child);
  assert_true(WIFEXITED(end));
  return WEXITSTATUS(end);
}

/* With ever more memory: out of memory, until it is enough. */
static void assert_told(dft_status (*work)(const bytes *), const bytes *file) {
  int code = DFT_EINTERNAL, lacking = 0;
  for (size_t step = 0; code == DFT_EINTERNAL && step < MOST_STEPS; step++) {
    code = work_in_little(work, file, step * STEP_BYTES);
    lacking += code == DFT_EINTERNAL;
  }
  assert_int_equal(code, DFT_OK);
  assert_true(lacking > 10);
}

/* ---- checkpoints and weights ---- */

static void large_state(dft_state *s, int64_t step) {
  sample_state(s);
  s->at.step = step;
  float *values = calloc(VALUES, sizeof *values);
  assert_non_null(values);
  assert_int_equal(dft_weights_add(&s->weights, "large", "kernel", 1, (int64_t[]){VALUES}, values), DFT_OK);
  free(values);
}

static dft_status decode_state(const bytes *file) {
  dft_state s;
  return dft_state_decode("some.pb", file->data, file->count, &s);
}

static void checkpoint(void **state) {
  (void)state;
  if (!LIMITS_WORK) skip();
  dft_state s;
  bytes file;
  large_state(&s, 1);
  assert_int_equal(dft_state_encode(&s, &file.data, &file.count), DFT_OK);
  dft_state_free(&s);
  assert_told(decode_state, &file);
  free(file.data);
}

static dft_store *store;

static dft_status find_newest(const bytes *unused) {
  dft_state s;
  char *path;
  bool found;
  (void)unused;
  DFT_TRY(dft_store_latest(store, &s, &path, &found));
  return found && s.at.step == 20 ? DFT_OK : dft_fail(DFT_EDATA, "%s is not the newest", path);
}

/* The newest checkpoint is not passed over for an older one that needs less. */
static void newest_checkpoint(void **state) {
  (void)state;
  if (!LIMITS_WORK) skip();
  dft_state s;
  assert_int_equal(dft_store_open("run", &store), DFT_OK);
  sample_state(&s);
  s.at.step = 10;
  assert_int_equal(dft_store_save(store, &s, DFT_SAVE_NUMBERED, 2), DFT_OK);
  dft_state_free(&s);
  large_state(&s, 20);
  assert_int_equal(dft_store_save(store, &s, DFT_SAVE_NUMBERED, 2), DFT_OK);
  dft_state_free(&s);
  assert_told(find_newest, NULL);
  dft_store_close(store);
}

static void put_field(uint8_t *at, uint8_t tag, size_t length) {
  *at = tag;
  for (int i = 1; i <= 4; i++, length >>= 7) at[i] = (uint8_t)((length & 0x7f) | (i < 4 ? 0x80 : 0));
}

static dft_status decode_onnx(const bytes *file) {
  dft_weights w;
  dft_status status = dft_onnx_decode("some.onnx", file->data, file->count, 1e-3F, &w);
  bool whole = status == DFT_EDATA && strstr(dft_error(), "an ONNX graph without convolutions") != NULL;
  return whole ? DFT_OK : status;
}

/* A graph that has one tensor of raw data and nothing else. */
static void onnx(void **state) {
  (void)state;
  if (!LIMITS_WORK) skip();
  enum { DATA_BYTES = 4 * VALUES, HEADS = 3, HEAD_BYTES = 5 };
  static const uint8_t tags[HEADS] = {0x3a, 0x2a, 0x4a}; /* graph, initializer, raw_data */
  bytes file = {.count = HEADS * HEAD_BYTES + DATA_BYTES, .data = calloc(1, HEADS * HEAD_BYTES + DATA_BYTES)};
  assert_non_null(file.data);
  for (size_t i = 0; i < HEADS; i++)
    put_field(file.data + i * HEAD_BYTES, tags[i], file.count - (i + 1) * HEAD_BYTES);
  assert_told(decode_onnx, &file);
  free(file.data);
}

/* ---- images ---- */

/* A grey JPEG of SIDE x SIDE, of which libjpeg has all coefficients in memory at once. */
static bytes progressive_jpeg(void) {
  struct jpeg_compress_struct c;
  struct jpeg_error_mgr errors;
  bytes file = {0};
  unsigned long count = 0;
  static uint8_t line[SIDE];
  JSAMPROW row = line;
  c.err = jpeg_std_error(&errors);
  jpeg_create_compress(&c);
  jpeg_mem_dest(&c, &file.data, &count);
  c.image_height = c.image_width = SIDE;
  c.input_components = 1;
  c.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&c);
  jpeg_simple_progression(&c);
  jpeg_start_compress(&c, TRUE);
  for (int y = 0; y < SIDE; y++) {
    for (int x = 0; x < SIDE; x++) line[x] = (uint8_t)(x + y);
    jpeg_write_scanlines(&c, &row, 1);
  }
  jpeg_finish_compress(&c);
  jpeg_destroy_compress(&c);
  file.count = count;
  return file;
}

static dft_status decode_to(const bytes *file, int side) {
  dft_bitmap b = {0};
  dft_status status = dft_decode(file->data, file->count, "some image", DFT_RESIZE_STRETCH, side, side, &b);
  dft_bitmap_free(&b);
  return status;
}

static dft_status decode_image(const bytes *file) {
  return decode_to(file, SIDE);
}

static void jpeg(void **state) {
  (void)state;
  if (!LIMITS_WORK) skip();
  bytes file = progressive_jpeg();
  assert_told(decode_image, &file);
  free(file.data);
}

/* What JPEGMEM allows libjpeg is a lack of memory, too. */
static void jpeg_under_its_own_limit(void **state) {
  (void)state;
  bytes file = progressive_jpeg();
  assert_int_equal(setenv("JPEGMEM", "100", true), 0); /* kB */
  dft_status status = decode_image(&file);
  assert_int_equal(unsetenv("JPEGMEM"), 0);
  assert_int_equal(status, DFT_EINTERNAL);
  assert_string_equal(dft_error(), "out of memory (some image)");
  assert_int_equal(decode_image(&file), DFT_OK);
  free(file.data);
}

static void bmp(void **state) {
  (void)state;
  if (!LIMITS_WORK) skip();
  bytes file = {0};
  uint8_t header[54] = {'B', 'M', [10] = 54, [14] = 40, [22] = 1, [26] = 1, [28] = 24};
  for (int i = 0; i < 4; i++) header[18 + i] = (uint8_t)(LINE >> (8 * i));
  uint8_t *pixels = calloc(LINE, 3);
  assert_non_null(pixels);
  append(&file, header, sizeof header);
  append(&file, pixels, (size_t)3 * LINE);
  free(pixels);
  assert_told(decode_image, &file);
  free(file.data);
}

static void append_chunk(bytes *png, const char *name, const void *data, size_t count) {
  uint8_t ends[8];
  uLong crc = crc32(crc32(0, (const Bytef *)name, 4), data, (uInt)count);
  for (int i = 0; i < 4; i++) {
    ends[i] = (uint8_t)(count >> (24 - 8 * i));
    ends[4 + i] = (uint8_t)(crc >> (24 - 8 * i));
  }
  append(png, ends, 4);
  append(png, name, 4);
  append(png, data, count);
  append(png, ends + 4, 4);
}

/* A black PNG of 4096 x 4096, interlaced: libvips has it in memory as a whole. */
static bytes interlaced_png(void) {
  enum { ROWS = 512 + 512 + 512 + 1024 + 1024 + 2048 + 2048, COUNT = 4096 * 4096 + ROWS };
  static const uint8_t header[13] = {0, 0, 16, 0, 0, 0, 16, 0, 8, [12] = 1};
  bytes png = {0};
  uint8_t *rows = calloc(COUNT, 1);
  uLongf count = compressBound(COUNT);
  uint8_t *data = malloc(count);
  assert_true(rows != NULL && data != NULL && compress2(data, &count, rows, COUNT, 1) == Z_OK);
  append(&png, "\x89PNG\r\n\x1a\n", 8);
  append_chunk(&png, "IHDR", header, sizeof header);
  append_chunk(&png, "IDAT", data, count);
  append_chunk(&png, "IEND", "", 0);
  free(rows);
  free(data);
  return png;
}

static dft_status decode_small(const bytes *file) {
  return decode_to(file, 8);
}

/* At one size alone: where little is lacking, GLib ends the process. */
static void png(void **state) {
  (void)state;
  bytes file = interlaced_png();
  if (decode_small(&file) != DFT_OK) fail_msg("%s", dft_error());
  if (LIMITS_WORK) assert_int_equal(work_in_little(decode_small, &file, 8 << 20), DFT_EINTERNAL);
  free(file.data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(checkpoint),
      cmocka_unit_test_setup_teardown(newest_checkpoint, enter_directory, leave_directory),
      cmocka_unit_test(onnx),
      cmocka_unit_test(jpeg),
      cmocka_unit_test(jpeg_under_its_own_limit),
      cmocka_unit_test(bmp),
      cmocka_unit_test(png),
  };
  mallopt(M_MMAP_THRESHOLD, 1 << 17);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
