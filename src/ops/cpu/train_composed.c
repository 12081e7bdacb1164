/* Training layers composed of the set's single operations, each over the whole batch: what the plain sets
 * run, the vector sets where products are large enough to hide it, and what fused kernels are tested against.
 */
#include "train_composed.h"
#include "kernels.h"
#include <string.h>

static size_t aligned(size_t floats) {
  return (floats + 15) / 16 * 16;
}

static size_t in_floats(const dft_conv *g) {
  return (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_channels;
}

static size_t out_floats(const dft_conv *g) {
  return (size_t)g->out_h * (size_t)g->out_w * (size_t)g->channels;
}

size_t dft_train_weights(dft_conv_kind kind, const dft_conv *conv) {
  static const int taps[] = {[DFT_STEM] = 27, [DFT_DEPTHWISE] = 9, [DFT_POINTWISE] = 1};
  size_t factor = kind == DFT_POINTWISE ? (size_t)conv->in_channels : (size_t)taps[kind];
  return factor * (size_t)conv->channels;
}

size_t dft_train_work_floats(dft_conv_kind kind, const dft_conv *conv, int samples) {
  size_t n = (size_t)samples,
         widest = (size_t)(conv->channels > conv->in_channels ? conv->channels : conv->in_channels);
  size_t small = dft_train_weights(kind, conv);
  if (small > DFT_TRAIN_SMALL && kind == DFT_POINTWISE) small = 0;
  size_t composed = aligned(n * in_floats(conv)) + aligned(n * out_floats(conv));
  size_t fused = aligned(n * 4 * widest) + aligned(n * small);
  return composed > fused ? composed : fused;
}

/* The input as the convolution sees it, in `work` where it has to be made. */
static const float *input(const dft_ops *ops, const dft_train_conv *t) {
  const dft_conv *g = &t->conv;
  if (t->x_norm == NULL) return t->x;
  ops->scale_shift(t->x, t->x_norm->scale, t->x_norm->shift, NULL, t->x_norm->relu6, t->work,
                   (int64_t)t->map->samples * g->in_h * g->in_w, g->in_channels);
  return t->work;
}

void dft_train_forward_composed(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums) {
  const dft_conv *g = &t->conv;
  const float *x = input(ops, t);
  const int samples = t->map->samples;
  const dft_epilogue none = {0};
  switch (t->kind) {
  case DFT_POINTWISE:
    ops->gemm(x, t->weight, z, samples, g->in_h * g->in_w, g->in_channels, g->channels, &none);
    break;
  case DFT_DEPTHWISE:
    ops->depthwise(x, t->weight, z, samples, g, &none);
    break;
  case DFT_STEM:
    ops->stem(x, t->weight, z, samples, g, &none);
    break;
  }
  if (sums != NULL) ops->bn_sums(z, g->out_h * g->out_w, g->channels, t->map, sums);
}

static void weight_gradient(const dft_ops *ops, const dft_train_conv *t, const float *x, const float *dz,
                            float *dw) {
  const dft_conv *g = &t->conv;
  switch (t->kind) {
  case DFT_POINTWISE:
    ops->gemm_dw(x, dz, g->in_h * g->in_w, g->in_channels, g->channels, t->map, dw);
    break;
  case DFT_DEPTHWISE:
    ops->depthwise_dw(x, dz, g, t->map, dw);
    break;
  case DFT_STEM:
    ops->stem_dw(x, dz, g, t->map, dw);
    break;
  }
}

void dft_train_backward_composed(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g) {
  const dft_conv *conv = &t->conv;
  const int samples = t->map->samples, pixels = conv->in_h * conv->in_w;
  float *dz = g->dy;
  if (g->dy_kept) dz = t->work + aligned((size_t)samples * in_floats(conv));
  ops->bn_backward(g->dy, g->z, g->norm, dz, (int64_t)samples * conv->out_h * conv->out_w, conv->channels);
  if (g->dw != NULL) weight_gradient(ops, t, input(ops, t), dz, g->dw);
  if (g->dx == NULL) return;
  if (t->kind == DFT_POINTWISE)
    ops->gemm(dz, t->weight_dx, g->dx, samples, pixels, conv->channels, conv->in_channels,
              &(dft_epilogue){.residual = g->skip});
  else
    ops->depthwise_dx(dz, t->weight, g->dx, samples, conv);
  if (t->kind != DFT_POINTWISE && g->skip != NULL)
    ops->add(g->skip, g->dx, (int64_t)samples * pixels * conv->in_channels);
  if (g->below_sums != NULL)
    ops->bn_backward_sums(g->dx, g->below_z, g->below_norm, pixels, conv->in_channels, t->map, g->below_sums);
}
