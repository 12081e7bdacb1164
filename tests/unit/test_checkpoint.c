/* The checkpoint file: what goes in comes out, and nothing but a whole file is believed. */
#include "dft/crc.h"
#include "dft/file.h"
#include "unit/checkpoint_sample.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
// cmocka.h needs the headers above it
#include <cmocka.h>

enum { CRC_FIELD = 6 };

static unsigned char *bytes_of(uint64_t validation_fingerprint, size_t *count) {
  dft_state s;
  unsigned char *bytes = NULL;
  sample_state(&s);
  s.validation_fingerprint = validation_fingerprint;
  assert_int_equal(dft_state_encode(&s, &bytes, count), DFT_OK);
  dft_state_free(&s);
  return bytes;
}

static unsigned char *sample_bytes(size_t *count) {
  return bytes_of(0x0123456789abcdefu, count);
}

/* Puts the right CRC at the end of bytes that were tampered with. */
static void seal(unsigned char *bytes, size_t count) {
  uint32_t crc = dft_crc32c(0, bytes, count - CRC_FIELD);
  for (int i = 0; i < 4; i++) bytes[count - 4 + (size_t)i] = (unsigned char)(crc >> (8 * i));
}

static void assert_refused(const unsigned char *bytes, size_t count, const char *why) {
  dft_state s;
  unsigned char *exact = malloc(count + (count == 0)); /* so that a sanitizer sees a read past the end */
  memcpy(exact, bytes, count);
  assert_int_equal(dft_state_decode("some.pb", exact, count, &s), DFT_EDATA);
  if (strncmp(dft_error(), "some.pb: ", 9) != 0 || strstr(dft_error(), why) == NULL)
    fail_msg("expected 'some.pb: ...%s', got '%s'", why, dft_error());
  assert_null(s.model_name);
  free(exact);
}

/* The sample with `field` (raw protobuf) added before the CRC: valid as an envelope, wrong inside. */
static void assert_field_refused(const void *field, size_t field_bytes, const char *why) {
  size_t count;
  unsigned char *bytes = sample_bytes(&count);
  unsigned char *more = malloc(count + field_bytes);
  size_t body = count - CRC_FIELD;
  memcpy(more, bytes, body);
  memcpy(more + body, field, field_bytes);
  memcpy(more + body + field_bytes, bytes + body, CRC_FIELD);
  seal(more, count + field_bytes);
  assert_refused(more, count + field_bytes, why);
  free(more);
  free(bytes);
}

#define FIELD_REFUSED(literal, why) assert_field_refused(literal, sizeof(literal) - 1, why)

/* Replaces the one occurrence of `from` by `to`, of equal length. */
static void assert_change_refused(const char *from, const char *to, size_t length, const char *why) {
  size_t count;
  unsigned char *bytes = sample_bytes(&count);
  unsigned char *at = memmem(bytes, count, from, length);
  assert_non_null(at);
  assert_null(memmem(at + 1, count - (size_t)(at + 1 - bytes), from, length));
  memcpy(at, to, length);
  seal(bytes, count);
  assert_refused(bytes, count, why);
  free(bytes);
}

#define CHANGE_REFUSED(from, to, why) assert_change_refused(from, to, sizeof(from) - 1, why)

/* RFC 3720 B.4 and the check value of the CRC catalogue. */
static void test_crc(void **state) {
  (void)state;
  unsigned char zeros[32] = {0}, ones[32], up[32];
  memset(ones, 0xff, sizeof ones);
  for (int i = 0; i < 32; i++) up[i] = (unsigned char)i;
  assert_int_equal(dft_crc32c(0, "123456789", 9), 0xE3069283u);
  assert_int_equal(dft_crc32c(0, zeros, 32), 0x8A9136AAu);
  assert_int_equal(dft_crc32c(0, ones, 32), 0x62A8AB43u);
  assert_int_equal(dft_crc32c(0, up, 32), 0x46DD794Eu);
  assert_int_equal(dft_crc32c(0, "", 0), 0);
  assert_int_equal(dft_crc32c(dft_crc32c(0, "1234", 4), "56789", 5), 0xE3069283u);
}

static void assert_same_weights(const dft_weights *a, const dft_weights *b) {
  assert_int_equal(a->count, b->count);
  for (int i = 0; i < a->count; i++) {
    const dft_tensor *x = &a->tensors[i], *y = &b->tensors[i];
    assert_string_equal(x->layer, y->layer);
    assert_string_equal(x->variable, y->variable);
    assert_int_equal(x->rank, y->rank);
    assert_memory_equal(x->shape, y->shape, (size_t)x->rank * sizeof x->shape[0]);
    assert_memory_equal(x->data, y->data, (size_t)dft_tensor_elements(x) * sizeof(float));
  }
  assert_int_equal(a->classes, b->classes);
  for (int i = 0; i < a->classes; i++) assert_string_equal(a->class_names[i], b->class_names[i]);
}

