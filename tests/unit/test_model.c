/* The table of layers, freezing and binding. Names and shapes against Keras are in tests/golden. */
#include "dft/model.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static dft_model *new_model(double alpha) {
  dft_model *m = NULL;
  assert_int_equal(dft_model_new(alpha, 96, 96, DFT_POOL_AVG, 5, &m), DFT_OK);
  return m;
}

static void layer_counts(void **state) {
  (void)state;
  static const struct {
    double alpha;
    int layers;
    int64_t parameters;
  } expected[] = {{0.1, 156, 93312},    {0.25, 156, 248768}, {0.35, 155, 410208}, {0.5, 155, 706224},
                  {0.75, 155, 1382064}, {1.0, 155, 2257984}, {1.3, 155, 3766048}, {1.4, 155, 4363712}};
  for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
    dft_model *m = new_model(expected[i].alpha);
    assert_int_equal(m->base_layers, expected[i].layers);
    assert_int_equal(m->layer_count, expected[i].layers + 1);
    assert_int_equal(dft_model_count(m, false) - (m->features + 1) * 5, expected[i].parameters);
    dft_model_free(m);
  }
}

/* Keras takes whole filters of a block before it rounds them, but not of the first convolution. */
static void channels_are_rounded_as_keras(void **state) {
  (void)state;
  dft_model *m = new_model(0.55625);
  assert_int_equal(dft_model_layer(m, "Conv1")->out_c, 24);                /* of 17.8 */
  assert_int_equal(dft_model_layer(m, "expanded_conv_project")->out_c, 8); /* of 8, not 8.9 */
  dft_model_free(m);
}

static void pooling_is_named_as_keras(void **state) {
  (void)state;
  static const char *const names[] = {
      [DFT_POOL_AVG] = "global_average_pooling2d", [DFT_POOL_MAX] = "global_max_pooling2d"};
  for (int p = 0; p < 2; p++) {
    dft_model *m = NULL;
    assert_int_equal(dft_model_new(0.35, 32, 32, (dft_pooling)p, 5, &m), DFT_OK);
    assert_string_equal(m->layers[m->base_layers - 1].name, names[p]);
    dft_model_free(m);
  }
}

static void too_small_is_refused(void **state) {
  (void)state;
  dft_model *m = NULL;
  assert_int_equal(dft_model_new(1.0, 31, 96, DFT_POOL_AVG, 5, &m), DFT_EUSAGE);
  assert_non_null(strstr(dft_error(), "31x96"));
  assert_null(m);
  assert_int_equal(dft_model_new(8, 4096, 4096, DFT_POOL_AVG, 5, &m), DFT_EUSAGE);
  assert_non_null(strstr(dft_error(), "4096x4096 is too large"));
  assert_null(m);
}

static bool trains(const dft_model *m, const char *name) {
  return dft_model_layer(m, name)->trainable;
}

static void unfreeze_last_counts_as_keras(void **state) {
  (void)state;
  dft_model *m = new_model(1.0);
  dft_config_phase phase = {.name = (char *)"tail", .unfreeze_last = 20};
  assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_SYNC), DFT_OK);
  assert_false(trains(m, "block_15_expand"));
  assert_true(trains(m, "block_15_expand_BN"));
  assert_true(trains(m, "Conv_1_bn"));
  assert_true(trains(m, "predictions"));
  /* the tail starts where one narrow tensor is enough: at the block's input */
  int first = dft_model_tail_start(m);
  assert_int_equal(first, dft_model_layer(m, "block_15_expand")->unit);
  assert_int_equal(dft_model_boundary(m, first), 3 * 3 * 160);
  assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_FROZEN), DFT_OK);
  assert_false(trains(m, "block_15_expand_BN"));
  assert_true(trains(m, "block_15_depthwise"));
  for (int i = 0; i < m->param_count; i++)
    if (m->params[i].statistic) assert_false(m->params[i].trainable);
  dft_model_free(m);
}

/* All layers are allowed, and not one more. */
static void unfreeze_last_ends_at_the_first_layer(void **state) {
  (void)state;
  dft_model *m = new_model(1.0);
  dft_config_phase phase = {.name = (char *)"tail", .unfreeze_last = m->base_layers};
  assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_SYNC), DFT_OK);
  assert_true(trains(m, "Conv1"));
  assert_int_equal(dft_model_tail_start(m), 0);
  phase.unfreeze_last++;
  assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_SYNC), DFT_EUSAGE);
  assert_non_null(strstr(dft_error(), "phase tail: unfreeze_last: 156, but the base has 155 layers"));
  dft_model_free(m);
}

