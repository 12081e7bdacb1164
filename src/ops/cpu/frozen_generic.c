#include "frozen_generic.h"
#include "bfloat16.h"
#include "dft/arena.h"
#include "gemm.h"

#include <stdlib.h>
#include <string.h>

enum { TILE_SAMPLES = 8, BUFFERS = 3 }; /* a layer's input, its output, and the input of its block */

struct dft_frozen {
  const dft_ops *ops;
  dft_rounded_product product;
  dft_arena *memory;
  dft_folded *layers; /* pointwise weights packed */
  int count;
  float *buffer[BUFFERS];
  float *rounded; /* the input of a bfloat16 product */
};

static size_t weight_floats(const dft_ops *ops, const dft_folded *layer) {
  if (layer->kind == DFT_POINTWISE)
    return ops->gemm_packed_floats(layer->conv.in_channels, layer->conv.channels);
  return dft_folded_weights(layer);
}

/* The object's own copy of a layer's weights. */
static dft_status copy_layer(dft_frozen *f, dft_folded *layer, float *room) {
  size_t count = weight_floats(f->ops, layer), channels = (size_t)layer->conv.channels;
  float *weight = dft_arena_floats(f->memory, count), *bias = dft_arena_floats(f->memory, channels);
  if (!weight || !bias) return dft_fail_memory("frozen weights", (count + channels) * sizeof(float));
  const float *values = dft_folded_values(layer, room);
  memcpy(bias, layer->bias, channels * sizeof(float));
  if (layer->kind == DFT_POINTWISE)
    f->ops->gemm_pack(values, layer->conv.in_channels, layer->conv.channels, false, weight);
  else
    memcpy(weight, values, count * sizeof(float));
  for (size_t i = 0; i < count && layer->bfloat16; i++) weight[i] = dft_bfloat16_rounded(weight[i]);
  layer->weight = weight;
  layer->bias = bias;
  return DFT_OK;
}

static dft_status fill(dft_frozen *f, const dft_folded *layers, int count, float *room) {
  size_t most = 0, rounded = 0;
  f->layers = dft_arena_alloc(f->memory, (size_t)count * sizeof *f->layers);
  if (!f->layers) return dft_fail_memory("frozen layers", (size_t)count * sizeof *f->layers);
  memcpy(f->layers, layers, (size_t)count * sizeof *f->layers);
  for (f->count = 0; f->count < count; f->count++) {
    size_t out = dft_folded_out_floats(&f->layers[f->count]);
    if (out > most) most = out;
    size_t in = dft_folded_in_floats(&f->layers[f->count]);
    if (f->layers[f->count].bfloat16 && in > rounded) rounded = in;
    DFT_TRY(copy_layer(f, &f->layers[f->count], room));
  }
  for (int b = 0; b < BUFFERS; b++)
    if (!(f->buffer[b] = dft_arena_floats(f->memory, TILE_SAMPLES * most)))
      return dft_fail_memory("frozen activations", TILE_SAMPLES * most * sizeof(float));
  f->rounded = dft_arena_floats(f->memory, TILE_SAMPLES * rounded);
  return f->rounded ? DFT_OK : dft_fail_memory("frozen activations", TILE_SAMPLES * rounded * sizeof(float));
}

dft_status dft_frozen_generic_new(const dft_ops *ops, dft_rounded_product product, const dft_folded *layers,
                                  int count, dft_frozen **frozen) {
  DFT_TRY(dft_frozen_check(layers, count));
  dft_arena *memory = dft_arena_new();
  dft_frozen *f = memory ? dft_arena_alloc(memory, sizeof *f) : NULL;
  if (!f) {
    dft_arena_free(memory);
    return dft_fail_memory("frozen forward", sizeof *f);
  }
  *f = (dft_frozen){.ops = ops, .product = product, .memory = memory};
  float *room = dft_aligned_alloc(dft_folded_room(layers, count) * sizeof *room);
  dft_status status = room != NULL ? fill(f, layers, count, room) : dft_fail_memory("folded weights", 0);
  free(room);
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

static void run_layer(const dft_frozen *f, const dft_folded *layer, const float *x, const float *block,
                      float *y, int samples) {
  const dft_ops *ops = f->ops;
  const dft_conv *c = &layer->conv;
  dft_epilogue epilogue = {layer->bias, layer->residual ? block : NULL, layer->relu6};
  if (layer->bfloat16) {
    size_t count = (size_t)samples * dft_folded_in_floats(layer);
    for (size_t i = 0; i < count; i++) f->rounded[i] = dft_bfloat16_rounded(x[i]);
    f->product(f->rounded, layer->weight, y, samples, c->in_h * c->in_w, c->in_channels, c->channels,
               &epilogue);
  } else if (layer->kind == DFT_POINTWISE)
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
      run_layer(f, &f->layers[i], input, block, output, tile);
      input = output;
    }
  }
}

void dft_frozen_generic_free(dft_frozen *f) {
  if (f) dft_arena_free(f->memory);
}

#define GENERIC(set, kernels, product)                                                                       \
  dft_status dft_frozen_new_##set(const dft_folded *layers, int count, dft_frozen **frozen) {                \
    return dft_frozen_generic_new(dft_ops_get(kernels), product, layers, count, frozen);                     \
  }                                                                                                          \
  void dft_frozen_run_##set(dft_frozen *f, const float *x, float *y, int samples) {                          \
    dft_frozen_generic_run(f, x, y, samples);                                                                \
  }                                                                                                          \
  void dft_frozen_free_##set(dft_frozen *f) {                                                                \
    dft_frozen_generic_free(f);                                                                              \
  }

GENERIC(reference, DFT_KERNELS_REFERENCE, dft_gemm_bfloat16)
GENERIC(portable, DFT_KERNELS_PORTABLE, dft_gemm_portable)
