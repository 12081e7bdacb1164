/* The table of layers against Keras' own: names, classes, shapes and parameter counts, in order. */
#include "golden.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct row {
  double alpha;
  int height, width, index, h, w, c;
  long long parameters;
  char name[64], keras_class[64];
} row;

static void hold_layer(const dft_model *m, const row *r) {
  const dft_layer *l = &m->layers[r->index];
  assert_true(r->index < m->base_layers);
  assert_string_equal(l->name, r->name);
  assert_string_equal(dft_layer_class(l->kind), r->keras_class);
  long long parameters = 0;
  for (int i = 0; i < l->params; i++) parameters += m->params[l->first_param + i].elements;
  if (l->out_h != r->h || l->out_w != r->w || l->out_c != r->c || parameters != r->parameters)
    fail_msg("alpha %g, %dx%d, %s: %dx%dx%d with %lld parameters, Keras has %dx%dx%d with %lld", r->alpha,
             r->height, r->width, r->name, l->out_h, l->out_w, l->out_c, parameters, r->h, r->w, r->c,
             r->parameters);
}

static void test_layers_are_keras_layers(void **state) {
  (void)state;
  char path[512];
  golden_path(path, sizeof path, "layers.txt");
  FILE *f = fopen(path, "r");
  assert_non_null(f);
  dft_model *m = NULL;
  row r;
  int models = 0, rows = 0, last = -1;
  while (fscanf(f, "%lf %d %d %d %63s %63s %d %d %d %lld", &r.alpha, &r.height, &r.width, &r.index, r.name,
                r.keras_class, &r.h, &r.w, &r.c, &r.parameters) == 10) {
    if (r.index == 0) {
      if (m != NULL) assert_int_equal(m->base_layers, last + 1);
      dft_model_free(m);
      assert_int_equal(dft_model_new(r.alpha, r.height, r.width, DFT_POOL_AVG, GOLDEN_CLASSES, &m), DFT_OK);
      models++;
    }
    hold_layer(m, &r);
    last = r.index;
    rows++;
  }
  assert_int_equal(m->base_layers, last + 1);
  assert_string_equal(m->layers[m->base_layers].name, "predictions");
  assert_int_equal(models, 12);
  assert_true(rows > 12 * 150);
  dft_model_free(m);
  fclose(f);
}

/* What unfreeze_last means: Keras' base.layers[-N:], by name. */
static void test_unfreeze_last_cuts_where_keras_does(void **state) {
  (void)state;
  static const struct {
    int last;
    const char *first, *before;
  } cuts[] = {{20, "block_15_expand_BN", "block_15_expand"}, {47, "block_12_expand_BN", "block_12_expand"}};
  dft_model *m = NULL;
  assert_int_equal(dft_model_new(1.0, 96, 96, DFT_POOL_AVG, GOLDEN_CLASSES, &m), DFT_OK);
  for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
    dft_config_phase phase = {.name = "tail", .unfreeze_last = cuts[i].last};
    assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_SYNC), DFT_OK);
    assert_true(dft_model_layer(m, cuts[i].first)->trainable);
    assert_false(dft_model_layer(m, cuts[i].before)->trainable);
    assert_true(dft_model_layer(m, "predictions")->trainable);
  }
  dft_model_free(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_layers_are_keras_layers),
      cmocka_unit_test(test_unfreeze_last_cuts_where_keras_does),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
