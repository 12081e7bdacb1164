#include "tail.h"
#include <stdlib.h>

/* One allocator for the plan, of memory that the kernels work in: counts, and remembers the first failure, so
 * that the plan reads as a list of what is needed. When only counting, it hands out nothing. */
static void *tensor(dft_tail *t, int64_t count, size_t size, bool *failed) {
  const size_t bytes = dft_aligned_bytes((size_t)count * size), at = t->bytes;
  t->bytes += bytes;
  if (t->counting) return NULL;
  if (t->block != NULL) return t->block + at;
  void *p = dft_arena_alloc(t->arena, bytes);
  if (p == NULL) *failed = true;
  return p;
}

static float *floats(dft_tail *t, int64_t count, bool *failed) {
  return tensor(t, count, sizeof(float), failed);
}

static size_t activation_bytes(const dft_ops *ops) {
  return ops->device != NULL ? (size_t)ops->device->activation_bytes : sizeof(float);
}

/* Values of the type that the set keeps activations in. */
static float *activations(dft_tail *t, int64_t count, bool *failed) {
  return tensor(t, count, activation_bytes(t->ops), failed);
}

/* Whether unit i's output is stored as the next layers see it: where a block ends, and where a residual
 * begins.
 */
static bool stores_y(const dft_tail *t, int i) {
  const dft_unit *u = &t->model->units[t->first + i];
  if (!u->relu6 || i == t->count - 1) return true;
  bool residual = false;
  if (u[1].block_start)
    for (int j = i + 1; j < t->count && (j == i + 1 || !t->model->units[t->first + j].block_start); j++)
      residual = residual || t->model->units[t->first + j].residual;
  return residual;
}

/* Whether unit i and the one above it are a pair (ops.h). */
static bool is_pair(const dft_tail *t, int i) {
  const dft_unit *u = &t->model->units[t->first + i];
  return t->ops->train_pair_fits != NULL && i + 1 < t->count && u->kind == DFT_POINTWISE && u->relu6 &&
         u->block_start && u[1].kind == DFT_DEPTHWISE && !stores_y(t, i) &&
         t->ops->train_pair_fits(&u->conv, &u[1].conv);
}

static void plan_unit(dft_tail *t, int i, int samples, bool *failed) {
  const dft_model *m = t->model;
  tail_unit *u = &t->units[i];
  u->unit = &m->units[t->first + i];
  u->conv_trains = m->layers[u->unit->conv_layer].trainable;
  u->bn_trains = m->layers[u->unit->bn_layer].trainable;
  if (i < t->stop && (u->conv_trains || u->bn_trains)) t->stop = i;
  u->needs_dx = i > t->stop;
  const dft_conv *g = &u->unit->conv;
  int c = g->channels;
  u->pair = is_pair(t, i);
  const int64_t k = g->in_channels;
  if (u->pair && u->bn_trains) u->gram = tensor(t, samples * (k + 1) * k, sizeof(double), failed);
  if (!u->pair) u->z = activations(t, (int64_t)samples * u->unit->out_elements, failed);
  if (stores_y(t, i)) u->y = activations(t, (int64_t)samples * u->unit->out_elements, failed);
  dft_batch_norm_vectors *v = &u->v;
  float **vectors[] = {&v->scale,  &v->shift, &v->mean, &v->variance, &v->invstd,
                       &v->dgamma, &v->dbeta, &v->a,    &v->b,        &v->d};
  size_t count = u->bn_trains ? sizeof vectors / sizeof vectors[0] : 2;
  for (size_t n = 0; n < count; n++) *vectors[n] = floats(t, c, failed);
  u->norm =
      (dft_norm){v->scale, v->shift, u->unit->relu6, v->mean, u->bn_trains ? v->a : v->scale, v->b, v->d};
}

static void plan_travelling(dft_tail *t) {
  t->travelling[t->travelling_count++] = t->model->head_kernel;
  t->travelling[t->travelling_count++] = t->model->head_bias;
  for (int i = t->count - 1; i >= t->stop; i--)
    if (t->units[i].conv_trains) t->travelling[t->travelling_count++] = t->units[i].unit->kernel;
}

static void plan(dft_tail *t, int samples, int nodes, bool *failed) {
  const dft_model *m = t->model;
  t->units = dft_arena_alloc(t->arena, (size_t)t->count * sizeof *t->units);
  if (t->units == NULL) {
    *failed = true;
    return;
  }
  /* the gradient of the features is float32 in every set */
  int64_t wide = m->features * (int64_t)(sizeof(float) / activation_bytes(t->ops)), narrow = 0,
          channels = m->features, work = 0;
  int64_t kernel = m->params[m->head_kernel].elements;
  for (int i = 0; i < t->count; i++) {
    plan_unit(t, i, samples, failed);
    const dft_unit *u = &m->units[t->first + i];
    const bool pair = t->units[i].pair;
    int64_t *size = stores_y(t, i) ? &narrow : &wide;
    int64_t unit_work = (int64_t)(pair ? t->ops->train_pair_work_floats(&u->conv, samples)
                                       : t->ops->train_work_floats(u->kind, &u->conv, samples));
    if (u->out_elements > *size && !pair) *size = u->out_elements;
    if (unit_work > work) work = unit_work;
    if (u->conv.channels > channels) channels = u->conv.channels;
    if (m->params[u->kernel].elements > kernel) kernel = m->params[u->kernel].elements;
  }
  plan_travelling(t);
  t->head_packed = floats(t, (int64_t)dft_model_head_packed_floats(m, t->ops), failed);
  t->logits = floats(t, (int64_t)samples * m->classes, failed);
  if (t->dropout > 0) t->dropped = floats(t, (int64_t)samples * m->features, failed);
  if (nodes > 1) t->scratch = floats(t, nodes * kernel, failed);
  if (t->count == 0) return;
  t->head_packed_dx = floats(t, (int64_t)t->ops->gemm_packed_floats(m->classes, m->features), failed);
  t->features = floats(t, (int64_t)samples * m->features, failed);
  for (int i = 0; i < 2; i++) t->wide[i] = activations(t, samples * wide, failed);
  for (int i = 0; i < 2; i++) t->narrow[i] = activations(t, samples * narrow, failed);
  t->work = floats(t, work, failed);
  t->sums = tensor(t, nodes * (2 * channels + 1), sizeof(double), failed);
}

