/* Console lines against what keras.utils.Progbar of Keras 3.15 printed for the same steps and times, and the
 * two log files. */
#include "../../src/report/lines.h"
#include "../../src/report/logs.h"
#include "dft/log.h"
#include "dft/report.h"
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define B5  "━━━━━"
#define B10 B5 B5
#define B20 B10 B10

static const dft_metric validated[] = {
    {"accuracy", .2}, {"loss", 1.7041}, {"val_accuracy", .0005}, {"val_loss", 0}};
#define VALIDATED " - accuracy: 0.2000 - loss: 1.7041 - val_accuracy: 5.0000e-04 - val_loss: 0.0000e+00\n"

static void test_epoch_line(void **state) {
  (void)state;
  const dft_metric strange[] = {{"accuracy", NAN}, {"loss", INFINITY}};
  const dft_metric negative[] = {{"accuracy", -NAN}, {"loss", -1.5}};
  const struct {
    dft_bar bar;
    const char *line;
  } cases[] = {
      {{10, 10, .3, .022, validated, 4, true}, "10/10 - 0s - 22ms/step" VALIDATED},
      {{10, 10, .005, 5e-4, validated, 4, true}, "10/10 - 0s - 500us/step" VALIDATED},
      {{10, 10, 5e-5, 5e-6, validated, 4, true}, "10/10 - 0s - 5us/step" VALIDATED},
      {{10, 10, 900, 90, validated, 4, true}, "10/10 - 900s - 90s/step" VALIDATED},
      {{10, 10, 15, 1.5, validated, 4, true}, "10/10 - 15s - 2s/step" VALIDATED},
      {{10, 10, 37000, 3700, validated, 4, true}, "10/10 - 37000s - 3700s/step" VALIDATED},
      {{1, 1, .7, .7, validated, 4, true}, "1/1 - 1s - 700ms/step" VALIDATED},
      {{3, 3, .7, .1, strange, 2, true}, "3/3 - 1s - 100ms/step - accuracy: nan - loss: inf\n"},
      {{3, 3, .7, 0, negative, 2, true}, "3/3 - 1s - 0s/step - accuracy: nan - loss: -1.5000e+00\n"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char text[512] = "";
    FILE *out = fmemopen(text, sizeof text, "w");
    dft_print_line(out, &cases[i].bar);
    fclose(out);
    assert_string_equal(text, cases[i].line);
  }
}

static void check_bar(dft_bar bar, int *width, int backs, const char *line) {
  char text[1024] = "", expected[1024];
  FILE *out = fmemopen(text, sizeof text, "w");
  dft_print_bar(out, &bar, width);
  fclose(out);
  memset(expected, '\b', (size_t)backs);
  snprintf(expected + backs, sizeof expected - (size_t)backs, "%s", line);
  assert_string_equal(text, expected);
}

static void test_bar(void **state) {
  (void)state;
  int width = 0;
  const dft_metric first[] = {{"accuracy", .1}, {"loss", 2}},
                   second[] = {{"accuracy", .1188}, {"loss", 9876.9424}};
  check_bar((dft_bar){1, 10, .1, .1, first, 2, false}, &width, 0,
            "\r\x1b[1m 1/10\x1b[0m \x1b[32m━━\x1b[0m\x1b[37m" B10 B5 "━━━\x1b[0m \x1b[1m0s\x1b[0m 100ms/step"
            " - accuracy: 0.1000 - loss: 2.0000");
  check_bar((dft_bar){5, 10, .2, .025, second, 2, false}, &width, 74,
            "\r\x1b[1m 5/10\x1b[0m \x1b[32m" B10 "\x1b[0m\x1b[37m" B10 "\x1b[0m \x1b[1m0s\x1b[0m 25ms/step"
            " - accuracy: 0.1188 - loss: 9876.9424");
  check_bar((dft_bar){10, 10, .3, .02222, validated, 4, true}, &width, 76,
            "\r\x1b[1m10/10\x1b[0m \x1b[32m" B20
            "\x1b[0m\x1b[37m\x1b[0m \x1b[1m0s\x1b[0m 22ms/step" VALIDATED);
  width = 0;
  check_bar((dft_bar){1, 200, 1, 1, first, 2, false}, &width, 0,
            "\r\x1b[1m  1/200\x1b[0m \x1b[37m" B20
            "\x1b[0m \x1b[1m3:19\x1b[0m 1s/step - accuracy: 0.1000 - loss: 2.0000");
  width = 0;
  check_bar((dft_bar){1, 100000, 10, 10, first, 2, false}, &width, 0,
            "\r\x1b[1m     1/100000\x1b[0m \x1b[37m" B20 "\x1b[0m \x1b[1m277:46:30\x1b[0m 10s/step"
            " - accuracy: 0.1000 - loss: 2.0000");
  int other = 0;
  const dft_metric small[] = {{"below", -1.5}, {"tiny", 1e-3}};
  check_bar((dft_bar){1, 2, 1, 1, small, 2, false}, &other, 0,
            "\r\x1b[1m1/2\x1b[0m \x1b[32m" B10 "\x1b[0m\x1b[37m" B10 "\x1b[0m \x1b[1m1s\x1b[0m 1s/step"
            " - below: -1.5000 - tiny: 1.0000e-03");
  int wider = width; /* a shorter line wipes out what is left of the longer one */
  check_bar((dft_bar){1, 2, 1, 1, NULL, 0, true}, &width, wider,
            "\r\x1b[1m1/2\x1b[0m \x1b[32m" B10 "\x1b[0m\x1b[37m" B10 "\x1b[0m \x1b[1m1s\x1b[0m 1s/step"
            "                                                    \n");
}

static char directory[] = "/tmp/dft-report-XXXXXX";

static char *slurp(const char *name) {
  static char text[8192];
  char path[256];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  FILE *in = fopen(path, "r");
  assert_non_null(in);
  text[fread(text, 1, sizeof text - 1, in)] = '\0';
  fclose(in);
  return text;
}

static dft_report *must_open(const dft_epoch *history, int count, int64_t step) {
  dft_report *r = NULL;
  if (dft_report_open(directory, 0, false, history, count, step, &r) != DFT_OK) fail_msg("%s", dft_error());
  return r;
}

#define HEADER "epoch,phase,accuracy,loss,val_accuracy,val_loss,learning_rate\n"
#define START1 "{\"type\":\"start\",\"version\":\"0.1 \\\"x\\\"\\u000a\",\"ranks\":2}\n"
#define STEP(e, s)                                                                                           \
  "{\"type\":\"step\",\"epoch\":" e ",\"step\":" s ",\"loss\":null,\"accuracy\":0.25,"                       \
  "\"learning_rate\":0.001,\"images_per_s\":100,\"data_s\":0.5,\"compute_s\":1,\"communication_s\":0}\n"
#define EPOCH1                                                                                               \
  "{\"type\":\"epoch\",\"epoch\":1,\"phase\":\"head\",\"accuracy\":0.333333333,\"loss\":1.5,"                \
  "\"val_accuracy\":null,\"val_loss\":null,\"learning_rate\":0.001,\"seconds\":2,"                           \
  "\"images_decoded\":24,\"fetched_bytes\":5120}\n"

static void test_files(void **state) {
  (void)state;
  const dft_fact facts[] = {{"version", "0.1 \"x\"\n", false}, {"ranks", "2", true}};
  dft_epoch epochs[] = {{1, (char[]){"head"}, 1.0 / 3, 1.5, NAN, NAN, 1e-3},
                        {2, (char[]){"a,\"b"}, 1, 0.5, 0.75, 2, 1e-5}};
  dft_step_report step = {.epoch = 1,
                          .step = 1,
                          .step_in_epoch = 1,
                          .steps_per_epoch = 2,
                          .loss = NAN,
                          .accuracy = .25,
                          .learning_rate = 1e-3,
                          .images_per_s = 100,
                          .data_s = .5,
                          .compute_s = 1};
  dft_report *r = must_open(NULL, 0, 0);
  assert_int_equal(dft_report_verbose(r), 0);
  assert_int_equal(dft_report_start(r, facts, 2), DFT_OK);
  for (int i = 1; i <= 4; i++) {
    step.step = i;
    step.epoch = (i + 1) / 2;
    assert_int_equal(dft_report_step(r, &step), DFT_OK);
    dft_report_epoch_work(r, (dft_epoch_work){.images_decoded = 24, .fetched_bytes = 5120});
    if (i % 2 == 0) assert_int_equal(dft_report_epoch_end(r, &epochs[i / 2 - 1], 2, 2), DFT_OK);
  }
  dft_report_close(r);
  assert_string_equal(slurp("history.csv"), HEADER "1,head,0.333333333,1.5,,,0.001\n"
                                                   "2,\"a,\"\"b\",1,0.5,0.75,2,1e-05\n");
  assert_non_null(strstr(slurp("log.jsonl"), START1 STEP("1", "1") STEP("1", "2") EPOCH1 STEP("2", "3")));

  /* Killed while writing; goes on from the middle of epoch 2. */
  char path[256];
  snprintf(path, sizeof path, "%s/log.jsonl", directory);
  FILE *log = fopen(path, "a");
  assert_non_null(log);
  fputs("garbage}\n{\"type\":\"step\",\"epoch\":1,\"step\":1,\"loss\":0.1", log);
  fclose(log);
  r = must_open(epochs, 1, 3);
  assert_string_equal(slurp("log.jsonl"), START1 STEP("1", "1") STEP("1", "2") EPOCH1 STEP("2", "3"));
  assert_string_equal(slurp("history.csv"), HEADER "1,head,0.333333333,1.5,,,0.001\n");
  assert_int_equal(dft_report_start(r, facts, 2), DFT_OK);
  step.step = 4;
  assert_int_equal(dft_report_step(r, &step), DFT_OK);
  dft_report_close(r);
  assert_string_equal(slurp("log.jsonl"),
                      START1 STEP("1", "1") STEP("1", "2") EPOCH1 STEP("2", "3") START1 STEP("2", "4"));
}

static void test_errors(void **state) {
  (void)state;
  dft_report *r = NULL;
  assert_int_equal(dft_report_open("/nonexistent/dir", 0, false, NULL, 0, 0, &r), DFT_EIO);
  assert_non_null(strstr(dft_error(), "/nonexistent/dir/history.csv"));
  assert_null(r);
  char path[256];
  snprintf(path, sizeof path, "%s/log.jsonl", directory);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(mkdir(path, 0700), 0);
  assert_int_equal(dft_report_open(directory, 0, false, NULL, 0, 0, &r), DFT_EIO);
  assert_non_null(strstr(dft_error(), "log.jsonl"));
  assert_int_equal(rmdir(path), 0);
  const dft_fact fact = {"a", "b", false};
  assert_int_equal(dft_report_open(NULL, 0, false, NULL, 0, 0, &r),
                   DFT_OK); /* console only: nothing to write */
  assert_int_equal(dft_report_start(r, &fact, 1), DFT_OK);
  dft_report_close(r);
}

/* Standard output goes to the file "console" between these two. */
static int to_console_file(void) {
  char path[256];
  snprintf(path, sizeof path, "%s/console", directory);
  fflush(stdout);
  int saved = dup(STDOUT_FILENO), file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
  assert_true(saved >= 0 && file >= 0);
  assert_true(dup2(file, STDOUT_FILENO) >= 0);
  close(file);
  return saved;
}

static void back_to_stdout(int saved) {
  fflush(stdout);
  dup2(saved, STDOUT_FILENO);
  close(saved);
}

/* What the console shows at verbose 2, through the whole interface. */
static void test_console(void **state) {
  (void)state;
  int saved = to_console_file();
  dft_report *r = NULL;
  dft_status status = dft_report_open(NULL, -1, false, NULL, 0, 0, &r);
  const dft_fact facts[] = {{"ranks", "2", true}, {"kernels", "avx2", false}};
  dft_epoch epoch = {1, (char[]){"head"}, .2, 1.7041, .0005, 0, 1e-3};
  int verbose = r ? dft_report_verbose(r) : -1;
  if (status == DFT_OK) {
    dft_report_start(r, facts, 2);
    dft_report_phase(r, "phase head");
    dft_report_epoch_begin(r, 1, 3);
    dft_report_epoch_end(r, &epoch, 10, .22);
    dft_report_epoch_begin(r, 1, 1);
    epoch.val_accuracy = epoch.val_loss = NAN;
    dft_report_epoch_end(r, &epoch, 10, .22);
    dft_report_close(r);
  }
  back_to_stdout(saved);
  assert_int_equal(status, DFT_OK);
  assert_int_equal(verbose, 2); /* a file is no terminal */
  assert_string_equal(slurp("console"), "ranks    2\nkernels  avx2\nphase head\nEpoch 1/3\n"
                                        "10/10 - 0s - 22ms/step" VALIDATED
                                        "10/10 - 0s - 22ms/step - accuracy: 0.2000 - loss: 1.7041\n");
}

/* The bar's time per step leaves the first one out, which is not like the others. */
static void test_time_per_step(void **state) {
  (void)state;
  const int saved = to_console_file();
  dft_report *r = NULL;
  const dft_status status = dft_report_open(NULL, 1, false, NULL, 0, 0, &r);
  const dft_epoch epoch = {1, (char[]){"head"}, .2, 1.7041, NAN, NAN, 1e-3};
  if (status == DFT_OK) {
    dft_report_epoch_begin(r, 1, 1);
    for (int i = 1; i <= 3; i++)
      dft_report_step(r, &(dft_step_report){.epoch = 1, .step = i, .step_in_epoch = i, .steps_per_epoch = 3});
    dft_report_epoch_end(r, &epoch, 3, 3000); /* of which the first step took next to nothing */
    dft_report_close(r);
  }
  back_to_stdout(saved);
  assert_int_equal(status, DFT_OK);
  assert_non_null(strstr(slurp("console"), " 1500s/step - accuracy: 0.2000"));
}

/* What follows a bar that was cut short, an error perhaps, begins on a line of its own. */
static void test_cut_bar(void **state) {
  (void)state;
  const dft_step_report step = {.epoch = 1, .step = 1, .step_in_epoch = 1, .steps_per_epoch = 2};
  for (int steps = 0; steps < 2; steps++) {
    const int saved = to_console_file();
    dft_report *r = NULL;
    const dft_status status = dft_report_open(NULL, 1, false, NULL, 0, 0, &r);
    if (status == DFT_OK) {
      dft_report_epoch_begin(r, 1, 1);
      if (steps > 0) dft_report_step(r, &step);
      dft_report_close(r);
    }
    back_to_stdout(saved);
    assert_int_equal(status, DFT_OK);
    const char *text = slurp("console"), *newline = strchr(text, '\n');
    if (steps == 0)
      assert_string_equal(text, "");
    else
      assert_true(newline != NULL && newline[1] == '\0' && strstr(text, "1/2") != NULL);
  }
}

static int make_directory(void **state) {
  (void)state;
  return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
  (void)state;
  static const char *const names[] = {"history.csv", "log.jsonl", "report.html", "console"};
  char path[256];
  for (int i = 0; i < 4; i++) {
    snprintf(path, sizeof path, "%s/%s", directory, names[i]);
    unlink(path);
  }
  return rmdir(directory);
}

/* A warning in the middle of an epoch, and one after it. */
static int warn_beside_bar(void) {
  dft_report *r = NULL;
  const dft_step_report step = {.epoch = 1, .step = 1, .step_in_epoch = 1, .steps_per_epoch = 2};
  const dft_epoch epoch = {.epoch = 1, .val_loss = NAN, .val_accuracy = NAN};
  if (dft_report_open(NULL, 1, false, NULL, 0, 0, &r) != DFT_OK) return 1;
  dft_report_epoch_begin(r, 1, 1);
  dft_report_step(r, &step);
  dft_warn("beside");
  dft_report_epoch_end(r, &epoch, 2, .22);
  dft_warn("after");
  dft_report_close(r);
  return 0;
}

int main(int argc, char **argv) {
  /* for test_report_terminal.sh */
  if (argc == 2 && strcmp(argv[1], "--terminal") == 0) {
    printf("terminal: %s\n", dft_stdout_is_terminal() ? "yes" : "no");
    return 0;
  }
  if (argc == 2 && strcmp(argv[1], "--bar") == 0) return warn_beside_bar();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_epoch_line), cmocka_unit_test(test_bar),     cmocka_unit_test(test_files),
      cmocka_unit_test(test_console),    cmocka_unit_test(test_cut_bar), cmocka_unit_test(test_time_per_step),
      cmocka_unit_test(test_errors),
  };
  return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
