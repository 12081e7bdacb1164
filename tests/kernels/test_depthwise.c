/* Depthwise convolution: every set against the definition, and the promises about bits. */
#include "conv_test.h"

enum { SAMPLES = 3 };

static double output(const float *x, const float *w, const dft_conv *g, int oh, int ow, int c) {
  double sum = 0;
  for (int k = 0; k < 9; k++) {
    const int ih = oh * g->stride - g->pad_top + k / 3, iw = ow * g->stride - g->pad_left + k % 3;
    if (ih < 0 || ih >= g->in_h || iw < 0 || iw >= g->in_w) continue;
    sum += (double)x[((size_t)ih * g->in_w + iw) * g->channels + c] * w[(size_t)k * g->channels + c];
  }
  return sum;
}

static void check_forward(const dft_ops *ops, const dft_conv *g) {
  const size_t in = in_values(g), out = out_values(g), c = (size_t)g->channels;
  float *x = filled(SAMPLES * in), *w = filled(9 * c), *bias = filled(c), *residual = filled(SAMPLES * out);
  float *y = empty(SAMPLES * out), *expected = empty(SAMPLES * out), *alone = empty(out);
  for (size_t i = 0; i < 9 * c; i++) w[i] *= 4; /* so that the clamp is met at both ends */
  for (int mode = 0; mode < 8; mode++) {
    const dft_epilogue e = {mode & 1 ? bias : NULL, mode & 2 ? residual : NULL, mode & 4};
    for (size_t i = 0; i < SAMPLES * out; i++) {
      const size_t s = i / out, at = i % out, pixel = at / c;
      double v = output(x + s * in, w, g, (int)pixel / g->out_w, (int)pixel % g->out_w, (int)(at % c));
      v += (e.bias ? e.bias[at % c] : 0) + (e.residual ? e.residual[i] : 0);
      expected[i] = (float)(e.relu6 ? fmin(fmax(v, 0), 6) : v);
    }
    ops->depthwise(x, w, y, SAMPLES, g, &e);
    assert_all_close(y, expected, SAMPLES * out, 1e-5, "y");
  }
  ops->depthwise(x, w, y, SAMPLES, g, NULL);
  ops->depthwise(x + in, w, alone, 1, g, NULL);
  assert_bits(alone, y + out, out * sizeof *y, "a sample alone");
  free(x), free(w), free(bias), free(residual), free(y), free(expected), free(alone);
}

static void check_dx(const dft_ops *ops, const dft_conv *g) {
  const size_t in = in_values(g), out = out_values(g), c = (size_t)g->channels;
  float *dy = filled(SAMPLES * out), *w = filled(9 * c), *dx = empty(SAMPLES * in), *alone = empty(in);
  float *expected = empty(SAMPLES * in);
  reference()->depthwise_dx(dy, w, expected, SAMPLES, g);
  memset(dx, 0xff, SAMPLES * in * sizeof *dx);
  ops->depthwise_dx(dy, w, dx, SAMPLES, g);
  assert_all_close(dx, expected, SAMPLES * in, 2e-6, "dx");
  ops->depthwise_dx(dy + out, w, alone, 1, g);
  assert_bits(alone, dx + in, in * sizeof *dx, "a sample alone");
  free(dy), free(w), free(dx), free(alone), free(expected);
}

typedef struct dw_job {
  const float *x, *dy;
  const dft_conv *conv;
} dw_job;

static void run_dw(const summed *op, const dft_ops *ops, const dft_shard_map *map, void *out) {
  const dw_job *job = op->job;
  ops->depthwise_dw(job->x + (size_t)map->begin * in_values(job->conv),
                    job->dy + (size_t)map->begin * out_values(job->conv), job->conv, map, out);
}