size_t dft_tail_plan_bytes(dft_model *model, const dft_ops *ops, int max_samples, int max_nodes,
                           double dropout) {
  dft_tail t = {.model = model, .ops = ops, .arena = dft_arena_new(), .dropout = dropout, .counting = true};
  t.first = dft_model_tail_start(model);
  t.stop = t.count = model->unit_count - t.first;
  bool failed = false;
  if (t.arena != NULL) plan(&t, max_samples > 0 ? max_samples : 1, max_nodes, &failed);
  dft_arena_free(t.arena);
  return t.bytes;
}

/* A frozen BatchNorm's map, from its moving statistics. */
static void frozen_norm(const dft_tail *t, const tail_unit *u) {
  const dft_param *p = t->model->params;
  t->ops->bn_frozen(p[u->unit->gamma].live, p[u->unit->beta].live, p[u->unit->mean].live,
                    p[u->unit->variance].live, DFT_BN_EPSILON, u->unit->conv.channels, u->v.scale,
                    u->v.shift);
}

/* The block that the plan is laid in. */
static dft_status reserve(dft_tail *t, size_t bytes) {
  if (t->arena == NULL) return dft_fail_memory("tail", bytes);
  if (t->ops->device != NULL) {
    void *block = NULL;
    dft_status status = t->ops->device->alloc(bytes, &block);
    t->block = block;
    return status;
  }
  if (dft_arena_reserve(t->arena, bytes)) return DFT_OK;
  return dft_fail_memory("activations of the trainable layers; use a smaller data.batch_size or more hosts",
                         bytes);
}

dft_status dft_tail_new(dft_model *model, const dft_ops *ops, int max_samples, int max_nodes, double dropout,
                        const dft_tail_hooks *hooks, dft_tail **tail) {
  *tail = NULL;
  dft_tail *t = calloc(1, sizeof *t);
  if (t == NULL) return dft_fail_memory("tail", sizeof *t);
  *t = (dft_tail){.model = model, .ops = ops, .hooks = *hooks, .arena = dft_arena_new(), .dropout = dropout};
  t->first = dft_model_tail_start(model);
  t->stop = t->count = model->unit_count - t->first;
  const size_t bytes = dft_tail_plan_bytes(model, ops, max_samples, max_nodes, dropout);
  bool failed = false;
  dft_status status = reserve(t, bytes);
  if (status == DFT_OK) plan(t, max_samples > 0 ? max_samples : 1, max_nodes, &failed);
  if (status == DFT_OK && failed) status = dft_fail_memory("tail", bytes);
  if (status != DFT_OK) {
    dft_tail_free(t);
    return status;
  }
  for (int i = 0; i < t->count; i++)
    if (!t->units[i].bn_trains) frozen_norm(t, &t->units[i]);
  *tail = t;
  return DFT_OK;
}

void dft_tail_free(dft_tail *tail) {
  if (tail == NULL) return;
  if (tail->block != NULL) tail->ops->device->free(tail->block);
  dft_arena_free(tail->arena);
  free(tail);
}

int dft_tail_travelling(const dft_tail *tail, const int **params) {
  *params = tail->travelling;
  return tail->travelling_count;
}

void dft_tail_pack(dft_tail *tail) {
  const dft_model *m = tail->model;
  const float *head = m->params[m->head_kernel].live;
  tail->ops->gemm_pack(head, m->features, m->classes, false, tail->head_packed);
  if (tail->head_packed_dx != NULL)
    tail->ops->gemm_pack(head, m->classes, m->features, true, tail->head_packed_dx);
}

dft_train_conv dft_tail_train(const dft_tail *tail, int i, const dft_batch *batch, const float *x) {
  const tail_unit *u = &tail->units[i], *below = i > 0 ? u - 1 : NULL;
  return (dft_train_conv){.kind = u->unit->kind,
                          .conv = u->unit->conv,
                          .map = batch->map,
                          .x = below == NULL      ? x
                               : below->y != NULL ? below->y
                                                  : below->z,
                          .x_norm = below != NULL && below->y == NULL ? &below->norm : NULL,
                          .weight = tail->model->params[u->unit->kernel].live,
                          .work = tail->work,
                          .gram = u->gram};
}

const float *dft_tail_bn_gradient(const dft_tail *tail, int param) {
  for (int i = tail->stop; i < tail->count; i++) {
    const tail_unit *u = &tail->units[i];
    if (u->unit->gamma == param) return u->v.dgamma;
    if (u->unit->beta == param) return u->v.dbeta;
  }
  return NULL;
}

void dft_tail_commit_statistics(dft_tail *tail, const int *done) {
  const dft_param *p = tail->model->params;
  for (int i = 0; i < tail->count; i++) {
    const tail_unit *u = &tail->units[i];
    if (u->bn_trains)
      tail->ops->bn_commit(p[u->unit->mean].live, p[u->unit->variance].live, &u->v, DFT_BN_MOMENTUM,
                           u->unit->conv.channels, done);
  }
}
