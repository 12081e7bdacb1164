#include "tail.h"
#include <string.h>

typedef void (*weight_gradient)(dft_tail *t, const tail_unit *u, const float *x, const float *dz,
                                const dft_shard_map *map, float *dw);

static void pointwise_dw(dft_tail *t, const tail_unit *u, const float *x, const float *dz,
                         const dft_shard_map *map, float *dw) {
  const dft_conv *g = &u->unit->conv;
  t->ops->gemm_dw(x, dz, g->in_h * g->in_w, g->in_channels, g->channels, map, dw);
}

static void depthwise_dw(dft_tail *t, const tail_unit *u, const float *x, const float *dz,
                         const dft_shard_map *map, float *dw) {
  t->ops->depthwise_dw(x, dz, &u->unit->conv, map, dw);
}

static void stem_dw(dft_tail *t, const tail_unit *u, const float *x, const float *dz,
                    const dft_shard_map *map, float *dw) {
  t->ops->stem_dw(x, dz, &u->unit->conv, map, dw);
}

static void head_dw(dft_tail *t, const tail_unit *u, const float *x, const float *dz,
                    const dft_shard_map *map, float *dw) {
  (void)u;
  t->ops->gemm_dw(x, dz, 1, t->model->features, t->model->classes, map, dw);
}

static void head_db(dft_tail *t, const tail_unit *u, const float *x, const float *dz,
                    const dft_shard_map *map, float *db) {
  (void)u;
  (void)x;
  t->ops->row_sums(dz, 1, t->model->classes, map, db);
}

/* Computes one parameter's gradient, per owned node, where the exchange wants it, and says that it is there.
 */
static dft_status give_gradient(dft_tail *t, weight_gradient compute, const tail_unit *u, int param,
                                const float *x, const float *dz, const dft_shard_map *map) {
  size_t stride = 0, elements = (size_t)t->model->params[param].elements;
  float *to = t->hooks.gradient(t->hooks.context, param, &stride);
  if (map->nodes == 1) {
    compute(t, u, x, dz, map, to);
  } else {
    compute(t, u, x, dz, map, t->scratch);
    for (int n = 0; n < map->nodes; n++)
      memcpy(to + (size_t)n * stride, t->scratch + (size_t)n * elements, elements * sizeof(float));
  }
  return t->hooks.ready(t->hooks.context, param);
}

/* dz from g = dy inside the activation, through the batch's statistics:
 * dz = gamma*invstd * (g - dbeta/M - xhat*dgamma/M) with xhat = (z-mean)*invstd (Ioffe & Szegedy 2015). */
static dft_status batch_norm_backward(dft_tail *t, tail_unit *u, const dft_batch *batch, float *dy,
                                      bool needs_dz) {
  const dft_conv *g = &u->unit->conv;
  int c = g->channels, pixels = g->out_h * g->out_w;
  const float *mask = u->unit->relu6 ? u->y : NULL;
  t->ops->bn_backward_sums(dy, mask, u->z, u->mean, u->invstd, pixels, c, batch->map, t->sums);
  DFT_TRY(t->hooks.sum(t->hooks.context, t->sums, 2 * (size_t)c));
  const float *gamma = t->model->params[u->unit->gamma].data;
  double count = (double)batch->global * pixels;
  for (int i = 0; i < c; i++) {
    double dbeta = t->sums[i], dgamma = t->sums[c + i];
    double a = (double)gamma[i] * u->invstd[i];
    double b = -a * u->invstd[i] * dgamma / count;
    u->dbeta[i] = (float)dbeta;
    u->dgamma[i] = (float)dgamma;
    u->a[i] = (float)a;
    u->b[i] = (float)b;
    u->d[i] = (float)(-a * dbeta / count - b * u->mean[i]);
  }
  if (needs_dz)
    t->ops->bn_backward(dy, mask, u->z, u->a, u->b, u->d, dy, (int64_t)batch->map->samples * pixels, c);
  return DFT_OK;
}

