/* Safetensors files: ours come back, others' names and types are understood, bad ones are refused. */
#include "dft/safetensors.h"
#include "unit/keras_sample.h"
#include <math.h>
#include <sys/mman.h>

static char path[] = "/tmp/dft-safetensors-XXXXXX";

static int setup(void **state) {
  (void)state;
  const int fd = mkstemp(path);
  return fd < 0 ? 1 : close(fd);
}

static int teardown(void **state) {
  (void)state;
  return unlink(path);
}

/* A file of this header, or one that says it is `length` long, and some bytes after it. */
static dft_status decode_as(size_t length, const char *header, const void *data, size_t bytes,
                            dft_weights *w) {
  const size_t used = strlen(header), count = 8 + used + bytes;
  unsigned char *file = malloc(count);
  assert_non_null(file);
  for (int i = 0; i < 8; i++) file[i] = (unsigned char)((uint64_t)length >> (8 * i));
  memcpy(file + 8, header, used);
  if (bytes > 0) memcpy(file + 8 + used, data, bytes);
  dft_status status = dft_safetensors_decode("x.safetensors", file, count, w);
  free(file);
  return status;
}

static dft_status decode(const char *header, const void *data, size_t bytes, dft_weights *w) {
  return decode_as(strlen(header), header, data, bytes, w);
}

static void written_files_read_back(void **state) {
  (void)state;
  dft_weights w, again;
  dft_file_kind kind;
  char *names[] = {"cat", "d\xc3\xb6g \"x\""};
  const dft_property properties[] = {{"preprocessing", "mobilenet_v2"}};
  sample_weights(&w);
  w.class_names = names;
  w.classes = 2;
  assert_int_equal(dft_safetensors_write(path, &w, properties, 1), DFT_OK);
  assert_int_equal(dft_file_sniff(path, &kind), DFT_OK);
  assert_int_equal(kind, DFT_FILE_SAFETENSORS);
  if (dft_safetensors_read(path, &again) != DFT_OK) fail_msg("%s", dft_error());
  assert_sample(&again);
  assert_true(again.unordered);
  assert_int_equal(again.classes, 2);
  for (int i = 0; i < 2; i++) assert_string_equal(again.class_names[i], names[i]);
  dft_weights_free(&again);

  size_t bytes, header = 0;
  unsigned char *file = slurp(path, &bytes);
  for (int i = 0; i < 8; i++) header |= (size_t)file[i] << (8 * i);
  assert_int_equal(header % 8, 0); /* tensors lie evenly */
  assert_non_null(strstr((char *)file + 8, "\"preprocessing\":\"mobilenet_v2\""));
  free(file);

  names[0] = "\xff"; /* JSON is UTF-8 */
  assert_int_equal(dft_safetensors_write(path, &w, properties, 1), DFT_EDATA);
  assert_message("class names");
  w.class_names = NULL;
  w.classes = 0;
  assert_int_equal(dft_safetensors_write("/nonexistent/x", &w, NULL, 0), DFT_EIO);
  assert_message("/nonexistent/x: cannot create");
  dft_weights_free(&w);
}

static void names_end_in_layer_and_variable(void **state) {
  (void)state;
  static const char *const names[] = {"Conv1/kernel", "model/Conv1/kernel:0", "Conv1.kernel",
                                      "Conv1/depthwise_kernel:0"};
  const float value = 5;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char header[256];
    dft_weights w;
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}   ",
             names[i]);
    if (decode(header, &value, 4, &w) != DFT_OK) fail_msg("%s", dft_error());
    const dft_tensor *t = dft_weights_find(&w, "Conv1", "kernel");
    assert_non_null(t);
    assert_float_equal(t->data[0], 5, 0);
    dft_weights_free(&w);
  }
}

