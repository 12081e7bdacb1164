/* The map of a batch onto shards, ranks and tree nodes, against its definition; selection of kernel sets. */
#include "kernel_test.h"

static void check_map(const dft_shard_map *map, int s, int n, int r, int64_t b) {
  int shard = 0, samples = 0;
  assert_int_equal(map->shards, (int64_t)(r + 1) * s / n - (int64_t)r * s / n);
  const int first_shard = (int)((int64_t)r * s / n);
  for (int64_t i = 0; i < b; i++) {
    const int owner = (int)(i * s / b);
    if (owner < first_shard || owner >= first_shard + map->shards) continue;
    if (samples == 0) assert_int_equal(map->begin, i);
    for (; shard < owner - first_shard; shard++) assert_true(map->first[shard + 1] <= samples);
    assert_true(map->first[shard] <= samples && samples < map->first[shard + 1]);
    samples++;
  }
  assert_int_equal(map->samples, samples);
  assert_int_equal(map->first[0], 0);
  assert_int_equal(map->first[map->shards], samples);

  assert_int_equal(map->node_first[0], 0);
  assert_int_equal(map->node_first[map->nodes], map->shards);
  int previous = 0;
  for (int i = 0; i < map->nodes; i++) {
    const int size = map->node_first[i + 1] - map->node_first[i];
    assert_true(size > 0 && (size & (size - 1)) == 0);
    assert_int_equal((first_shard + map->node_first[i]) % size, 0);
    if (i > 0 && previous == size) /* two siblings would be their parent */
      assert_int_not_equal((first_shard + map->node_first[i - 1]) % (2 * size), 0);
    previous = size;
  }
}

static void test_map_is_its_definition(void **state) {
  (void)state;
  static const int64_t batches[] = {0, 1, 2, 5, 7, 8, 10, 31, 100};
  dft_shard_map map = {0};
  for (int s = 1; s <= 64; s *= 2)
    for (int n = 1; n <= s; n++)
      for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        int64_t total = 0;
        for (int r = 0; r < n; r++) {
          assert_int_equal(dft_shard_map_set(&map, s, n, r, batches[i]), DFT_OK);
          check_map(&map, s, n, r, batches[i]);
          total += map.samples;
        }
        assert_int_equal(total, batches[i]);
      }
  dft_shard_map_free(&map);
  assert_null(map.first);
}

/* What is left keeps its order and its shard, at any number of ranks. */
static void test_leaving_out(void **state) {
  (void)state;
  enum { BATCH = 29 };
  dft_shard_map map = {0};
  for (int s = 1; s <= 64; s *= 4)
    for (int n = 1; n <= s && n <= 7; n++)
      for (int pattern = 0; pattern < 4; pattern++)
        for (int r = 0; r < n; r++) {
          assert_int_equal(dft_shard_map_set(&map, s, n, r, BATCH), DFT_OK);
          int64_t begin = map.begin;
          int first_shard = (int)((int64_t)r * s / n), samples = map.samples, expected[64] = {0}, left = 0;
          unsigned char bad[BATCH];
          for (int i = 0; i < samples; i++) {
            int64_t place = begin + i;
            bad[i] = pattern == 1 ? place % 3 == 0 : pattern == 2 ? place < 20 : pattern == 3;
            expected[place * s / BATCH - first_shard] += !bad[i];
            left += !bad[i];
          }
          dft_shard_map_leave_out(&map, bad);
          assert_int_equal(map.samples, left);
          assert_int_equal(map.begin, begin);
          assert_int_equal(map.first[0], 0);
          for (int j = 0; j < map.shards; j++) assert_int_equal(map.first[j + 1] - map.first[j], expected[j]);
        }
  dft_shard_map_free(&map);
}

static void test_most_nodes_fit(void **state) {
  (void)state;
  dft_shard_map map = {0};
  int most = 0;
  for (int n = 1; n <= 40; n++)
    for (int r = 0; r < n; r++) {
      assert_int_equal(dft_shard_map_set(&map, DFT_MAX_SHARDS, n, r, 1 << 30), DFT_OK);
      if (map.nodes > most) most = map.nodes;
    }
  assert_in_range(most, 10, DFT_MAX_NODES);
  dft_shard_map_free(&map);
}

