/* The frozen forward of every kernel set, in float32 and with bfloat16 products: the reference against a
 * direct convolution in double, the others against the reference, each sample's bits against company and
 * threads, and bfloat16's against the CPU's instructions and their emulations. */
#include "../../src/ops/cpu/bfloat16.h"
#include "device_set.h"
#include "dft/ops.h"
#include "kernels/mobilenet.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What a test is about. */
typedef struct subject {
  const dft_ops *ops;
  bool bfloat16;
  double relative, most; /* how far from the reference; a device keeps activations in bfloat16 too */
} subject;

static subject subject_of(const dft_ops *ops, bool bfloat16) {
  return (subject){ops, bfloat16, bfloat16 ? 1e-2 : 2e-5, bfloat16 ? 1e-1 : 1e-3};
}

static void use_bfloat16(network *net, bool bfloat16) {
  for (int i = 0; i < net->count; i++)
    net->layers[i].bfloat16 = bfloat16 && net->layers[i].kind == DFT_POINTWISE;
}

/* The nearest bfloat16 of an ordinary number, by arithmetic. */
static double nearest(double value) {
  int exponent;
  double fraction = frexp(value, &exponent);
  return ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
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
    for (int i = 0; i < c->in_channels; i++) {
      double value = x[((size_t)row * c->in_w + column) * c->in_channels + i];
      double weight = l->weight[(size_t)i * c->channels + ch];
      sum += l->bfloat16 ? nearest(value) * nearest(weight) : value * weight;
    }
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

static void assert_within(const float *value, const float *expected, size_t count, double relative,
                          double most, const char *what) {
  double square = 0, error = 0, worst = 0;
  for (size_t i = 0; i < count; i++) {
    double difference = fabs((double)value[i] - expected[i]);
    if (!(difference <= worst)) worst = difference;
    square += (double)expected[i] * expected[i];
    error += difference * difference;
  }
  double size = sqrt(square / (double)count);
  assert_true(size > 1e-3);
  if (!(sqrt(error / square) < relative && worst < most * (1 + size)))
    fail_msg("%s: relative error %g, worst %g", what, sqrt(error / square), worst);
}

static void assert_near(const float *value, const float *expected, size_t count, const char *what) {
  assert_within(value, expected, count, 2e-5, 1e-3, what);
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

/* The product of one pointwise layer and one sample in AMX's order. */
static void emulate_tiles(const dft_folded *l, const float *x, float *y) {
  const dft_conv *c = &l->conv;
  size_t in = in_floats(l), weights = (size_t)c->in_channels * c->channels;
  float *rounded_x = malloc(in * sizeof *x), *rounded_w = malloc(weights * sizeof *x);
  for (size_t i = 0; i < in; i++) rounded_x[i] = dft_bfloat16_rounded(x[i]);
  for (size_t i = 0; i < weights; i++) rounded_w[i] = dft_bfloat16_rounded(l->weight[i]);
  const dft_epilogue epilogue = {l->bias, l->residual ? x : NULL, l->relu6};
  dft_gemm_bfloat16_tiles(rounded_x, rounded_w, y, 1, c->in_h * c->in_w, c->in_channels, c->channels,
                          &epilogue);
  free(rounded_x), free(rounded_w);
}

/* Each bfloat16 product alone: over more layers a rounding may fall to either side of a tie. */
static void test_direct_bfloat16(void **state) {
  (void)state;
  network net;
  network_build(&net, 0.35, 33, 40);
  use_bfloat16(&net, true);
  const dft_ops *ops = dft_ops_get(DFT_KERNELS_REFERENCE);
  for (int i = 0; i < net.count; i++) {
    dft_folded layer = net.layers[i];
    if (!layer.bfloat16) continue;
    layer.residual = false;
    float *x = filled(in_floats(&layer), 1), *expected = run_direct(&layer, 1, x);
    float *y = malloc(out_floats(&layer) * sizeof *y);
    dft_frozen *frozen = made(ops, &layer, 1);
    ops->frozen_run(frozen, x, y, 1);
    assert_near(y, expected, out_floats(&layer), "bfloat16");
    emulate_tiles(&layer, x, y);
    assert_near(y, expected, out_floats(&layer), "bfloat16 by tiles");
    ops->frozen_free(frozen);
    free(x), free(expected), free(y);
  }
  network_clear(&net);
}

/* Layers [from, to) of a network on `samples` images, by the set and by the reference. */
static void compare(const subject *s, const network *net, int from, int to, int samples) {
  const dft_ops *ops = s->ops, *emulation = dft_ops_get(DFT_KERNELS_AVX512);
  const dft_ops *reference = dft_ops_get(DFT_KERNELS_REFERENCE);
  const dft_folded *first = net->layers + from;
  size_t out = (size_t)samples * out_floats(net->layers + to - 1);
  float *x = filled((size_t)samples * in_floats(first), 1);
  float *y = malloc((out + 1) * sizeof *y), *expected = malloc(out * sizeof *expected);
  dft_frozen *frozen = made(ops, first, to - from), *plain = made(reference, first, to - from);
  reference->frozen_run(plain, x, expected, samples);
  y[out] = 12345;
  for (int run = 0; run < 2; run++) { /* nothing stays behind in the working memory */
    ops->frozen_run(frozen, x, y, samples);
    assert_within(y, expected, out, s->relative, s->most, ops->name);
    assert_true(y[out] == 12345);
  }
  if (ops == dft_ops_get(DFT_KERNELS_AVX512BF16) || (ops == dft_ops_get(DFT_KERNELS_AMX) && !s->bfloat16)) {
    dft_frozen *emulated = made(emulation, first, to - from);
    emulation->frozen_run(emulated, x, expected, samples);
    assert_memory_equal(y, expected, out * sizeof *y);
    emulation->frozen_free(emulated);
  }
  ops->frozen_free(frozen), reference->frozen_free(plain);
  free(x), free(y), free(expected);
}

static void compare_whole(const subject *s, double alpha, int height, int width, int samples) {
  network net;
  network_build(&net, alpha, height, width);
  use_bfloat16(&net, s->bfloat16);
  compare(s, &net, 0, net.count, samples);
  network_clear(&net);
}

static void test_whole(void **state) {
  compare_whole(*state, 0.35, 64, 33, 9);
  compare_whole(*state, 0.35, 96, 96, 1);
  if (((const subject *)*state)->bfloat16) return; /* its reference takes long */
  compare_whole(*state, 1.0, 96, 96, 2);
  compare_whole(*state, 0.35, 96, 96, 3);
  compare_whole(*state, 1.4, 33, 64, 2);
  compare_whole(*state, 0.1, 32, 47, 2);
  compare_whole(*state, 0.35, 224, 224, 1);
}

/* Runs that begin at any block and end at any layer. */
static void test_runs(void **state) {
  network net;
  bool bfloat16 = ((const subject *)*state)->bfloat16;
  network_build(&net, 0.35, bfloat16 ? 25 : 41, bfloat16 ? 22 : 38);
  use_bfloat16(&net, bfloat16);
  for (int from = 0; from < net.count; from++)
    for (int to = from + 1; to <= net.count && net.layers[from].block_start;
         to += to < from + (bfloat16 ? 4 : 7) ? 1
               : bfloat16                     ? 23
                                              : 11)
      compare(*state, &net, from, to, 2);
  network_clear(&net);
}

/* Stems of any stride and width, alone and before a block; images narrower than what is computed side by
 * side. */
static void test_stems(void **state) {
  static const int channels[] = {8, 16, 24, 32, 40, 64}, widths[] = {4, 9, 23, 24, 25, 50};
  for (int i = 0; i < 24; i++) {
    network net = {.h = 5 + i % 4, .w = widths[i / 4], .channels = 3};
    network_add(&net, DFT_STEM, channels[i % 6], 1 + i % 2, true, false, true);
    network_add(&net, DFT_DEPTHWISE, net.channels, 1, true, false, true);
    network_add(&net, DFT_POINTWISE, 16, 1, false, false, false);
    compare(*state, &net, 0, 1, 3);
    compare(*state, &net, 0, 3, 3);
    network_clear(&net);
  }
}

/* Blocks that end in few columns, of which rows may go by two: any depth, widths even and odd, with and
 * without clamp and residual. */
static void test_narrow(void **state) {
  static const int columns[] = {8, 16, 24, 32, 12}, depths[] = {5, 16, 19, 50, 97}, widths[] = {6, 7, 12, 26};
  const bool bfloat16 = ((const subject *)*state)->bfloat16;
  for (int i = 0; i < 40; i++) {
    const int n = columns[i % 5], stride = 1 + i / 5 % 2;
    const bool relu6 = i / 10 % 2 == 0;
    const int any = depths[(i / 5 + i) % 5], depth = bfloat16 ? any + any % 2 : any; /* those go by pairs */
    network net = {.h = 5 + i % 3, .w = widths[i % 4], .channels = n};
    network_add(&net, DFT_POINTWISE, depth, 1, true, false, true);
    network_add(&net, DFT_DEPTHWISE, net.channels, stride, true, false, false);
    network_add(&net, DFT_POINTWISE, n, 1, relu6, stride == 1, false);
    use_bfloat16(&net, bfloat16);
    compare(*state, &net, 0, net.count, 3);
    network_clear(&net);
  }
}

/* Images of any height whose rows are units that leave out what lies in the border, and rows that are not. */
static void test_borders(void **state) {
  static const int widths[] = {3, 6, 7, 12, 13, 14, 18, 21}, columns[] = {16, 40},
                   heights[] = {1, 2, 3, 5, 17};
  for (int i = 0; i < 80; i++) {
    network net = {.h = heights[i / 16], .w = widths[i % 8], .channels = columns[i / 8 % 2]};
    network_add(&net, DFT_POINTWISE, 50, 1, true, false, true);
    network_add(&net, DFT_DEPTHWISE, net.channels, 1, true, false, false);
    network_add(&net, DFT_POINTWISE, columns[i / 8 % 2], 1, false, true, false);
    use_bfloat16(&net, ((const subject *)*state)->bfloat16);
    compare(*state, &net, 0, net.count, 3);
    compare(*state, &net, 0, 2, 3);
    network_clear(&net);
  }
}

static void test_company(void **state) {
  const subject *subject_ = *state;
  const dft_ops *ops = subject_->ops;
  enum { SAMPLES = 19 }; /* more than a tile has; the reference has none, and is slow */
  const int most = ops == dft_ops_get(DFT_KERNELS_REFERENCE) ? 5 : SAMPLES;
  static const int sizes[] = {33, 64};
  for (int s = 0; s < 2; s++) {
    network net;
    network_build(&net, s == 0 ? 0.5 : 0.35, sizes[s], sizes[s]);
    use_bfloat16(&net, subject_->bfloat16);
    size_t in = in_floats(net.layers), out = out_floats(&net.layers[net.count - 1]);
    float *x = filled(SAMPLES * in, 1), *alone = malloc(SAMPLES * out * sizeof *alone);
    float *y = malloc(SAMPLES * out * sizeof *y);
    dft_frozen *frozen = made(ops, net.layers, net.count);
    for (int i = 0; i < most; i++) ops->frozen_run(frozen, x + i * in, alone + i * out, 1);
    for (int threads = 1; threads <= 3; threads++) {
      dft_ops_set_threads(threads);
      for (int samples = most - threads + 1; samples <= most; samples++) {
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

/* A scale that frozen_new folds in gives the bits of weights that have it, and neither is needed any more
 * after. */
static void test_scales(void **state) {
  enum { SAMPLES = 3 };
  const subject *s = *state;
  const uint32_t seed = network_seed; /* the tests after it keep their networks, which their bounds fit */
  static network net;
  network_build(&net, 0.35, 64, 64);
  use_bfloat16(&net, s->bfloat16);
  static dft_folded scaled[MOST_LAYERS];
  for (int i = 0; i < net.count; i++) {
    dft_folded *with = &net.layers[i];
    const size_t channels = (size_t)with->conv.channels;
    const size_t taps = with->kind == DFT_POINTWISE ? 1 : 9;
    const size_t floats =
        taps * (with->kind == DFT_DEPTHWISE ? 1 : (size_t)with->conv.in_channels) * channels;
    float *weight = malloc(floats * sizeof *weight), *scale = filled(channels, 1),
          *folded = (float *)with->weight;
    memcpy(weight, with->weight, floats * sizeof *weight);
    for (size_t at = 0; at < floats; at++) folded[at] = weight[at] * scale[at % channels];
    scaled[i] = *with;
    scaled[i].weight = weight;
    scaled[i].scale = scale;
  }
  const size_t in = in_floats(net.layers), out = out_floats(&net.layers[net.count - 1]);
  float *x = filled(SAMPLES * in, 1), *want = malloc(SAMPLES * out * sizeof *want);
  float *got = malloc(SAMPLES * out * sizeof *got);
  dft_frozen *plain = made(s->ops, net.layers, net.count), *folds = made(s->ops, scaled, net.count);
  for (int i = 0; i < net.count; i++) free((float *)scaled[i].weight), free((float *)scaled[i].scale);
  s->ops->frozen_run(plain, x, want, SAMPLES);
  s->ops->frozen_run(folds, x, got, SAMPLES);
  assert_memory_equal(got, want, SAMPLES * out * sizeof *got);
  network_seed = seed;
  s->ops->frozen_free(plain), s->ops->frozen_free(folds);
  free(x), free(want), free(got);
  network_clear(&net);
}

/* Factors that try every rounding: random bits, special values, sums that end near FLT_MIN or cancel. */
static uint32_t hard_bits(void) {
  static const uint32_t special[] = {0,          0x80000000, 1,          0x80000001, 0x007fffff, 0x807fffff,
                                     0x00800000, 0x80800000, 0x00810000, 0x3f800000, 0xbf800000, 0x3f808000,
                                     0x3f818000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00001,
                                     0xff812345, 0x1a000000, 0x9a000000, 0x1a800000, 0x9a800000, 0x19800000};
  network_seed = network_seed * 1664525u + 1013904223u;
  uint32_t high = network_seed >> 16, kind = network_seed >> 12 & 15;
  network_seed = network_seed * 1664525u + 1013904223u;
  uint32_t bits = high << 16 | network_seed >> 16, fraction = bits & 0x807fffffu, draw_ = high % 24;
  if (kind == 0) return bits;
  if (kind == 1) return special[draw_];
  if (kind < 6) return fraction | (52 + draw_ / 2) << 23; /* products about FLT_MIN */
  if (kind == 6) return fraction | (1 + draw_ / 4) << 23;
  return fraction | (115 + draw_) << 23;
}

/* `exponent`, unless 0: all about that one. */
static void fill_hard(float *values, size_t count, bool ordinary, uint32_t exponent) {
  for (size_t i = 0; i < count; i++) {
    uint32_t bits = hard_bits();
    if (ordinary && (bits & 0x7f800000u) == 0x7f800000u) bits &= 0xbfffffffu; /* mostly finite sums */
    if (exponent > 0) bits = (bits & 0x807fffffu) | (exponent + (bits >> 23 & 7)) << 23;
    memcpy(&values[i], &bits, sizeof bits);
  }
}

/* One layer of hard factors by a set, and what `expect` says of it, bit for bit but for what a NaN says. */
typedef struct hard_layer {
  int k, n;
  bool ordinary, small, residual, relu6;
  long finite, tiny; /* counted over calls */
} hard_layer;

typedef void (*emulation)(const dft_folded *layer, const float *x, float *y);

static void emulate_pairs(const dft_folded *layer, const float *x, float *y) {
  const dft_ops *reference = dft_ops_get(DFT_KERNELS_REFERENCE);
  dft_frozen *plain = made(reference, layer, 1);
  reference->frozen_run(plain, x, y, 1);
  reference->frozen_free(plain);
}

static void check_hard(const dft_ops *ops, emulation expect, hard_layer *hard) {
  enum { PIXELS = 39, K = 130, N = 130 };
  static float x[PIXELS * K], w[K * N], bias[N], y[PIXELS * N], expected[PIXELS * N];
  int k = hard->k, n = hard->n;
  fill_hard(x, (size_t)PIXELS * k, hard->ordinary, hard->small ? 58 : 0);
  fill_hard(w, (size_t)k * n, hard->ordinary, hard->small ? 58 : 0);
  fill_hard(bias, n, hard->ordinary, hard->small ? 1 : 0);
  dft_folded layer = {.kind = DFT_POINTWISE,
                      .conv = {3, 13, 3, 13, k, n, 1, 0, 0},
                      .weight = w,
                      .bias = bias,
                      .relu6 = hard->relu6,
                      .residual = hard->residual,
                      .block_start = true,
                      .bfloat16 = true};
  dft_frozen *frozen = made(ops, &layer, 1);
  ops->frozen_run(frozen, x, y, 1);
  expect(&layer, x, expected);
  for (int i = 0; i < PIXELS * n; i++) {
    hard->finite += isfinite(y[i]);
    hard->tiny += fabsf(y[i]) < 0x1p-120f;
    if (memcmp(&y[i], &expected[i], sizeof *y) != 0 && !(isnan(y[i]) && isnan(expected[i])))
      fail_msg("%s: %a, not %a, k %d, n %d", ops->name, y[i], expected[i], k, n);
  }
  ops->frozen_free(frozen);
}

/* Any set's products but AMX' are the reference's. */
static void test_pairs(void **state) {
  enum { ROUNDS = 150 };
  hard_layer hard = {.n = 70};
  for (int round = 0; round < ROUNDS; round++) {
    hard.k = 2 << round % 4;
    hard.ordinary = round % 8 > 0;
    hard.small = round % 3 == 0;
    check_hard(((const subject *)*state)->ops, emulate_pairs, &hard);
  }
  if (hard.finite < 150000 || hard.tiny < 15000)
    fail_msg("only %ld finite, %ld tiny", hard.finite, hard.tiny);
}

/* AMX' products: depths and widths about a tile's, residuals, clamps. */
static void test_tiles(void **state) {
  static const int depths[] = {2, 16, 30, 32, 34, 64, 96, 130}, widths[] = {8, 16, 17, 24, 32, 33, 48, 130};
  hard_layer hard = {0};
  for (int round = 0; round < 192; round++) {
    hard.k = depths[round % 8];
    hard.n = round % 5 == 4 ? hard.k : widths[round / 8 % 8];
    hard.ordinary = round % 7 > 0;
    hard.small = round % 3 == 0;
    hard.residual = hard.n == hard.k && !hard.small;
    hard.relu6 = round % 2 > 0;
    check_hard(((const subject *)*state)->ops, emulate_tiles, &hard);
  }
  if (hard.finite < 150000 || hard.tiny < 15000)
    fail_msg("only %ld finite, %ld tiny", hard.finite, hard.tiny);
}

static float lone_product(const dft_ops *ops, const float *x, const float *w, int k, float bias) {
  float y = 1;
  dft_folded layer = {.kind = DFT_POINTWISE, .conv = {1, 1, 1, 1, k, 1, 1, 0, 0}, .weight = w};
  layer.bias = &bias;
  layer.bfloat16 = true;
  dft_frozen *frozen = made(ops, &layer, 1);
  ops->frozen_run(frozen, x, &y, 1);
  ops->frozen_free(frozen);
  return y;
}

/* Sums whose last rounding decides whether they are denormal, and so zero: FLT_MIN minus 2^-150, 2^-151 and
 * less. */
static void test_edge(void **state) {
  const dft_ops *ops = ((const subject *)*state)->ops;
  static const float weights[] = {0x1p-75f, 0x1p-76f, 0x1.8p-76f, 0x1.02p-76f, 0x1p-77f};
  static const float expected[] = {0, FLT_MIN, 0, 0, FLT_MIN};
  const bool tiles = ops == dft_ops_get(DFT_KERNELS_AMX);
  for (int i = 0; i < 10; i++) {
    float sign = i < 5 ? 1 : -1, value = sign * expected[i % 5], y;
    float x[4] = {-sign * 0x1p-75f, 0}, w[4] = {weights[i % 5], 0};
    if (!tiles) {
      y = lone_product(ops, x, w, 2, sign * FLT_MIN);
    } else { /* in the sum of the even terms, before a zero of any sign joins +0 */
      x[2] = x[0], w[2] = w[0], x[0] = sign * 0x1p-63f, w[0] = 0x1p-63f;
      y = lone_product(ops, x, w, 4, 0);
      value += 0.0f;
    }
    if (memcmp(&y, &value, sizeof y) != 0) fail_msg("%s: %a, not %a", ops->name, y, value);
  }
}

static void test_refusals(void **state) {
  const dft_ops *ops = ((const subject *)*state)->ops;
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
  dft_folded depthwise = net.layers[1];
  depthwise.bfloat16 = true;
  assert_int_equal(ops->frozen_new(&depthwise, 1, &frozen), DFT_EINTERNAL);
  assert_non_null(strstr(dft_error(), "layer 0 cannot be in bfloat16"));
  assert_null(frozen);
  ops->frozen_free(NULL);
  network_clear(&net);
}

/* A device's object that ends in pooling. */
static void test_pooled(void **state) {
  enum { SAMPLES = 5 };
  const subject *s = *state;
  network net;
  network_build(&net, 0.35, 64, 64);
  use_bfloat16(&net, s->bfloat16);
  const dft_conv *last = &net.layers[net.count - 1].conv;
  const int pixels = last->out_h * last->out_w, c = last->channels;
  float *x = filled(SAMPLES * in_floats(net.layers), 1);
  float *y = malloc((size_t)(SAMPLES * pixels * c) * sizeof *y);
  float *want = malloc((size_t)(SAMPLES * c) * sizeof *want),
        *got = malloc((size_t)(SAMPLES * c) * sizeof *got);
  const dft_ops *plain = dft_ops_get(DFT_KERNELS_REFERENCE);
  for (int max = 0; max < 2; max++) {
    dft_frozen *whole = made(s->ops, net.layers, net.count), *pooled = made(s->ops, net.layers, net.count);
    s->ops->frozen_run(whole, x, y, SAMPLES);
    (max ? plain->pool_max : plain->pool_avg)(y, want, SAMPLES, pixels, c);
    assert_int_equal(device_ops()->device->frozen_pool(pooled, max), DFT_OK);
    s->ops->frozen_run(pooled, x, got, SAMPLES);
    assert_within(got, want, (size_t)(SAMPLES * c), 1e-6, 1e-5, "pooled");
    s->ops->frozen_free(whole), s->ops->frozen_free(pooled);
  }
  free(x), free(y), free(want), free(got);
  network_clear(&net);
}

static int test_device(const dft_ops *ops) {
  subject plain = subject_of(ops, false), bfloat16 = subject_of(ops, true);
  if (device_ops()->device->precision == DFT_PRECISION_TF32) plain.relative = 3e-3, plain.most = 3e-2;
  bfloat16.relative = 4e-2, bfloat16.most = 5e-1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_prestate(test_company, &plain),  cmocka_unit_test_prestate(test_company, &bfloat16),
      cmocka_unit_test_prestate(test_scales, &plain),   cmocka_unit_test_prestate(test_scales, &bfloat16),
      cmocka_unit_test_prestate(test_refusals, &plain), cmocka_unit_test_prestate(test_pooled, &plain),
      cmocka_unit_test_prestate(test_whole, &plain),    cmocka_unit_test_prestate(test_pooled, &bfloat16),
      cmocka_unit_test_prestate(test_runs, &plain),     cmocka_unit_test_prestate(test_whole, &bfloat16),
      cmocka_unit_test_prestate(test_stems, &plain),    cmocka_unit_test_prestate(test_stems, &bfloat16),
      cmocka_unit_test_prestate(test_narrow, &plain),   cmocka_unit_test_prestate(test_narrow, &bfloat16),
      cmocka_unit_test_prestate(test_borders, &plain),  cmocka_unit_test_prestate(test_borders, &bfloat16),
  };
  return cmocka_run_group_tests_name(ops->name, tests, NULL, NULL);
}

int main(void) {
  subject reference = subject_of(dft_ops_get(DFT_KERNELS_REFERENCE), true);
  const struct CMUnitTest direct_test[] = {cmocka_unit_test_prestate(test_edge, &reference),
                                           cmocka_unit_test(test_direct),
                                           cmocka_unit_test(test_direct_bfloat16)};
  dft_ops_set_threads(2);
  if (device_set() != NULL) return test_device(device_set());
  int failed = cmocka_run_group_tests_name("direct", direct_test, NULL, NULL);
  for (int kernels = 0; kernels < DFT_KERNELS_COUNT; kernels++) {
    dft_ops *ops = (dft_ops *)dft_ops_get((dft_kernels)kernels);
    if (!ops) {
      if (kernels == DFT_KERNELS_AMX) print_message("[  SKIPPED ] amx: this CPU, system or build has none\n");
      continue;
    }
    subject plain = subject_of(ops, false), bfloat16 = subject_of(ops, true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_company, &plain),
        cmocka_unit_test_prestate(test_company, &bfloat16),
        cmocka_unit_test_prestate(test_scales, &plain),
        cmocka_unit_test_prestate(test_scales, &bfloat16),
        cmocka_unit_test_prestate(test_refusals, &plain),
        /* not of the reference, which they compare with */
        cmocka_unit_test_prestate(test_whole, &plain),
        cmocka_unit_test_prestate(test_runs, &plain),
        cmocka_unit_test_prestate(test_stems, &plain),
        cmocka_unit_test_prestate(test_narrow, &plain),
        cmocka_unit_test_prestate(test_borders, &plain),
        cmocka_unit_test_prestate(test_whole, &bfloat16),
        cmocka_unit_test_prestate(test_runs, &bfloat16),
        cmocka_unit_test_prestate(test_narrow, &bfloat16),
        cmocka_unit_test_prestate(test_borders, &bfloat16),
        /* nor of the portable set, which sums in BLAS' order */
        cmocka_unit_test_prestate(test_edge, &bfloat16),
        kernels == DFT_KERNELS_AMX ? (struct CMUnitTest)cmocka_unit_test_prestate(test_tiles, &bfloat16)
                                   : (struct CMUnitTest)cmocka_unit_test_prestate(test_pairs, &bfloat16),
    };
    size_t count = kernels == DFT_KERNELS_REFERENCE ? 5 : kernels == DFT_KERNELS_PORTABLE ? 14 : 16;
    failed += _cmocka_run_group_tests(ops->name, tests, count, NULL, NULL);
  }
  return failed;
}
