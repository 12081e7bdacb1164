/* Global pooling: every set against its definition, ties, finite differences. */
#include "kernel_test.h"

enum { SAMPLES = 3 };

static void check_shape(const dft_ops *ops, int pixels, int c) {
  const size_t in = (size_t)pixels * (size_t)c, out = (size_t)c;
  float *x = filled(SAMPLES * in), *dy = filled(SAMPLES * out), *y = empty(SAMPLES * out);
  float *want = empty(SAMPLES * out), *dx = empty(SAMPLES * in), *want_dx = empty(SAMPLES * in);
  for (size_t i = 0; i < SAMPLES * in; i++) x[i] = roundf(4 * x[i]) / 4 + 0.0f; /* ties, no -0 */

  for (size_t i = 0; i < SAMPLES * out; i++) {
    double sum = 0;
    for (int p = 0; p < pixels; p++) {
      sum += x[i / out * in + (size_t)p * out + i % out];
      want_dx[i / out * in + (size_t)p * out + i % out] = dy[i] / (float)pixels;
    }
    want[i] = (float)(sum / pixels);
  }
  ops->pool_avg(x, y, SAMPLES, pixels, c);
  ops->pool_avg_dx(dy, dx, SAMPLES, pixels, c);
  assert_all_close(y, want, SAMPLES * out, 1e-6, "average");
  assert_all_close(dx, want_dx, SAMPLES * in, 1e-6, "average dx");

  for (size_t i = 0; i < SAMPLES * out; i++) {
    const float *column = x + i / out * in + i % out;
    float most = column[0];
    int equal = 0;
    for (int p = 0; p < pixels; p++) most = fmaxf(most, column[(size_t)p * out]);
    for (int p = 0; p < pixels; p++) equal += column[(size_t)p * out] == most;
    for (int p = 0; p < pixels; p++)
      want_dx[i / out * in + (size_t)p * out + i % out] =
          column[(size_t)p * out] == most ? dy[i] / (float)equal : 0;
    want[i] = most;
  }
  ops->pool_max(x, y, SAMPLES, pixels, c);
  ops->pool_max_dx(x, y, dy, dx, SAMPLES, pixels, c);
  assert_bits(y, want, SAMPLES * out * sizeof *y, "maximum");
  assert_all_close(dx, want_dx, SAMPLES * in, 1e-6, "maximum dx");

  ops->pool_avg(x, want, SAMPLES, pixels, c);
  ops->pool_avg(x + in, y, 1, pixels, c);
  assert_bits(y, want + out, out * sizeof *y, "a sample alone");
  free(x), free(dy), free(y), free(want), free(dx), free(want_dx);
}

static void check_set(const dft_ops *ops) {
  static const int channels[] = {1, 3, 8, 24, 33, 96, 1280};
  for (int threads = 1; threads <= 3; threads++) {
    dft_ops_set_threads(threads);
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
      for (int pixels = 1; pixels <= 9; pixels++) check_shape(ops, pixels, channels[i]);
    check_shape(ops, 100, 96);
  }
}

static void test_ragged(void **state) {
  (void)state;
  each_set(check_set);
}

/* One sample, one channel; values of x lie 0.25 apart or are equal. */
static double maximum(const float *x, int pixels) {
  double most = x[0];
  for (int p = 1; p < pixels; p++) most = fmax(most, x[p]);
  return most;
}

static void check_slopes(const dft_ops *ops) {
  float x[5] = {0.25f, -1, 1.5f, 0.75f, 1.5f}, dy = 2, y, dx[5];
  ops->pool_max(x, &y, 1, 5, 1);
  ops->pool_max_dx(x, &y, &dy, dx, 1, 5, 1);
  for (int tied = 1; tied >= 0; tied--) {
    for (int p = 0; p < 5; p++) {
      const float kept = x[p];
      x[p] = kept + 0.0625f;
      const double above = maximum(x, 5);
      x[p] = kept - 0.0625f;
      const double below = maximum(x, 5);
      x[p] = kept;
      /* at a tie of two the central difference is half the one-sided slope: their equal share */
      assert_true(fabs(2 * (above - below) / 0.125 - dx[p]) < 1e-6);
    }
    x[4] = 0;
    ops->pool_max(x, &y, 1, 5, 1);
    ops->pool_max_dx(x, &y, &dy, dx, 1, 5, 1);
  }
  ops->pool_avg_dx(&dy, dx, 1, 5, 1);
  for (int p = 0; p < 5; p++) assert_true(fabs(dx[p] - 0.4) < 1e-6);
}

static void test_finite_differences(void **state) {
  (void)state;
  each_set(check_slopes);
}

/* A channel with a value that is not a number has no maximum and no mean, wherever the value stands. */
static void check_nan(const dft_ops *ops) {
  enum { PIXELS = 9, CHANNELS = 40 };
  float x[PIXELS * CHANNELS], y[CHANNELS];
  for (int bad = 0; bad < PIXELS; bad++) {
    for (int i = 0; i < PIXELS * CHANNELS; i++) x[i] = (float)(i % 7);
    for (int c = 0; c < CHANNELS; c += 3) x[bad * CHANNELS + c] = NAN;
    for (int max = 0; max <= 1; max++) {
      (max ? ops->pool_max : ops->pool_avg)(x, y, 1, PIXELS, CHANNELS);
      for (int c = 0; c < CHANNELS; c++) assert_int_equal(isnan(y[c]) != 0, c % 3 == 0);
    }
  }
}

static void test_nan(void **state) {
  (void)state;
  each_set(check_nan);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ragged),
      cmocka_unit_test(test_finite_differences),
      cmocka_unit_test(test_nan),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