static void input_gradient(dft_tail *t, const tail_unit *u, const float *dz, int samples, float *dx) {
  const dft_conv *g = &u->unit->conv;
  if (u->unit->kind == DFT_POINTWISE)
    t->ops->gemm(dz, u->packed_dx, dx, samples, g->in_h * g->in_w, g->channels, g->in_channels,
                 &(dft_epilogue){0});
  else
    t->ops->depthwise_dx(dz, t->model->params[u->unit->kernel].data, dx, samples, g);
}

/* dy becomes dz; the kernel's gradient; dx into `dx` where something before it trains. */
static dft_status backward_unit(dft_tail *t, tail_unit *u, const dft_batch *batch, const float *x, float *dy,
                                float *dx) {
  static const weight_gradient gradients[] = {
      [DFT_STEM] = stem_dw, [DFT_DEPTHWISE] = depthwise_dw, [DFT_POINTWISE] = pointwise_dw};
  const dft_conv *g = &u->unit->conv;
  int samples = batch->map->samples;
  if (u->bn_trains)
    DFT_TRY(batch_norm_backward(t, u, batch, dy, u->conv_trains || u->needs_dx));
  else
    t->ops->bn_backward(dy, u->unit->relu6 ? u->y : NULL, NULL, u->scale, NULL, NULL, dy,
                        (int64_t)samples * g->out_h * g->out_w, g->channels);
  if (u->conv_trains)
    DFT_TRY(give_gradient(t, gradients[u->unit->kind], u, u->unit->kernel, x, dy, batch->map));
  if (u->needs_dx) input_gradient(t, u, dy, samples, dx);
  return DFT_OK;
}

static dft_status backward_head(dft_tail *t, const dft_batch *batch, const float *x, const float *dlogits,
                                float *dfeatures) {
  const dft_model *m = t->model;
  const float *features = t->dropped != NULL ? t->dropped : t->count > 0 ? t->features : x;
  DFT_TRY(give_gradient(t, head_dw, NULL, m->head_kernel, features, dlogits, batch->map));
  DFT_TRY(give_gradient(t, head_db, NULL, m->head_bias, NULL, dlogits, batch->map));
  if (t->stop == t->count) return DFT_OK;
  t->ops->gemm(dlogits, t->head_packed_dx, dfeatures, batch->map->samples, 1, m->classes, m->features,
               &(dft_epilogue){0});
  if (t->dropped != NULL) dft_tail_dropout(t, batch, dfeatures, dfeatures);
  return DFT_OK;
}

static void pool_backward(dft_tail *t, int samples, const float *dfeatures, float *dx) {
  const dft_model *m = t->model;
  if (m->pooling == DFT_POOL_AVG)
    t->ops->pool_avg_dx(dfeatures, dx, samples, m->feature_pixels, m->features);
  else
    t->ops->pool_max_dx(t->units[t->count - 1].y, t->features, dfeatures, dx, samples, m->feature_pixels,
                        m->features);
}

dft_status dft_tail_backward(dft_tail *tail, const dft_batch *batch, const float *x, const float *dlogits) {
  int samples = batch->map->samples;
  float *dy = tail->gradient[0], *dx = tail->gradient[1];
  DFT_TRY(backward_head(tail, batch, x, dlogits, dx));
  if (tail->stop == tail->count) return DFT_OK;
  pool_backward(tail, samples, dx, dy);
  bool around = false; /* the block being walked has a residual, whose gradient waits in `skip` */
  for (int i = tail->count - 1; i >= tail->stop; i--) {
    tail_unit *u = &tail->units[i];
    if (u->unit->residual) {
      around = true;
      memcpy(tail->skip, dy, (size_t)samples * (size_t)u->unit->out_elements * sizeof(float));
    }
    DFT_TRY(backward_unit(tail, u, batch, i == 0 ? x : tail->units[i - 1].y, dy, dx));
    if (!u->needs_dx) break;
    if (u->unit->block_start && around) {
      tail->ops->add(tail->skip, dx, (int64_t)samples * u->unit->in_elements);
      around = false;
    }
    float *swap = dy;
    dy = dx;
    dx = swap;
  }
  return DFT_OK;
}
