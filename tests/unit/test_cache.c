/* The cache of frozen work: which boundaries a phase keeps, that nothing is computed twice, that rows are the
 * same bits as without. */
#include "dft/cache.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { IMAGES = 37, CHECKED = 10 };

static void levels(void **state) {
  (void)state;
  int firsts[DFT_CACHE_LEVELS];
  /* the seed: the head's phase passes the tail's boundary on the way */
  assert_int_equal(dft_cache_levels((const int[]){52, 45}, 2, 0, firsts), 2);
  assert_int_equal(firsts[0], 45);
  assert_int_equal(firsts[1], 52);
  assert_int_equal(dft_cache_levels((const int[]){52, 45}, 2, 1, firsts), 1);
  assert_int_equal(firsts[0], 45);
  /* the tail trains first: what lies behind it is not yet true for the later head phase */
  assert_int_equal(dft_cache_levels((const int[]){45, 52}, 2, 0, firsts), 1);
  assert_int_equal(firsts[0], 45);
  /* and that phase goes on from where the tail's began */
  assert_int_equal(dft_cache_levels((const int[]){45, 52}, 2, 1, firsts), 2);
  assert_int_equal(firsts[0], 45);
  assert_int_equal(dft_cache_levels((const int[]){45, 30, 52}, 3, 2, firsts), 2);
  assert_int_equal(firsts[0], 30);
  /* gradual unfreezing, one boundary twice, and a phase that trains everything ends the chain */
  assert_int_equal(dft_cache_levels((const int[]){52, 45, 45, 30, 0, 20}, 6, 0, firsts), 3);
  assert_int_equal(firsts[0], 30);
  assert_int_equal(firsts[2], 52);
  assert_int_equal(dft_cache_levels((const int[]){0, 52}, 2, 0, firsts), 0);
}

typedef struct fixture {
  dft_config *config;
  dft_model *model;
  const dft_ops *ops;
  dft_dataset *data[DFT_SETS];
  dft_cache *cache;
} fixture;

/* A table of operations that counts the frozen forwards made. */
static dft_ops counting;
static const dft_ops *counted;
static int nets;

static dft_status count_new(const dft_folded *layers, int count, dft_frozen **frozen) {
  nets++;
  return counted->frozen_new(layers, count, frozen);
}

static void open_fixture(fixture *f, const char *cache, const int *starts, int phases) {
  char text[1024];
  snprintf(text, sizeof text,
           "model: {alpha: 0.35, input_shape: [32, 33, 3], classes: 3}\n"
           "data: {format: random, train: {samples: %d}, validation: {samples: 5}}\n"
           "phases: [{name: a, epochs: 1}]\ncache: %s\n",
           IMAGES, cache);
  *f = (fixture){0};
  assert_int_equal(dft_config_parse("test.yaml", text, NULL, 0, &f->config), DFT_OK);
  assert_int_equal(dft_model_new(0.35, 32, 33, DFT_POOL_AVG, 3, &f->model), DFT_OK);
  dft_model_init(f->model, 3);
  dft_kernels best;
  assert_int_equal(dft_ops_best(&best), DFT_OK);
  counting = *(counted = dft_ops_get(best));
  counting.frozen_new = count_new;
  f->ops = &counting;
  assert_int_equal(dft_data_open(f->config, dft_share_alone(), &f->data[0], &f->data[1]), DFT_OK);
  assert_int_equal(dft_cache_open(f->config, f->model, f->ops, dft_share_alone(), starts, phases,
                                  (const dft_dataset *const *)f->data, &f->cache),
                   DFT_OK);
}

static void close_fixture(fixture *f) {
  dft_cache_close(f->cache);
  dft_dataset_free(f->data[0]);
  dft_dataset_free(f->data[1]);
  dft_model_free(f->model);
  dft_config_free(f->config);
}

/* Rows of CHECKED samples in a scattered order; returns them and how many images were decoded for it. */
static float *rows(fixture *f, int first, int64_t *decoded) {
  int64_t row = dft_model_boundary(f->model, first), samples[CHECKED];
  for (int i = 0; i < CHECKED; i++) samples[i] = (i * 11 + 3) % IMAGES;
  unsigned char bad[CHECKED];
  float *x = malloc((size_t)(row * CHECKED) * sizeof *x);
  assert_non_null(x);
  (void)dft_cache_take_stats(f->cache);
  assert_int_equal(dft_cache_rows(f->cache, DFT_SET_TRAIN, samples, CHECKED, DFT_VIEW_PLAIN, NULL, x, bad),
                   DFT_OK);
  *decoded = dft_cache_take_stats(f->cache).decoded;
  return x;
}

static void change_unit(fixture *f, int unit) {
  f->model->params[f->model->units[unit].kernel].data[0] += 0.5F;
}

/* Where the fixture's model has its head, and a tail. */
static void boundaries(int *end, int *tail) {
  dft_model *probe = NULL;
  assert_int_equal(dft_model_new(0.35, 32, 33, DFT_POOL_AVG, 3, &probe), DFT_OK);
  *end = probe->unit_count;
  *tail = dft_model_layer(probe, "block_15_expand")->unit;
  dft_model_free(probe);
}

