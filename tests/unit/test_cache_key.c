/* The key of cached rows: whatever decides a row gives another file, and nothing else does. */
#include "../../src/cache/rows.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { IMAGES = 37 };

/* What a key is made of. */
typedef struct source {
  dft_config config;
  dft_model model;
  dft_ops ops;
  dft_device device;
  int firsts[2], level;
  uint64_t contents;
  bool augmented;
} source;

/* Whether the keys differ, in both hashes or in none. */
static bool differ(const source *a, const source *b) {
  const source *const both[2] = {a, b};
  dft_rows_key keys[2];
  for (int k = 0; k < 2; k++) {
    const source *s = both[k];
    keys[k] = dft_rows_key_of(&s->config, &s->model, &s->ops, s->firsts, s->level, s->contents, IMAGES,
                              s->augmented);
  }
  const bool other = keys[0].hash[0] != keys[1].hash[0];
  assert_int_equal(keys[0].hash[1] != keys[1].hash[1], other);
  return other;
}

static source new_source(dft_model **model) {
  dft_kernels best;
  assert_int_equal(dft_model_new(0.35, 32, 33, DFT_POOL_AVG, 3, model), DFT_OK);
  assert_int_equal(dft_ops_best(&best), DFT_OK);
  return (source){.config = {.data = {.augment = {.flip = DFT_FLIP_HORIZONTAL}}},
                  .model = **model,
                  .ops = *dft_ops_get(best),
                  .device = {.name = "A", .precision = DFT_PRECISION_FLOAT32},
                  .firsts = {(*model)->unit_count, (*model)->unit_count},
                  .contents = 1};
}

/* Another seed gives other views of the same images, and the same images as they are. */
static void the_seed_matters_to_views(void **state) {
  (void)state;
  dft_model *m = NULL;
  source a = new_source(&m), b = a;
  b.config.seed++;
  assert_false(differ(&a, &b));
  a.augmented = b.augmented = true;
  assert_true(differ(&a, &b));
  b.config.seed--;
  b.config.data.augment.erasing = 0.5;
  assert_true(differ(&a, &b));
  dft_model_free(m);
}

/* Each size, statistic, set of kernels and device, and where the chain of levels is cut. */
static void whatever_decides_rows_is_in_their_key(void **state) {
  (void)state;
  dft_model *m = NULL;
  const source a = new_source(&m);
  source b = a, on = a, other;
  assert_false(differ(&a, &b));
  b.model.height--, assert_true(differ(&a, &b)), b = a;
  b.model.width--, assert_true(differ(&a, &b)), b = a;
  b.model.alpha = 0.36, assert_true(differ(&a, &b)), b = a; /* of the same widths */
  b.contents++, assert_true(differ(&a, &b)), b = a;
  b.ops.name = "others", assert_true(differ(&a, &b)), b = a;
  on.ops.device = &on.device;
  assert_true(differ(&a, &on));
  other = on;
  other.ops.device = &other.device;
  assert_false(differ(&on, &other));
  other.device.precision = DFT_PRECISION_TF32, assert_true(differ(&on, &other)), other.device = on.device;
  snprintf(other.device.name, sizeof other.device.name, "B"), assert_true(differ(&on, &other));
  b.firsts[0]--, b.level = 1, assert_true(differ(&a, &b)), b = a;
  const dft_unit *last = &m->units[m->unit_count - 1];
  const int params[] = {last->kernel, last->gamma, last->beta, last->mean, last->variance};
  for (int i = 0; i < 5; i++) { /* the models share their tensors: so with a copy of one */
    dft_param *changed = malloc((size_t)m->param_count * sizeof *changed);
    assert_non_null(changed);
    memcpy(changed, m->params, (size_t)m->param_count * sizeof *changed);
    float *values = calloc((size_t)changed[params[i]].elements, sizeof *values);
    assert_non_null(values);
    values[0] = 0.25F;
    changed[params[i]].data = values;
    b.model.params = changed;
    assert_true(differ(&a, &b));
    free(values);
    free(changed);
  }
  dft_model_free(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_seed_matters_to_views),
      cmocka_unit_test(whatever_decides_rows_is_in_their_key),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
