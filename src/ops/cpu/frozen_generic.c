#include "frozen_generic.h"
#include "dft/arena.h"
#include "gemm.h"

#include <string.h>

enum { TILE_SAMPLES = 8, BUFFERS = 3 }; /* a layer's input, its output, and the input of its block */

struct dft_frozen {
  const dft_ops *ops;
  dft_arena *memory;
  dft_folded *layers; /* pointwise weights packed */
  int count;
  float *buffer[BUFFERS];
};

size_t dft_folded_in_floats(const dft_folded *layer) {
  return (size_t)layer->conv.in_h * (size_t)layer->conv.in_w * (size_t)layer->conv.in_channels;
}

size_t dft_folded_out_floats(const dft_folded *layer) {
  const dft_conv *c = &layer->conv;
  if (layer->kind == DFT_POINTWISE) return (size_t)c->in_h * (size_t)c->in_w * (size_t)c->channels;
  return (size_t)c->out_h * (size_t)c->out_w * (size_t)c->channels;
}

dft_status dft_frozen_check(const dft_folded *layers, int count) {
  if (count < 1) return dft_fail(DFT_EINTERNAL, "frozen forward: no layers");
  const dft_folded *start = NULL;
  for (int i = 0; i < count; i++) {
    const dft_folded *layer = &layers[i];
    if (layer->block_start) start = layer;
    if (i > 0 && dft_folded_in_floats(layer) != dft_folded_out_floats(layer - 1))
      return dft_fail(DFT_EINTERNAL, "frozen forward: layer %d does not take what layer %d gives", i, i - 1);
    if (layer->residual && (!start || dft_folded_in_floats(start) != dft_folded_out_floats(layer)))
      return dft_fail(DFT_EINTERNAL, "frozen forward: layer %d cannot add the input of its block", i);
  }
  return DFT_OK;
}

static size_t weight_floats(const dft_ops *ops, const dft_folded *layer) {
  size_t channels = (size_t)layer->conv.channels;
  if (layer->kind == DFT_POINTWISE)
    return ops->gemm_packed_floats(layer->conv.in_channels, layer->conv.channels);
  return layer->kind == DFT_STEM ? 9 * (size_t)layer->conv.in_channels * channels : 9 * channels;
}

/* The object's own copy of a layer's weights. */
static dft_status copy_layer(dft_frozen *f, dft_folded *layer) {
  size_t count = weight_floats(f->ops, layer), channels = (size_t)layer->conv.channels;
  float *weight = dft_arena_floats(f->memory, count), *bias = dft_arena_floats(f->memory, channels);
  if (!weight || !bias) return dft_fail_memory("frozen weights", (count + channels) * sizeof(float));
  memcpy(bias, layer->bias, channels * sizeof(float));
  if (layer->kind == DFT_POINTWISE)
    f->ops->gemm_pack(layer->weight, layer->conv.in_channels, layer->conv.channels, false, weight);
  else
    memcpy(weight, layer->weight, count * sizeof(float));
  layer->weight = weight;
  layer->bias = bias;
  return DFT_OK;
}

static dft_status fill(dft_frozen *f, const dft_folded *layers, int count) {
  size_t most = 0;
  f->layers = dft_arena_alloc(f->memory, (size_t)count * sizeof *f->layers);
  if (!f->layers) return dft_fail_memory("frozen layers", (size_t)count * sizeof *f->layers);
  memcpy(f->layers, layers, (size_t)count * sizeof *f->layers);
  for (f->count = 0; f->count < count; f->count++) {
    size_t out = dft_folded_out_floats(&f->layers[f->count]);
    if (out > most) most = out;
    DFT_TRY(copy_layer(f, &f->layers[f->count]));
  }
  for (int b = 0; b < BUFFERS; b++)
    if (!(f->buffer[b] = dft_arena_floats(f->memory, TILE_SAMPLES * most)))
      return dft_fail_memory("frozen activations", TILE_SAMPLES * most * sizeof(float));
  return DFT_OK;
}

dft_status dft_frozen_generic_new(const dft_ops *ops, const dft_folded *layers, int count,
                                  dft_frozen **frozen) {
  DFT_TRY(dft_frozen_check(layers, count));
  dft_arena *memory = dft_arena_new();
  dft_frozen *f = memory ? dft_arena_alloc(memory, sizeof *f) : NULL;
  if (!f) {
    dft_arena_free(memory);
    return dft_fail_memory("frozen forward", sizeof *f);
  }
  *f = (dft_frozen){.ops = ops, .memory = memory};
  dft_status status = fill(f, layers, count);
  if (status != DFT_OK)
    dft_arena_free(memory);
  else
    *frozen = f;
  return status;
}

/* A buffer that holds neither the layer's input nor the block's. */
static float *free_buffer(const dft_frozen *f, const float *input, const float *block) {
  int b = 0;
  while (f->buffer[b] == input || f->buffer[b] == block) b++;
  return f->buffer[b];
}

static void run_layer(const dft_ops *ops, const dft_folded *layer, const float *x, const float *block,
                      float *y, int samples) {
  const dft_conv *c = &layer->conv;
  dft_epilogue epilogue = {layer->bias, layer->residual ? block : NULL, layer->relu6};
  if (layer->kind == DFT_POINTWISE)
    ops->gemm(x, layer->weight, y, samples, c->in_h * c->in_w, c->in_channels, c->channels, &epilogue);
  else
    (layer->kind == DFT_STEM ? ops->stem : ops->depthwise)(x, layer->weight, y, samples, c, &epilogue);
}

void dft_frozen_generic_run(dft_frozen *f, const float *x, float *y, int samples) {
  size_t in = dft_folded_in_floats(&f->layers[0]), out = dft_folded_out_floats(&f->layers[f->count - 1]);
  for (int first = 0; first < samples; first += TILE_SAMPLES) {
    int tile = samples - first < TILE_SAMPLES ? samples - first : TILE_SAMPLES;
    const float *input = x + (size_t)first * in, *block = input;
    for (int i = 0; i < f->count; i++) {
      if (f->layers[i].block_start) block = input;
      float *output = i == f->count - 1 ? y + (size_t)first * out : free_buffer(f, input, block);
      run_layer(f->ops, &f->layers[i], input, block, output, tile);
      input = output;
    }
  }
}

void dft_frozen_generic_free(dft_frozen *f) {
  if (f) dft_arena_free(f->memory);
}

#define GENERIC(set, kernels)                                                                                \
  dft_status dft_frozen_new_##set(const dft_folded *layers, int count, dft_frozen **frozen) {                \
    return dft_frozen_generic_new(dft_ops_get(kernels), layers, count, frozen);                              \
  }                                                                                                          \
  void dft_frozen_run_##set(dft_frozen *f, const float *x, float *y, int samples) {                          \
    dft_frozen_generic_run(f, x, y, samples);                                                                \
  }                                                                                                          \
  void dft_frozen_free_##set(dft_frozen *f) {                                                                \
    dft_frozen_generic_free(f);                                                                              \
  }

GENERIC(reference, DFT_KERNELS_REFERENCE)
GENERIC(portable, DFT_KERNELS_PORTABLE)
