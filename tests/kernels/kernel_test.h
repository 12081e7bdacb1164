/* What the kernel tests share: random values, the sets of this CPU, comparisons, and the tree over ranks. */
#ifndef KERNEL_TEST_H
#define KERNEL_TEST_H

#include "device_set.h"
#include "dft/arena.h"
#include "dft/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t seed = 1;

/* Uniform in [-1, 1). */
static inline float draw(void) {
  seed = seed * 1664525u + 1013904223u;
  return (float)(int32_t)seed / 2147483648.0f;
}

/* malloc, exactly: what reads or writes past the end is for the address sanitizer to see. */
static inline float *empty(size_t count) {
  float *values = malloc(count > 0 ? count * sizeof *values : 1);
  assert_non_null(values);
  return values;
}

static inline float *filled(size_t count) {
  float *values = empty(count);
  for (size_t i = 0; i < count; i++) values[i] = draw();
  return values;
}

/* Multiplies by a power of ten: spreads values so that no order of summation is exact. */
static inline float *spread(size_t count) {
  float *values = filled(count);
  for (size_t i = 0; i < count; i++) values[i] *= powf(10, 3 * draw());
  return values;
}

static inline void assert_all_close(const float *values, const float *expected, size_t count,
                                    double tolerance, const char *what) {
  for (size_t i = 0; i < count; i++)
    if (!(fabs((double)values[i] - (double)expected[i]) <= tolerance * (1 + fabs((double)expected[i]))))
      fail_msg("%s[%zu]: %.9g, expected %.9g", what, i, (double)values[i], (double)expected[i]);
}

static inline void assert_doubles_close(const double *values, const double *expected, size_t count,
                                        double tolerance, const char *what) {
  for (size_t i = 0; i < count; i++)
    if (!(fabs(values[i] - expected[i]) <= tolerance * (1 + fabs(expected[i]))))
      fail_msg("%s[%zu]: %.17g, expected %.17g", what, i, values[i], expected[i]);
}

/* What the device's precision lets differ, as a share of all values together; 0: float32, value by value. */
static inline double device_tolerance(void) {
  const dft_ops *ops = device_ops();
  static const double tolerances[] = {[DFT_PRECISION_TF32] = 2e-3, [DFT_PRECISION_BFLOAT16] = 1.5e-2};
  return ops == NULL ? 0 : tolerances[ops->device->precision];
}

static inline void assert_near(const float *values, const float *expected, size_t count, double tolerance,
                               const char *what) {
  double off = 0, all = 0;
  if (device_tolerance() == 0) {
    assert_all_close(values, expected, count, tolerance, what);
    return;
  }
  for (size_t i = 0; i < count; i++) {
    off += pow((double)values[i] - (double)expected[i], 2);
    all += pow((double)expected[i], 2);
  }
  if (!(sqrt(off) <= device_tolerance() * sqrt(all) + 1e-6))
    fail_msg("%s: %g of %g is off", what, sqrt(off), sqrt(all));
}

static inline void assert_doubles_near(const double *values, const double *expected, size_t count,
                                       double tolerance, const char *what) {
  double off = 0, all = 0;
  if (device_tolerance() == 0) {
    assert_doubles_close(values, expected, count, tolerance, what);
    return;
  }
  for (size_t i = 0; i < count; i++) off += pow(values[i] - expected[i], 2), all += pow(expected[i], 2);
  if (!(sqrt(off) <= device_tolerance() * sqrt(all) + 1e-6))
    fail_msg("%s: %g of %g is off", what, sqrt(off), sqrt(all));
}

static inline void assert_bits(const void *values, const void *expected, size_t bytes, const char *what) {
  if (memcmp(values, expected, bytes) != 0) fail_msg("%s: bits differ", what);
}

/* Calls `check` with every set of this CPU (reference included), or, when asked for a device, with its set
 * alone. */
