/* The product family of every kernel set against plain double sums, and its promises about bits. */
#include "device_set.h"
#include "dft/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t seed = 1;

/* Uniform in [-1, 1). */
static float draw(void) {
  seed = seed * 1664525u + 1013904223u;
  return (float)(int32_t)seed / 2147483648.0f;
}

static float *filled(size_t count) {
  float *values = malloc((count + 1) * sizeof *values);
  assert_non_null(values);
  for (size_t i = 0; i < count; i++) values[i] = draw();
  return values;
}

static float *packed_for(const dft_ops *ops, const float *w, int k, int n, bool transposed) {
  float *packed = malloc(ops->gemm_packed_floats(k, n) * sizeof *packed);
  assert_non_null(packed);
  ops->gemm_pack(w, k, n, transposed, packed);
  return packed;
}

/* The definition, in double. */
static double element(const float *x, const float *w, bool transposed, int row, int j, int k, int n,
                      const dft_epilogue *e) {
  double sum = e->bias ? e->bias[j] : 0;
  for (int i = 0; i < k; i++)
    sum += (double)x[(size_t)row * k + i] * (transposed ? w[(size_t)j * k + i] : w[(size_t)i * n + j]);
  if (e->residual) sum += e->residual[(size_t)row * n + j];
  return e->relu6 ? fmin(fmax(sum, 0), 6) : sum;
}

static void assert_close(double value, double expected, int k, const char *what, int a, int b) {
  double bound = 1e-6 * (sqrt(k) + 4) * (1 + fabs(expected));
  if (!(fabs(value - expected) <= bound))
    fail_msg("%s at (%d, %d): %.9g, expected %.9g", what, a, b, value, expected);
}

/* One shape under one epilogue: bit 0 bias, 1 residual, 2 relu6, 3 transposed, 4 residual aliases y. */
static void check_shape(const dft_ops *ops, int samples, int pixels, int k, int n, int mode) {
  int rows = samples * pixels;
  float *x = filled((size_t)rows * k), *w = filled((size_t)k * n), *bias = filled(n);
  float *residual = filled((size_t)rows * n), *y = malloc(((size_t)rows * n + 1) * sizeof *y);
  float *packed = packed_for(ops, w, k, n, mode & 8);
  dft_epilogue e = {mode & 1 ? bias : NULL, mode & 2 ? residual : NULL, mode & 4};
  const dft_epilogue expected = e;
  if ((mode & 2) && (mode & 16)) {
    memcpy(y, residual, (size_t)rows * n * sizeof *y);
    e.residual = y;
  }
  y[(size_t)rows * n] = 12345;
  ops->gemm(x, packed, y, samples, pixels, k, n, &e);
  for (int row = 0; row < rows; row++)
    for (int j = 0; j < n; j++)
      assert_close(y[(size_t)row * n + j], element(x, w, mode & 8, row, j, k, n, &expected), k, ops->name,
                   row, j);
  assert_true(y[(size_t)rows * n] == 12345);
  free(x), free(w), free(bias), free(residual), free(y), free(packed);
}

static void test_gemm_values(void **state) {
  const dft_ops *ops = *state;
  static const int widths[] = {1, 5, 8, 16, 17, 24, 31, 32, 33, 48, 64, 70, 80, 100, 112, 144, 160};
  static const int depths[] = {1, 3, 16, 27, 96, 150};
  int mode = 0;
  for (size_t a = 0; a < sizeof widths / sizeof *widths; a++)
    for (size_t b = 0; b < sizeof depths / sizeof *depths; b++, mode = (mode + 5) % 32)
      check_shape(ops, 1 + (int)(a % 3), 1 + (int)((7 * b + a) % 29), depths[b], widths[a], mode);
  check_shape(ops, 5, 1, 1280, 7, 1);
  check_shape(ops, 2, 9, 960, 320, 3);
  check_shape(ops, 2, 300, 8, 48, 5);
}

