/* Reading ahead in training: the cursor asks for just what steps and evaluations are going to need, in their
 * order. */
#include "../../src/train/train.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SAMPLES = 23, VALIDATION = 9, BATCH = 5, EPOCHS = 3, TILE = 4 };

typedef struct fixture {
  dft_run run;
  float *x;
  int64_t needed; /* images that no row was there for */
} fixture;

/* A run whose frozen part ends at unit `first`: 0 is a phase from the image on. */
static void open_fixture(fixture *f, const char *cache, const char *augment, int first) {
  char text[1024];
  snprintf(
      text, sizeof text,
      "model: {alpha: 0.35, input_shape: [32, 32, 3], classes: 3}\n"
      "data: {format: random, batch_size: %d, train: {samples: %d}, validation: {samples: %d}, augment: %s}\n"
      "phases: [{name: a, epochs: %d}]\ncache: %s\n",
      BATCH, SAMPLES, VALIDATION, augment, EPOCHS, cache);
  *f = (fixture){.run = {.shards = 8}};
  dft_run *run = &f->run;
  assert_int_equal(dft_comm_alone(&run->comm), DFT_OK);
  assert_int_equal(dft_config_parse("test.yaml", text, NULL, 0, &run->config), DFT_OK);
  assert_int_equal(dft_model_new(0.35, 32, 32, DFT_POOL_AVG, 3, &run->model), DFT_OK);
  dft_model_init(run->model, 3);
  dft_kernels kernels;
  assert_int_equal(dft_ops_best(&kernels), DFT_OK);
  run->ops = run->host_ops = dft_ops_get(kernels);
  assert_int_equal(dft_data_open(run->config, dft_share_alone(), &run->data[0], &run->data[1]), DFT_OK);
  assert_int_equal(dft_cache_open(run->config, run->model, run->ops, dft_share_alone(), &first, 1,
                                  (const dft_dataset *const *)run->data, &run->cache),
                   DFT_OK);
  assert_int_equal(dft_cache_phase(run->cache, 0), DFT_OK);
  assert_int_equal(dft_ahead_open(run, 2), DFT_OK);
  dft_cache_use(run->cache, run->ahead.prefetch);
  f->x = malloc((size_t)dft_model_boundary(run->model, first) * BATCH * sizeof *f->x);
  assert_non_null(f->x);
}

static void close_fixture(fixture *f) {
  dft_cache_close(f->run.cache);
  dft_ahead_close(&f->run);
  dft_dataset_free(f->run.data[0]);
  dft_dataset_free(f->run.data[1]);
  dft_model_free(f->run.model);
  dft_config_free(f->run.config);
  dft_comm_close(f->run.comm, 0);
  free(f->x);
}

static void need(fixture *f, dft_set set, const int64_t *samples, int count, int64_t view, dft_mix *mixes) {
  unsigned char bad[BATCH];
  dft_ahead_fill(&f->run);
  assert_int_equal(dft_cache_rows(f->run.cache, set, samples, count, view, mixes, f->x, bad), DFT_OK);
  f->needed += dft_cache_take_stats(f->run.cache).decoded;
}

static void train_epoch(fixture *f) {
  dft_run *run = &f->run;
  const dft_dataset *data = run->data[DFT_SET_TRAIN];
  int64_t epoch = run->at.epoch, samples[BATCH];
  for (; run->at.position < SAMPLES; run->at.position += BATCH) {
    int count = 0;
    dft_mix mixes[BATCH];
    dft_ahead_move_to(run, DFT_SET_TRAIN, run->at.position);
    for (int64_t p = run->at.position; p < SAMPLES && count < BATCH; p++) {
      mixes[count] = dft_dataset_mix(data, epoch, p);
      samples[count++] = dft_sampler((uint64_t)run->config->seed, true, epoch, SAMPLES, p);
    }
    need(f, DFT_SET_TRAIN, samples, count, dft_dataset_view_of(data, epoch),
         dft_dataset_mixes(data) ? mixes : NULL);
  }
}

static void evaluate(fixture *f) {
  int64_t samples[TILE];
  for (int64_t first = 0; first < VALIDATION; first += TILE) {
    int count = 0;
    dft_ahead_move_to(&f->run, DFT_SET_VALIDATION, first);
    for (int64_t p = first; p < VALIDATION && count < TILE; p++) samples[count++] = p;
    need(f, DFT_SET_VALIDATION, samples, count, DFT_VIEW_PLAIN, NULL);
  }
}

/* From `position` of the first epoch on; returns the images needed. All of them have been read ahead, and at
 * once as far as to the pass given. */
static int64_t fit(fixture *f, int64_t position, int64_t epoch, dft_set set) {
  dft_run *run = &f->run;
  run->at = (dft_position){.position = position};
  dft_ahead_phase(run, EPOCHS);
  dft_ahead_move_to(run, DFT_SET_TRAIN, position);
  dft_ahead_fill(run);
  assert_int_equal(run->ahead.epoch, epoch);
  assert_int_equal(run->ahead.set, set);
  for (; run->at.epoch < EPOCHS; run->at.epoch++, run->at.position = 0) {
    train_epoch(f);
    evaluate(f);
  }
  assert_int_equal(dft_prefetch_hits(run->ahead.prefetch), f->needed);
  dft_ahead_fill(run); /* nothing is left to ask for */
  assert_false(dft_prefetch_full(run->ahead.prefetch));
  return f->needed;
}

static void all_is_read_ahead(void **state) {
  (void)state;
  const struct {
    const char *cache, *augment;
    bool deep;
    int64_t position, needed, epoch;
    dft_set set;
  } cases[] = {
      {"{mode: off}", "{}", true, 0, EPOCHS * (SAMPLES + VALIDATION), 2, DFT_SET_TRAIN},
      {"{mode: off}", "{}", false, 0, EPOCHS * (SAMPLES + VALIDATION), 2, DFT_SET_TRAIN},
      {"{mode: off}", "{}", true, 10, EPOCHS * (SAMPLES + VALIDATION) - 10, 2, DFT_SET_TRAIN},
      {"{mode: auto}", "{}", true, 0, SAMPLES + VALIDATION, 1, DFT_SET_TRAIN},
      {"{mode: auto}", "{}", true, 10, SAMPLES + VALIDATION, 1,
       DFT_SET_TRAIN}, /* the first ten come in the second epoch */
      {"{mode: auto}", "{flip: horizontal}", true, 0, EPOCHS * SAMPLES + VALIDATION, 1, DFT_SET_VALIDATION},
      {"{mode: auto}", "{flip: horizontal, mixup: 0.4}", true, 5, EPOCHS * SAMPLES + VALIDATION - 5, 1,
       DFT_SET_VALIDATION},
      {"{mode: auto, views: 2}", "{flip: horizontal}", true, 0, 2 * SAMPLES + VALIDATION, 1,
       DFT_SET_VALIDATION},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    fixture f;
    dft_model *probe = NULL;
    assert_int_equal(dft_model_new(0.35, 32, 32, DFT_POOL_AVG, 3, &probe), DFT_OK);
    int end = probe->unit_count;
    dft_model_free(probe);
    open_fixture(&f, cases[i].cache, cases[i].augment, cases[i].deep ? end : 0);
    assert_int_equal(fit(&f, cases[i].position, cases[i].epoch, cases[i].set), cases[i].needed);
    close_fixture(&f);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(all_is_read_ahead)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
