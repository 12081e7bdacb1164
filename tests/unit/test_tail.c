/* Dropout: the mask's values and what it goes by, and the gradients through it against finite differences. */
#include "dft/loss.h"
#include "dft/model.h"
#include "dft/rng.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the operation ---- */

enum { ROWS = 8, FEATURES = 1280, VALUES = ROWS * FEATURES };

static const int64_t numbers[ROWS] = {3, 1, 4, 15, 9, 26, 5, 35};

static const dft_ops *best_ops(void) {
  dft_kernels best;
  assert_int_equal(dft_ops_best(&best), DFT_OK);
  return dft_ops_get(best);
}

static void masks_keep_their_share(void **state) {
  (void)state;
  static float in[VALUES], out[VALUES];
  static const double rates[] = {0.1, 0.5, 0.8};
  for (int i = 0; i < VALUES; i++) in[i] = (float)(i % 97) + 1;
  for (int r = 0; r < 3; r++) {
    int kept = 0;
    best_ops()->dropout(in, out, numbers, 7, 2, rates[r], ROWS, FEATURES);
    for (int i = 0; i < VALUES; i++) {
      const double whole = (double)in[i] / (1 - rates[r]);
      assert_true(out[i] == 0 || fabs((double)out[i] / whole - 1) < 1e-6);
      kept += out[i] != 0;
    }
    const double deviation = sqrt(rates[r] * (1 - rates[r]) / VALUES);
    assert_true(fabs((double)kept / VALUES - (1 - rates[r])) < 4 * deviation);
  }
}

/* The mask of ones. */
static void mask(uint64_t seed, uint32_t epoch, const int64_t *samples, float *out) {
  for (int i = 0; i < VALUES; i++) out[i] = 1;
  best_ops()->dropout(out, out, samples, seed, epoch, 0.5, ROWS, FEATURES); /* in place */
}

static int differing(const float *a, const float *b) {
  int differ = 0;
  for (int i = 0; i < VALUES; i++) differ += a[i] != b[i];
  return differ;
}

/* By seed, epoch and the sample's number in the dataset, not by its place in the batch. */
static void masks_go_by_epoch_and_sample(void **state) {
  (void)state;
  static float first[VALUES], other[VALUES];
  int64_t moved[ROWS];
  mask(7, 2, numbers, first);
  mask(7, 2, numbers, other);
  assert_int_equal(differing(first, other), 0);
  mask(7, 3, numbers, other);
  assert_in_range(differing(first, other), VALUES * 2 / 5, VALUES * 3 / 5);
  mask(8, 2, numbers, other);
  assert_in_range(differing(first, other), VALUES * 2 / 5, VALUES * 3 / 5);
  for (int i = 0; i < ROWS; i++) moved[i] = numbers[(i + 1) % ROWS];
  mask(7, 2, moved, other);
  assert_in_range(differing(first, other), VALUES * 2 / 5, VALUES * 3 / 5);
  for (int i = 0; i < ROWS; i++)
    assert_memory_equal(other + i * FEATURES, first + (i + 1) % ROWS * FEATURES, FEATURES * sizeof *first);
}

/* ---- gradients ---- */

enum { SAMPLES = 8, CLASSES = 3, SHARDS = 8 };

typedef struct step {
  dft_model *model;
  dft_tail *tail;
  dft_shard_map map;
  float *gradients[512]; /* by param */
  float *x;
  int labels[SAMPLES];
  dft_batch batch;
} step;

/* One process has the whole batch: its sums are the totals. */
static dft_status sum(void *context, double *sums, size_t count) {
  (void)context, (void)sums, (void)count;
  return DFT_OK;
}

static float *gradient(void *context, int param, size_t *stride) {
  step *s = context;
  *stride = (size_t)s->model->params[param].elements;
  return s->gradients[param];
}

static dft_status ready(void *context, int param) {
  (void)context, (void)param;
  return DFT_OK;
}

/* The last convolution trains, on one pixel of 8 samples: |BatchNorm(z)| < sqrt(8), so that beta 3 keeps what
 * ReLU6 sees between 0 and 6, where the loss is smooth. */