static void assert_same_history(const dft_state *a, const dft_state *b) {
  assert_int_equal(a->history_count, b->history_count);
  for (int i = 0; i < a->history_count; i++) {
    const dft_epoch *x = &a->history[i], *y = &b->history[i];
    assert_int_equal(x->epoch, y->epoch);
    assert_string_equal(x->phase, y->phase);
    assert_true(x->accuracy == y->accuracy && x->loss == y->loss && x->learning_rate == y->learning_rate);
    assert_true(x->val_loss == y->val_loss || (isnan(x->val_loss) && isnan(y->val_loss)));
    assert_true(x->val_accuracy == y->val_accuracy || (isnan(x->val_accuracy) && isnan(y->val_accuracy)));
  }
}

static void test_round_trip(void **state) {
  (void)state;
  dft_state a, b;
  size_t count, again_count;
  unsigned char *bytes = sample_bytes(&count), *again;
  sample_state(&a);
  assert_int_equal(dft_state_decode("x", bytes, count, &b), DFT_OK);
  assert_string_equal(a.model_name, b.model_name);
  assert_string_equal(a.pooling, b.pooling);
  assert_string_equal(a.preprocessing, b.preprocessing);
  assert_string_equal(a.resize, b.resize);
  assert_string_equal(a.deciding, b.deciding);
  assert_true(a.alpha == b.alpha && a.height == b.height && a.width == b.width && a.classes == b.classes);
  assert_true(a.iterations == b.iterations && a.shards == b.shards && a.seed == b.seed);
  assert_true(a.at.phase == b.at.phase && a.at.phase_epoch == b.at.phase_epoch && a.at.epoch == b.at.epoch);
  assert_true(a.at.step == b.at.step && a.at.position == b.at.position);
  assert_true(a.at.loss_sum == b.at.loss_sum && a.at.correct_sum == b.at.correct_sum);
  assert_true(a.at.count_sum == b.at.count_sum && a.at.skipped == b.at.skipped);
  assert_true(a.at.best == b.at.best && a.at.best_epoch == b.at.best_epoch && a.at.finished == b.at.finished);
  assert_true(a.data_fingerprint == b.data_fingerprint && a.train_count == b.train_count);
  assert_true(a.validation_fingerprint == b.validation_fingerprint);
  assert_same_weights(&a.weights, &b.weights);
  assert_same_weights(&a.slots, &b.slots);
  assert_same_history(&a, &b);
  assert_int_equal(dft_state_encode(&b, &again, &again_count), DFT_OK);
  assert_int_equal(count, again_count);
  assert_memory_equal(bytes, again, count);
  free(bytes);
  free(again);
  dft_state_free(&a);
  dft_state_free(&b);
}

/* The bytes themselves are promised: a file of today must read tomorrow. */
static void test_bytes_are_fixed(void **state) {
  (void)state;
  static const struct {
    uint64_t validation_fingerprint;
    size_t count;
    uint32_t crc;
  } golden[] = {{0, 466, 0x1a6d1fe7u}, {0x0123456789abcdefu, 475, 0x2997efcbu}};
  for (int i = 0; i < 2; i++) {
    size_t count;
    unsigned char *bytes = bytes_of(golden[i].validation_fingerprint, &count);
    assert_memory_equal(bytes, DFT_CHECKPOINT_MAGIC "\x10\x01", DFT_CHECKPOINT_MAGIC_BYTES + 2);
    assert_int_equal(count, golden[i].count);
    assert_int_equal(dft_crc32c(0, bytes, count - CRC_FIELD), golden[i].crc);
    free(bytes);
  }
}

static void test_empty_state(void **state) {
  (void)state;
  dft_state a = {.model_name = NULL,
                 .alpha = 1.0,
                 .height = 32,
                 .width = 32,
                 .at.best = NAN,
                 .at.skipped = 1,
                 .at.left_out = 5},
            b;
  unsigned char *bytes;
  size_t count;
  assert_int_equal(dft_state_encode(&a, &bytes, &count), DFT_OK);
  assert_int_equal(dft_state_decode("x", bytes, count, &b), DFT_OK);
  assert_string_equal(b.model_name, "");
  assert_true(isnan(b.at.best));
  assert_int_equal(b.at.skipped, 1);
  assert_int_equal(b.at.left_out, 5);
  assert_null(b.weights.class_names);
  assert_int_equal(b.weights.count + b.slots.count + b.history_count, 0);
  dft_state_free(&b);
  dft_state_free(&b);
  free(bytes);
}

