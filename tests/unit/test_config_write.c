/* What is made from a config: the resolved file, the deciding lines, the resume check, the reference; and the
 * configs of the repository. */
#include "dft/config.h"
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char two_phases[] =
    "data: {format: random, train: {samples: 100}}\n"
    "phases: [{name: head, epochs: 3}, {name: tail, epochs: 2, unfreeze_last: 20}]\n";

static dft_config *must_parse(const char *path, const char *text, const char *const *overrides, int count) {
  dft_config *c = NULL;
  if (dft_config_parse(path, text, overrides, count, &c) != DFT_OK) fail_msg("%s", dft_error());
  return c;
}

/* Written, read and written again: the texts are equal, and so are the deciding lines. */
static void check_round_trip(const char *path, const char *text) {
  dft_config *first = must_parse(path, text, NULL, 0);
  char *yaml = NULL, *again = NULL, *lines = NULL, *lines_again = NULL;
  assert_int_equal(dft_config_write(first, &yaml), DFT_OK);
  dft_config *second = must_parse("elsewhere.yaml", yaml, NULL, 0);
  assert_int_equal(dft_config_write(second, &again), DFT_OK);
  assert_string_equal(yaml, again);
  assert_int_equal(dft_config_deciding(first, &lines), DFT_OK);
  assert_int_equal(dft_config_deciding(second, &lines_again), DFT_OK);
  assert_string_equal(lines, lines_again);
  assert_int_equal(dft_config_compatible(second, lines, 0), DFT_OK);
  assert_string_equal(first->run_dir, second->run_dir);
  assert_int_equal(first->phase_count, second->phase_count);
  for (int i = 0; i < first->phase_count; i++) {
    assert_string_equal(first->phases[i].name, second->phases[i].name);
    assert_memory_equal(&first->phases[i].optimizer.learning_rate, &second->phases[i].optimizer.learning_rate,
                        sizeof(double));
  }
  free(yaml);
  free(again);
  free(lines);
  free(lines_again);
  dft_config_free(first);
  dft_config_free(second);
}

static void test_round_trip(void **state) {
  (void)state;
  check_round_trip("a.yaml", two_phases);
  check_round_trip(
      "b.yaml",
      "run_dir: \"a \\\"b\\\" \\\\ # c\"\n"
      "model: {classes: 9, class_names: ['null', '~', 'true', '1', 'a: b', '- x', 'é ü', '*', \"it's\"], "
      "weights: w.h5}\n"
      "data: {format: idx, train: {images: ./none, labels: '~x/l'}, validation: {images: i, labels: '{l}'},\n"
      "       classes_subset: [9, 8, 7, 6, 5, 4, 3, 2, 0], shuffle: false}\n"
      "phases: [{epochs: 1, unfreeze: all, optimizer: {name: sgd, learning_rate: 0.1, nesterov: true, "
      "momentum: .9}},\n"
      "         {epochs: 1, unfreeze: ['block_*', 'a,b'], optimizer: {name: adamw, learning_rate: "
      "3.3333333333333335e-05}},\n"
      "         {epochs: 1, unfreeze_from: x}]\n"
      "log: {verbose: auto}\ndistributed: {timeout_s: 0.1, shards: 32}\n");
  check_round_trip("d.yaml",
                   "data: {format: random, train: {samples: 9}, augment: {rotation: 0.1, zoom: [-.25, 0],\n"
                   "  contrast: [-0.1, 0.1], value_range: [-1, 1], fill_mode: wrap}}\ncache: {views: 3}\n"
                   "phases: [{epochs: 1}]\n");
  check_round_trip("c.yaml", "data: {format: random, train: {samples: 9}, validation: {split: 0.1}}\n"
                             "phases: [{epochs: 1}]\n");
}