static void same_as_without(const char *cache, const int64_t expected[4]) {
  fixture with, without;
  int end, tail;
  boundaries(&end, &tail);
  const int starts[] = {end, tail, end}; /* head, tail, and the head again, on what the tail has become */
  open_fixture(&with, cache, starts, 3);
  open_fixture(&without, "{mode: off}", starts, 3);
  for (int phase = 0; phase < 3; phase++) {
    assert_int_equal(dft_cache_phase(with.cache, phase), DFT_OK);
    assert_int_equal(dft_cache_phase(without.cache, phase), DFT_OK);
    int rounds = phase == 0 ? 2 : 1;
    for (int round = 0; round < rounds; round++) {
      int64_t decoded, all;
      float *a = rows(&with, starts[phase], &decoded), *b = rows(&without, starts[phase], &all);
      assert_memory_equal(a, b,
                          (size_t)(dft_model_boundary(with.model, starts[phase]) * CHECKED) * sizeof *a);
      assert_int_equal(all, CHECKED);
      assert_int_equal(decoded, expected[phase == 0 ? round : phase + 1]);
      free(a);
      free(b);
    }
    if (phase == 1) { /* what this phase would have trained */
      change_unit(&with, end - 1);
      change_unit(&without, end - 1);
    }
  }
  close_fixture(&with);
  close_fixture(&without);
}

/* First pass decodes; the second and the tail's phase find everything; so does the last head phase: it goes
 * on from the tail's boundary. */
static void everything_fits(void **state) {
  (void)state;
  same_as_without("{memory_mb: 100}", (const int64_t[]){CHECKED, 0, 0, 0});
}

/* A frozen forward takes memory and time to make: one that no row needs is none. */
static void phase_that_finds_all_makes_no_net(void **state) {
  (void)state;
  fixture f;
  int64_t decoded;
  int starts[2];
  boundaries(&starts[0], &starts[1]);
  open_fixture(&f, "{memory_mb: 100}", starts, 2);
  assert_int_equal(dft_cache_phase(f.cache, 0), DFT_OK);
  free(rows(&f, starts[0], &decoded)); /* takes what it has waited for, too */
  assert_true(dft_cache_take_stats(f.cache).waited_s == 0);
  close_fixture(&f);
  open_fixture(&f, "{memory_mb: 100}", starts, 2);
  nets = 0;
  for (int phase = 0; phase < 2; phase++) {
    assert_int_equal(dft_cache_phase(f.cache, phase), DFT_OK);
    assert_int_equal(nets,
                     phase == 0 ? 0 : 2); /* images to the tail's boundary, and from there to the head's */
    free(rows(&f, starts[phase], &decoded));
    assert_int_equal(nets, 2);
  }
  close_fixture(&f);
}

static void memory_is_kept_to(void **state) {
  (void)state;
  fixture f;
  const int starts[] = {1};
  open_fixture(&f, "{memory_mb: 1}", starts, 1);
  assert_int_equal(dft_cache_phase(f.cache, 0), DFT_OK);
  dft_cache_report r = dft_cache_describe(f.cache);
  assert_int_equal(r.images, IMAGES + 5);
  assert_in_range(r.fitting * r.bytes_per_image, 1, 1000000);
  close_fixture(&f);
  same_as_without("{memory_mb: 0}", (const int64_t[]){CHECKED, CHECKED, CHECKED, CHECKED});
}

/* A phase gets what those before have left of the memory; what it has no use for is given back. */
static void phases_share_the_memory(void **state) {
  (void)state;
  fixture f;
  const int starts[] = {1, 3, 1, 3};
  int64_t row[2], fitting[4];
  open_fixture(&f, "{memory_mb: 1}", starts, 4);
  for (int i = 0; i < 2; i++) row[i] = dft_model_boundary(f.model, starts[i]) * (int64_t)sizeof(float);
  for (int phase = 0; phase < 4; phase++) {
    assert_int_equal(dft_cache_phase(f.cache, phase), DFT_OK);
    const dft_cache_report r = dft_cache_describe(f.cache);
    fitting[phase] = r.fitting;
    assert_int_equal(r.bytes_per_image, phase % 2 == 0 ? row[0] : row[0] + row[1]);
  }
  assert_int_equal(fitting[0], IMAGES + 5); /* all of the first boundary: it stays */
  assert_in_range(fitting[1], (IMAGES + 5) / 2, IMAGES + 4);
  assert_true(fitting[0] * row[0] + fitting[1] * row[1] <= 1000000);
  assert_int_equal(fitting[2], fitting[0]);
  assert_int_equal(fitting[3], fitting[1]);
  close_fixture(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(levels),
      cmocka_unit_test(everything_fits),
      cmocka_unit_test(phase_that_finds_all_makes_no_net),
      cmocka_unit_test(memory_is_kept_to),
      cmocka_unit_test(phases_share_the_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
