/* Reading configs: values, defaults, overrides, and one message for each thing that can be wrong. */
#include "dft/config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PHASE "phases: [{epochs: 3}]\n"
#define DATA  "data: {format: random, train: {samples: 100}}\n"

static dft_status parse(const char *text, dft_config **config) {
  return dft_config_parse("runs.d/a.yaml", text, NULL, 0, config);
}

static dft_config *must_parse(const char *text, const char *const *overrides, int count) {
  dft_config *c = NULL;
  dft_status status = dft_config_parse("configs/a.yaml", text, overrides, count, &c);
  if (status != DFT_OK) fail_msg("%s", dft_error());
  return c;
}

static void test_defaults(void **state) {
  (void)state;
  dft_config *c = must_parse(DATA PHASE, NULL, 0);
  assert_int_equal(c->seed, 42);
  assert_string_equal(c->run_dir, "runs/a");
  assert_string_equal(c->model.name, "mobilenet_v2");
  assert_true(c->model.alpha == 1.0);
  assert_int_equal(c->model.height, 96);
  assert_int_equal(c->model.width, 96);
  assert_int_equal(c->model.pooling, DFT_POOL_AVG);
  assert_int_equal(c->model.classes, 5);
  assert_null(c->model.class_names);
  assert_null(c->model.weights);
  assert_int_equal(c->data.format, DFT_DATA_RANDOM);
  assert_int_equal(c->data.batch_size, 10);
  assert_true(c->data.shuffle);
  assert_int_equal(c->data.preprocessing, DFT_PREPROCESS_MOBILENET_V2);
  assert_true(c->data.train.present);
  assert_int_equal(c->data.train.samples, 100);
  assert_false(c->data.validation.present);
  assert_int_equal(c->data.classes_subset_count, 0);
  assert_int_equal(c->data.threads, 0);
  assert_int_equal(c->phase_count, 1);
  assert_string_equal(c->phases[0].name, "phase_1");
  assert_int_equal(c->phases[0].epochs, 3);
  assert_int_equal(c->phases[0].unfreeze_last, 0);
  assert_int_equal(c->phases[0].optimizer.name, DFT_ADAM);
  assert_true(c->phases[0].optimizer.learning_rate == 0.001);
  assert_true(c->phases[0].optimizer.epsilon == 1e-7);
  assert_int_equal(c->distributed.shards, 0);
  assert_true(c->distributed.timeout_s == 300);
  assert_int_equal(c->cache.memory_mb, 2048);
  assert_null(c->cache.directory);
  assert_int_equal(c->checkpoint.keep, 3);
  assert_string_equal(c->checkpoint.resume, "auto");
  assert_int_equal(c->log.verbose, -1);
  assert_true(c->log.tensorboard);
  dft_config_free(c);
}

static const char full[] =
    "seed: 7\n"
    "run_dir: 'runs/a b'\n"
    "model: {alpha: 0.35, input_shape: [97, 128, 3], pooling: max, classes: 3, class_names: [a, \"1\", \"x: "
    "y\"],\n"
    "        dropout: 0.25, weights: w.h5}\n"
    "data:\n"
    "  format: idx\n"
    "  batch_size: 32\n"
    "  shuffle: False\n"
    "  preprocessing: unit\n"
    "  train: {images: a.gz, labels: b.gz}\n"
    "  validation: {images: c.gz, labels: d.gz}\n"
    "  classes_subset: [4, 0, 9]\n"
    "  limit: 1000\n"
    "  limit_per_class: 50\n"
    "  augment: {flip: vertical, rotation: 0.25, zoom: [-0.2, 0.1], crop: {scale: [0.5, 1]}, mixup: 0.2}\n"
    "  on_corrupt: fail\n"
    "  threads: 3\n"
    "phases:\n"
    "  - {name: h, epochs: 1, optimizer: {name: sgd, momentum: 0.9, nesterov: true}}\n"
    "  - {epochs: 2, unfreeze_last: 20, optimizer: {name: adamw, learning_rate: 1e-5}}\n"
    "  - {epochs: 3, unfreeze: [\"block_16_*\", Conv_1], optimizer: {weight_decay: .5, beta_1: 0.8}}\n"
    "  - {epochs: 4, unfreeze: all}\n"
    "  - {epochs: 5, unfreeze_from: block_15_add}\n"
    "batch_norm: frozen\n"
    "distributed: {backend: mpi, shards: 16, reduction: fast, timeout_s: 1.5}\n"
    "compute: {threads: 2}\n"
    "cache: {mode: off, memory_mb: 1}\n"
    "checkpoint: {every_epochs: 0, every_steps: 10, keep: 1, resume: x.pb, monitor: val_accuracy}\n"
    "log: {verbose: 2, tensorboard: false, trace_steps: 0}\n";