static void test_written_text(void **state) {
  (void)state;
  dft_config *c = must_parse("a.yaml", two_phases, NULL, 0);
  char *yaml = NULL;
  assert_int_equal(dft_config_write(c, &yaml), DFT_OK);
  assert_non_null(strstr(yaml, "seed: 42\nrun_dir: runs/a\nmodel:\n  name: mobilenet_v2\n  alpha: 1\n"
                               "  input_shape: [96, 96, 3]\n"));
  assert_non_null(strstr(yaml, "  resize: stretch\n  train:\n    samples: 100\n  limit: 0\n"));
  assert_non_null(strstr(yaml,
                         "phases:\n  - name: head\n    unfreeze_last: 0\n    epochs: 3\n    optimizer:\n"
                         "      name: adam\n      learning_rate: 0.001\n"));
  assert_non_null(strstr(yaml, "      epsilon: 1.0e-07\n"));
  assert_non_null(strstr(yaml, "  timeout_s: 300\n"));
  free(yaml);
  dft_config_free(c);
}

/* Numbers as YAML 1.1 knows them (whole ones, and PyYAML's rule for others), which read back as the same
 * double; the deciding lines stay as they are in checkpoints. */
static void test_numbers(void **state) {
  (void)state;
  static const struct {
    const char *value, *written, *deciding;
  } cases[] = {
      {"1e-5", "1.0e-05", "1e-05"},
      {"3e2", "300", "3e+02"},
      {"1200", "1200", "1.2e+03"},
      {"1000000", "1000000", "1e+06"},
      {"128", "128", "128"},
      {"0.0", "0", "0"},
      {"0.001", "0.001", "0.001"},
      {"123456.7", "123456.7", "123456.7"},
      {".25", "0.25", "0.25"},
      {"2.5e-07", "2.5e-07", "2.5e-07"},
      {"3.3333333333333335e-05", "3.3333333333333335e-05", "3.3333333333333335e-05"},
      {"5e-324", "5.0e-324", "5e-324"},
  };
  regex_t number;
  assert_int_equal(regcomp(&number, "^(-?(0|[1-9][0-9]*)|-?[0-9]+\\.[0-9]*([eE][-+][0-9]+)?)$", REG_EXTENDED),
                   0);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char override[64], line[64], *yaml = NULL, *lines = NULL;
    const char *const overrides[] = {override};
    snprintf(override, sizeof override, "phases.1.optimizer.learning_rate=%s", cases[i].value);
    dft_config *c = must_parse("a.yaml", two_phases, overrides, 1);
    assert_int_equal(dft_config_write(c, &yaml), DFT_OK);
    snprintf(line, sizeof line, "      learning_rate: %s\n", cases[i].written);
    if (strstr(yaml, line) == NULL) fail_msg("%s: not written as %s:\n%s", cases[i].value, line, yaml);
    assert_int_equal(regexec(&number, cases[i].written, 0, NULL, 0), 0);
    dft_config *again = must_parse("a.yaml", yaml, NULL, 0);
    assert_memory_equal(&c->phases[1].optimizer.learning_rate, &again->phases[1].optimizer.learning_rate,
                        sizeof(double));
    assert_int_equal(dft_config_deciding(c, &lines), DFT_OK);
    snprintf(line, sizeof line, "phases.1.optimizer.learning_rate=%s\n", cases[i].deciding);
    if (strstr(lines, line) == NULL) fail_msg("%s: not deciding as %s:\n%s", cases[i].value, line, lines);
    free(yaml);
    free(lines);
    dft_config_free(c);
    dft_config_free(again);
  }
  regfree(&number);
}

/* To YAML 1.1 yes, no and off are no texts; the deciding lines keep the form that checkpoints hold. */
static void test_words(void **state) {
  (void)state;
  static const char *const overrides[] = {"model.class_names=[yes, No, 'true', north, Y]", "model.classes=5",
                                          "cache.mode=off"};
  char *yaml = NULL, *lines = NULL;
  dft_config *c = must_parse("a.yaml", two_phases, overrides, 3);
  assert_int_equal(dft_config_write(c, &yaml), DFT_OK);
  assert_non_null(strstr(yaml, "  mode: \"off\"\n"));
  assert_non_null(strstr(yaml, "class_names: [\"yes\", \"No\", \"true\", north, \"Y\"]\n"));
  assert_int_equal(dft_config_deciding(c, &lines), DFT_OK);
  assert_non_null(strstr(lines, "model.class_names=[yes, No, \"true\", north, Y]\n"));
  dft_config *again = must_parse("a.yaml", yaml, NULL, 0);
  for (int i = 0; i < 5; i++) assert_string_equal(c->model.class_names[i], again->model.class_names[i]);
  assert_int_equal(again->cache.mode, DFT_CACHE_OFF);
  free(yaml);
  free(lines);
  dft_config_free(c);
  dft_config_free(again);
}