static void refused(int s, int n, int r, int64_t b, dft_status code, const char *words) {
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, s, n, r, b), code);
  if (strstr(dft_error(), words) == NULL) fail_msg("'%s' lacks '%s'", dft_error(), words);
  dft_shard_map_free(&map);
}

static void test_errors(void **state) {
  (void)state;
  refused(6, 1, 0, 1, DFT_EUSAGE, "distributed.shards is 6: it must be a power of two");
  refused(0, 1, 0, 1, DFT_EUSAGE, "power of two");
  refused(8192, 1, 0, 1, DFT_EUSAGE, "from 1 to 4096");
  refused(8, 9, 0, 1, DFT_EUSAGE, "9 ranks share 8 shards");
  refused(8, 1, 0, INT64_C(1) << 40, DFT_EUSAGE, "batch of 1099511627776");
  refused(8, 2, 2, 1, DFT_EINTERNAL, "rank 2 of 2");
}

static void test_auto(void **state) {
  (void)state;
  assert_int_equal(dft_shards_auto(1), 8);
  assert_int_equal(dft_shards_auto(8), 8);
  assert_int_equal(dft_shards_auto(9), 16);
  assert_int_equal(dft_shards_auto(100), 128);
}

static void test_selection(void **state) {
  (void)state;
  dft_kernels kernels, best;
  unsetenv("DFT_KERNELS");
  assert_int_equal(dft_ops_best(&best), DFT_OK);
  assert_non_null(dft_ops_get(best));
  for (int k = 0; k < DFT_KERNELS_CUDA; k++) {
    static const char *const names[] = {"reference", "portable", "avx2", "avx512", "avx512bf16", "amx"};
    setenv("DFT_KERNELS", names[k], 1);
    const dft_status status = dft_ops_best(&kernels);
    const dft_ops *ops = dft_ops_get((dft_kernels)k);
    assert_int_equal(status, ops != NULL ? DFT_OK : DFT_EUSAGE);
    if (k != DFT_KERNELS_AVX512BF16) /* which Intel's CPUs may have, but not as their best */
      assert_int_equal(k <= (int)best, ops != NULL);
    if (ops == NULL) continue;
    assert_int_equal(kernels, k);
    assert_string_equal(ops->name, names[k]);
    /* No operation is missing, but for pairs, which a set has all of or none. */
    const void *entries[sizeof(dft_ops) / sizeof(void *)];
    const size_t first_pair = offsetof(dft_ops, train_pair_fits) / sizeof(void *),
                 last_pair = offsetof(dft_ops, train_pair_finish) / sizeof(void *);
    memcpy(entries, ops, sizeof *ops);
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
      if (i == offsetof(dft_ops, device) / sizeof(void *))
        assert_null(entries[i]); /* of device sets alone */
      else if (i >= first_pair && i <= last_pair)
        assert_int_equal(entries[i] == NULL, ops->train_pair_fits == NULL);
      else
        assert_non_null(entries[i]);
  }
  setenv("DFT_KERNELS", "avx1024", 1);
  assert_int_equal(dft_ops_best(&kernels), DFT_EUSAGE);
  assert_string_equal(
      dft_error(),
      "DFT_KERNELS=avx1024: no such kernels, use reference, portable, avx2, avx512, avx512bf16, amx or cuda");
  setenv("DFT_KERNELS", "cuda", 1); /* the device is the module's; the host has its best beside it */
  assert_int_equal(dft_ops_best(&kernels), DFT_OK);
  assert_int_equal(kernels, best);
  unsetenv("DFT_KERNELS");
  assert_null(dft_ops_get(DFT_KERNELS_CUDA));
  assert_null(dft_ops_get(DFT_KERNELS_COUNT));
}

static void test_threads(void **state) {
  (void)state;
  dft_ops_set_threads(3);
  assert_int_equal(dft_ops_threads(), 3);
  dft_ops_set_threads(0);
  assert_int_equal(dft_ops_threads(), 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_map_is_its_definition),
      cmocka_unit_test(test_leaving_out),
      cmocka_unit_test(test_most_nodes_fit),
      cmocka_unit_test(test_errors),
      cmocka_unit_test(test_auto),
      cmocka_unit_test(test_selection),
      cmocka_unit_test(test_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
