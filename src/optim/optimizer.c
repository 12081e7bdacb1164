#include "dft/optim.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SLOTS = 2 };

/* Keras' names of the slots of each optimizer. */
static const char *const slot_names[][MAX_SLOTS] = {[DFT_ADAM] = {"momentum", "velocity"},
                                                    [DFT_ADAMW] = {"momentum", "velocity"},
                                                    [DFT_SGD] = {"momentum", NULL}};

struct dft_optimizer {
  dft_config_optimizer config;
  dft_model *model;
  const dft_ops *ops;
  dft_arena *arena; /* the slots' memory, unless it was given */
  int64_t iterations;
  float alpha_t;            /* Adam's step size of this iteration */
  float **slots[MAX_SLOTS]; /* [param], NULL where not trainable or not used */
};

static bool uses_slot(const dft_config_optimizer *c, int slot) {
  return slot_names[c->name][slot] != NULL && !(c->name == DFT_SGD && c->momentum == 0.0);
}

size_t dft_optimizer_slots_floats(const dft_config_optimizer *config, const dft_model *model) {
  size_t floats = 0;
  for (int s = 0; s < MAX_SLOTS; s++)
    for (int p = 0; p < model->param_count; p++)
      if (model->params[p].trainable && uses_slot(config, s)) floats += dft_param_floats(&model->params[p]);
  return floats;
}

/* Slots lie one after the other from `at` on. */
static bool place_slots(dft_optimizer *o, float *at) {
  const dft_model *m = o->model;
  for (int s = 0; s < MAX_SLOTS; s++) {
    o->slots[s] = calloc((size_t)m->param_count, sizeof(float *));
    if (o->slots[s] == NULL) return false;
    for (int p = 0; p < m->param_count; p++) {
      if (!m->params[p].trainable || !uses_slot(&o->config, s)) continue;
      o->slots[s][p] = at;
      at += dft_param_floats(&m->params[p]);
    }
  }
  return true;
}

dft_status dft_optimizer_new(const dft_config_optimizer *config, dft_model *model, const dft_ops *ops,
                             float *slots, dft_optimizer **optimizer) {
  *optimizer = NULL;
  const size_t floats = dft_optimizer_slots_floats(config, model);
  dft_optimizer *o = calloc(1, sizeof *o);
  if (o == NULL) return dft_fail_memory("optimizer", sizeof *o);
  *o = (dft_optimizer){.config = *config, .model = model, .ops = ops};
  if (slots == NULL) {
    o->arena = dft_arena_new();
    slots = o->arena != NULL ? dft_arena_floats(o->arena, floats) : NULL;
  }
  if (slots == NULL || !place_slots(o, slots)) {
    dft_optimizer_free(o);
    return dft_fail_memory("optimizer slots", floats * sizeof(float));
  }
  *optimizer = o;
  return DFT_OK;
}

void dft_optimizer_free(dft_optimizer *o) {
  if (o == NULL) return;
  for (int s = 0; s < MAX_SLOTS; s++) free(o->slots[s]);
  dft_arena_free(o->arena);
  free(o);
}

float dft_optimizer_next_alpha(const dft_optimizer *o) {
  const dft_config_optimizer *c = &o->config;
  double t = (double)(o->iterations + 1);
  return (float)(c->learning_rate * sqrt(1.0 - pow(c->beta_2, t)) / (1.0 - pow(c->beta_1, t)));
}

void dft_optimizer_begin(dft_optimizer *o) {
  o->alpha_t = dft_optimizer_next_alpha(o);
  o->iterations++;
}

dft_update_rule dft_optimizer_rule(const dft_optimizer *o) {
  const dft_config_optimizer *c = &o->config;
  return (dft_update_rule){.sgd = c->name == DFT_SGD,
                           .nesterov = c->nesterov,
                           .learning_rate = c->learning_rate,
                           .beta_1 = c->beta_1,
                           .beta_2 = c->beta_2,
                           .epsilon = c->epsilon,
                           .momentum = c->momentum,
                           .weight_decay = c->weight_decay};
}

void dft_optimizer_apply(dft_optimizer *o, int param, const float *gradient, float scale, int64_t first,
                         int64_t count) {
  const dft_config_optimizer *c = &o->config;
  float *w = o->model->params[param].data + first, *slots[MAX_SLOTS];
  for (int s = 0; s < MAX_SLOTS; s++)
    slots[s] = o->slots[s][param] != NULL ? o->slots[s][param] + first : NULL;
  float decay = (float)(c->learning_rate * c->weight_decay);
  if (c->name == DFT_SGD)
    o->ops->sgd(w, slots[0], gradient + first, scale, (float)c->learning_rate, (float)c->momentum,
                c->nesterov, decay, count);
  else
    o->ops->adam(w, slots[0], slots[1], gradient + first, scale, o->alpha_t, c->beta_1, c->beta_2,
                 (float)c->epsilon, decay, count);
}

int64_t dft_optimizer_iterations(const dft_optimizer *o) {
  return o->iterations;
}

void dft_optimizer_set_iterations(dft_optimizer *o, int64_t iterations) {
  o->iterations = iterations;
}

float *dft_optimizer_slot(const dft_optimizer *o, int param, int slot) {
  return o->slots[slot][param];
}

static void slot_variable(const dft_optimizer *o, int param, int slot, char *text, size_t bytes) {
  snprintf(text, bytes, "%s/%s", o->model->params[param].variable, slot_names[o->config.name][slot]);
}

dft_status dft_optimizer_export(const dft_optimizer *o, bool lent, dft_weights *slots) {
  char variable[64];
  int at = 0;
  const size_t bytes = dft_optimizer_slots_floats(&o->config, o->model) * sizeof(float);
  if (slots->count == 0) DFT_TRY(dft_weights_reserve(slots, lent ? 0 : bytes));
  for (int p = 0; p < o->model->param_count; p++)
    for (int s = 0; s < MAX_SLOTS; s++) {
      if (o->slots[s][p] == NULL) continue;
      const dft_param *param = &o->model->params[p];
      const char *layer = o->model->layers[param->layer].name;
      float *values = o->slots[s][p];
      slot_variable(o, p, s, variable, sizeof variable);
      DFT_TRY(dft_weights_put(slots, at, layer, variable, param->rank, param->shape, values, lent));
      at++;
    }
  return DFT_OK;
}

dft_status dft_optimizer_import(dft_optimizer *o, const dft_weights *slots, int64_t iterations) {
  char variable[64];
  for (int p = 0; p < o->model->param_count; p++)
    for (int s = 0; s < MAX_SLOTS; s++) {
      if (o->slots[s][p] == NULL) continue;
      const dft_param *param = &o->model->params[p];
      const char *layer = o->model->layers[param->layer].name;
      slot_variable(o, p, s, variable, sizeof variable);
      const dft_tensor *t = dft_weights_find(slots, layer, variable);
      if (t == NULL || dft_tensor_elements(t) != param->elements)
        return dft_fail(DFT_EDATA, "optimizer slot %s/%s is missing or misshapen", layer, variable);
      memcpy(o->slots[s][p], t->data, (size_t)param->elements * sizeof(float));
    }
  dft_optimizer_set_iterations(o, iterations);
  return DFT_OK;
}