static void test_deciding(void **state) {
  (void)state;
  dft_config *c = must_parse("a.yaml", two_phases, NULL, 0);
  char *lines = NULL, *other = NULL;
  assert_int_equal(dft_config_deciding(c, &lines), DFT_OK);
  static const char *const there[] = {"seed=42\n",
                                      "model.weights=none\n",
                                      "data.train.samples=100\n",
                                      "phases.1.unfreeze_last=20\n",
                                      "phases.0.optimizer.epsilon=1e-07\n",
                                      "checkpoint.monitor=val_loss\n",
                                      "distributed.reduction=ordered\n"};
  for (size_t i = 0; i < sizeof there / sizeof there[0]; i++) assert_non_null(strstr(lines, there[i]));
  static const char *const absent[] = {"run_dir", "cache.m", "cache.d", "log.",  "threads",
                                       "backend", "timeout", "every_",  "shards"};
  for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) assert_null(strstr(lines, absent[i]));
  dft_config_free(c);
  /* Settings that may differ between equal runs leave the lines as they are. */
  const char *const free_keys[] = {"run_dir=x",
                                   "data.threads=3",
                                   "compute.threads=2",
                                   "cache.mode=off",
                                   "cache.memory_mb=1",
                                   "cache.directory=c",
                                   "log.verbose=0",
                                   "log.tensorboard=false",
                                   "distributed.backend=mpi",
                                   "distributed.timeout_s=9",
                                   "distributed.shards=16",
                                   "checkpoint.every_steps=2",
                                   "checkpoint.every_epochs=2",
                                   "checkpoint.keep=9",
                                   "checkpoint.resume=none"};
  c = must_parse("b.yaml", two_phases, free_keys, sizeof free_keys / sizeof free_keys[0]);
  assert_int_equal(dft_config_deciding(c, &other), DFT_OK);
  assert_string_equal(lines, other);
  free(other);
  dft_config_free(c);
  const char *const paths[] = {"data.format=npy", "data.train={images: a, labels: b}", "model.weights=w.h5"};
  const char *const moved[] = {"data.format=npy", "data.train={images: c, labels: d}", "model.weights=v.pb"};
  char *one = NULL, *two = NULL;
  c = must_parse("b.yaml", two_phases, paths, 3);
  assert_int_equal(dft_config_deciding(c, &one), DFT_OK);
  dft_config_free(c);
  c = must_parse("b.yaml", two_phases, moved, 3);
  assert_int_equal(dft_config_deciding(c, &two), DFT_OK);
  assert_string_equal(one, two);
  assert_non_null(strstr(one, "model.weights=file\n"));
  dft_config_free(c);
  free(one);
  free(two);
  free(lines);
}

static void test_compatible(void **state) {
  (void)state;
  static const struct {
    const char *override;
    int phase;
    const char *message; /* NULL: may go on */
  } cases[] = {
      {"run_dir=y", 0, NULL},
      {"phases.0.epochs=4", 0, NULL},
      {"phases.1.epochs=9", 0, NULL},
      {"phases.1.epochs=9", 1, NULL},
      {"phases.0.epochs=4", 1, "phases.0.epochs (checkpoint 3, now 4)"},
      {"phases.1.epochs=1", 0, "phases.1.epochs (checkpoint 2, now 1)"},
      {"phases.1.epochs=9", 2, "phases.1.epochs (checkpoint 2, now 9)"},
      {"seed=1", 0, "seed (checkpoint 42, now 1)"},
      {"model.alpha=0.35", 0, "model.alpha (checkpoint 1, now 0.35)"},
      {"data.validation.split=0.2", 0, "data.validation.split (checkpoint none, now 0.2)"},
      {"phases.1.unfreeze_last=21", 0, "phases.1.unfreeze_last (checkpoint 20, now 21)"},
      {"phases=[{name: head, epochs: 3}]", 0, "phases.1.name (checkpoint tail, now none)"},
      {"phases=[{name: head, epochs: 3}, {name: tail, epochs: 2, unfreeze_last: 20}, {epochs: 4}]", 2, NULL},
      {"phases.0.optimizer.name=sgd", 0, "phases.0.optimizer.name (checkpoint adam, now sgd)"},
      {"checkpoint.monitor=val_loss", 0, NULL},
  };
  dft_config *c = must_parse("a.yaml", two_phases, NULL, 0);
  char *lines = NULL;
  assert_int_equal(dft_config_deciding(c, &lines), DFT_OK);
  dft_config_free(c);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    c = must_parse("a.yaml", two_phases, &cases[i].override, 1);
    dft_status status = dft_config_compatible(c, lines, cases[i].phase);
    if (status != (cases[i].message ? DFT_EUSAGE : DFT_OK) ||
        (cases[i].message && strstr(dft_error(), cases[i].message) == NULL))
      fail_msg("case %zu: %s, phase %d: status %d, %s", i, cases[i].override, cases[i].phase, (int)status,
               dft_error());
    dft_config_free(c);
  }
  c = must_parse("a.yaml", two_phases, NULL, 0); /* lines of a damaged or later version's checkpoint */
  assert_int_equal(dft_config_compatible(c, "", 0), DFT_EUSAGE);
  assert_int_equal(dft_config_compatible(c, "phases.99999999999.x\n=\nnothing", 0), DFT_EUSAGE);
  dft_config_free(c);
  free(lines);
}

