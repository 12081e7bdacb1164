/* The frozen network: every BatchNorm folded into its convolution, y = relu6(conv(x, w*s) + (beta - mean*s))
 * with s = gamma / sqrt(variance + epsilon). */
#include "dft/model.h"
#include <math.h>
#include <stdlib.h>

struct dft_folded_net {
  const dft_ops *ops;
  dft_frozen *frozen; /* never NULL in a net that was made */
  dft_pooling pooling;
  int pixels, channels; /* before pooling; pixels 0: no pooling, or a device's, which does it itself */
  float *unpooled;      /* [TILE][pixels][channels] */
  int64_t in, out;
};

/* Samples pooled at a time: bounds the memory of the last activation. */
enum { TILE = 32 };

static void fold(const dft_model *m, const dft_unit *u, float *scale, float *bias) {
  const float *gamma = m->params[u->gamma].data, *beta = m->params[u->beta].data;
  const float *mean = m->params[u->mean].data, *variance = m->params[u->variance].data;
  for (int i = 0; i < u->conv.channels; i++) scale[i] = gamma[i] / sqrtf(variance[i] + DFT_BN_EPSILON);
  for (int i = 0; i < u->conv.channels; i++) bias[i] = beta[i] - mean[i] * scale[i];
}

static dft_status fold_layers(const dft_model *m, const dft_ops *ops, int from, int to, dft_prefix arithmetic,
                              dft_arena *arena, dft_frozen **frozen) {
  dft_folded *layers = dft_arena_alloc(arena, (size_t)(to - from) * sizeof *layers);
  const bool bfloat16 = arithmetic == DFT_PREFIX_BFLOAT16 ||
                        (ops->device != NULL && ops->device->precision == DFT_PRECISION_BFLOAT16);
  if (layers == NULL) return dft_fail_memory("folded layers", (size_t)(to - from) * sizeof *layers);
  for (int i = from; i < to; i++) {
    const dft_unit *u = &m->units[i];
    float *scale = dft_arena_floats(arena, (size_t)u->conv.channels);
    float *bias = dft_arena_floats(arena, (size_t)u->conv.channels);
    if (scale == NULL || bias == NULL) return dft_fail_memory("folded weights", 0);
    fold(m, u, scale, bias);
    layers[i - from] = (dft_folded){.kind = u->kind,
                                    .conv = u->conv,
                                    .weight = m->params[u->kernel].data,
                                    .scale = scale,
                                    .bias = bias,
                                    .relu6 = u->relu6,
                                    .residual = u->residual,
                                    .block_start = u->block_start,
                                    .bfloat16 = bfloat16 && u->kind == DFT_POINTWISE};
  }
  return ops->frozen_new(layers, to - from, frozen);
}

dft_status dft_folded_new(const dft_model *model, const dft_ops *ops, int from, int to, dft_prefix arithmetic,
                          dft_folded_net **net) {
  *net = NULL;
  dft_folded_net *n = calloc(1, sizeof *n);
  dft_arena *arena = dft_arena_new();
  dft_status status = n == NULL || arena == NULL
                          ? dft_fail_memory("folded net", sizeof *n)
                          : fold_layers(model, ops, from, to, arithmetic, arena, &n->frozen);
  dft_arena_free(arena); /* frozen_new keeps its own packed copy */
  if (status == DFT_OK) {
    n->ops = ops;
    n->in = dft_model_boundary(model, from);
    n->out = dft_model_boundary(model, to);
    if (to == model->unit_count && ops->device != NULL) {
      status = ops->device->frozen_pool(n->frozen, model->pooling == DFT_POOL_MAX);
    } else if (to == model->unit_count) {
      n->pooling = model->pooling;
      n->pixels = model->feature_pixels;
      n->channels = model->features;
      n->unpooled = dft_aligned_alloc((size_t)TILE * (size_t)(n->pixels * n->channels) * sizeof(float));
      if (n->unpooled == NULL) status = dft_fail_memory("pooling", 0);
    }
  }
  if (status != DFT_OK) {
    dft_folded_free(n);
    return status;
  }
  *net = n;
  return DFT_OK;
}

dft_status dft_folded_run(dft_folded_net *net, const float *x, float *y, int samples) {
  if (net->pixels == 0) {
    net->ops->frozen_run(net->frozen, x, y, samples);
    return net->ops->device != NULL ? net->ops->device->finish() : DFT_OK;
  }
  for (int first = 0; first < samples; first += TILE) {
    int n = samples - first < TILE ? samples - first : TILE;
    net->ops->frozen_run(net->frozen, x + first * net->in, net->unpooled, n);
    float *pooled = y + first * net->out;
    if (net->pooling == DFT_POOL_AVG)
      net->ops->pool_avg(net->unpooled, pooled, n, net->pixels, net->channels);
    else
      net->ops->pool_max(net->unpooled, pooled, n, net->pixels, net->channels);
  }
  return DFT_OK;
}

void dft_folded_free(dft_folded_net *net) {
  if (net == NULL) return;
  if (net->frozen != NULL) net->ops->frozen_free(net->frozen);
  free(net->unpooled);
  free(net);
}

size_t dft_model_head_packed_floats(const dft_model *model, const dft_ops *ops) {
  return ops->gemm_packed_floats(model->features, model->classes);
}

void dft_model_head(const dft_model *model, const dft_ops *ops, const float *features, float *packed,
                    float *logits, int samples) {
  ops->gemm_pack(model->params[model->head_kernel].data, model->features, model->classes, false, packed);
  ops->gemm(features, packed, logits, samples, 1, model->features, model->classes,
            &(dft_epilogue){.bias = model->params[model->head_bias].data});
}
