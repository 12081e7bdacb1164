/* The layers of a frozen forward: products with bias and residual in their epilogues, ReLU6 taken by who
 * reads (cuBLASLt's own ReLU would make a zero of what is not a number, and a bad image would pass unseen);
 * depthwise and stem with everything fused. */
#include "frozen.h"

/* A tensor on its way: `unclamped` when its reader has to take the ReLU6. */
typedef struct tensor {
  const void *data;
  bool unclamped;
} tensor;

/* A buffer that holds neither the layer's input nor the block's. */
static void *free_buffer(const dft_frozen *f, const void *input, const void *block) {
  int b = 0;
  while (f->buffer[b] == input || f->buffer[b] == block) b++;
  return f->buffer[b];
}

static void pointwise(const dft_frozen *f, const dft_folded *layer, const void *x, const void *residual,
                      void *y, int samples) {
  const dft_conv *c = &layer->conv;
  dft_cuda_product p = {};
  p.x = x;
  p.w = layer->weight;
  p.y = y;
  p.pixels = c->in_h * c->in_w;
  p.rows = (int64_t)samples * p.pixels;
  p.k = c->in_channels;
  p.n = c->channels;
  p.half = p.half_out = f->half;
  p.bias = layer->bias;
  p.residual = residual;
  dft_cuda_multiply(&p);
}

static tensor run_layer(const dft_frozen *f, const dft_folded *layer, tensor x, const void *block,
                        bool images, int samples) {
  const dft_conv *c = &layer->conv;
  void *y = free_buffer(f, x.data, block);
  const void *residual = layer->residual ? block : nullptr;
  if (layer->kind == DFT_POINTWISE) {
    pointwise(f, layer, x.data, residual, y, samples);
    return tensor{y, layer->relu6};
  }
  if (layer->kind == DFT_DEPTHWISE) {
    const dft_cuda_depthwise d = {x.data,
                                  dft_reading{nullptr, nullptr, x.unclamped},
                                  layer->weight,
                                  layer->bias,
                                  residual,
                                  layer->relu6,
                                  y,
                                  samples,
                                  *c};
    dft_cuda_depthwise_run(&d, f->half);
  } else {
    const dft_epilogue e = {layer->bias, (const float *)residual, layer->relu6};
    dft_cuda_stem_run(x.data, f->half && !images, layer->weight, &e, y, f->half, samples, c);
  }
  return tensor{y, false};
}

static void give(const dft_frozen *f, tensor last, float *out, int samples) {
  const dft_folded *layer = &f->layers[f->count - 1];
  if (f->pooled) {
    const int c = layer->conv.channels, pixels = (int)(dft_folded_out_floats(layer) / (size_t)c);
    dft_cuda_pool(last.data, f->half, out, samples, pixels, c, f->pool_max, last.unclamped);
  } else {
    dft_cuda_to_float(last.data, f->half, out, samples * f->out, last.unclamped);
  }
}

void dft_cuda_frozen_layers(const dft_frozen *f, const float *in, float *out, int samples) {
  bool images = true; /* float32, as uploaded */
  tensor x = {in, false};
  if (f->half && f->layers[0].kind != DFT_STEM) {
    dft_cuda_to_half(in, f->buffer[0], samples * f->in);
    x.data = f->buffer[0];
    images = false;
  }
  const void *block = x.data;
  for (int i = 0; i < f->count; i++) {
    const dft_folded *layer = &f->layers[i];
    if (x.unclamped && (layer->kind != DFT_DEPTHWISE || layer->block_start)) {
      dft_cuda_clamp((void *)x.data, samples * (int64_t)dft_folded_in_floats(layer), f->half);
      x.unclamped = false;
    }
    if (layer->block_start) block = x.data;
    x = run_layer(f, layer, x, block, images && i == 0, samples);
  }
  give(f, x, out, samples);
}
