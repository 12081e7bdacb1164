/* BatchNorm and the sums over rows: every set against doubles, finite differences through batch statistics,
 * and the promises about bits. */
#include "kernel_test.h"

static const int channels[] = {1, 3, 8, 24, 33, 96, 150};
static const int pixel_counts[] = {1, 2, 5, 9, 49};
#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef struct job {
  const float *dy, *z;
  const dft_norm *norm;
  int pixels, c;
} job;

static size_t offset(const job *j, const dft_shard_map *map) {
  return (size_t)map->begin * (size_t)j->pixels * (size_t)j->c;
}

static void run_sums(const summed *op, const dft_ops *ops, const dft_shard_map *map, void *out) {
  const job *j = op->job;
  ops->bn_sums(j->z + offset(j, map), j->pixels, j->c, map, out);
}

static void run_backward_sums(const summed *op, const dft_ops *ops, const dft_shard_map *map, void *out) {
  const job *j = op->job;
  const size_t at = offset(j, map);
  ops->bn_backward_sums(j->dy + at, j->z + at, j->norm, j->pixels, j->c, map, out);
}

static void run_row_sums(const summed *op, const dft_ops *ops, const dft_shard_map *map, void *out) {
  const job *j = op->job;
  ops->row_sums(j->z + offset(j, map), j->pixels, j->c, map, out);
}

/* dy where relu6(z*scale + shift) is not clamped. */
static float gate(const dft_norm *n, float z, size_t ch, float dy) {
  const float y = fmaf(z, n->scale[ch], n->shift[ch]);
  return !n->relu6 || (y > 0 && y < 6) ? dy : 0;
}

static void check_sum_shape(const dft_ops *ops, int batch, int pixels, int c) {
  const size_t rows = (size_t)batch * (size_t)pixels, width = (size_t)c, count = rows * width;
  float *dy = filled(count), *z = filled(count), *mean = filled(width), *scale = filled(width);
  float *shift = filled(width), *single = empty(width), *rows32 = empty(width);
  double *sums = malloc(2 * width * sizeof *sums), *expected = malloc(2 * width * sizeof *sums);
  for (size_t i = 0; i < width; i++) scale[i] = 8 * scale[i], shift[i] = 3 + shift[i];
  for (int relu6 = 0; relu6 < 2; relu6++) {
    const dft_norm norm = {.scale = scale, .shift = shift, .relu6 = relu6, .mean = mean};
    const job j = {dy, z, &norm, pixels, c};
    memset(expected, 0, 2 * width * sizeof *expected);
    for (size_t i = 0; i < count; i++) {
      const double g = gate(&norm, z[i], i % width, dy[i]);
      expected[i % width] += g;
      expected[width + i % width] += g * ((double)z[i] - mean[i % width]);
    }
    const summed op = {run_backward_sums, &j, 2 * width, true};
    check_sums(&op, ops, batch, sums);
    assert_doubles_close(sums, expected, 2 * width, 5e-6, "backward sums");
  }
  const job j = {.z = z, .pixels = pixels, .c = c};
  memset(expected, 0, 2 * width * sizeof *expected);
  for (size_t i = 0; i < count; i++) {
    expected[i % width] += z[i];
    expected[width + i % width] += (double)z[i] * z[i];
  }
  const summed op = {run_sums, &j, 2 * width, true};
  check_sums(&op, ops, batch, sums);
  assert_doubles_close(sums, expected, 2 * width, 5e-6, "sums");
  const summed rows_op = {run_row_sums, &j, width, false};
  check_sums(&rows_op, ops, batch, rows32);
  for (size_t i = 0; i < width; i++) single[i] = (float)expected[i];
  assert_all_close(rows32, single, width, 5e-6, "row sums");
  free(dy), free(z), free(mean), free(scale), free(shift), free(single), free(rows32), free(sums),
      free(expected);
}

static void check_all_sums(const dft_ops *ops) {
  for (size_t i = 0; i < COUNT(channels); i++)
    for (size_t p = 0; p < COUNT(pixel_counts); p++)
      check_sum_shape(ops, p % 2 == 0 ? 5 : 13, pixel_counts[p], channels[i]);
  check_sum_shape(ops, 20, 100, 24);
  check_sum_shape(ops, 9, 30, 2500); /* wider than one block of channels */
}

static void test_sums(void **state) {
  (void)state;
  each_set(check_all_sums);
}

