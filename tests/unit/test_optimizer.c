/* An optimizer's step is the kernels', with the config's numbers and the iteration's step size; a device's
 * rule has the same ones; slots that do not fit are refused. (The kernels have their own test, against
 * Keras.) */
#include "dft/optim.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const float scale = 0.25F;

/* No two numbers are alike, and none is a default. */
static const dft_config_optimizer configs[] = {
    {.name = DFT_ADAM,
     .learning_rate = 0.02,
     .beta_1 = 0.8,
     .beta_2 = 0.95,
     .epsilon = 1e-3,
     .weight_decay = 0.5},
    {.name = DFT_ADAMW,
     .learning_rate = 0.03,
     .beta_1 = 0.7,
     .beta_2 = 0.9,
     .epsilon = 1e-4,
     .weight_decay = 0.25},
    {.name = DFT_SGD, .learning_rate = 0.05, .weight_decay = 0.5},
    {.name = DFT_SGD, .learning_rate = 0.05, .momentum = 0.9, .weight_decay = 0.125},
    {.name = DFT_SGD, .learning_rate = 0.05, .momentum = 0.6, .nesterov = true, .weight_decay = 0.5},
};
enum { CONFIGS = sizeof configs / sizeof configs[0], STEPS = 3, CLASSES = 7 };

static const dft_ops *reference(void) {
  return dft_ops_get(DFT_KERNELS_REFERENCE);
}

/* The head alone trains. */
static dft_model *head_model(void) {
  dft_model *m = NULL;
  assert_int_equal(dft_model_new(0.35, 32, 32, DFT_POOL_AVG, CLASSES, &m), DFT_OK);
  dft_model_init(m, 3);
  assert_int_equal(dft_model_freeze(m, &(dft_config_phase){.name = "head"}, DFT_BN_SYNC), DFT_OK);
  return m;
}

static dft_optimizer *optimizer_of(const dft_config_optimizer *c, dft_model *m) {
  dft_optimizer *o = NULL;
  assert_int_equal(dft_optimizer_new(c, m, reference(), NULL, &o), DFT_OK);
  return o;
}

/* Keras' formula of step t by the kernels, with numbers as a device gets them. */
static void step_by_rule(const dft_update_rule *r, int t, const float *g, float *w, float *m, float *v,
                         int64_t count) {
  const float decay = (float)(r->learning_rate * r->weight_decay);
  const double alpha = r->learning_rate * sqrt(1 - pow(r->beta_2, t)) / (1 - pow(r->beta_1, t));
  if (r->sgd)
    reference()->sgd(w, m, g, scale, (float)r->learning_rate, (float)r->momentum, r->nesterov, decay, count);
  else
    reference()->adam(w, m, v, g, scale, (float)alpha, r->beta_1, r->beta_2, (float)r->epsilon, decay, count);
}

static void steps_have_the_numbers_of_the_config(void **state) {
  (void)state;
  for (int k = 0; k < CONFIGS; k++) {
    const dft_config_optimizer *c = &configs[k];
    dft_model *model = head_model();
    dft_optimizer *o = optimizer_of(c, model);
    const dft_param *p = &model->params[model->head_bias];
    const dft_update_rule want = {c->name == DFT_SGD, c->nesterov, c->learning_rate, c->beta_1,
                                  c->beta_2,          c->epsilon,  c->momentum,      c->weight_decay},
                          rule = dft_optimizer_rule(o);
    assert_true(rule.sgd == want.sgd && rule.nesterov == want.nesterov &&
                rule.learning_rate == want.learning_rate && rule.beta_1 == want.beta_1 &&
                rule.beta_2 == want.beta_2 && rule.epsilon == want.epsilon &&
                rule.momentum == want.momentum && rule.weight_decay == want.weight_decay);
    float w[CLASSES], m[CLASSES] = {0}, v[CLASSES] = {0}, g[CLASSES];
    for (int i = 0; i < CLASSES; i++) w[i] = p->data[i] = (float)(i - 3) / 4;
    for (int t = 1; t <= STEPS; t++) {
      for (int i = 0; i < CLASSES; i++) g[i] = (float)((t * 13 + i * 29) % 17 - 8) / 4;
      dft_optimizer_begin(o);
      dft_optimizer_apply(o, model->head_bias, g, scale, 0, 3); /* as two ranks of a host do it */
      dft_optimizer_apply(o, model->head_bias, g, scale, 3, CLASSES - 3);
      step_by_rule(&want, t, g, w, m, v, CLASSES);
      assert_memory_equal(p->data, w, sizeof w);
    }
    assert_int_equal(dft_optimizer_iterations(o), STEPS);
    dft_optimizer_free(o);
    dft_model_free(model);
  }
}

/* A slot of another shape, or none, is refused by name; the iterations come with the slots. */
static void slots_come_back(void **state) {
  (void)state;
  dft_model *model = head_model();
  dft_optimizer *o = optimizer_of(&configs[0], model), *other = optimizer_of(&configs[0], model);
  dft_weights slots = {0};
  float *momentum = dft_optimizer_slot(o, model->head_bias, 0);
  for (int i = 0; i < CLASSES; i++) momentum[i] = (float)i + 0.5F;
  assert_int_equal(dft_optimizer_export(o, false, &slots), DFT_OK);
  assert_int_equal(dft_optimizer_import(other, &slots, 41), DFT_OK);
  assert_int_equal(dft_optimizer_iterations(other), 41);
  assert_memory_equal(dft_optimizer_slot(other, model->head_bias, 0), momentum, CLASSES * sizeof *momentum);
  dft_tensor *t = dft_weights_find(&slots, "predictions", "bias/velocity");
  assert_non_null(t);
  t->shape[0]--;
  assert_int_equal(dft_optimizer_import(other, &slots, 0), DFT_EDATA);
  assert_non_null(strstr(dft_error(), "predictions/bias/velocity"));
  dft_weights_remove(&slots, (int)(t - slots.tensors));
  assert_int_equal(dft_optimizer_import(other, &slots, 0), DFT_EDATA);
  dft_weights_free(&slots);
  dft_optimizer_free(o);
  dft_optimizer_free(other);
  dft_model_free(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(steps_have_the_numbers_of_the_config),
      cmocka_unit_test(slots_come_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