static void check_dw_batch(const dft_ops *ops, const dft_conv *g, int batch) {
  const size_t values = 9 * (size_t)g->channels;
  float *x = filled((size_t)batch * in_values(g)), *dy = filled((size_t)batch * out_values(g));
  float *dw = empty(values), *expected = empty(values);
  const dw_job job = {x, dy, g};
  const summed op = {run_dw, &job, values, false};
  sum_over_ranks(&op, reference(), 8, 1, batch, expected);
  check_sums(&op, ops, batch, dw);
  assert_all_close(dw, expected, values, 3e-5, "dw");
  free(x), free(dy), free(dw), free(expected);
}

static void check_dw(const dft_ops *ops, const dft_conv *g) {
  check_dw_batch(ops, g, 3);
}

static void check_set(const dft_ops *ops) {
  static const int channels[] = {1, 3, 8, 24, 33, 96};
  for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
    each_conv(channels[i], channels[i], check_forward, ops);
    each_conv(channels[i], channels[i], check_dx, ops);
    if (i % 2 == 1) each_conv(channels[i], channels[i], check_dw, ops);
  }
}

static void test_ragged(void **state) {
  (void)state;
  each_set(check_set);
}

/* Large enough that threads and strips are used, and every way to split the channels. */
static void check_large(const dft_ops *ops) {
  dft_conv g;
  assert_true(conv_of(&g, 23, 24, 24, 1, 1, 1));
  check_dw_batch(ops, &g, 21);
  /* several outputs at a time where there are many, one where there are few: a sample alone */
  for (int i = 0; i < 4; i++) { /* the smaller ones where a device is played, the larger ones on one */
    const int stride = 1 + i % 2, side = i < 2 ? 12 * stride : 48 * stride;
    assert_true(conv_of(&g, side, side, i < 2 ? 96 : 192, stride, stride == 1, 1));
    check_forward(ops, &g);
    check_dx(ops, &g);
  }
  assert_true(conv_of(&g, 12, 13, 300, 2, 0, 1));
  check_dw_batch(ops, &g, 10);
  const size_t in = in_values(&g), out = out_values(&g);
  float *x = filled(8 * in), *w = filled(9 * 300), *y[4], *dx[4];
  for (int threads = 1; threads <= 3; threads++) {
    dft_ops_set_threads(threads);
    y[threads] = empty(8 * out), dx[threads] = empty(8 * in);
    ops->depthwise(x, w, y[threads], 8, &g, NULL);
    ops->depthwise_dx(y[1], w, dx[threads], 8, &g);
    assert_bits(y[threads], y[1], 8 * out * sizeof(float), "y at other threads");
    assert_bits(dx[threads], dx[1], 8 * in * sizeof(float), "dx at other threads");
  }
  for (int threads = 1; threads <= 3; threads++) free(y[threads]), free(dx[threads]);
  free(x), free(w);
}

static void test_large(void **state) {
  (void)state;
  each_set(check_large);
}

static void check_slopes(const dft_ops *ops, const dft_conv *g) {
  if (g->in_h > 6) return;
  const size_t in = in_values(g), out = out_values(g), weights = 9 * (size_t)g->channels;
  float *x = filled(in), *w = filled(weights), *dy = filled(out), *dx = empty(in), *dw = empty(weights);
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, 1, 1, 0, 1), DFT_OK);
  ops->depthwise_dx(dy, w, dx, 1, g);
  ops->depthwise_dw(x, dy, g, &map, dw);
  for (size_t i = 0; i < in; i++) assert_true(fabs(slope(x, w, dy, g, false, x, i) - dx[i]) < 1e-5);
  for (size_t i = 0; i < weights; i++) assert_true(fabs(slope(x, w, dy, g, false, w, i) - dw[i]) < 1e-5);
  dft_shard_map_free(&map);
  free(x), free(w), free(dy), free(dx), free(dw);
}

static void check_set_slopes(const dft_ops *ops) {
  each_conv(3, 3, check_slopes, ops);
}

static void test_finite_differences(void **state) {
  (void)state;
  each_set(check_set_slopes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ragged),
      cmocka_unit_test(test_large),
      cmocka_unit_test(test_finite_differences),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
