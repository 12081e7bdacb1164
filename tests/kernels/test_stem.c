/* The first convolution: every set against the reference and finite differences, and the promises about
 * bits. */
#include "conv_test.h"

enum { SAMPLES = 2 };

static double output(const float *x, const float *w, const dft_conv *g, int oh, int ow, int c) {
  double sum = 0;
  for (int k = 0; k < 27; k++) {
    const int ih = oh * g->stride - g->pad_top + k / 9, iw = ow * g->stride - g->pad_left + k / 3 % 3;
    if (ih < 0 || ih >= g->in_h || iw < 0 || iw >= g->in_w) continue;
    sum += (double)x[((size_t)ih * g->in_w + iw) * 3 + k % 3] * w[(size_t)k * g->channels + c];
  }
  return sum;
}

static void check_forward(const dft_ops *ops, const dft_conv *g) {
  const size_t in = in_values(g), out = out_values(g), c = (size_t)g->channels;
  float *x = filled(SAMPLES * in), *w = filled(27 * c), *bias = filled(c), *residual = filled(SAMPLES * out);
  float *y = empty(SAMPLES * out), *expected = empty(SAMPLES * out), *alone = empty(out);
  for (size_t i = 0; i < 27 * c; i++) w[i] *= 3;
  for (int mode = 0; mode < 8; mode++) {
    const dft_epilogue e = {mode & 1 ? bias : NULL, mode & 2 ? residual : NULL, mode & 4};
    for (size_t i = 0; i < SAMPLES * out; i++) {
      const size_t s = i / out, at = i % out, pixel = at / c;
      double v = output(x + s * in, w, g, (int)pixel / g->out_w, (int)pixel % g->out_w, (int)(at % c));
      v += (e.bias ? e.bias[at % c] : 0) + (e.residual ? e.residual[i] : 0);
      expected[i] = (float)(e.relu6 ? fmin(fmax(v, 0), 6) : v);
    }
    ops->stem(x, w, y, SAMPLES, g, &e);
    assert_all_close(y, expected, SAMPLES * out, 1e-5, "y");
  }
  ops->stem(x, w, y, SAMPLES, g, NULL);
  ops->stem(x + in, w, alone, 1, g, NULL);
  assert_bits(alone, y + out, out * sizeof *y, "a sample alone");
  free(x), free(w), free(bias), free(residual), free(y), free(expected), free(alone);
}

typedef struct dw_job {
  const float *x, *dy;
  const dft_conv *conv;
} dw_job;

static void run_dw(const summed *op, const dft_ops *ops, const dft_shard_map *map, void *out) {
  const dw_job *job = op->job;
  ops->stem_dw(job->x + (size_t)map->begin * in_values(job->conv),
               job->dy + (size_t)map->begin * out_values(job->conv), job->conv, map, out);
}

static void check_dw_batch(const dft_ops *ops, const dft_conv *g, int batch) {
  const size_t values = 27 * (size_t)g->channels;
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
  static const int channels[] = {1, 8, 24, 33, 96};
  for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
    each_conv(channels[i], 3, check_forward, ops);
    if (channels[i] == 8 || channels[i] == 33) each_conv(channels[i], 3, check_dw, ops);
  }
}

static void test_ragged(void **state) {
  (void)state;
  each_set(check_set);
}

/* Wider than one run of pixels, and enough work for threads. */
static void check_large(const dft_ops *ops) {
  dft_conv g;
  assert_true(conv_of(&g, 39, 141, 100, 2, 0, 1));
  g.in_channels = 3;
  check_dw_batch(ops, &g, 10);
  const size_t in = in_values(&g), out = out_values(&g);
  float *x = filled(4 * in), *w = filled(27 * 100), *one = empty(4 * out), *y = empty(4 * out);
  dft_ops_set_threads(1);
  ops->stem(x, w, one, 4, &g, NULL);
  reference()->stem(x, w, y, 4, &g, NULL);
  assert_all_close(one, y, 4 * out, 1e-5, "y");
  for (int threads = 2; threads <= 3; threads++) {
    dft_ops_set_threads(threads);
    ops->stem(x, w, y, 4, &g, NULL);
    assert_bits(y, one, 4 * out * sizeof *y, "y at other threads");
  }
  free(x), free(w), free(one), free(y);
}

static void test_large(void **state) {
  (void)state;
  each_set(check_large);
}

static void check_slopes(const dft_ops *ops, const dft_conv *g) {
  if (g->in_h > 5) return;
  const size_t weights = 27 * (size_t)g->channels;
  float *x = filled(in_values(g)), *w = filled(weights), *dy = filled(out_values(g)), *dw = empty(weights);
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, 1, 1, 0, 1), DFT_OK);
  ops->stem_dw(x, dy, g, &map, dw);
  for (size_t i = 0; i < weights; i++) assert_true(fabs(slope(x, w, dy, g, true, w, i) - dw[i]) < 1e-5);
  dft_shard_map_free(&map);
  free(x), free(w), free(dy), free(dw);
}

static void check_set_slopes(const dft_ops *ops) {
  each_conv(4, 3, check_slopes, ops);
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
