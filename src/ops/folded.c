#include "folded.h"

size_t dft_folded_in_floats(const dft_folded *layer) {
  return (size_t)layer->conv.in_h * (size_t)layer->conv.in_w * (size_t)layer->conv.in_channels;
}

size_t dft_folded_out_floats(const dft_folded *layer) {
  const dft_conv *c = &layer->conv;
  if (layer->kind == DFT_POINTWISE) return (size_t)c->in_h * (size_t)c->in_w * (size_t)c->channels;
  return (size_t)c->out_h * (size_t)c->out_w * (size_t)c->channels;
}

size_t dft_folded_weights(const dft_folded *layer) {
  const size_t in = (size_t)layer->conv.in_channels, channels = (size_t)layer->conv.channels;
  if (layer->kind == DFT_DEPTHWISE) return 9 * channels;
  return (layer->kind == DFT_STEM ? 9 : 1) * in * channels;
}

const float *dft_folded_values(const dft_folded *layer, float *room) {
  if (layer->scale == NULL) return layer->weight;
  const size_t channels = (size_t)layer->conv.channels, rows = dft_folded_weights(layer) / channels;
  for (size_t row = 0; row < rows; row++) {
    const float *restrict from = layer->weight + row * channels, *restrict scale = layer->scale;
    float *restrict to = room + row * channels;
    for (size_t i = 0; i < channels; i++) to[i] = from[i] * scale[i];
  }
  return room;
}

size_t dft_folded_room(const dft_folded *layers, int count) {
  size_t most = 0;
  for (int i = 0; i < count; i++)
    if (dft_folded_weights(&layers[i]) > most) most = dft_folded_weights(&layers[i]);
  return most;
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
    if (layer->bfloat16 && (layer->kind != DFT_POINTWISE || layer->conv.in_channels % 2 != 0))
      return dft_fail(DFT_EINTERNAL, "frozen forward: layer %d cannot be in bfloat16", i);
  }
  return DFT_OK;
}
