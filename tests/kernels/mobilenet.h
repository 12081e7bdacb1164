/* MobileNetV2 as folded layers with random weights, for the tests and benchmarks of the frozen forward. */
#ifndef DFT_TESTS_MOBILENET_H
#define DFT_TESTS_MOBILENET_H

#include "dft/ops.h"
#include <math.h>
#include <stdlib.h>

enum { MOST_LAYERS = 60 };

typedef struct network {
  dft_folded layers[MOST_LAYERS];
  int count, h, w, channels;
} network;

static uint32_t network_seed = 1;

/* Uniform in [-1, 1). */
static float draw(void) {
  network_seed = network_seed * 1664525u + 1013904223u;
  return (float)(int32_t)network_seed / 2147483648.0f;
}

static float *filled(size_t count, float scale) {
  float *values = malloc(count * sizeof *values);
  if (!values) abort();
  for (size_t i = 0; i < count; i++) values[i] = scale * draw();
  return values;
}

static void network_add(network *net, dft_conv_kind kind, int channels, int stride, bool relu6, bool residual,
                        bool start) {
  int pad_h = stride == 1 ? 1 : net->h % 2, pad_w = stride == 1 ? 1 : net->w % 2; /* Keras' correct_pad */
  int out_h = (net->h + stride - 1) / stride, out_w = (net->w + stride - 1) / stride;
  dft_conv conv = {net->h, net->w, out_h, out_w, net->channels, channels, stride, pad_h, pad_w};
  if (kind == DFT_POINTWISE)
    conv = (dft_conv){net->h, net->w, net->h, net->w, net->channels, channels, 1, 0, 0};
  int taps = kind == DFT_POINTWISE ? net->channels : kind == DFT_STEM ? 9 * net->channels : 9;
  size_t weights = (size_t)taps * channels;
  net->layers[net->count++] = (dft_folded){.kind = kind,
                                           .conv = conv,
                                           .weight = filled(weights, sqrtf(4.0f / (float)taps)),
                                           .bias = filled(channels, 0.5f),
                                           .relu6 = relu6,
                                           .residual = residual,
                                           .block_start = start};
  net->h = conv.out_h;
  net->w = conv.out_w;
  net->channels = channels;
}

static int rounded(double channels) {
  int value = (int)(channels + 4) / 8 * 8;
  if (value < 8) value = 8;
  return value < 0.9 * channels ? value + 8 : value;
}

/* MobileNetV2 up to Conv_1 (Sandler et al. 2018, table 2). */
static void network_build(network *net, double alpha, int height, int width) {
  static const int table[][4] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                                 {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  *net = (network){.h = height, .w = width, .channels = 3};
  network_add(net, DFT_STEM, rounded(32 * alpha), 2, true, false, true);
  for (size_t t = 0; t < sizeof table / sizeof *table; t++)
    for (int i = 0; i < table[t][2]; i++) {
      int stride = i == 0 ? table[t][3] : 1, in = net->channels, out = rounded(alpha * table[t][1]);
      bool expand = table[t][0] > 1;
      if (expand) network_add(net, DFT_POINTWISE, in * table[t][0], 1, true, false, true);
      network_add(net, DFT_DEPTHWISE, net->channels, stride, true, false, !expand);
      network_add(net, DFT_POINTWISE, out, 1, false, stride == 1 && in == out, false);
    }
  network_add(net, DFT_POINTWISE, alpha > 1 ? rounded(1280 * alpha) : 1280, 1, true, false, true);
}

static void network_clear(network *net) {
  for (int i = 0; i < net->count; i++)
    free((float *)net->layers[i].weight), free((float *)net->layers[i].bias);
}

#endif
