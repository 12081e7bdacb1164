/* TensorBoard's files, read back without dft's own CRC and without protobuf-c: TFRecord frames whose CRCs are
 * computed bit by bit, and messages taken apart by their field numbers. */
#include "../../src/report/tensorboard.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/dft-events-XXXXXX";

static const char *in_directory(const char *name) {
  static char path[256];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  return path;
}

static uint32_t crc32c(const unsigned char *bytes, size_t count) {
  uint32_t crc = 0xffffffffU;
  for (size_t i = 0; i < count; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
  }
  return ~crc;
}

static uint64_t little_endian(const unsigned char *bytes, int count) {
  uint64_t value = 0;
  for (int i = 0; i < count; i++) value |= (uint64_t)bytes[i] << (8 * i);
  return value;
}

static uint32_t unmask(uint32_t masked) {
  uint32_t rotated = masked - 0xa282ead8U;
  return rotated >> 17 | rotated << 15;
}

typedef struct span {
  const unsigned char *at, *end;
} span;

static uint64_t varint(span *s) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    assert_true(s->at < s->end && shift < 64);
    value |= (uint64_t)(*s->at & 0x7f) << shift;
    if ((*s->at++ & 0x80) == 0) return value;
  }
}

/* Finds a field of a message: its bytes, or those of its number. Empty with at NULL when it is not there. */
static span field(span message, unsigned number, uint64_t *value) {
  while (message.at < message.end) {
    uint64_t key = varint(&message), here = 0;
    span content = message;
    switch (key & 7) {
    case 0:
      here = varint(&message);
      break;
    case 1:
      message.at += 8;
      break;
    case 2:
      here = varint(&message);
      content.at = message.at;
      message.at += here;
      break;
    case 5:
      message.at += 4;
      break;
    default:
      fail_msg("wire type %d", (int)(key & 7));
    }
    content.end = message.at;
    assert_true(message.at <= message.end);
    if (key >> 3 == number) {
      if (value != NULL) *value = here;
      return content;
    }
  }
  return (span){NULL, NULL};
}

static span nested(span message, const unsigned *path, int depth) {
  for (int i = 0; i < depth; i++) {
    message = field(message, path[i], NULL);
    assert_non_null(message.at);
  }
  return message;
}

static bool equals(span s, const char *text) {
  return (size_t)(s.end - s.at) == strlen(text) && memcmp(s.at, text, strlen(text)) == 0;
}

static double wall_time(span event) {
  span bytes = field(event, 1, NULL);
  assert_int_equal(bytes.end - bytes.at, 8);
  uint64_t bits = little_endian(bytes.at, 8);
  double seconds;
  memcpy(&seconds, &bits, sizeof seconds);
  return seconds;
}

/* "tag step value\n" of one event; the first of a file has a version and nothing else. */
static int print_event(char *text, size_t room, span event, bool first) {
  assert_true(fabs(wall_time(event) - (double)time(NULL)) < 60);
  if (first) {
    assert_true(equals(field(event, 3, NULL), "brain.Event:2"));
    assert_null(field(event, 5, NULL).at);
    return 0;
  }
  uint64_t step = 99, type = 0;
  assert_non_null(field(event, 2, &step).at);
  span value = nested(event, (unsigned[]){5, 1}, 2), tag = field(value, 1, NULL);
  span number = nested(value, (unsigned[]){8, 5}, 2), tensor = field(value, 8, NULL);
  assert_true(equals(nested(value, (unsigned[]){9, 1, 1}, 3), "scalars"));
  assert_non_null(field(tensor, 1, &type).at);
  assert_int_equal(type, 1); /* DT_FLOAT */
  assert_true(equals(field(tensor, 2, NULL), ""));
  assert_int_equal(number.end - number.at, 4);
  uint32_t bits = (uint32_t)little_endian(number.at, 4);
  float single;
  memcpy(&single, &bits, sizeof single);
  return snprintf(text, room, "%.*s %d %g\n", (int)(tag.end - tag.at), tag.at, (int)step, (double)single);
}

static size_t read_file(const char *name, unsigned char bytes[4096]) {
  FILE *in = fopen(in_directory(name), "rb");
  assert_non_null(in);
  const size_t count = fread(bytes, 1, 4096, in);
  fclose(in);
  return count;
}

static void check_file(const char *name, const char *expected) {
  unsigned char bytes[4096];
  char text[2048] = "";
  int used = 0;
  size_t count = read_file(name, bytes), at = 0;
  for (bool first = true; at < count; first = false) {
    assert_true(count - at > 12);
    size_t length = little_endian(bytes + at, 8);
    assert_true(length <= count - at - 16);
    assert_int_equal(unmask((uint32_t)little_endian(bytes + at + 8, 4)), crc32c(bytes + at, 8));
    const unsigned char *data = bytes + at + 12;
    assert_int_equal(unmask((uint32_t)little_endian(data + length, 4)), crc32c(data, length));
    used += print_event(text + used, sizeof text - (size_t)used, (span){data, data + length}, first);
    at += length + 16;
  }
  assert_string_equal(text, expected);
}