static void test_values(void **state) {
  (void)state;
  dft_config *c = must_parse(full, NULL, 0);
  assert_string_equal(c->run_dir, "runs/a b");
  assert_int_equal(c->model.height, 97);
  assert_int_equal(c->model.width, 128);
  assert_int_equal(c->model.pooling, DFT_POOL_MAX);
  assert_int_equal(c->model.class_name_count, 3);
  assert_string_equal(c->model.class_names[2], "x: y");
  assert_string_equal(c->model.weights, "w.h5");
  assert_false(c->data.shuffle);
  assert_string_equal(c->data.train.images, "a.gz");
  assert_string_equal(c->data.validation.labels, "d.gz");
  assert_true(c->data.validation.present);
  assert_int_equal(c->data.classes_subset_count, 3);
  assert_int_equal(c->data.classes_subset[2], 9);
  const dft_config_augment *a = &c->data.augment;
  assert_int_equal(a->flip, DFT_FLIP_VERTICAL);
  assert_true(a->rotation[0] == -0.25 && a->rotation[1] == 0.25 && a->zoom[0] == -0.2 && a->zoom[1] == 0.1);
  assert_true(a->crop_scale[0] == 0.5 && a->crop_scale[1] == 1 && a->crop_ratio[0] == 0.75);
  assert_true(a->mixup == 0.2 && a->cutmix == 0 && a->value_range[1] == 255 && dft_config_augments(a));
  assert_int_equal(c->data.on_corrupt, DFT_CORRUPT_FAIL);
  assert_int_equal(c->data.threads, 3);
  assert_int_equal(c->phase_count, 5);
  const dft_config_optimizer *sgd = &c->phases[0].optimizer, *adamw = &c->phases[1].optimizer;
  assert_int_equal(sgd->name, DFT_SGD);
  assert_true(sgd->learning_rate == 0.01 && sgd->momentum == 0.9 && sgd->nesterov && sgd->weight_decay == 0);
  assert_int_equal(adamw->name, DFT_ADAMW);
  assert_true(adamw->learning_rate == 1e-5 && adamw->weight_decay == 0.004 && adamw->beta_2 == 0.999);
  assert_true(c->phases[2].optimizer.weight_decay == 0.5 && c->phases[2].optimizer.beta_1 == 0.8);
  assert_string_equal(c->phases[2].name, "phase_3");
  assert_int_equal(c->phases[2].unfreeze_count, 2);
  assert_string_equal(c->phases[2].unfreeze[0], "block_16_*");
  assert_int_equal(c->phases[3].unfreeze_count, 1);
  assert_string_equal(c->phases[3].unfreeze[0], "*");
  assert_string_equal(c->phases[4].unfreeze_from, "block_15_add");
  assert_int_equal(c->batch_norm, DFT_BN_FROZEN);
  assert_int_equal(c->distributed.shards, 16);
  assert_int_equal(c->cache.mode, DFT_CACHE_OFF);
  assert_int_equal(c->checkpoint.monitor, DFT_MONITOR_VAL_ACCURACY);
  assert_string_equal(c->checkpoint.resume, "x.pb");
  assert_int_equal(c->log.verbose, 2);
  dft_config_free(c);
}

