/* What reductions are tested against: node sums of made-up shards, and the serial tree over all of them. */
#ifndef DFT_TESTS_TREE_H
#define DFT_TESTS_TREE_H

#include "dft/reduce.h"
#include "world.h"
#include <math.h>

/* Magnitudes from 1e-4 to 1e4, so that another order of summation gives other bits. */
static double shard_value(int shard, int64_t i, int salt) {
  const uint64_t h =
      ((uint64_t)shard * 2654435761u + (uint64_t)i * 40503u + (uint64_t)salt * 97u) * 0x9e3779b97f4a7c15u;
  static const double scale[] = {1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1};
  return ((double)(h >> 40) / 256.0 - 32000.0) * scale[h % 9];
}

static double tree_f64(int first, int shards, int64_t i, int salt) {
  if (shards == 1) return shard_value(first, i, salt);
  return tree_f64(first, shards / 2, i, salt) + tree_f64(first + shards / 2, shards / 2, i, salt);
}

static float tree_f32(int first, int shards, int64_t i, int salt) {
  if (shards == 1) return (float)shard_value(first, i, salt);
  return tree_f32(first, shards / 2, i, salt) + tree_f32(first + shards / 2, shards / 2, i, salt);
}

static size_t width(dft_dtype type) {
  return type == DFT_F32 ? sizeof(float) : sizeof(double);
}

static void put(dft_dtype type, void *data, size_t at, int first, int shards, int64_t i, int salt) {
  if (type == DFT_F32)
    ((float *)data)[at] = tree_f32(first, shards, i, salt);
  else
    ((double *)data)[at] = tree_f64(first, shards, i, salt);
}

/* This rank's node sums. */
static void *make(dft_dtype type, int shards, size_t count, int salt) {
  dft_shard_map map = {0};
  OK(dft_shard_map_set(&map, shards, size, rank, shards));
  void *data = malloc((size_t)map.nodes * count * width(type));
  for (int node = 0; node < map.nodes; ++node)
    for (size_t i = 0; i < count; ++i)
      put(type, data, (size_t)node * count + i, (int)map.begin + map.node_first[node],
          map.node_first[node + 1] - map.node_first[node], (int64_t)i, salt);
  dft_shard_map_free(&map);
  return data;
}

static void check(dft_dtype type, int shards, size_t count, int salt, const void *data) {
  for (size_t i = 0; i < count; ++i) {
    double expected;
    put(type, &expected, 0, 0, shards, (int64_t)i, salt);
    CHECK(memcmp((const char *)data + i * width(type), &expected, width(type)) == 0,
          "%d shards, %zu of %zu, type %d", shards, i, count, (int)type);
  }
}

/* Two at once. */
static void reduce_both(dft_reducer *r, void *f32, void *f64, size_t count) {
  dft_reduction_handle *h32, *h64;
  OK(dft_reduce_start(r, DFT_F32, f32, count, &h32));
  OK(dft_reduce_start(r, DFT_F64, f64, count, &h64));
  OK(dft_reduce_poll(r));
  OK(dft_reduce_wait(r, h64));
  OK(dft_reduce_wait(r, h32));
}

/* Sums in any order, of `make` with the salts 1 and 2. */
static void check_close(int shards, const float *f32, const double *f64, size_t count) {
  for (int64_t i = 0; i < (int64_t)count; ++i) {
    CHECK(fabsf(f32[i] - tree_f32(0, shards, i, 1)) < 0.1f, "[%lld] is %g", (long long)i, (double)f32[i]);
    CHECK(fabs(f64[i] - tree_f64(0, shards, i, 2)) < 1e-9, "[%lld] is %g", (long long)i, f64[i]);
  }
}

/* Since the reducer's reset the rank that sent most has sent what is told of one such reduction. */
static void check_bytes_sent(const dft_reducer *r, dft_dtype type, int shards, size_t count) {
  int64_t sent = (int64_t)dft_reducer_stats(r).bytes_sent;
  OK(dft_comm_max(world, &sent));
  const uint64_t told = dft_reduce_bytes(size, shards, count * width(type));
  CHECK((uint64_t)sent == told, "%lld bytes sent, %llu told", (long long)sent, (unsigned long long)told);
}

#endif