#define TRAIN       "train/" DFT_EVENTS_FILE
#define VALIDATION  "validation/" DFT_EVENTS_FILE
#define TRAIN1      "epoch_accuracy 0 0.25\nepoch_loss 0 1.5\nepoch_learning_rate 0 0.001\n"
#define TRAIN2      "epoch_accuracy 1 0.5\nepoch_loss 1 0.75\nepoch_learning_rate 1 1e-05\n"
#define VALIDATION2 "epoch_accuracy 1 0.125\nepoch_loss 1 2\n"

static dft_epoch epochs[] = {{1, "head", .25, 1.5, NAN, NAN, 1e-3}, {2, "tail", .5, .75, .125, 2, 1e-5}};

static void must(dft_status status) {
  if (status != DFT_OK) fail_msg("%s", dft_error());
}

/* Each file is looked at while it is open: an epoch is there as soon as it has ended. */
static void test_every_epoch_once(void **state) {
  (void)state;
  assert_int_equal(crc32c((const unsigned char *)"123456789", 9), 0xe3069283U); /* RFC 3720's polynomial */
  dft_report *r = NULL;
  must(dft_report_open(directory, 0, true, NULL, 0, 0, &r));
  check_file(TRAIN, "");
  must(dft_report_epoch_end(r, &epochs[0], 2, 1));
  check_file(TRAIN, TRAIN1);
  assert_int_not_equal(access(in_directory(VALIDATION), F_OK), 0);
  must(dft_report_epoch_end(r, &epochs[1], 2, 1));
  check_file(TRAIN, TRAIN1 TRAIN2);
  check_file(VALIDATION, VALIDATION2);
  dft_report_close(r);

  /* killed in the middle of a record, resumed after epoch 1, which had no validation */
  assert_int_equal(truncate(in_directory(TRAIN), 400), 0);
  must(dft_report_open(directory, 0, true, epochs, 1, 2, &r));
  check_file(TRAIN, TRAIN1);
  check_file(VALIDATION, "");
  must(dft_report_epoch_end(r, &epochs[1], 2, 1));
  check_file(TRAIN, TRAIN1 TRAIN2);
  check_file(VALIDATION, VALIDATION2);
  dft_report_close(r);

  /* what is written again has its times again */
  unsigned char before[4096], after[4096];
  const size_t count = read_file(TRAIN, before);
  must(dft_report_open(directory, 0, true, epochs, 2, 4, &r));
  dft_report_close(r);
  check_file(TRAIN, TRAIN1 TRAIN2);
  check_file(VALIDATION, VALIDATION2);
  assert_int_equal(read_file(TRAIN, after), count);
  assert_memory_equal(before, after, count);
}

static void test_switched_off(void **state) {
  (void)state;
  dft_report *r = NULL;
  must(dft_report_open(directory, 0, false, NULL, 0, 0, &r));
  must(dft_report_epoch_end(r, &epochs[1], 2, 1));
  dft_report_close(r);
  assert_int_not_equal(access(in_directory("train"), F_OK), 0);
  assert_int_not_equal(access(in_directory("validation"), F_OK), 0);
}

static void test_errors(void **state) {
  (void)state;
  dft_events *events = NULL;
  assert_int_equal(dft_events_open("/dev/null/run", NULL, 0, &events), DFT_EIO);
  assert_non_null(strstr(dft_error(), "/dev/null/run/train"));
  assert_null(events);
  assert_int_equal(mkdir(in_directory("train"), 0700), 0);
  assert_int_equal(symlink("/dev/full", in_directory(TRAIN)), 0);
  assert_int_equal(dft_events_open(directory, epochs, 1, &events), DFT_EIO);
  assert_string_equal(strrchr(dft_error(), '/'),
                      "/" DFT_EVENTS_FILE ": cannot write: No space left on device");
  assert_int_equal(unlink(in_directory(TRAIN)), 0);
  /* a disk that fills while the run goes on */
  must(dft_events_open(directory, epochs, 1, &events));
  assert_int_equal(mkdir(in_directory("validation"), 0700), 0);
  assert_int_equal(symlink("/dev/full", in_directory(VALIDATION)), 0);
  assert_int_equal(dft_events_epoch(events, &epochs[1]), DFT_EIO);
  assert_non_null(strstr(dft_error(), in_directory(VALIDATION)));
  dft_events_close(events);
}

static int make_directory(void **state) {
  (void)state;
  strcpy(strchr(directory, '-'), "-events-XXXXXX");
  return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
  (void)state;
  static const char *const names[] = {TRAIN,         "train",     VALIDATION,   "validation",
                                      "history.csv", "log.jsonl", "report.html"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) remove(in_directory(names[i]));
  return rmdir(directory);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_every_epoch_once, make_directory, remove_directory),
      cmocka_unit_test_setup_teardown(test_switched_off, make_directory, remove_directory),
      cmocka_unit_test_setup_teardown(test_errors, make_directory, remove_directory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
