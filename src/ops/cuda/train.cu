/* Training layers. Pointwise: the input as it is read is made in `work`, then a product; depthwise and stem:
 * one kernel. */
#include "device.h"

/* In bytes of `work`: x as read, dz where dy is kept, and the weights in bfloat16. */
typedef struct places {
  size_t dz, weights, end;
} places;

static places places_of(dft_conv_kind kind, const dft_conv *g, int samples) {
  const size_t bytes = (size_t)cuda.device.activation_bytes, n = (size_t)samples;
  const size_t in = (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_channels;
  const size_t out = (size_t)g->out_h * (size_t)g->out_w * (size_t)g->channels;
  places p;
  p.dz = kind == DFT_POINTWISE ? dft_cuda_round_up(n * in * bytes) : 0;
  p.weights = p.dz + dft_cuda_round_up(n * out * bytes);
  p.end = p.weights;
  if (kind == DFT_POINTWISE)
    p.end += dft_cuda_round_up((size_t)g->in_channels * (size_t)g->channels * sizeof(bf16));
  return p;
}

static size_t train_work_floats(dft_conv_kind kind, const dft_conv *conv, int samples) {
  return places_of(kind, conv, samples).end / sizeof(float);
}

static bool is_half(void) {
  return cuda.device.precision == DFT_PRECISION_BFLOAT16;
}

/* The input of a pointwise convolution as it reads it. */
static const void *input(const dft_ops *ops, const dft_train_conv *t) {
  const dft_conv *g = &t->conv;
  if (t->x_norm == nullptr) return t->x;
  ops->scale_shift(t->x, t->x_norm->scale, t->x_norm->shift, nullptr, t->x_norm->relu6, t->work,
                   (int64_t)t->map->samples * g->in_h * g->in_w, g->in_channels);
  return t->work;
}

static const void *weights(const dft_train_conv *t) {
  const dft_conv *g = &t->conv;
  if (!is_half()) return t->weight;
  void *to = (char *)t->work + places_of(t->kind, g, t->map->samples).weights;
  dft_cuda_to_half(t->weight, to, (int64_t)g->in_channels * g->channels);
  return to;
}

static void multiply(const dft_train_conv *t, const void *x, bool transposed, const void *residual, void *y) {
  const dft_conv *g = &t->conv;
  dft_cuda_product p = {};
  p.x = x;
  p.w = weights(t);
  p.y = y;
  p.pixels = g->in_h * g->in_w;
  p.rows = (int64_t)t->map->samples * p.pixels;
  p.k = transposed ? g->channels : g->in_channels;
  p.n = transposed ? g->in_channels : g->channels;
  p.transposed = transposed;
  p.half = p.half_out = is_half();
  p.residual = residual;
  dft_cuda_multiply(&p);
}

static void train_forward(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums) {
  const dft_conv *g = &t->conv;
  const int samples = t->map->samples;
  if (t->kind == DFT_POINTWISE) {
    multiply(t, input(ops, t), false, nullptr, z);
  } else if (t->kind == DFT_DEPTHWISE) {
    const dft_cuda_depthwise d = {
        t->x, dft_reading_of(t->x_norm), t->weight, nullptr, nullptr, false, z, samples, *g};
    dft_cuda_depthwise_run(&d, is_half());
  } else {
    ops->stem(t->x, t->weight, z, samples, g, nullptr);
  }
  if (sums != nullptr) ops->bn_sums(z, g->out_h * g->out_w, g->channels, t->map, sums);
}

static void weight_gradient(const dft_ops *ops, const dft_train_conv *t, const float *dz, float *dw) {
  const dft_conv *g = &t->conv;
  if (t->kind == DFT_POINTWISE)
    dft_cuda_multiply_dw(input(ops, t), dz, is_half(), g->in_h * g->in_w, g->in_channels, g->channels, t->map,
                         dw);
  else if (t->kind == DFT_DEPTHWISE)
    dft_cuda_depthwise_dw(t->x, dft_reading_of(t->x_norm), dz, g, t->map, dw, is_half());
  else
    ops->stem_dw(t->x, dz, g, t->map, dw);
}

static void train_backward(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g) {
  const dft_conv *conv = &t->conv;
  const int samples = t->map->samples, pixels = conv->in_h * conv->in_w;
  float *dz = g->dy;
  if (g->dy_kept) dz = (float *)(void *)((char *)t->work + places_of(t->kind, conv, samples).dz);
  ops->bn_backward(g->dy, g->z, g->norm, dz, (int64_t)samples * conv->out_h * conv->out_w, conv->channels);
  if (g->dw != nullptr) weight_gradient(ops, t, dz, g->dw);
  if (g->dx == nullptr) return;
  if (t->kind == DFT_POINTWISE)
    multiply(t, dz, true, g->skip, g->dx);
  else
    dft_cuda_depthwise_dx(dz, t->weight, g->skip, g->dx, samples, conv, is_half());
  if (g->below_sums != nullptr)
    ops->bn_backward_sums(g->dx, g->below_z, g->below_norm, pixels, conv->in_channels, t->map, g->below_sums);
}

void dft_cuda_table_train(void) {
  cuda.ops.train_work_floats = train_work_floats;
  cuda.ops.train_forward = train_forward;
  cuda.ops.train_backward = train_backward;
}
