#include "dft/trace.h"
#include "tail.h"

/* Where the kernels put a parameter's gradient, per owned node: straight where the exchange wants it, if it
 * is one piece. */
static float *gradient_place(dft_tail *t, int param, const dft_shard_map *map) {
  size_t stride = 0;
  return map->nodes == 1 ? t->hooks.gradient(t->hooks.context, param, &stride) : t->scratch;
}

/* Brings it there otherwise, and says that it is there. */
static dft_status gradient_done(dft_tail *t, int param, const dft_shard_map *map) {
  size_t stride = 0;
  const int64_t elements = t->model->params[param].elements;
  if (map->nodes != 1) {
    float *to = t->hooks.gradient(t->hooks.context, param, &stride);
    t->ops->copy_nodes(t->scratch, to, stride, elements, map->nodes);
  }
  return t->hooks.ready(t->hooks.context, param);
}

/* From this rank's sums the coefficients of the gradient through the batch's statistics. */
static dft_status batch_norm_backward(dft_tail *t, const tail_unit *u) {
  const dft_conv *g = &u->unit->conv;
  DFT_TRY(t->hooks.sum(t->hooks.context, t->sums, 2 * (size_t)g->channels));
  t->ops->bn_gradients(t->sums, t->global * (g->out_h * g->out_w), t->model->params[u->unit->gamma].live,
                       g->channels, &u->v);
  return DFT_OK;
}

/* The kernel's gradient, and where something before the unit trains dx and the sums of the BatchNorm there.
 */
static dft_status backward_unit(dft_tail *t, int i, const dft_batch *batch, const float *x, float *dy,
                                const float *skip, float *dx) {
  tail_unit *u = &t->units[i];
  const tail_unit *below = i > t->stop ? u - 1 : NULL;
  if (u->bn_trains) DFT_TRY(batch_norm_backward(t, u));
  if (!u->conv_trains && !u->needs_dx) return DFT_OK;
  dft_train_conv train = dft_tail_train(t, i, batch, x);
  dft_train_gradient g = {.dy = dy, .dy_kept = u->unit->residual, .z = u->z, .norm = &u->norm};
  if (u->conv_trains) g.dw = gradient_place(t, u->unit->kernel, batch->map);
  if (below != NULL) {
    g.dx = dx;
    g.skip = skip;
    g.below_z = below->z;
    g.below_norm = &below->norm;
    g.below_sums = below->bn_trains ? t->sums : NULL;
  }
  if (u->pair) {
    t->ops->train_pair_finish(&train, &g);
  } else if (i > 0 && u[-1].pair) {
    const dft_train_conv expand = dft_tail_train(t, i - 1, batch, x);
    t->ops->train_pair_backward(&expand, &train, &g, below != NULL);
  } else {
    t->ops->train_backward(t->ops, &train, &g);
  }
  return u->conv_trains ? gradient_done(t, u->unit->kernel, batch->map) : DFT_OK;
}

static dft_status backward_head(dft_tail *t, const dft_batch *batch, const float *x, const float *dlogits,
                                float *dfeatures) {
  const dft_model *m = t->model;
  const dft_shard_map *map = batch->map;
  const float *features = t->dropped != NULL ? t->dropped : t->count > 0 ? t->features : x;
  t->ops->gemm_dw(features, dlogits, 1, m->features, m->classes, map, gradient_place(t, m->head_kernel, map));
  DFT_TRY(gradient_done(t, m->head_kernel, map));
  t->ops->row_sums(dlogits, 1, m->classes, map, gradient_place(t, m->head_bias, map));
  DFT_TRY(gradient_done(t, m->head_bias, map));
  if (t->stop == t->count) return DFT_OK;
  t->ops->gemm(dlogits, t->head_packed_dx, dfeatures, map->samples, 1, m->classes, m->features,
               &(dft_epilogue){0});
  if (t->dropped != NULL) dft_tail_dropout(t, batch, dfeatures, dfeatures);
  return DFT_OK;
}

static void pool_backward(dft_tail *t, const dft_shard_map *map, const float *dfeatures, float *dy) {
  const dft_model *m = t->model;
  const tail_unit *last = &t->units[t->count - 1];
  if (m->pooling == DFT_POOL_AVG)
    t->ops->pool_avg_dx(dfeatures, dy, map->samples, m->feature_pixels, m->features);
  else
    t->ops->pool_max_dx(last->y, t->features, dfeatures, dy, map->samples, m->feature_pixels, m->features);
  if (last->bn_trains)
    t->ops->bn_backward_sums(dy, last->z, &last->norm, m->feature_pixels, m->features, map, t->sums);
}

dft_status dft_tail_backward(dft_tail *tail, const dft_batch *batch, const float *x, const float *dlogits) {
  int wide = 0, narrow = 0; /* which of the two was written last */
  float *dy = tail->narrow[0], *dfeatures = tail->wide[0];
  DFT_TRY(backward_head(tail, batch, x, dlogits, dfeatures));
  if (tail->stop == tail->count) return DFT_OK;
  pool_backward(tail, batch->map, dfeatures, dy);
  float *around = NULL; /* the gradient that goes around the block being walked */
  for (int i = tail->count - 1; i >= tail->stop; i--) {
    const tail_unit *u = &tail->units[i];
    if (u->unit->residual) around = dy;
    const bool above_pair = i > 0 && u[-1].pair; /* its dx is the expansion's, in two parts */
    float *dx = NULL;
    if (above_pair)
      dx = u->needs_dx && u[-1].needs_dx ? tail->narrow[narrow ^= 1] : NULL;
    else if (u->pair)
      dx = u->needs_dx ? dy : NULL;
    else if (u->needs_dx)
      dx = u[-1].y != NULL ? tail->narrow[narrow ^= 1] : tail->wide[wide ^= 1];
    const bool starts = above_pair || (u->unit->block_start && !u->pair);
    const double traced_s = dft_trace_begin();
    DFT_TRY(backward_unit(tail, i, batch, x, dy, starts ? around : NULL, dx));
    dft_trace_end(DFT_TRACE_WORK, tail->model->layers[u->unit->conv_layer].name, -1, traced_s);
    if (starts) around = NULL;
    dy = dx;
  }
  return DFT_OK;
}
