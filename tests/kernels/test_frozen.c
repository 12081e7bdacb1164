/* The frozen forward of every kernel set: the reference against a direct convolution in double, the others
 * against the reference, and each sample's bits against company and threads. */
#include "dft/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_LAYERS = 60 };

typedef struct network {
  dft_folded layers[MOST_LAYERS];
  int count, h, w, channels;
} network;

static uint32_t seed = 1;

/* Uniform in [-1, 1). */
static float draw(void) {
  seed = seed * 1664525u + 1013904223u;
  return (float)(int32_t)seed / 2147483648.0f;
}

static float *filled(size_t count, float scale) {
  float *values = malloc(count * sizeof *values);
  assert_non_null(values);
  for (size_t i = 0; i < count; i++) values[i] = scale * draw();
  return values;
}

static void add(network *net, dft_conv_kind kind, int channels, int stride, bool relu6, bool residual,
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
static void build(network *net, double alpha, int height, int width) {
  static const int table[][4] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                                 {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  *net = (network){.h = height, .w = width, .channels = 3};
  add(net, DFT_STEM, rounded(32 * alpha), 2, true, false, true);
  for (size_t t = 0; t < sizeof table / sizeof *table; t++)
    for (int i = 0; i < table[t][2]; i++) {
      int stride = i == 0 ? table[t][3] : 1, in = net->channels, out = rounded(alpha * table[t][1]);
      bool expand = table[t][0] > 1;
      if (expand) add(net, DFT_POINTWISE, in * table[t][0], 1, true, false, true);
      add(net, DFT_DEPTHWISE, net->channels, stride, true, false, !expand);
      add(net, DFT_POINTWISE, out, 1, false, stride == 1 && in == out, false);
    }
  add(net, DFT_POINTWISE, alpha > 1 ? rounded(1280 * alpha) : 1280, 1, true, false, true);
}

static void clear(network *net) {
  for (int i = 0; i < net->count; i++)
    free((float *)net->layers[i].weight), free((float *)net->layers[i].bias);
}

static size_t in_floats(const dft_folded *l) {
  return (size_t)l->conv.in_h * l->conv.in_w * l->conv.in_channels;
}

static size_t out_floats(const dft_folded *l) {
  return (size_t)l->conv.out_h * l->conv.out_w * l->conv.channels;
}

static dft_frozen *made(const dft_ops *ops, const dft_folded *layers, int count) {
  dft_frozen *frozen = NULL;
  if (ops->frozen_new(layers, count, &frozen) != DFT_OK) fail_msg("%s: %s", ops->name, dft_error());
  return frozen;
}

/* One output value in double. */
static double direct(const dft_folded *l, const float *x, int row, int column, int ch) {
  const dft_conv *c = &l->conv;
  double sum = l->bias[ch];
  if (l->kind == DFT_POINTWISE) {
    for (int i = 0; i < c->in_channels; i++)
      sum += (double)x[((size_t)row * c->in_w + column) * c->in_channels + i] *
             l->weight[(size_t)i * c->channels + ch];
    return sum;
  }
  for (int tap = 0; tap < 9; tap++) {
    int r = row * c->stride - c->pad_top + tap / 3, q = column * c->stride - c->pad_left + tap % 3;
    if (r < 0 || r >= c->in_h || q < 0 || q >= c->in_w) continue;
    const float *pixel = x + ((size_t)r * c->in_w + q) * c->in_channels;
    if (l->kind == DFT_DEPTHWISE) sum += (double)pixel[ch] * l->weight[tap * c->channels + ch];
    for (int i = 0; l->kind == DFT_STEM && i < c->in_channels; i++)
      sum += (double)pixel[i] * l->weight[((size_t)tap * c->in_channels + i) * c->channels + ch];
  }
  return sum;
}

static float *run_direct(const dft_folded *layers, int count, const float *x) {
  float *input = malloc(in_floats(layers) * sizeof *input), *block = NULL;
  memcpy(input, x, in_floats(layers) * sizeof *input);
  for (const dft_folded *l = layers; l < layers + count; l++) {
    if (l->block_start) {
      free(block);
      block = malloc(in_floats(l) * sizeof *block);
      memcpy(block, input, in_floats(l) * sizeof *block);
    }
    float *y = malloc(out_floats(l) * sizeof *y);
    for (size_t at = 0; at < out_floats(l); at++) {
      int pixel = (int)(at / l->conv.channels);
      double value =
          direct(l, input, pixel / l->conv.out_w, pixel % l->conv.out_w, (int)(at % l->conv.channels));
      if (l->residual) value += block[at];
      y[at] = (float)(l->relu6 ? fmin(fmax(value, 0), 6) : value);
    }
    free(input);
    input = y;
  }
  free(block);
  return input;
}

static void assert_near(const float *value, const float *expected, size_t count, const char *what) {
  double square = 0, error = 0, worst = 0;
  for (size_t i = 0; i < count; i++) {
    double difference = fabs((double)value[i] - expected[i]);
    if (!(difference <= worst)) worst = difference;
    square += (double)expected[i] * expected[i];
    error += difference * difference;
  }
  double size = sqrt(square / (double)count);
  assert_true(size > 1e-3);
  if (!(sqrt(error / square) < 2e-5 && worst < 1e-3 * (1 + size)))
    fail_msg("%s: relative error %g, worst %g", what, sqrt(error / square), worst);
}

static void test_direct(void **state) {
  (void)state;
  network net;
  build(&net, 0.35, 33, 40);
  float *x = filled(in_floats(net.layers), 1), *expected = run_direct(net.layers, net.count, x);
  size_t out = out_floats(&net.layers[net.count - 1]);
  float *y = malloc(out * sizeof *y);
  const dft_ops *ops = dft_ops_get(DFT_KERNELS_REFERENCE);
  dft_frozen *frozen = made(ops, net.layers, net.count);
  ops->frozen_run(frozen, x, y, 1);
  assert_near(y, expected, out, "reference");
  ops->frozen_free(frozen);
  free(x), free(expected), free(y);
  clear(&net);
}

/* Layers [from, to) of a network on `samples` images, by the set and by the reference. */
static void compare(const dft_ops *ops, const network *net, int from, int to, int samples) {
  const dft_ops *reference = dft_ops_get(DFT_KERNELS_REFERENCE);
  const dft_folded *first = net->layers + from;
  size_t out = (size_t)samples * out_floats(net->layers + to - 1);
  float *x = filled((size_t)samples * in_floats(first), 1);
  float *y = malloc((out + 1) * sizeof *y), *expected = malloc(out * sizeof *expected);
  dft_frozen *frozen = made(ops, first, to - from), *plain = made(reference, first, to - from);
  reference->frozen_run(plain, x, expected, samples);
  y[out] = 12345;
  ops->frozen_run(frozen, x, y, samples);
  assert_near(y, expected, out, ops->name);
  assert_true(y[out] == 12345);
  ops->frozen_run(frozen, x, y, samples); /* nothing stays behind in the working memory */
  assert_near(y, expected, out, ops->name);
  ops->frozen_free(frozen), reference->frozen_free(plain);
  free(x), free(y), free(expected);
}

static void compare_whole(const dft_ops *ops, double alpha, int height, int width, int samples) {
  network net;
  build(&net, alpha, height, width);
  compare(ops, &net, 0, net.count, samples);
  clear(&net);
}

static void test_whole(void **state) {
  compare_whole(*state, 1.0, 96, 96, 2);
  compare_whole(*state, 0.35, 96, 96, 3);
  compare_whole(*state, 0.35, 64, 33, 9);
  compare_whole(*state, 1.4, 33, 64, 2);
  compare_whole(*state, 0.1, 32, 47, 2);
  compare_whole(*state, 0.35, 224, 224, 1);
}

/* Runs that begin at any block and end at any layer. */
static void test_runs(void **state) {
  network net;
  build(&net, 0.35, 41, 38);
  for (int from = 0; from < net.count; from++)
    for (int to = from + 1; to <= net.count && net.layers[from].block_start; to += to < from + 7 ? 1 : 11)
      compare(*state, &net, from, to, 2);
  clear(&net);
}

static void test_company(void **state) {
  const dft_ops *ops = *state;
  enum { SAMPLES = 13 };
  static const int sizes[] = {33, 64};
  for (int s = 0; s < 2; s++) {
    network net;
    build(&net, s == 0 ? 0.5 : 0.35, sizes[s], sizes[s]);
    size_t in = in_floats(net.layers), out = out_floats(&net.layers[net.count - 1]);
    float *x = filled(SAMPLES * in, 1), *alone = malloc(SAMPLES * out * sizeof *alone);
    float *y = malloc(SAMPLES * out * sizeof *y);
    dft_frozen *frozen = made(ops, net.layers, net.count);
    for (int i = 0; i < SAMPLES; i++) ops->frozen_run(frozen, x + i * in, alone + i * out, 1);
    for (int threads = 1; threads <= 3; threads++) {
      dft_ops_set_threads(threads);
      for (int samples = SAMPLES - threads + 1; samples <= SAMPLES; samples++) {
        memset(y, 0xff, SAMPLES * out * sizeof *y);
        ops->frozen_run(frozen, x, y, samples);
        assert_memory_equal(y, alone, samples * out * sizeof *y);
      }
    }
    dft_ops_set_threads(2);
    ops->frozen_free(frozen);
    free(x), free(alone), free(y);
    clear(&net);
  }
}

static void test_refusals(void **state) {
  const dft_ops *ops = *state;
  dft_frozen *frozen = NULL;
  network net;
  build(&net, 0.35, 32, 32);
  assert_int_equal(ops->frozen_new(net.layers, 0, &frozen), DFT_EINTERNAL);
  dft_folded odd[2] = {net.layers[0], net.layers[4]};
  assert_int_equal(ops->frozen_new(odd, 2, &frozen), DFT_EINTERNAL);
  assert_non_null(strstr(dft_error(), "layer 1 does not take what layer 0 gives"));
  dft_folded lone = net.layers[1];
  lone.residual = true;
  lone.block_start = false;
  assert_int_equal(ops->frozen_new(&lone, 1, &frozen), DFT_EINTERNAL);
  assert_non_null(strstr(dft_error(), "layer 0 cannot add"));
  assert_null(frozen);
  ops->frozen_free(NULL);
  clear(&net);
}

int main(void) {
  const struct CMUnitTest direct_test[] = {cmocka_unit_test(test_direct)};
  dft_ops_set_threads(2);
  int failed = cmocka_run_group_tests_name("direct", direct_test, NULL, NULL);
  for (int kernels = 0; kernels < DFT_KERNELS_COUNT; kernels++) {
    dft_ops *ops = (dft_ops *)dft_ops_get((dft_kernels)kernels);
    if (!ops) continue;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_whole, ops), cmocka_unit_test_prestate(test_runs, ops),
        cmocka_unit_test_prestate(test_company, ops), cmocka_unit_test_prestate(test_refusals, ops)};
    int first = kernels == DFT_KERNELS_REFERENCE ? 2 : 0; /* it is not compared with itself */
    failed += _cmocka_run_group_tests(ops->name, tests + first, 4 - (size_t)first, NULL, NULL);
  }
  return failed;
}