static inline void each_set(void (*check)(const dft_ops *ops)) {
  if (device_set() != NULL) {
    print_message("set %s\n", device_ops()->name);
    check(device_set());
    return;
  }
  for (int k = 0; k < DFT_KERNELS_COUNT; k++) {
    const dft_ops *ops = dft_ops_get((dft_kernels)k);
    if (ops == NULL) continue;
    print_message("set %s\n", ops->name);
    check(ops);
  }
}

static inline const dft_ops *reference(void) {
  return dft_ops_get(DFT_KERNELS_REFERENCE);
}

/* An operation that sums over samples: run fills out[nodes][values] for the samples of map, which begin at
 * map->begin. */
typedef struct summed {
  void (*run)(const struct summed *op, const dft_ops *ops, const dft_shard_map *map, void *out);
  const void *job;
  size_t values;
  bool doubles;
} summed;

static inline size_t value_bytes(const summed *op) {
  return op->values * (op->doubles ? sizeof(double) : sizeof(float));
}

/* The node over shards [first, first + size) out of all ranks' nodes, folded where no rank has it whole. */
static inline void fold_node(const summed *op, char *const *nodes, int s, int first, int size, char *out) {
  const char *whole = nodes[first * 32 + __builtin_ctz((unsigned)size)];
  if (whole != NULL) {
    memcpy(out, whole, value_bytes(op));
    return;
  }
  assert_true(size > 1);
  char *right = malloc(value_bytes(op));
  fold_node(op, nodes, s, first, size / 2, out);
  fold_node(op, nodes, s, first + size / 2, size / 2, right);
  for (size_t i = 0; i < op->values; i++) {
    if (op->doubles)
      ((double *)(void *)out)[i] += ((double *)(void *)right)[i];
    else
      ((float *)(void *)out)[i] += ((float *)(void *)right)[i];
  }
  free(right);
}

/* The sum over a batch of b samples in s shards as n ranks make it. */
static inline void sum_over_ranks(const summed *op, const dft_ops *ops, int s, int n, int64_t b, void *out) {
  char **nodes = calloc((size_t)s * 32, sizeof *nodes);
  dft_shard_map map = {0};
  for (int r = 0; r < n; r++) {
    assert_int_equal(dft_shard_map_set(&map, s, n, r, b), DFT_OK);
    char *sums = malloc(value_bytes(op) * (size_t)map.nodes);
    op->run(op, ops, &map, sums);
    for (int i = 0; i < map.nodes; i++) {
      const int first = (int)((int64_t)r * s / n) + map.node_first[i];
      const int size = map.node_first[i + 1] - map.node_first[i];
      char *node = malloc(value_bytes(op));
      memcpy(node, sums + value_bytes(op) * (size_t)i, value_bytes(op));
      nodes[first * 32 + __builtin_ctz((unsigned)size)] = node;
    }
    free(sums);
  }
  fold_node(op, nodes, s, 0, s, out);
  for (int i = 0; i < s * 32; i++) free(nodes[i]);
  free(nodes);
  dft_shard_map_free(&map);
}

/* The same bits for any number of ranks and threads; the result is left in `out`. */
static inline void check_sums(const summed *op, const dft_ops *ops, int64_t b, void *out) {
  static const int ranks[] = {1, 2, 3, 4, 5, 8};
  char *other = malloc(value_bytes(op));
  dft_ops_set_threads(1);
  sum_over_ranks(op, ops, 8, 1, b, out);
  const int most = device_ops() == NULL ? 3 : 1; /* a device has no threads of the host */
  for (int threads = 1; threads <= most; threads++)
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
      dft_ops_set_threads(threads);
      sum_over_ranks(op, ops, 8, ranks[i], b, other);
      if (memcmp(other, out, value_bytes(op)) != 0)
        fail_msg("%s: %d ranks of %d threads give other bits", ops->name, ranks[i], threads);
    }
  free(other);
}

#endif