static void other_types_become_float32(void **state) {
  (void)state;
  static const uint16_t halves[] = {0x3c00, 0xc000, 0x0001, 0x83ff, 0x7c00, 0x7bff};
  static const float of_halves[] = {1, -2, 0x1p-24F, -0x1.ff8p-15F, INFINITY, 65504};
  static const uint16_t upper[] = {0x3f80, 0xc000, 0x0001, 0x7f80, 0xff80, 0x4049};
  static const float of_upper[] = {1, -2, 0x1p-133F, INFINITY, -INFINITY, 3.140625F};
  static const double doubles[] = {1, -2, 1e-3, 1e300, 0x1p-149, 3};
  static const float of_doubles[] = {1, -2, 1e-3F, INFINITY, 0x1p-149F, 3};
  static const struct {
    const char *dtype;
    const void *data;
    size_t bytes;
    const float *want;
  } types[] = {{"F16", halves, sizeof halves, of_halves},
               {"BF16", upper, sizeof upper, of_upper},
               {"F64", doubles, sizeof doubles, of_doubles}};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    char header[512];
    dft_weights w;
    snprintf(header, sizeof header,
             "{\"a/b\":{\"dtype\":\"%s\",\"shape\":[2,3],\"data_offsets\":[0,%zu]},"
             "\"seed\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[%zu,%zu]},"
             "\"deep\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,1],\"data_offsets\":[%zu,%zu]},"
             "\"none\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
             types[i].dtype, types[i].bytes, types[i].bytes, types[i].bytes + 2, types[i].bytes + 2,
             types[i].bytes + 4);
    char data[64] = {0};
    memcpy(data, types[i].data, types[i].bytes);
    if (decode(header, data, types[i].bytes + 4, &w) != DFT_OK) fail_msg("%s", dft_error());
    assert_int_equal(w.count, 1);
    assert_memory_equal(w.tensors[0].data, types[i].want, 6 * sizeof(float));
    dft_weights_free(&w);
  }
}

/* Whole numbers and truths are no weights, whatever their size. */
static void whole_numbers_are_passed_over(void **state) {
  (void)state;
  static const char *const dtypes[] = {"BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"};
  const float values[3] = {5};
  for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
    char header[256];
    dft_weights w;
    snprintf(header, sizeof header,
             "{\"a/b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
             "\"step\":{\"dtype\":\"%s\",\"shape\":[1],\"data_offsets\":[4,12]}}",
             dtypes[i]);
    if (decode(header, values, sizeof values, &w) != DFT_OK) fail_msg("%s", dft_error());
    assert_int_equal(w.count, 1);
    dft_weights_free(&w);
  }
}

