#include "dft/trace.h"
#include "tail.h"
#include <string.h>

/* Totals of sums[nodes][count]. How many samples the global batch has travels with the first of a step, where
 * ranks have left out samples that only they know of. */
static dft_status sum_over_batch(dft_tail *t, size_t count, const dft_shard_map *map) {
  if (t->global >= 0) return t->hooks.sum(t->hooks.context, t->sums, count);
  for (int n = map->nodes - 1; n >= 0; n--) { /* from the last: rows grow by one and move to the right */
    double *row = t->sums + (size_t)n * (count + 1);
    memmove(row, t->sums + (size_t)n * count, count * sizeof *row);
    row[count] = map->first[map->node_first[n + 1]] - map->first[map->node_first[n]];
  }
  DFT_TRY(t->hooks.sum(t->hooks.context, t->sums, count + 1));
  t->global = t->sums[count];
  return DFT_OK;
}

/* The statistics of the global batch from this rank's sums: population mean and variance per channel, and the
 * affine map they make.
 */
static dft_status batch_statistics(dft_tail *t, tail_unit *u, const dft_batch *batch) {
  const dft_conv *g = &u->unit->conv;
  int c = g->channels, pixels = g->out_h * g->out_w;
  DFT_TRY(sum_over_batch(t, 2 * (size_t)c, batch->map));
  const dft_param *p = t->model->params;
  t->ops->bn_statistics(t->sums, t->global * pixels, p[u->unit->gamma].live, p[u->unit->beta].live,
                        (double)DFT_BN_EPSILON, c, &u->v);
  return DFT_OK;
}

static dft_status forward_unit(dft_tail *t, int i, const dft_batch *batch, const float *x,
                               const float *block_input) {
  tail_unit *u = &t->units[i];
  const dft_conv *g = &u->unit->conv;
  dft_train_conv train = dft_tail_train(t, i, batch, x);
  double *sums = u->bn_trains ? t->sums : NULL;
  if (u->pair) {
    if (sums != NULL) t->ops->train_pair_sums(&train, sums);
  } else if (i > 0 && u[-1].pair) {
    const dft_train_conv expand = dft_tail_train(t, i - 1, batch, x);
    t->ops->train_pair_forward(&expand, &train, u->z, sums);
  } else {
    t->ops->train_forward(t->ops, &train, u->z, sums);
  }
  if (u->bn_trains) DFT_TRY(batch_statistics(t, u, batch));
  if (u->y != NULL)
    t->ops->scale_shift(u->z, u->v.scale, u->v.shift, u->unit->residual ? block_input : NULL, u->unit->relu6,
                        u->y, (int64_t)batch->map->samples * g->out_h * g->out_w, g->channels);
  return DFT_OK;
}

void dft_tail_dropout(const dft_tail *tail, const dft_batch *batch, const float *in, float *out) {
  tail->ops->dropout(in, out, batch->samples, batch->seed, batch->epoch, tail->dropout, batch->map->samples,
                     tail->model->features);
}

dft_status dft_tail_forward(dft_tail *tail, const dft_batch *batch, const float *x, float **logits) {
  const dft_model *m = tail->model;
  int samples = batch->map->samples;
  tail->global = (double)batch->global;
  dft_tail_pack(tail);
  const float *features = x;
  if (tail->count > 0) {
    const float *block_input = x;
    for (int i = 0; i < tail->count; i++) {
      if (i > 0 && tail->units[i].unit->block_start) block_input = tail->units[i - 1].y;
      const double traced_s = dft_trace_begin();
      DFT_TRY(forward_unit(tail, i, batch, x, block_input));
      dft_trace_end(DFT_TRACE_WORK, m->layers[tail->units[i].unit->conv_layer].name, -1, traced_s);
    }
    const float *last = tail->units[tail->count - 1].y;
    if (m->pooling == DFT_POOL_AVG)
      tail->ops->pool_avg(last, tail->features, samples, m->feature_pixels, m->features);
    else
      tail->ops->pool_max(last, tail->features, samples, m->feature_pixels, m->features);
    features = tail->features;
  }
  if (tail->dropped != NULL) {
    dft_tail_dropout(tail, batch, features, tail->dropped);
    features = tail->dropped;
  }
  tail->ops->gemm(features, tail->head_packed, tail->logits, samples, 1, m->features, m->classes,
                  &(dft_epilogue){.bias = m->params[m->head_bias].live});
  *logits = tail->logits;
  return DFT_OK;
}