static void head_only_needs_pooled_features(void **state) {
  (void)state;
  dft_model *m = new_model(1.0);
  dft_config_phase phase = {.name = (char *)"head"};
  assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_SYNC), DFT_OK);
  assert_int_equal(dft_model_tail_start(m), m->unit_count);
  assert_int_equal(dft_model_boundary(m, m->unit_count), 1280);
  assert_int_equal(dft_model_count(m, true), 1280 * 5 + 5);
  dft_model_free(m);
}

static void globs_and_names(void **state) {
  (void)state;
  dft_model *m = new_model(0.35);
  char *globs[] = {(char *)"block_16_*", (char *)"Conv_1*"};
  dft_config_phase phase = {.name = (char *)"tail", .unfreeze = globs, .unfreeze_count = 2};
  assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_SYNC), DFT_OK);
  assert_true(trains(m, "block_16_expand"));
  assert_false(trains(m, "block_15_project"));
  char *none[] = {(char *)"blok_16_*"};
  phase = (dft_config_phase){.name = (char *)"tail", .unfreeze = none, .unfreeze_count = 1};
  assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_SYNC), DFT_EUSAGE);
  assert_non_null(strstr(dft_error(), "blok_16_*"));
  phase = (dft_config_phase){.name = (char *)"tail", .unfreeze_from = (char *)"block_99"};
  assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_SYNC), DFT_EUSAGE);
  phase = (dft_config_phase){.name = (char *)"tail", .unfreeze_from = (char *)"block_16_project_BN"};
  assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_SYNC), DFT_OK);
  assert_false(trains(m, "block_16_project"));
  assert_true(trains(m, "Conv_1"));
  assert_int_equal(dft_model_tail_start(m), dft_model_layer(m, "block_16_expand")->unit);
  dft_model_free(m);
}

static void binding(void **state) {
  (void)state;
  dft_model *a = new_model(0.35), *b = new_model(0.35), *other = new_model(0.5);
  dft_model_init(a, 1);
  dft_model_init(b, 2);
  dft_weights w = {0};
  assert_int_equal(dft_model_export(a, 0, &w), DFT_OK);
  dft_bind_result r;
  assert_int_equal(dft_model_bind(b, &w, "w", NULL, &r), DFT_OK);
  assert_false(r.by_order);
  assert_true(r.head);
  for (int i = 0; i < a->param_count; i++)
    assert_memory_equal(a->params[i].data, b->params[i].data, (size_t)a->params[i].elements * sizeof(float));
  assert_int_equal(dft_model_bind(other, &w, "w", NULL, &r), DFT_EDATA);
  assert_non_null(strstr(dft_error(), "w: "));
  assert_non_null(strstr(dft_error(), "alpha"));
  /* other names, same order */
  dft_model_init(b, 2);
  for (int i = 0; i < w.count; i++) w.tensors[i].layer[0] = '_';
  assert_int_equal(dft_model_bind(b, &w, "w", NULL, &r), DFT_OK);
  assert_true(r.by_order);
  for (int i = 0; i < a->param_count; i++)
    assert_memory_equal(a->params[i].data, b->params[i].data, (size_t)a->params[i].elements * sizeof(float));
  /* a tensor is missing */
  w.count -= 3;
  assert_int_equal(dft_model_bind(b, &w, "w", NULL, &r), DFT_EDATA);
  w.count += 3;
  dft_weights_free(&w);
  dft_model_free(a);
  dft_model_free(b);
  dft_model_free(other);
}

static void rename_layer(dft_weights *w, const char *from, const char *name) {
  for (int i = 0; i < w->count; i++) {
    if (strcmp(w->tensors[i].layer, from) != 0) continue;
    free(w->tensors[i].layer);
    w->tensors[i].layer = strdup(name);
    assert_non_null(w->tensors[i].layer);
  }
}

/* "Conv_1" is a name that others give, too: one that fits by chance does not make a file go by names. */
static void a_chance_name_is_no_order(void **state) {
  (void)state;
  dft_model *a = new_model(0.35), *b = new_model(0.35);
  dft_weights w = {0};
  dft_bind_result r;
  dft_model_init(a, 1);
  assert_int_equal(dft_model_export(a, 0, &w), DFT_OK);
  for (int i = 0; i < w.count; i++) w.tensors[i].layer[0] = '_';
  rename_layer(&w, "_onv_1", "Conv_1");
  assert_non_null(dft_weights_find(&w, "Conv_1", "kernel"));
  assert_int_equal(dft_model_bind(b, &w, "w", NULL, &r), DFT_OK);
  assert_true(r.by_order);
  assert_int_equal(r.bound, a->param_count - 2);
  for (int i = 0; i < a->param_count; i++)
    assert_memory_equal(a->params[i].data, b->params[i].data, (size_t)a->params[i].elements * sizeof(float));
  dft_weights_free(&w);
  dft_model_free(a);
  dft_model_free(b);
}

