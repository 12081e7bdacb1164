#include "golden_step.h"
#include "dft/loss.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                             \
  do {                                                                                                       \
    if ((call) != DFT_OK) fail_msg("%s", dft_error());                                                       \
  } while (0)

/* One process owns the whole tree: node 0 is the total already. */
static dft_status sum(void *context, double *sums, size_t count) {
  (void)context, (void)sums, (void)count;
  return DFT_OK;
}

static float *gradient(void *context, int param, size_t *stride) {
  golden_step *s = context;
  *stride = (size_t)s->model->params[param].elements;
  return s->gradients[param];
}

static dft_status ready(void *context, int param) {
  (void)context, (void)param;
  return DFT_OK;
}

void golden_step_new(golden_step *s, dft_model *model, const dft_ops *ops, int last, dft_batch_norm mode) {
  *s = (golden_step){.model = model, .ops = ops};
  static char all[] = "*";
  char *globs[] = {all};
  dft_config_phase phase = {.name = "golden", .unfreeze_last = last > 0 ? last : 0};
  if (last < 0) {
    phase.unfreeze = globs;
    phase.unfreeze_count = 1;
  }
  OK(dft_model_freeze(model, &phase, mode));
  for (int i = 0; i < model->param_count; i++)
    if (model->params[i].trainable)
      s->gradients[i] = calloc((size_t)model->params[i].elements, sizeof(float));
  OK(dft_shard_map_set(&s->map, GOLDEN_SHARDS, 1, 0, GOLDEN_BATCH));
  dft_tail_hooks hooks = {.context = s, .sum = sum, .gradient = gradient, .ready = ready};
  OK(dft_tail_new(model, ops, GOLDEN_BATCH, s->map.nodes, 0.0, &hooks, &s->tail));
}

/* The boundary rows of the tail's first unit: the frozen network on the pictures. */
static float *boundary_rows(const golden_step *s, int picture, int count) {
  const dft_model *m = s->model;
  int first = dft_model_tail_start(m);
  int64_t image = dft_model_boundary(m, 0), boundary = dft_model_boundary(m, first);
  float *images = calloc((size_t)(image * count), sizeof(float));
  assert_non_null(images);
  for (int i = 0; i < count; i++) golden_image(picture + i, m->height, images + i * image);
  if (first == 0) return images;
  float *rows = calloc((size_t)(boundary * count), sizeof(float));
  assert_non_null(rows);
  dft_folded_net *net = NULL;
  OK(dft_folded_new(m, s->ops, 0, first, DFT_PREFIX_FLOAT32, &net));
  OK(dft_folded_run(net, images, rows, count));
  dft_folded_free(net);
  free(images);
  return rows;
}

void golden_step_run(golden_step *s, int first, int count, bool backward) {
  OK(dft_shard_map_set(&s->map, GOLDEN_SHARDS, 1, 0, count));
  for (int i = 0; i < count; i++) {
    s->samples[i] = first + i;
    s->labels[i] = golden_label(first + i);
  }
  dft_batch batch = {.map = &s->map, .global = count, .samples = s->samples};
  float *x = boundary_rows(s, first, count), *logits = NULL;
  OK(dft_tail_forward(s->tail, &batch, x, &logits));
  float losses[GOLDEN_BATCH], dlogits[GOLDEN_BATCH * GOLDEN_CLASSES];
  unsigned char correct[GOLDEN_BATCH];
  dft_cross_entropy(logits, s->labels, count, GOLDEN_CLASSES, losses, dlogits, correct);
  s->loss = 0.0;
  for (int i = 0; i < count; i++) s->loss += (double)losses[i] / count;
  if (backward) OK(dft_tail_backward(s->tail, &batch, x, dlogits));
  free(x);
}

void golden_step_gradient(const golden_step *s, int param, float *out) {
  const float *bn = dft_tail_bn_gradient(s->tail, param), *from = bn != NULL ? bn : s->gradients[param];
  for (int64_t i = 0; i < s->model->params[param].elements; i++) out[i] = from[i] / (float)s->map.samples;
}

void golden_step_free(golden_step *s) {
  for (int i = 0; i < s->model->param_count; i++) free(s->gradients[i]);
  dft_tail_free(s->tail);
  dft_shard_map_free(&s->map);
}