static void test_overrides(void **state) {
  (void)state;
  const char *const overrides[] = {"seed=9",
                                   "phases.1.epochs=50",
                                   "phases.0.optimizer.learning_rate=0.5",
                                   "data.classes_subset=[1, 2, 3]",
                                   "run_dir=x=y",
                                   "phases.3.unfreeze=",
                                   "phases.3.unfreeze_from=b",
                                   "log.verbose=auto",
                                   "seed=10",
                                   "data.validation={split: 0.25}",
                                   "checkpoint.monitor=val_loss",
                                   "model.class_names=",
                                   "phases.2.name=late",
                                   "log.tensorboard=TRUE"};
  dft_config *c = must_parse(full, overrides, sizeof overrides / sizeof overrides[0]);
  assert_int_equal(c->seed, 10);
  assert_int_equal(c->phases[1].epochs, 50);
  assert_int_equal(c->phases[1].unfreeze_last, 20);
  assert_true(c->phases[0].optimizer.learning_rate == 0.5);
  assert_true(c->phases[0].optimizer.momentum == 0.9);
  assert_int_equal(c->data.classes_subset[0], 1);
  assert_string_equal(c->run_dir, "x=y");
  assert_int_equal(c->phases[3].unfreeze_count, 0);
  assert_string_equal(c->phases[3].unfreeze_from, "b");
  assert_int_equal(c->log.verbose, -1);
  assert_true(c->data.validation.split == 0.25);
  assert_null(c->data.validation.images);
  assert_null(c->model.class_names);
  assert_string_equal(c->phases[2].name, "late");
  assert_true(c->log.tensorboard);
  dft_config_free(c);

  const char *const whole[] = {"data.format=random", "data.train.samples=4",
                               "phases=[{epochs: 1}, {epochs: 2}]", "data.validation.samples=0"};
  c = must_parse("", whole, 4);
  assert_false(c->data.validation.present);
  assert_int_equal(c->phase_count, 2);
  assert_int_equal(c->data.train.samples, 4);
  dft_config_free(c);
}

typedef struct wrong {
  const char *text, *override, *message;
} wrong;