static void test_every_truncation(void **state) {
  (void)state;
  size_t count;
  unsigned char *bytes = sample_bytes(&count);
  assert_refused(bytes, 0, "empty");
  for (size_t n = 1; n < count; n++) assert_refused(bytes, n, "truncated");
  free(bytes);
}

static void test_every_flip(void **state) {
  (void)state;
  size_t count;
  unsigned char *bytes = sample_bytes(&count);
  for (size_t i = 0; i < count; i++)
    for (int bit = 0; bit < 8; bit++) {
      bytes[i] ^= (unsigned char)(1 << bit);
      assert_refused(bytes, count, i < DFT_CHECKPOINT_MAGIC_BYTES ? "not a dft checkpoint" : "damaged");
      bytes[i] ^= (unsigned char)(1 << bit);
    }
  free(bytes);
}

static void test_foreign(void **state) {
  (void)state;
  static const char hdf5[] = "\x89HDF\r\n\x1a\n and more than twenty-two bytes";
  assert_refused((const unsigned char *)hdf5, sizeof hdf5, "not a dft checkpoint");
  CHANGE_REFUSED("Checkpoint\x10\x01", "Checkpoint\x10\x02", "written by a newer dft (format 2");
  CHANGE_REFUSED("Checkpoint\x10\x01", "Checkpoint\x10\x00", "no format version");
}

/* The CRC is right, the content is not. */
static void test_hostile_content(void **state) {
  (void)state;
  CHANGE_REFUSED("\x1a\x02\x02\x03", "\x1a\x02\x03\x03", "Conv1/kernel: its shape does not fit its 6 values");
  CHANGE_REFUSED("\x1a\x02\x02\x03", "\x1a\x02\x02\x02", "Conv1/kernel: shape for 4 values, but 6");
  CHANGE_REFUSED("\x1a\x02\x02\x03", "\x1a\x02\x02\x00", "Conv1/kernel: its shape does not fit");
  FIELD_REFUSED("\x22\x0c\x0a\x01L\x12\x01v\x1a\x04\x01\x01\x01\x01",
                "L/v: its shape does not fit its 0 values");
  FIELD_REFUSED("\x22\x0f\x0a\x01L\x12\x01v\x1a\x01\x01\x22\x04\0\0\0\0"
                "\x22\x0f\x0a\x01L\x12\x01v\x1a\x01\x01\x22\x04\0\0\0\0",
                "L/v is there twice");
  FIELD_REFUSED("\x22\x13\x0a\x01L\x12\x01v\x1a\x05\x01\x01\x01\x01\x01\x22\x04\0\0\0\0",
                "L/v has 5 dimensions, at most 4");
  /* [2^62, 4]: the product would be 0 in 64 bits */
  FIELD_REFUSED("\x22\x12\x0a\x01L\x12\x01v\x1a\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x40\x04",
                "shape does not fit");
  /* what a terminal would obey, or a table break at */
  FIELD_REFUSED("\x22\x0c\x0a\x01\n\x12\x01v\x1a\x04\x01\x01\x01\x01", "not text in one line");
  CHANGE_REFUSED("head", "h\x1b[m", "the name 'h?[m' is not text in one line");
  CHANGE_REFUSED("data.batch",
                 "data\x7f"
                 "batch",
                 "a control character in the run's config");
  FIELD_REFUSED("\x22\x02\x0a\x7f", "not a valid dft.Checkpoint");  /* a length past the end */
  FIELD_REFUSED("\x22\x03\x0a\x01L", "not a valid dft.Checkpoint"); /* no variable */
  FIELD_REFUSED("\x3a\x02\x20\xff", "not a valid dft.Checkpoint");
}