static char *read_source_file(const char *name) {
  char path[4096];
  const char *here = strstr(__FILE__, "tests/unit/"); /* this file's own place in the source tree */
  assert_non_null(here);
  snprintf(path, sizeof path, "%.*s%s", (int)(here - __FILE__), __FILE__, name);
  char *text = NULL;
  if (dft_config_read(path, &text) != DFT_OK) fail_msg("%s", dft_error());
  return text;
}

static void test_reference(void **state) {
  (void)state;
  char *generated = NULL, *plain = NULL;
  assert_int_equal(dft_config_reference(true, &generated), DFT_OK);
  char *committed = read_source_file("docs/config.md");
  assert_string_equal(generated, committed); /* if not: test_config_write --reference > docs/config.md */
  assert_int_equal(dft_config_reference(false, &plain), DFT_OK);
  assert_non_null(strstr(plain,
                         "\nphases.N.optimizer.learning_rate *: number from 0 to 1000000; default 0.01; "
                         "for sgd\n    Learning rate. Keras: learning_rate.\n"));
  free(plain);
  free(committed);
  free(generated);
}

static void test_shipped_configs(void **state) {
  (void)state;
  static const char *const names[] = {"configs/tutorial.yaml", "configs/pretrain.yaml", "configs/5class.yaml",
                                      "configs/photos.yaml"};
  for (int i = 0; i < 4; i++) {
    char *text = read_source_file(names[i]);
    check_round_trip(names[i], text);
    dft_config *c = must_parse(names[i], text, NULL, 0);
    assert_int_equal(c->phase_count, 2);
    assert_int_equal(c->model.classes, i < 3 ? 5 : 2);
    dft_config_free(c);
    free(text);
  }
  char *text = read_source_file("configs/tutorial.yaml"); /* the seed program's numbers */
  dft_config *c = must_parse("tutorial.yaml", text, NULL, 0);
  assert_int_equal(c->data.train.samples, 100);
  assert_int_equal(c->data.batch_size, 10);
  assert_int_equal(c->phases[0].epochs, 3);
  assert_int_equal(c->phases[1].epochs, 2);
  assert_int_equal(c->phases[1].unfreeze_last, 20);
  assert_true(c->phases[0].optimizer.learning_rate == 1e-3 && c->phases[1].optimizer.learning_rate == 1e-5);
  assert_null(c->model.weights);
  assert_int_equal(c->log.verbose, 2);
  dft_config_free(c);
  free(text);
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--reference") == 0) {
    char *text = NULL;
    if (dft_config_reference(true, &text) != DFT_OK) return 1;
    fputs(text, stdout);
    free(text);
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip), cmocka_unit_test(test_written_text),
      cmocka_unit_test(test_numbers),    cmocka_unit_test(test_words),
      cmocka_unit_test(test_deciding),   cmocka_unit_test(test_compatible),
      cmocka_unit_test(test_reference),  cmocka_unit_test(test_shipped_configs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