/* A row has the same bits alone as in any company. */
static void test_gemm_rows_alone(void **state) {
  const dft_ops *ops = *state;
  enum { K = 45, MOST = 40 };
  static const int widths[] = {5, 8, 16, 24, 32, 64, 80, 112, 144};
  for (size_t a = 0; a < sizeof widths / sizeof *widths; a++) {
    int n = widths[a];
    float *x = filled(MOST * K), *w = filled((size_t)K * n), *bias = filled(n);
    float *residual = filled((size_t)MOST * n), *packed = packed_for(ops, w, K, n, false);
    float *alone = malloc(MOST * (size_t)n * sizeof *alone), *y = malloc(MOST * (size_t)n * sizeof *y);
    for (int row = 0; row < MOST; row++) {
      dft_epilogue e = {bias, residual + (size_t)row * n, true};
      ops->gemm(x + (size_t)row * K, packed, alone + (size_t)row * n, 1, 1, K, n, &e);
    }
    for (int rows = 1; rows <= MOST; rows++)
      for (int threads = 1; threads <= 3; threads++) {
        dft_epilogue e = {bias, residual, true};
        dft_ops_set_threads(threads);
        memset(y, 0xff, MOST * (size_t)n * sizeof *y);
        ops->gemm(x, packed, y, rows, 1, K, n, &e);
        assert_memory_equal(y, alone, (size_t)rows * n * sizeof *y);
      }
    dft_ops_set_threads(2);
    free(x), free(w), free(bias), free(residual), free(packed), free(alone), free(y);
  }
}

static void test_gemm_nan(void **state) {
  const dft_ops *ops = *state;
  float x[4] = {1, NAN, 2, 3}, w[4] = {1, 0, 0, 1}, y[4];
  float *packed = packed_for(ops, w, 2, 2, false);
  ops->gemm(x, packed, y, 2, 1, 2, 2, &(dft_epilogue){.relu6 = true});
  assert_true(isnan(y[1]));
  assert_true(y[2] == 2 && y[3] == 3);
  free(packed);
}

/* dw by its definition: shards in double, nodes by adjacent pairs in float. */
static void expected_dw(const float *x, const float *dy, int pixels, int k, int n, const dft_shard_map *map,
                        float *dw) {
  for (int node = 0; node < map->nodes; node++)
    for (int i = 0; i < k; i++)
      for (int j = 0; j < n; j++) {
        float sums[64] = {0};
        int count = map->node_first[node + 1] - map->node_first[node];
        for (int s = 0; s < count; s++) {
          int shard = map->node_first[node] + s;
          double sum = 0;
          for (int row = map->first[shard] * pixels; row < map->first[shard + 1] * pixels; row++)
            sum += (double)x[(size_t)row * k + i] * dy[(size_t)row * n + j];
          sums[s] = (float)sum;
        }
        for (; count > 1; count /= 2)
          for (int s = 0; s < count / 2; s++) sums[s] = sums[2 * s] + sums[2 * s + 1];
        dw[((size_t)node * k + i) * n + j] = sums[0];
      }
}

static void check_dw(const dft_ops *ops, int shards, int ranks, int rank, int batch, int pixels, int k,
                     int n) {
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, shards, ranks, rank, batch), DFT_OK);
  size_t rows = (size_t)map.samples * pixels, count = (size_t)map.nodes * k * n;
  float *x = filled(rows * k), *dy = filled(rows * n);
  float *dw = malloc((count + 1) * sizeof *dw), *expected = malloc((count + 1) * sizeof *expected);
  expected_dw(x, dy, pixels, k, n, &map, expected);
  dw[count] = 12345;
  ops->gemm_dw(x, dy, pixels, k, n, &map, dw);
  for (size_t i = 0; i < count; i++)
    assert_close(dw[i], expected[i], (int)rows, ops->name, (int)(i / n % k), (int)(i % n));
  assert_true(dw[count] == 12345);
  for (int threads = 1; threads <= 3; threads++) {
    dft_ops_set_threads(threads);
    ops->gemm_dw(x, dy, pixels, k, n, &map, expected);
    assert_memory_equal(dw, expected, count * sizeof *dw);
  }
  dft_ops_set_threads(2);
  free(x), free(dy), free(dw), free(expected);
  dft_shard_map_free(&map);
}