static void test_wrong_numbers(void **state) {
  (void)state;
  dft_state s;
  unsigned char *bytes;
  size_t count;
  struct {
    int *value;
    int wrong;
    const char *why;
  } cases[] = {{&s.height, 0, "impossible model"},   {&s.classes, 4, "3 class names for 4 classes"},
               {&s.classes, -1, "impossible model"}, {&s.shards, 6, "6 shards: not a power of two"},
               {&s.at.epoch, -1, "negative"},        {&s.at.best_epoch, -2, "negative"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    sample_state(&s);
    *cases[i].value = cases[i].wrong;
    assert_int_equal(dft_state_encode(&s, &bytes, &count), DFT_OK);
    assert_refused(bytes, count, cases[i].why);
    dft_state_free(&s);
    free(bytes);
  }
  static const double alphas[] = {0, -1, 8.5, NAN, INFINITY};
  for (size_t i = 0; i < sizeof alphas / sizeof *alphas; i++) {
    sample_state(&s);
    s.alpha = alphas[i];
    assert_int_equal(dft_state_encode(&s, &bytes, &count), DFT_OK);
    assert_refused(bytes, count, "impossible model");
    dft_state_free(&s);
    free(bytes);
  }
}

/* Empty tensors of 6 bytes each, which would take 25 times that in memory: refused before it is taken. */
static void test_memory_bomb(void **state) {
  (void)state;
  enum { PARTS = 300000, PART_BYTES = 6 };
  unsigned char *many = malloc((size_t)PARTS * PART_BYTES);
  for (size_t i = 0; i < PARTS; i++) memcpy(many + i * PART_BYTES, "\x22\x04\x0a\x00\x12\x00", PART_BYTES);
  assert_field_refused(many, (size_t)PARTS * PART_BYTES, "holds more parts than a checkpoint has");
  free(many);
}

static void test_missing_files(void **state) {
  (void)state;
  dft_state s;
  assert_int_equal(dft_state_read("/nonexistent/a.pb", &s), DFT_EDATA);
  assert_string_equal(dft_error(), "/nonexistent/a.pb: cannot open: No such file or directory");
  assert_int_equal(dft_state_read("/", &s), DFT_EDATA);
  assert_string_equal(dft_error(), "/: is not a file");
}

/* protoc, which shares no code with protobuf-c, reads the file and writes the same bytes again. */
static void test_protoc_agrees(void **state) {
  (void)state;
  if (system("command -v protoc >/dev/null") != 0) skip();
  char source[] = __FILE__, directory[] = "/tmp/dft-protoc-XXXXXX", command[4096], text[8192];
  *strstr(source, "tests/unit/") = 0;
  assert_non_null(mkdtemp(directory));
  size_t count;
  unsigned char *bytes = sample_bytes(&count);
  snprintf(command, sizeof command, "%s/a.pb", directory);
  assert_int_equal(dft_write_file(command, bytes, count), DFT_OK);
  free(bytes);
  snprintf(command, sizeof command,
           "cd %s && protoc --decode=dft.Checkpoint --proto_path=%sproto dft.proto <a.pb >a.txt && "
           "protoc --encode=dft.Checkpoint --proto_path=%sproto dft.proto <a.txt >b.pb && cmp a.pb b.pb && "
           "cat a.txt && "
           "rm -r %s",
           directory, source[0] ? source : "./", source[0] ? source : "./", directory);
  FILE *pipe = popen(command, "r");
  assert_non_null(pipe);
  size_t length = fread(text, 1, sizeof text - 1, pipe);
  text[length] = 0;
  assert_int_equal(pclose(pipe), 0);
  assert_non_null(strstr(text, "layer: \"Conv1\""));
  assert_non_null(strstr(text, "data: 1.5\n"));
  assert_non_null(strstr(text, "preprocessing: \"unit\""));
}

/* Everything the state holds is said. */
static void test_inspect(void **state) {
  (void)state;
  static const char *const expected[] = {
      "mobilenet_v2, alpha 0.35, input 33x35x3, pooling avg",
      "preprocessing unit, resize pad",
      "3: Pullover, Coat, Shirt",
      "not finished: 2 epochs, 27 steps done; phase 2, 1 epochs and 7 steps",
      "40 samples: accuracy 0.7949, loss 0.3205",
      "0.75 in epoch 1",
      "seed -42, 8 shards",
      "100 samples, fingerprint fedcba9876543210",
      "validation    fingerprint 0123456789abcdef",
      "head                0.5000        1.2500        0.3750        0.7500",
      "tail                0.6250        1.0000             -             -",
      "weights: 3 tensors, 12 numbers",
      "Conv1                                6  kernel [2,3]",
      "optimizer: 1 tensors, 3 numbers",
      "bias/momentum [3]",
      "  data.batch_size=10\n"};
  dft_state s;
  char *text = NULL;
  size_t length;
  FILE *out = open_memstream(&text, &length);
  sample_state(&s);
  assert_int_equal(dft_inspect(&s, out), DFT_OK);
  fclose(out);
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
    if (strstr(text, expected[i]) == NULL) fail_msg("'%s' is not in:\n%s", expected[i], text);
  free(text);
  FILE *full = fopen("/dev/full", "w");
  if (full != NULL) {
    assert_int_equal(dft_inspect(&s, full), DFT_EIO);
    fclose(full);
  }
  dft_state_free(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_crc),
      cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_bytes_are_fixed),
      cmocka_unit_test(test_empty_state),
      cmocka_unit_test(test_every_truncation),
      cmocka_unit_test(test_every_flip),
      cmocka_unit_test(test_foreign),
      cmocka_unit_test(test_hostile_content),
      cmocka_unit_test(test_wrong_numbers),
      cmocka_unit_test(test_memory_bomb),
      cmocka_unit_test(test_missing_files),
      cmocka_unit_test(test_protoc_agrees),
      cmocka_unit_test(test_inspect),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
