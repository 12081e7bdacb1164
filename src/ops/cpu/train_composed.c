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

/* Columns are padded to whole vectors, of at most 16. */
size_t dft_train_packed_floats(const dft_conv *conv) {
  return aligned(((size_t)conv->in_channels + 16) * ((size_t)conv->channels + 16));
}

size_t dft_train_work_floats(dft_conv_kind kind, const dft_conv *conv, int samples) {
  size_t n = (size_t)samples,
         widest = (size_t)(conv->channels > conv->in_channels ? conv->channels : conv->in_channels);
  size_t small = dft_train_weights(kind, conv);
  if (small > DFT_TRAIN_SMALL && kind == DFT_POINTWISE) small = 0;
  size_t packed = kind == DFT_POINTWISE ? dft_train_packed_floats(conv) : 0;
  size_t parts = kind == DFT_POINTWISE ? aligned(n * 4 * widest) : 0; /* sums of each sample */
  size_t composed = aligned(n * in_floats(conv)) + aligned(n * out_floats(conv)) + packed + parts;
  size_t fused = aligned(n * 4 * widest) + aligned(n * small) + 2 * packed;
  return composed > fused ? composed : fused;
}

const float *dft_train_input(const dft_ops *ops, const dft_train_conv *t) {
  const dft_conv *g = &t->conv;
  if (t->x_norm == NULL) return t->x;
  ops->scale_shift(t->x, t->x_norm->scale, t->x_norm->shift, NULL, t->x_norm->relu6, t->work,
                   (int64_t)t->map->samples * g->in_h * g->in_w, g->in_channels);
  return t->work;
}

float *dft_train_dz(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g) {
  const dft_conv *conv = &t->conv;
  float *dz = g->dy_kept ? t->work + aligned((size_t)t->map->samples * in_floats(conv)) : g->dy;
  ops->bn_backward(g->dy, g->z, g->norm, dz, (int64_t)t->map->samples * conv->out_h * conv->out_w,
                   conv->channels);
  return dz;
}

/* The packed kernel, in `work` after x and dz. */
static const float *packed(const dft_ops *ops, const dft_train_conv *t, bool transposed) {
  const dft_conv *g = &t->conv;
  const size_t samples = (size_t)t->map->samples;
  float *to = t->work + aligned(samples * in_floats(g)) + aligned(samples * out_floats(g));
  const int k = g->in_channels, n = g->channels;
  ops->gemm_pack(t->weight, transposed ? n : k, transposed ? k : n, transposed, to);
  return to;
}

void dft_train_forward_composed(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums) {
  const dft_conv *g = &t->conv;
  const float *x = dft_train_input(ops, t);
  const int samples = t->map->samples;
  const dft_epilogue none = {0};
  switch (t->kind) {
  case DFT_POINTWISE:
    ops->gemm(x, packed(ops, t, false), z, samples, g->in_h * g->in_w, g->in_channels, g->channels, &none);
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
  const float *dz = dft_train_dz(ops, t, g);
  if (g->dw != NULL) weight_gradient(ops, t, dft_train_input(ops, t), dz, g->dw);
  if (g->dx == NULL) return;
  if (t->kind == DFT_POINTWISE)
    ops->gemm(dz, packed(ops, t, true), g->dx, samples, pixels, conv->channels, conv->in_channels,
              &(dft_epilogue){.residual = g->skip});
  else
    ops->depthwise_dx(dz, t->weight, g->dx, samples, conv);
  if (t->kind != DFT_POINTWISE && g->skip != NULL)
    ops->add(g->skip, g->dx, (int64_t)samples * pixels * conv->in_channels);
  if (g->below_sums != NULL)
    ops->bn_backward_sums(g->dx, g->below_z, g->below_norm, pixels, conv->in_channels, t->map, g->below_sums);
}