static void test_dw_values(void **state) {
  const dft_ops *ops = *state;
  static const int widths[] = {1, 5, 16, 24, 32, 40, 96, 144};
  for (size_t a = 0; a < sizeof widths / sizeof *widths; a++)
    for (size_t b = 0; b < sizeof widths / sizeof *widths; b++)
      check_dw(ops, 8, 1, 0, 11, 1 + (int)(a + 2 * b), widths[b], widths[a]);
  check_dw(ops, 8, 1, 0, 3, 7, 40, 16);    /* empty shards */
  check_dw(ops, 8, 3, 0, 2, 9, 16, 33);    /* a node of empty shards */
  check_dw(ops, 8, 5, 3, 40, 4, 20, 30);   /* several nodes */
  check_dw(ops, 8, 1, 0, 8, 300, 16, 96);  /* shards longer than a group of rows */
  check_dw(ops, 64, 1, 0, 100, 3, 50, 24); /* more segments than a group holds */
  check_dw(ops, 1, 1, 0, 5, 100, 24, 144);
  check_dw(ops, 8, 1, 0, 8, 1, 1280, 5);
  check_dw(ops, 8, 1, 0, 8, 100, 96, 330); /* factors that do not stay near: several panels a block */
  check_dw(ops, 8, 1, 0, 8, 100, 350, 80);
}

static void test_dw_empty(void **state) {
  const dft_ops *ops = *state;
  dft_shard_map map = {0};
  float dw[6] = {9, 9, 9, 9, 9, 9}, none[1] = {0};
  assert_int_equal(dft_shard_map_set(&map, 8, 8, 0, 1), DFT_OK);
  if (map.samples > 0) assert_int_equal(dft_shard_map_set(&map, 8, 8, 7, 1), DFT_OK);
  assert_int_equal(map.samples, 0);
  ops->gemm_dw(none, none, 4, 2, 3, &map, dw);
  for (int i = 0; i < 6; i++) assert_true(dw[i] == 0);
  dft_shard_map_free(&map);
}

/* The two vector sets agree to the bit. */
static void test_sets_agree(void **state) {
  (void)state;
  const dft_ops *narrow = dft_ops_get(DFT_KERNELS_AVX2), *wide = dft_ops_get(DFT_KERNELS_AVX512);
  if (!narrow || !wide) skip();
  enum { PIXELS = 23, SAMPLES = 9, ROWS = PIXELS * SAMPLES };
  static const int shapes[][2] = {{16, 96}, {144, 24}, {24, 144},  {50, 5},   {1, 1},
                                  {30, 80}, {96, 160}, {200, 210}, {320, 130}};
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, 8, 1, 0, SAMPLES), DFT_OK);
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
    int k = shapes[s][0], n = shapes[s][1];
    float *x = filled((size_t)ROWS * k), *w = filled((size_t)k * n), *bias = filled(n);
    float *a = filled((size_t)ROWS * n + (size_t)k * n), *b = filled((size_t)ROWS * n + (size_t)k * n);
    float *a_packed = packed_for(narrow, w, k, n, false), *b_packed = packed_for(wide, w, k, n, false);
    dft_epilogue e = {bias, NULL, true};
    narrow->gemm(x, a_packed, a, SAMPLES, PIXELS, k, n, &e);
    wide->gemm(x, b_packed, b, SAMPLES, PIXELS, k, n, &e);
    assert_memory_equal(a, b, (size_t)ROWS * n * sizeof *a);
    narrow->gemm_dw(x, b, PIXELS, k, n, &map, a + (size_t)ROWS * n);
    wide->gemm_dw(x, b, PIXELS, k, n, &map, b + (size_t)ROWS * n);
    assert_memory_equal(a + (size_t)ROWS * n, b + (size_t)ROWS * n, (size_t)k * n * sizeof *a);
    free(x), free(w), free(bias), free(a), free(b), free(a_packed), free(b_packed);
  }
  dft_shard_map_free(&map);
}

static int test_set(const dft_ops *set) {
  dft_ops *ops = (dft_ops *)set;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_prestate(test_gemm_values, ops), cmocka_unit_test_prestate(test_gemm_rows_alone, ops),
      cmocka_unit_test_prestate(test_gemm_nan, ops), cmocka_unit_test_prestate(test_dw_values, ops),
      cmocka_unit_test_prestate(test_dw_empty, ops)};
  return cmocka_run_group_tests_name(ops->name, tests, NULL, NULL);
}

int main(void) {
  const struct CMUnitTest agree[] = {cmocka_unit_test(test_sets_agree)};
  int failed = 0;
  dft_ops_set_threads(2);
  if (device_set() != NULL) return test_set(device_set());
  for (int kernels = 0; kernels < DFT_KERNELS_COUNT; kernels++) {
    const dft_ops *ops = dft_ops_get((dft_kernels)kernels);
    if (ops) failed += test_set(ops);
  }
  return failed + cmocka_run_group_tests_name("sets", agree, NULL, NULL);
}