/* Keras names a Dense by its number, the user by what it is for. */
static void a_head_may_have_any_name(void **state) {
  (void)state;
  dft_model *a = new_model(0.35), *b = new_model(0.35);
  const dft_param *kernel = &b->params[b->head_kernel];
  const size_t bytes = (size_t)kernel->elements * sizeof(float);
  dft_weights w = {0};
  dft_bind_result r;
  dft_model_init(a, 1);
  assert_int_equal(dft_model_export(a, 0, &w), DFT_OK);
  rename_layer(&w, "predictions", "dense_7");
  for (int unordered = 0; unordered < 2; unordered++) {
    w.unordered = unordered != 0;
    dft_model_init(b, 2);
    assert_int_equal(dft_model_bind(b, &w, "w", NULL, &r), DFT_OK);
    assert_true(r.head && !r.by_order);
    assert_string_equal(r.head_layer, "dense_7");
    assert_memory_equal(kernel->data, a->params[a->head_kernel].data, bytes);
  }
  /* two of them: the last, where order means something */
  const int64_t shape[] = {kernel->shape[0], kernel->shape[1]};
  assert_int_equal(dft_weights_add(&w, "dense_8", "kernel", 2, shape, NULL), DFT_OK);
  assert_int_equal(dft_model_bind(b, &w, "w", NULL, &r), DFT_OK);
  assert_false(r.head);
  assert_string_equal(r.head_why, "the file has no head");
  w.unordered = false;
  assert_int_equal(dft_model_bind(b, &w, "w", NULL, &r), DFT_OK);
  assert_string_equal(r.head_why, "the file's head has no bias");
  assert_int_equal(dft_weights_add(&w, "dense_8", "bias", 1, shape + 1, NULL), DFT_OK);
  assert_int_equal(dft_model_bind(b, &w, "w", NULL, &r), DFT_OK);
  assert_string_equal(r.head_layer, "dense_8");
  /* one of the head's own name comes before all others */
  rename_layer(&w, "dense_7", "predictions");
  assert_int_equal(dft_model_bind(b, &w, "w", NULL, &r), DFT_OK);
  assert_string_equal(r.head_layer, "predictions");
  /* by order, too */
  for (int i = 0; i < w.count; i++) w.tensors[i].layer[0] = '_';
  assert_int_equal(dft_model_bind(b, &w, "w", NULL, &r), DFT_OK);
  assert_true(r.by_order);
  assert_string_equal(r.head_layer, "_ense_8");
  dft_weights_free(&w);
  dft_model_free(a);
  dft_model_free(b);
}

/* Sequential([base, Dense(features), Dense(classes)]): without the first, the second is of no use. */
static void a_head_above_other_layers_starts_fresh(void **state) {
  (void)state;
  dft_model *m = new_model(0.35);
  const int64_t shape[] = {m->features, m->features, m->classes};
  for (int by_order = 0; by_order < 2; by_order++) {
    dft_weights w = {0};
    dft_bind_result r;
    dft_model_init(m, 1);
    assert_int_equal(dft_model_export(m, 0, &w), DFT_OK);
    assert_int_equal(dft_weights_add(&w, "dense", "kernel", 2, shape, NULL), DFT_OK);
    assert_int_equal(dft_weights_add(&w, "dense_1", "kernel", 2, shape + 1, NULL), DFT_OK);
    assert_int_equal(dft_weights_add(&w, "dense_1", "bias", 1, shape + 2, NULL), DFT_OK);
    if (!by_order) rename_layer(&w, "predictions", "other");
    for (int i = 0; i < w.count && by_order; i++) w.tensors[i].layer[0] = '_';
    assert_int_equal(dft_model_bind(m, &w, "w", NULL, &r), DFT_OK);
    assert_int_equal(r.by_order, by_order);
    assert_false(r.head);
    assert_string_equal(r.head_why, "the file's head was trained with layers that this network lacks");
    dft_weights_free(&w);
  }
  dft_model_free(m);
}

