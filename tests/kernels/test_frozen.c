/* The frozen forward of every kernel set: the reference against a direct convolution in double, the others
 * against the reference, and each sample's bits against company and threads. */
#include "dft/ops.h"
#include "kernels/mobilenet.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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
  network_build(&net, 0.35, 33, 40);
  float *x = filled(in_floats(net.layers), 1), *expected = run_direct(net.layers, net.count, x);
  size_t out = out_floats(&net.layers[net.count - 1]);
  float *y = malloc(out * sizeof *y);
  const dft_ops *ops = dft_ops_get(DFT_KERNELS_REFERENCE);
  dft_frozen *frozen = made(ops, net.layers, net.count);
  ops->frozen_run(frozen, x, y, 1);
  assert_near(y, expected, out, "reference");
  ops->frozen_free(frozen);
  free(x), free(expected), free(y);
  network_clear(&net);
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
  network_build(&net, alpha, height, width);
  compare(ops, &net, 0, net.count, samples);
  network_clear(&net);
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
  network_build(&net, 0.35, 41, 38);
  for (int from = 0; from < net.count; from++)
    for (int to = from + 1; to <= net.count && net.layers[from].block_start; to += to < from + 7 ? 1 : 11)
      compare(*state, &net, from, to, 2);
  network_clear(&net);
}

static void test_company(void **state) {
  const dft_ops *ops = *state;
  enum { SAMPLES = 13 };
  static const int sizes[] = {33, 64};
  for (int s = 0; s < 2; s++) {
    network net;
    network_build(&net, s == 0 ? 0.5 : 0.35, sizes[s], sizes[s]);
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
    network_clear(&net);
  }
}

static void test_refusals(void **state) {
  const dft_ops *ops = *state;
  dft_frozen *frozen = NULL;
  network net;
  network_build(&net, 0.35, 32, 32);
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
  network_clear(&net);
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