static const wrong wrongs[] = {
    /* names */
    {DATA "clipnorm: 1\n" PHASE, NULL,
     "runs.d/a.yaml:2: unknown key 'clipnorm'; the nearest is 'batch_norm' (dft --help config lists all)"},
    {DATA "model: {image_size: 96}\n" PHASE, NULL,
     "runs.d/a.yaml:2: unknown key 'model.image_size', did you mean 'model.input_shape'?"},
    {DATA "sed: 1\n" PHASE, NULL, "runs.d/a.yaml:2: unknown key 'sed', did you mean 'seed'?"},
    {DATA "model:\n  alpha: 1\n  class: 3\n" PHASE, NULL,
     "runs.d/a.yaml:4: unknown key 'model.class', did you mean 'model.classes'?"},
    {DATA "phases:\n  - epochs: 1\n  - epoch: 2\n", NULL,
     "runs.d/a.yaml:4: unknown key 'phases.1.epoch', did you mean 'phases.1.epochs'?"},
    {DATA "phases: [{epochs: 1, learning_rate: 3}]\n", NULL,
     "runs.d/a.yaml:2: unknown key 'phases.0.learning_rate', did you mean "
     "'phases.0.optimizer.learning_rate'?"},
    {DATA "batchsize: 3\n" PHASE, NULL,
     "runs.d/a.yaml:2: unknown key 'batchsize', did you mean 'data.batch_size'?"},
    {DATA "model.alpha: 3\n" PHASE, NULL, "runs.d/a.yaml:2: unknown key 'model.alpha', did you mean"},
    {DATA PHASE, "phases.0.epocs=3",
     "command line: unknown key 'phases.0.epocs', did you mean 'phases.0.epochs'?"},
    {DATA PHASE, "phases.0.optimizer.beta2_=0.9", /* swapped letters are one mistake, not two as for beta_1 */
     "command line: unknown key 'phases.0.optimizer.beta2_', did you mean 'phases.0.optimizer.beta_2'?"},
    {DATA PHASE, "phases.0x.epochs=3", "command line: phases.0x.epochs: no element '0x', there are 1"},
    {DATA PHASE, "optimiser=adam",
     "command line: unknown key 'optimiser', did you mean 'phases.N.optimizer'?"},
    {DATA "seed: 1\nseed: 2\n" PHASE, NULL, "runs.d/a.yaml:3: duplicate key 'seed' (first on line 2)"},
    {DATA "phases:\n- {epochs: 1, epochs: 2}\n", NULL,
     "runs.d/a.yaml:3: duplicate key 'epochs' (first on line 3)"},
    /* types */
    {DATA "seed: abc\n" PHASE, NULL, "runs.d/a.yaml:2: seed: expected an integer, got abc"},
    {DATA "seed: '5'\n" PHASE, NULL, "runs.d/a.yaml:2: seed: expected an integer, got '5'"},
    {DATA "seed: 1.5\n" PHASE, NULL, "runs.d/a.yaml:2: seed: expected an integer, got 1.5"},
    {DATA "seed: [1]\n" PHASE, NULL, "runs.d/a.yaml:2: seed: expected an integer, got a list"},
    {DATA "seed: {a: 1}\n" PHASE, NULL, "runs.d/a.yaml:2: seed: expected an integer, got a mapping"},
    {DATA "seed: 99999999999999999999\n" PHASE, NULL,
     "runs.d/a.yaml:2: seed: must be at least 0 and at most 4611686018427387904, got 9999"},
    {DATA PHASE, "log.trace_steps=1001", "command line: log.trace_steps: "},
    {DATA "model: {alpha: x}\n" PHASE, NULL, "runs.d/a.yaml:2: model.alpha: expected a number, got x"},
    {DATA "model: {alpha: nan}\n" PHASE, NULL, "runs.d/a.yaml:2: model.alpha: expected a number, got nan"},
    {DATA "model: {alpha: 1e999}\n" PHASE, NULL, "runs.d/a.yaml:2: model.alpha: must be above 0"},
    {DATA "model: {alpha: 0x1p3}\n" PHASE, NULL, "model.alpha: expected a number"},
    {DATA "model: 3\n" PHASE, NULL, "runs.d/a.yaml:2: model: expected a mapping of keys, got a single value"},
    {DATA "model: {pooling: mean}\n" PHASE, NULL, "model.pooling: expected one of avg max, got mean"},
    {DATA "model: {name: resnet}\n" PHASE, NULL, "model.name: expected one of mobilenet_v2, got resnet"},
    {DATA "model: {input_shape: [96, 96]}\n" PHASE, NULL,
     "model.input_shape: expected [height, width, 3], got a list"},
    {DATA "model: {input_shape: 96}\n" PHASE, NULL, "model.input_shape: expected [height, width, 3], got 96"},
    {DATA "model: {class_names: abc}\n" PHASE, NULL,
     "model.class_names: expected a list of texts, as in [a, b], got abc"},
    {DATA "log: {tensorboard: 1}\n" PHASE, NULL, "log.tensorboard: expected true or false, got 1"},
    {DATA "log: {verbose: loud}\n" PHASE, NULL, "log.verbose: expected an integer or auto, got loud"},
    {DATA "compute: {threads: 0}\n" PHASE, NULL,
     "compute.threads: must be at least 1 and at most 4096, got 0"},
    {DATA "phases: 3\n", NULL, "runs.d/a.yaml:2: phases: expected a list of phases"},
    {DATA "phases: [3]\n", NULL, "runs.d/a.yaml:2: phases.0: expected a mapping"},
    {DATA "phases: []\n", NULL, "phases: expected a list of phases"},
    {DATA "phases: [{epochs: 1, optimizer: adam}]\n", NULL, "phases.0.optimizer: expected a mapping of keys"},
    {DATA "phases: [{epochs: 1, unfreeze: block}]\n", NULL,
     "phases.0.unfreeze: expected a list of texts, as in [a, b] or all, got block"},
    {DATA PHASE, "seed.x=3", "seed: expected an integer, got a mapping"},
    /* ranges */
    {DATA "model: {input_shape: [31, 96, 3]}\n" PHASE, NULL,
     "model.input_shape: must be at least 32 and at most 4096, got 31"},
    {DATA "model: {input_shape: [96, 96, 1]}\n" PHASE, NULL,
     "model.input_shape: the third number is the channels, always 3"},
    {DATA "model: {alpha: 0}\n" PHASE, NULL, "model.alpha: must be above 0 and at most 8, got 0"},
    {DATA "model: {dropout: 1}\n" PHASE, NULL, "model.dropout: must be at least 0 and below 1, got 1"},
    {DATA PHASE, "data.batch_size=0", "command line: data.batch_size: must be at least 1"},
    {DATA PHASE, "distributed.shards=6", "command line: distributed.shards: must be a power of two, got 6"},
    {DATA PHASE, "phases.0.epochs=0", "command line: phases.0.epochs: must be at least 1"},
    {DATA PHASE, "phases.0.optimizer.beta_1=1",
     "command line: phases.0.optimizer.beta_1: must be at least 0 and below 1"},
    {DATA PHASE, "phases.0.unfreeze_last=-1", "command line: phases.0.unfreeze_last: must be at least 0"},
    /* what is missing or does not go together */
    {PHASE, NULL, "runs.d/a.yaml:1: data.format: missing"},
    {"", NULL, "phases: missing"},
    {DATA, NULL, "phases: missing"},
    {DATA "phases: [{name: a}]\n", NULL, "runs.d/a.yaml:2: phases.0.epochs: missing"},
    {"data:\n  format: idx\n  train:\n    images: a\n" PHASE, NULL,
     "runs.d/a.yaml:3: data.train.labels: missing"},
    {"data: {format: npy}\n" PHASE, NULL, "runs.d/a.yaml:1: data.train.images: missing"},
    {"data: {format: random, train: {samples: 3, images: x}}\n" PHASE, NULL,
     "runs.d/a.yaml:1: data.train.images: does not go with data.format random"},
    {"data: {format: random, train: {}}\n" PHASE, NULL, "data.train.samples: missing"},
    {DATA "phases: [{epochs: 1, optimizer: {momentum: 0.9}}]\n", NULL,
     "phases.0.optimizer.momentum: does not go with optimizer.name adam"},
    {DATA "phases: [{epochs: 1, optimizer: {name: sgd, beta_2: 0.9}}]\n", NULL,
     "phases.0.optimizer.beta_2: does not go with optimizer.name sgd"},
    {DATA "phases:\n- {epochs: 1}\n- {epochs: 1, unfreeze: all, unfreeze_last: 3}\n", NULL,
     "runs.d/a.yaml:4: phases.1: at most one of unfreeze_last, unfreeze_from and unfreeze"},
    {DATA "phases: [{epochs: 1, name: a}, {epochs: 1, name: a}]\n", NULL,
     "phases.1: phases.0 has the name 'a' too"},
    {DATA "model: {classes: 3, class_names: [a, b]}\n" PHASE, NULL,
     "model.class_names: 2 names for 3 classes"},
    {DATA "model: {classes: 2, class_names: [a, a]}\n" PHASE, NULL, "model.class_names: 'a' is there twice"},
    {DATA PHASE, "data.classes_subset=[1, 2]", "data.classes_subset: 2 labels for model.classes 5"},
    {DATA PHASE, "data.classes_subset=[1, 2, 3, 4, 2]", "data.classes_subset: label 2 is there twice"},
    {DATA PHASE, "data.classes_subset=[1, 2, 3, 4, -2]", "data.classes_subset: must be at least 0"},
    {DATA PHASE, "data.validation={}", "data.validation: give data of its own, or split"},
    {DATA PHASE, "data.validation={split: 0.1, samples: 3}",
     "data.validation: give either data of its own or a split"},
    {DATA PHASE, "data.validation.split=1", "data.validation.split: must be at least 0 and below 1"},
    {"data: {format: npy, train: {images: a, labels: b}, validation: {images: c}}\n" PHASE, NULL,
     "data.validation: labels is missing"},
    {DATA PHASE, "checkpoint.monitor=val_accuracy", "checkpoint.monitor: val_accuracy needs data.validation"},
    {DATA PHASE, "data.augment={flip: true}", "data.augment.flip: expected one of none horizontal vertical"},
    {DATA PHASE, "distributed.backend=gloo", "distributed.backend: expected one of auto mpi nccl"},
    {DATA PHASE, "compute.precision=float16", "compute.precision: expected one of float32 tf32 bfloat16"},
    /* augmentation */
    {DATA PHASE, "cache.views=2", "cache.views: needs something in data.augment"},
    {DATA "cache: {views: 2}\n" PHASE, "data.augment={flip: vertical, mixup: 0.2}",
     "runs.d/a.yaml:2: cache.views: does not go with data.augment.mixup and cutmix"},
    {DATA PHASE, "data.augment={rotate: 1}",
     "unknown key 'data.augment.rotate', did you mean 'data.augment.rotation'?"},
    {DATA PHASE, "data.augment.rotation=1.5",
     "data.augment.rotation: must be at least -1 and at most 1, got 1.5"},
    {DATA PHASE, "data.augment.rotation=-0.5",
     "data.augment.rotation: a single number f stands for [-f, f] and cannot be negative"},
    {DATA PHASE, "data.augment.zoom=1", "data.augment.zoom: must be above -1 and at most 1, got 1"},
    {DATA PHASE, "data.augment.zoom=[0.2, 0.1]",
     "data.augment.zoom: the first number of [low, high] is the larger one"},
    {DATA PHASE, "data.augment.zoom=[0.1]",
     "data.augment.zoom: expected a number or [low, high], got a list"},
    {DATA PHASE, "data.augment.zoom=[a, 1]", "data.augment.zoom: expected a number or [low, high], got a"},
    {DATA PHASE, "data.augment.crop.scale=0.5", "data.augment.crop.scale: expected [low, high], got 0.5"},
    {DATA PHASE, "data.augment.crop.scale=[0, 1]",
     "data.augment.crop.scale: must be above 0 and at most 1, got 0"},
    {DATA PHASE, "data.augment.value_range=[1, 1]",
     "data.augment.value_range: the two numbers of [low, high] are equal"},
    {DATA PHASE, "data.augment.erasing.probability=2", "must be at least 0 and at most 1, got 2"},
    /* YAML */
    {"data: [1\nseed: 3\n", NULL, "runs.d/a.yaml:2: not YAML: "},
    {"seed: 1\n\tmodel: 2\n", NULL, "runs.d/a.yaml:2: not YAML: "},
    {"seed: \xff\n", NULL, "runs.d/a.yaml:1: not YAML: "},
    {"- 1\n- 2\n", NULL, "runs.d/a.yaml:1: expected 'key: value' lines"},
    {"seed: 1\n---\nseed: 2\n", NULL, "runs.d/a.yaml:2: a second YAML document"},
    {"seed: &a 1\n", NULL, "runs.d/a.yaml:1: YAML anchors and tags are not used"},
    {"phases: [{epochs: 1, unfreeze: [*_BN]}]\n", NULL, "runs.d/a.yaml:1: '*_BN' is a YAML alias"},
    {"run_dir: \"a\\nb\"\n", NULL, "runs.d/a.yaml:1: a text holds a control character"},
    {"run_dir: \"a\\Nb\"\n", NULL, "runs.d/a.yaml:1: a text holds a control character"},
    {"? [a]\n: 3\n", NULL, "runs.d/a.yaml:1: a key must be a word"},
    {"a: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n", NULL, "runs.d/a.yaml:1: nested more than 16 deep"},
    /* overrides */
    {DATA PHASE, "seed", "command line: 'seed': expected key=value"},
    {DATA PHASE, "=3", "command line: '=3': expected key=value"},
    {DATA PHASE, "phases.1.epochs=3",
     "command line: phases.1.epochs: no element '1', there are 1 (counted from 0)"},
    {DATA PHASE, "phases.x.epochs=3", "command line: phases.x.epochs: no element 'x'"},
    {DATA PHASE, "data.classes_subset=[1, 2", "command line: not YAML: "},
};