static void check_maps_shape(const dft_ops *ops, int64_t rows, int c) {
  const size_t width = (size_t)c, count = (size_t)rows * width;
  float *z = filled(count), *dy = filled(count), *residual = filled(count), *shift = filled(width);
  float *a = filled(width), *b = filled(width), *d = filled(width), *out = empty(count), *want = empty(count);
  for (size_t i = 0; i < width; i++) a[i] *= 8, shift[i] += 3;
  for (int mode = 0; mode < 8; mode++) { /* bit 0 residual, 1 relu6, 2 in place */
    for (size_t i = 0; i < count; i++) {
      float v = fmaf(z[i], a[i % width], d[i % width]);
      if (mode & 2) v = fminf(fmaxf(v, 0), 6);
      want[i] = mode & 1 ? v + residual[i] : v;
    }
    memcpy(out, mode & 4 && mode & 1 ? residual : z, count * sizeof *out);
    ops->scale_shift(mode == 4 || mode == 6 ? out : z, a, d,
                     !(mode & 1) ? NULL
                     : mode & 4  ? out
                                 : residual,
                     mode & 2, out, rows, c);
    assert_all_close(out, want, count, 2e-6, "scale_shift");
  }
  for (int mode = 0; mode < 8; mode++) { /* bit 0 activation, 1 batch statistics, 2 in place */
    const bool batch = mode & 2;
    const dft_norm norm = {a, shift, mode & 1, NULL, a, batch ? b : NULL, batch ? d : NULL};
    for (size_t i = 0; i < count; i++) {
      const float g = a[i % width] * gate(&norm, z[i], i % width, dy[i]);
      want[i] = mode & 2 ? g + fmaf(b[i % width], z[i], d[i % width]) : g;
    }
    memcpy(out, dy, count * sizeof *out);
    ops->bn_backward(mode & 4 ? out : dy, mode & 3 ? z : NULL, &norm, out, rows, c);
    assert_all_close(out, want, count, 2e-6, "bn_backward");
  }
  free(z), free(dy), free(shift), free(residual), free(a), free(b), free(d), free(out), free(want);
}

static void check_all_maps(const dft_ops *ops) {
  for (int threads = 1; threads <= 3; threads++) {
    dft_ops_set_threads(threads);
    for (size_t i = 0; i < COUNT(channels); i++)
      for (int rows = 0; rows < 9; rows++) check_maps_shape(ops, rows, channels[i]);
    check_maps_shape(ops, 801, 33);
  }
}

static void test_maps(void **state) {
  (void)state;
  each_set(check_all_maps);
}

/* sum of dy*relu6(gamma*(z - mean(z))/sqrt(var(z) + eps) + beta), in double. */
static double loss(const double *z, const double *gamma, const double *beta, const float *dy, int rows,
                   int c) {
  double total = 0;
  for (int ch = 0; ch < c; ch++) {
    double sum = 0, square = 0;
    for (int r = 0; r < rows; r++) sum += z[r * c + ch], square += z[r * c + ch] * z[r * c + ch];
    const double mean = sum / rows, invstd = 1 / sqrt(square / rows - mean * mean + 1e-3);
    for (int r = 0; r < rows; r++)
      total += dy[r * c + ch] * fmin(fmax(gamma[ch] * (z[r * c + ch] - mean) * invstd + beta[ch], 0), 6);
  }
  return total;
}

static double slope(double *p, const double *z, const double *gamma, const double *beta, const float *dy,
                    int rows, int c) {
  const double kept = *p, h = 1e-5;
  *p = kept + h;
  const double above = loss(z, gamma, beta, dy, rows, c);
  *p = kept - h;
  const double below = loss(z, gamma, beta, dy, rows, c);
  *p = kept;
  return (above - below) / (2 * h);
}

/* dgamma, dbeta and dz as the model makes them out of the two kernels. */
static void check_slopes(const dft_ops *ops) {
  enum { BATCH = 3, PIXELS = 7, C = 5, ROWS = BATCH * PIXELS };
  float *z = filled(ROWS * C), *dy = filled(ROWS * C), dz[ROWS * C];
  float mean[C], invstd[C], a[C], b[C], d[C], scale[C], shift[C];
  double zs[ROWS * C], gamma[C], beta[C], sums[2 * C];
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, 4, 1, 0, BATCH), DFT_OK);
  ops->bn_sums(z, PIXELS, C, &map, sums);
  for (int i = 0; i < ROWS * C; i++) zs[i] = z[i];
  for (int ch = 0; ch < C; ch++) {
    gamma[ch] = 3 + ch, beta[ch] = 1;
    const double m = sums[ch] / ROWS, s = 1 / sqrt(sums[C + ch] / ROWS - m * m + 1e-3);
    mean[ch] = (float)m, invstd[ch] = (float)s;
    scale[ch] = (float)(gamma[ch] * s), shift[ch] = (float)(beta[ch] - gamma[ch] * s * m);
  }
  const dft_norm norm = {scale, shift, true, mean, a, b, d};
  ops->bn_backward_sums(dy, z, &norm, PIXELS, C, &map, sums);
  for (int ch = 0; ch < C; ch++) {
    sums[C + ch] *= invstd[ch];
    a[ch] = scale[ch];
    b[ch] = (float)(-(double)scale[ch] * invstd[ch] * sums[C + ch] / ROWS);
    d[ch] = (float)(-(double)scale[ch] * sums[ch] / ROWS - (double)b[ch] * mean[ch]);
    assert_true(fabs(sums[ch] - slope(&beta[ch], zs, gamma, beta, dy, ROWS, C)) < 1e-4);
    assert_true(fabs(sums[C + ch] - slope(&gamma[ch], zs, gamma, beta, dy, ROWS, C)) < 1e-4);
  }
  ops->bn_backward(dy, z, &norm, dz, ROWS, C);
  for (int i = 0; i < ROWS * C; i++)
    assert_true(fabs(dz[i] - slope(&zs[i], zs, gamma, beta, dy, ROWS, C)) < 1e-4);
  dft_shard_map_free(&map);
  free(z), free(dy);
}

static void test_finite_differences(void **state) {
  (void)state;
  each_set(check_slopes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sums),
      cmocka_unit_test(test_maps),
      cmocka_unit_test(test_finite_differences),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