#define ENTRY(dtype, shape, begin, end)                                                                      \
  "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void bad_files_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *header, *message;
  } files[] = {
      {"{}", "without any weights"},
      {"[]", "its header is no JSON object"},
      {"{\"a\":", "its header is no JSON object"},
      {"{\"a/b\":5}", "a/b: is not described by an object"},
      {"{\"a/b\":{}}", "a/b: has no dtype"},
      {"{\"a/b\":" ENTRY("F8_E4M3", "[1]", "0", "1") "}", "a/b: dtype F8_E4M3; F32, F16"},
      {"{\"a/b\":{\"dtype\":\"F32\"}}", "a/b: has no shape"},
      {"{\"a/b\":" ENTRY("F32", "[-1]", "0", "4") "}", "is no shape of weights"},
      {"{\"a/b\":" ENTRY("\\n\\u001b[31m", "[1]", "0", "4") "}", "a/b: dtype ??[31m; F32"},
      {"{\"a/b\":" ENTRY("F32", "[0]", "0", "0") "}", "without any weights"},
      {"{\"a/b\":" ENTRY("F32", "[1]", "0", "4") "}", "overlap or leave bytes"},
      {"{\"a/b\":" ENTRY("F32", "[1]", "0", "4") ",\"c/d\":" ENTRY("F32", "[1]", "0", "4") "}",
       "overlap or leave bytes"},
      {"{\"a/b\":" ENTRY("I64", "[1]", "0", "8") "}", "without any weights"},
      {"{\"a/b\":" ENTRY("F32", "[1.0]", "0", "4") "}", "is no shape of weights"},
      {"{\"a/b\":" ENTRY("F32", "[1073741824,1073741824]", "0", "4") "}", "is no shape of weights"},
      {"{\"a/b\":{\"dtype\":\"F32\",\"shape\":[1]}}", "has no data_offsets"},
      {"{\"a/b\":" ENTRY("F32", "[1]", "4", "0") "}", "has no data_offsets"},
      {"{\"a/b\":" ENTRY("F32", "[3]", "0", "12") "}", "a/b: lies beyond the file's end: it is truncated"},
      {"{\"a/b\":" ENTRY("F32", "[1]", "0", "8") "}", "its bytes do not fit its shape"},
      {"{\"a/b\":" ENTRY("F32", "[2]", "0", "8") ",\"c/d\":" ENTRY("F32", "[1]", "4", "8") "}",
       "overlap or leave bytes"},
      {"{\"a/b\":" ENTRY("F32", "[1]", "0", "4") ",\"x/a/b:0\":" ENTRY("F32", "[1]", "4", "8") "}",
       "is there twice"},
      {"{\"a\\n/b\":" ENTRY("F32", "[1]", "0", "4") "}", "control character"},
      {"{\"a/b\":" ENTRY("F32", "[2]", "0", "8") ",\"__metadata__\":{\"dft_class_names\":5}}", "is no text"},
      {"{\"a/b\":" ENTRY("F32", "[2]", "0", "8") ",\"__metadata__\":{\"dft_class_names\":\"[1]\"}}",
       "entry 0 is no name"},
      {"{\"a/b\":" ENTRY("F32", "[2]", "0", "8") ",\"__metadata__\":{\"dft_class_names\":\"{}\"}}",
       "is no list of 1 to 100000 names"},
  };
  static const float data[2] = {1, 2};
  dft_weights w;
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    assert_int_equal(decode(files[i].header, data, sizeof data, &w), DFT_EDATA);
    assert_message(files[i].message);
    assert_message("x.safetensors: ");
    assert_int_equal(w.count, 0);
  }
  assert_int_equal(decode_as((size_t)1 << 40, "{}", NULL, 0, &w), DFT_EDATA);
  assert_message("no safetensors file: its header would have");
  assert_int_equal(decode_as(100, "{}", NULL, 0, &w), DFT_EDATA);
  assert_message("truncated in its header");
  assert_int_equal(dft_safetensors_decode("x.safetensors", (const unsigned char *)"abc", 3, &w), DFT_EDATA);
  assert_message("truncated after 3 bytes");
  assert_int_equal(dft_safetensors_read("/nonexistent", &w), DFT_EDATA);
  assert_message("/nonexistent: cannot open");
}

/* 512 MiB of float16 are 1 GiB of float32: one value more is refused before anything is allocated for it. */
static void too_many_weights_are_refused(void **state) {
  (void)state;
  enum { ELEMENTS = (1 << 28) + 1 };
  char header[128];
  dft_weights w;
  const int used = snprintf(header, sizeof header, "{\"a/b\":" ENTRY("F16", "[%d]", "0", "%d") "}", ELEMENTS,
                            2 * ELEMENTS);
  const size_t bytes = 8 + (size_t)used + 2 * (size_t)ELEMENTS;
  unsigned char *file =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  assert_true(file != MAP_FAILED);
  file[0] = (unsigned char)used;
  memcpy(file + 8, header, (size_t)used);
  assert_int_equal(dft_safetensors_decode("x.safetensors", file, bytes, &w), DFT_EDATA);
  assert_message("x.safetensors: a/b: with it there is more than 1 GiB of weights");
  assert_int_equal(munmap(file, bytes), 0);
}

/* By tests/fuzz/corpus/make_export_seeds.py, with safetensors' own library. The sample's values are whole
 * 512ths, which float16 has too. */
static void files_of_the_library_give_the_sample(void **state) {
  (void)state;
  static const char *const names[] = {"sample", "halves", "doubles"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char made[1024];
    dft_weights w;
    snprintf(made, sizeof made, "%.*s/../fuzz/corpus/safetensors/%s.safetensors",
             (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__, names[i]);
    if (dft_safetensors_read(made, &w) != DFT_OK) fail_msg("%s", dft_error());
    assert_sample(&w);
    dft_weights_free(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(written_files_read_back),
      cmocka_unit_test(names_end_in_layer_and_variable),
      cmocka_unit_test(whole_numbers_are_passed_over),
      cmocka_unit_test(other_types_become_float32),
      cmocka_unit_test(files_of_the_library_give_the_sample),
      cmocka_unit_test(bad_files_are_refused),
      cmocka_unit_test(too_many_weights_are_refused),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