static void test_wrong(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
    const wrong *w = &wrongs[i];
    dft_config *c = (dft_config *)&w;
    dft_status status = dft_config_parse("runs.d/a.yaml", w->text, &w->override, w->override != NULL, &c);
    if (status != DFT_EUSAGE || c != NULL || strstr(dft_error(), w->message) == NULL ||
        strchr(dft_error(), '\n'))
      fail_msg("case %zu, status %d\n  expected %s\n  got      %s", i, (int)status, w->message,
               status ? dft_error() : "no error");
  }
}

static void test_hostile(void **state) {
  (void)state;
  enum { N = 60000 };
  char *text = malloc(3 * N + 1);
  assert_non_null(text);
  for (int i = 0; i < N; i++) memcpy(text + i, "[", 1);
  text[N] = '\0';
  dft_config *c = NULL;
  assert_int_equal(parse(text, &c), DFT_EUSAGE);
  for (int i = 0; i < 1000; i++) {
    char line[16];
    snprintf(line, sizeof line, "k%04d: 1\n", i);
    memcpy(text + 9L * i, line, 10);
  }
  assert_int_equal(parse(text, &c), DFT_EUSAGE);
  assert_non_null(strstr(dft_error(), "more than 256 keys"));
  memset(text, 'a', 900);
  memcpy(text + 900, ": 1\n", 5);
  assert_int_equal(parse(text, &c), DFT_EUSAGE);
  assert_non_null(strstr(dft_error(), "unknown key 'aaa"));
  free(text);
}