/* Nor do the same classes in another order fit. */
static void foreign_classes_start_a_fresh_head(void **state) {
  (void)state;
  dft_model *a = new_model(0.35);
  dft_weights w = {0};
  assert_int_equal(dft_model_export(a, 0, &w), DFT_OK);
  static const char *const names[] = {"a", "b", "c", "d", "e"};
  static const char *const of_files[][5] = {
      {"a", "b", "c", "d", "e"}, {"a", "b", "c", "x", "e"}, {"c", "b", "a", "d", "e"}};
  w.classes = 5;
  for (int k = 0; k < 3; k++) {
    w.class_names = (char **)of_files[k];
    dft_bind_result r;
    assert_int_equal(dft_model_bind(a, &w, "w", names, &r), DFT_OK);
    assert_int_equal(r.head, k == 0);
    if (k > 0) assert_string_equal(r.head_why, "the file's head is for other classes");
  }
  w.class_names = NULL;
  w.classes = 0;
  dft_weights_free(&w);
  dft_model_free(a);
}

static void initialisers(void **state) {
  (void)state;
  dft_model *m = new_model(1.0);
  dft_model_init(m, 42);
  const dft_unit *depthwise = &m->units[1];
  const dft_param *p = &m->params[depthwise->kernel];
  float limit = 0.14213381F; /* sqrt(6/(9*32+9)) */
  float largest = 0;
  for (int64_t i = 0; i < p->elements; i++) {
    float v = p->data[i] < 0 ? -p->data[i] : p->data[i];
    assert_true(v <= limit);
    if (v > largest) largest = v;
  }
  assert_true(largest > 0.95F * limit);
  assert_true(m->params[depthwise->gamma].data[3] == 1.0F);
  assert_true(m->params[depthwise->beta].data[3] == 0.0F);
  assert_true(m->params[depthwise->variance].data[3] == 1.0F);
  dft_model_free(m);
}

/* Row of features of an image, from the folded network of this arithmetic. */
static float *features(const dft_model *m, dft_prefix arithmetic) {
  dft_kernels best;
  dft_folded_net *net = NULL;
  assert_int_equal(dft_ops_best(&best), DFT_OK);
  assert_int_equal(dft_folded_new(m, dft_ops_get(best), 0, m->unit_count, arithmetic, &net), DFT_OK);
  float *image = malloc((size_t)dft_model_boundary(m, 0) * sizeof *image);
  float *row = malloc((size_t)m->features * sizeof *row);
  assert_true(image != NULL && row != NULL);
  for (int64_t i = 0; i < dft_model_boundary(m, 0); i++) image[i] = (float)(i * 7919 % 251) / 125 - 1;
  assert_int_equal(dft_folded_run(net, image, row, 1), DFT_OK);
  dft_folded_free(net);
  free(image);
  return row;
}

/* compute.prefix: bfloat16 changes the frozen network's numbers, by about what 8 bits of mantissa allow. */
static void bfloat16_is_near_float32(void **state) {
  (void)state;
  dft_model *m = new_model(0.35);
  dft_model_init(m, 1);
  float *exact = features(m, DFT_PREFIX_FLOAT32), *rounded = features(m, DFT_PREFIX_BFLOAT16);
  double squares = 0, errors = 0;
  for (int i = 0; i < m->features; i++) {
    const double error = (double)rounded[i] - (double)exact[i];
    squares += (double)exact[i] * (double)exact[i];
    errors += error * error;
  }
  const double relative = sqrt(errors / squares);
  assert_true(relative > 1e-4 && relative < 2e-2);
  free(exact);
  free(rounded);
  dft_model_free(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(layer_counts),
      cmocka_unit_test(channels_are_rounded_as_keras),
      cmocka_unit_test(pooling_is_named_as_keras),
      cmocka_unit_test(too_small_is_refused),
      cmocka_unit_test(unfreeze_last_counts_as_keras),
      cmocka_unit_test(unfreeze_last_ends_at_the_first_layer),
      cmocka_unit_test(head_only_needs_pooled_features),
      cmocka_unit_test(globs_and_names),
      cmocka_unit_test(binding),
      cmocka_unit_test(a_chance_name_is_no_order),
      cmocka_unit_test(a_head_may_have_any_name),
      cmocka_unit_test(a_head_above_other_layers_starts_fresh),
      cmocka_unit_test(foreign_classes_start_a_fresh_head),
      cmocka_unit_test(initialisers),
      cmocka_unit_test(bfloat16_is_near_float32),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