static void open_step(step *s, double dropout) {
  *s = (step){0};
  char *globs[] = {(char *)"Conv_1*"};
  const dft_config_phase phase = {.name = (char *)"tail", .unfreeze = globs, .unfreeze_count = 1};
  assert_int_equal(dft_model_new(0.35, 32, 32, DFT_POOL_AVG, CLASSES, &s->model), DFT_OK);
  dft_model *m = s->model;
  dft_model_init(m, 5);
  assert_int_equal(dft_model_freeze(m, &phase, DFT_BN_SYNC), DFT_OK);
  for (int i = 0; i < m->param_count; i++)
    if (m->params[i].trainable) s->gradients[i] = calloc((size_t)m->params[i].elements, sizeof(float));
  float *beta = m->params[m->units[m->unit_count - 1].beta].data;
  for (int f = 0; f < m->features; f++) beta[f] = 3;
  assert_int_equal(dft_shard_map_set(&s->map, SHARDS, 1, 0, SAMPLES), DFT_OK);
  const int64_t row = dft_model_boundary(m, dft_model_tail_start(m));
  s->x = malloc((size_t)(row * SAMPLES) * sizeof *s->x);
  assert_non_null(s->x);
  dft_rng_floats(11, DFT_STREAM_RANDOM_IMAGE, 0, 0, s->x, (size_t)(row * SAMPLES));
  for (int i = 0; i < SAMPLES; i++) s->labels[i] = i % CLASSES;
  s->batch = (dft_batch){.map = &s->map, .global = SAMPLES, .samples = numbers, .seed = 7, .epoch = 2};
  const dft_tail_hooks hooks = {.context = s, .sum = sum, .gradient = gradient, .ready = ready};
  assert_int_equal(dft_tail_new(m, best_ops(), SAMPLES, s->map.nodes, dropout, &hooks, &s->tail), DFT_OK);
}

static void close_step(step *s) {
  for (int i = 0; i < s->model->param_count; i++) free(s->gradients[i]);
  free(s->x);
  dft_tail_free(s->tail);
  dft_shard_map_free(&s->map);
  dft_model_free(s->model);
}

/* The summed loss, and the gradients if wanted. */
static double run_step(step *s, bool backward) {
  float *logits, losses[SAMPLES], dlogits[SAMPLES * CLASSES];
  unsigned char correct[SAMPLES];
  double loss = 0;
  assert_int_equal(dft_tail_forward(s->tail, &s->batch, s->x, &logits), DFT_OK);
  dft_cross_entropy(logits, s->labels, SAMPLES, CLASSES, losses, dlogits, correct);
  for (int i = 0; i < SAMPLES; i++) loss += (double)losses[i];
  if (backward) assert_int_equal(dft_tail_backward(s->tail, &s->batch, s->x, dlogits), DFT_OK);
  return loss;
}

/* Of the loss by one value, by central differences. */
static double slope(step *s, float *value, float e) {
  const float at = *value;
  *value = at + e;
  const double above = run_step(s, false);
  *value = at - e;
  const double below = run_step(s, false);
  *value = at;
  return (above - below) / (2 * (double)e);
}

/* Every so many of a parameter's. */
static void hold(step *s, int param, const float *gradients, int64_t every, float e) {
  const dft_param *p = &s->model->params[param];
  for (int64_t i = 0; i < p->elements; i += every) {
    const double g = (double)gradients[i], wanted = slope(s, &p->data[i], e);
    if (!(fabs(g - wanted) < 1e-3 + 0.01 * fabs(wanted)))
      fail_msg("%s/%s[%d]: %g, finite differences give %g", s->model->layers[p->layer].name, p->variable,
               (int)i, g, wanted);
  }
}

static void gradients_pass_the_mask(void **state) {
  (void)state;
  static float beta_gradient[FEATURES];
  step s;
  open_step(&s, 0.5);
  const dft_model *m = s.model;
  const int beta = m->units[m->unit_count - 1].beta;
  assert_int_equal(m->features, FEATURES);
  run_step(&s, true);
  memcpy(beta_gradient, dft_tail_bn_gradient(s.tail, beta), sizeof beta_gradient);
  hold(&s, beta, beta_gradient, 59, 0.03F);
  hold(&s, m->head_kernel, s.gradients[m->head_kernel], 193, 0.003F); /* of features up to 12 */
  hold(&s, m->head_bias, s.gradients[m->head_bias], 1, 0.03F);
  close_step(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(masks_keep_their_share),
      cmocka_unit_test(masks_go_by_epoch_and_sample),
      cmocka_unit_test(gradients_pass_the_mask),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