static void test_read(void **state) {
  (void)state;
  char *text = NULL;
  assert_int_equal(dft_config_read("/nonexistent/a.yaml", &text), DFT_EUSAGE);
  assert_string_equal(dft_error(), "cannot read config /nonexistent/a.yaml: No such file or directory");
  assert_int_equal(dft_config_read("/", &text), DFT_EUSAGE);
  assert_string_equal(dft_error(), "cannot read config /: Is a directory");
  assert_int_equal(dft_config_read("/proc/self/cmdline", &text), DFT_EUSAGE);
  assert_non_null(strstr(dft_error(), "/proc/self/cmdline: not a config"));
  assert_null(text);
}

/* JSON can only quote. */
static void test_quoted_words(void **state) {
  (void)state;
  const char *const overrides[] = {"compute.threads=\"auto\"", "phases.0.unfreeze=\"all\"",
                                   "model.pooling=\"max\""};
  dft_config *c = must_parse(DATA PHASE, overrides, 3);
  assert_int_equal(c->compute.threads, 0);
  assert_int_equal(c->phases[0].unfreeze_count, 1);
  assert_string_equal(c->phases[0].unfreeze[0], "*");
  assert_int_equal(c->model.pooling, DFT_POOL_MAX);
  dft_config_free(c);
}

/* The words that checkpoints and messages have are those of the table. */
static void test_words(void **state) {
  (void)state;
  char word[DFT_WORD_BYTES];
  assert_string_equal(dft_config_word("model.pooling", DFT_POOL_MAX, word), "max");
  assert_string_equal(dft_config_word("data.preprocessing", DFT_PREPROCESS_NONE, word), "none");
  assert_string_equal(dft_config_word("data.resize", DFT_RESIZE_PAD, word), "pad");
  assert_string_equal(dft_config_word("compute.precision", DFT_PRECISION_BFLOAT16, word), "bfloat16");
  assert_int_equal(dft_config_word_value("data.resize", "crop"), DFT_RESIZE_CROP);
  assert_int_equal(dft_config_word_value("data.resize", "cro"), -1);
  assert_int_equal(dft_config_word_value("data.resize", ""), -1);
  assert_int_equal(dft_config_word_value("model.classes", "5"), -1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_defaults),     cmocka_unit_test(test_values),  cmocka_unit_test(test_overrides),
      cmocka_unit_test(test_wrong),        cmocka_unit_test(test_hostile), cmocka_unit_test(test_read),
      cmocka_unit_test(test_quoted_words), cmocka_unit_test(test_words),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
