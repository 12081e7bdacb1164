/* The ordered reduction: the bits of the serial shard tree on every rank, for any number of ranks. */
#include "dft/buckets.h"
#include "dft/clock.h"
#include "dft/reduce.h"
#include "tree.h"
#include <math.h>

static void sums_have_the_bits_of_the_tree(int shards) {
  static const size_t counts[] = {1, 7, 1000, 100003};
  dft_reducer *r = NULL;
  OK(dft_reducer_new(world, shards, true, NULL, &r));
  for (int type = DFT_F32; type <= DFT_F64; ++type)
    for (int c = 0; c < 4; ++c) {
      if (counts[c] > 1000 && shards > 16) continue; /* the reference takes long */
      void *data = make((dft_dtype)type, shards, counts[c], c);
      dft_reducer_reset(r);
      OK(dft_reduce(r, (dft_dtype)type, data, counts[c]));
      check((dft_dtype)type, shards, counts[c], c, data);
      free(data);
      check_bytes_sent(r, (dft_dtype)type, shards, counts[c]);
    }
  dft_reducer_free(r);
}

/* Of each rank the part that is its own; what others have of it is checked there. */
static void parts_have_the_bits_of_the_tree(int shards) {
  static const size_t counts[] = {5, 1000, 30011};
  dft_reducer *r = NULL;
  OK(dft_reducer_new(world, shards, true, NULL, &r));
  for (int type = DFT_F32; type <= DFT_F64; ++type)
    for (int c = 0; c < 3; ++c) {
      char *data = make((dft_dtype)type, shards, counts[c], c);
      dft_reduction_handle *handle = NULL;
      size_t first = 0;
      OK(dft_reduce_start_part(r, (dft_dtype)type, data, counts[c], &handle));
      OK(dft_reduce_wait(r, handle));
      const size_t count = dft_reduce_part(r, (dft_dtype)type, counts[c], &first);
      double all = (double)count, expected;
      OK(dft_comm_sum_f64(world, &all, 1));
      CHECK(all == (double)counts[c], "%.0f elements", all);
      for (size_t i = first; i < first + count; ++i) {
        put((dft_dtype)type, &expected, 0, 0, shards, (int64_t)i, c);
        CHECK(memcmp(data + i * width((dft_dtype)type), &expected, width((dft_dtype)type)) == 0,
              "%d shards, part %zu, type %d", shards, i, type);
      }
      free(data);
    }
  dft_reducer_free(r);
}

/* Tensors in parted buckets: as above, and each element of each tensor is some rank's. */
static void buckets_are_parted(void) {
  enum { TENSORS = 5 };
  static const int64_t elements[TENSORS] = {5, 3000, 7, 11000, 9000};
  const int shards = dft_shards_auto(size);
  dft_reducer *r = NULL;
  dft_buckets *b = NULL;
  dft_shard_map map = {0};
  OK(dft_shard_map_set(&map, shards, size, rank, shards));
  OK(dft_reducer_new(world, shards, true, NULL, &r));
  OK(dft_buckets_new(r, map.nodes, elements, TENSORS, 50000, true, &b));
  for (int t = 0; t < TENSORS; ++t) {
    const size_t count = (size_t)elements[t];
    size_t stride;
    float *here = make(DFT_F32, shards, count, t), *there = dft_buckets_at(b, t, &stride);
    for (int node = 0; node < map.nodes; ++node)
      memcpy(there + (size_t)node * stride, here + (size_t)node * count, count * sizeof *here);
    free(here);
  }
  for (int t = 0; t < TENSORS; ++t) OK(dft_buckets_ready(b, t));
  OK(dft_buckets_wait(b));
  for (int t = 0; t < TENSORS; ++t) {
    size_t stride;
    int64_t first;
    const int64_t count = dft_buckets_part(b, t, &first);
    const float *totals = dft_buckets_at(b, t, &stride);
    double all = (double)count;
    OK(dft_comm_sum_f64(world, &all, 1));
    CHECK(all == (double)elements[t], "tensor %d: %.0f elements", t, all);
    for (int64_t i = first; i < first + count; ++i)
      CHECK(totals[i] == tree_f32(0, shards, i, t), "tensor %d, [%lld]", t, (long long)i);
  }
  dft_buckets_free(b);
  dft_reducer_free(r);
  dft_shard_map_free(&map);
}

/* Ranks tell by the hash whether they plan the same buckets: it must see sizes, their order and the limit. */
static void plans_have_a_hash(void) {
  enum { TENSORS = 3, PLANS = 5 };
  static const struct {
    int64_t elements[TENSORS], bucket_bytes;
  } plans[PLANS] = {{{500, 200, 300}, 4000},
                    {{500, 201, 300}, 4000},
                    {{200, 500, 300}, 4000},
                    {{500, 200, 300}, 3000},
                    {{500, 200, 300}, 4000}};
  uint64_t hash[PLANS];
  dft_reducer *r = NULL;
  OK(dft_reducer_new(world, dft_shards_auto(size), true, NULL, &r));
  for (int p = 0; p < PLANS; ++p) {
    dft_buckets *b = NULL;
    OK(dft_buckets_new(r, 1 + p % 2, plans[p].elements, TENSORS, plans[p].bucket_bytes, false, &b));
    hash[p] = dft_buckets_hash(b);
    dft_buckets_free(b);
    for (int q = 0; q < p; ++q)
      CHECK((hash[p] == hash[q]) == (q == 0 && p == PLANS - 1), "plans %d and %d", p, q);
  }
  dft_reducer_free(r);
}

static void several_are_under_way_at_once(void) {
  enum { COUNT = 9 };
  static const size_t counts[COUNT] = {3, 20000, 1, 4096, 50001, 17, 8192, 1000, 2};
  static const int order[COUNT] = {4, 0, 8, 2, 7, 1, 6, 3, 5};
  const int shards = dft_shards_auto(size);
  dft_reducer *r = NULL;
  OK(dft_reducer_new(world, shards, true, NULL, &r));
  for (int round = 0; round < 3; ++round) {
    void *data[COUNT];
    dft_reduction_handle *handle[COUNT];
    for (int k = 0; k < COUNT; ++k) {
      data[k] = make(k % 3 == 2 ? DFT_F64 : DFT_F32, shards, counts[k], k + round);
      OK(dft_reduce_start(r, k % 3 == 2 ? DFT_F64 : DFT_F32, data[k], counts[k], &handle[k]));
      for (int poll = 0; poll < (rank * 7 + k) % 5; ++poll) OK(dft_reduce_poll(r));
    }
    /* every rank waits in another order */
    for (int k = 0; k < COUNT; ++k) OK(dft_reduce_wait(r, handle[order[(k + rank * (round + 1)) % COUNT]]));
    for (int k = 0; k < COUNT; ++k) {
      check(k % 3 == 2 ? DFT_F64 : DFT_F32, shards, counts[k], k + round, data[k]);
      free(data[k]);
    }
  }
  dft_reducer_free(r);
}

static void tags_wrap(void) {
  const int shards = dft_shards_auto(size);
  dft_reducer *r = NULL;
  OK(dft_reducer_new(world, shards, true, NULL, &r));
  for (int i = 0; i < 4200 / (size > 4 ? 4 : 1); ++i) {
    double total[DFT_MAX_NODES];
    void *data = make(DFT_F64, shards, 1, i);
    OK(dft_reduce(r, DFT_F64, data, 1));
    put(DFT_F64, total, 0, 0, shards, 0, i);
    CHECK(*(double *)data == total[0], "round %d", i);
    free(data);
  }
  dft_reducer_free(r);
}

static void seed_phase_two_costs_what_a_ring_costs(void) {
  const uint64_t bytes = 4200000;
  const double sent = (double)dft_reduce_bytes(size, dft_shards_auto(size), bytes);
  if ((size & (size - 1)) == 0)
    CHECK(fabs(sent - 2.0 * (size - 1) / size * (double)bytes) <= 64.0 * size, "%.0f bytes", sent);
  else
    CHECK(sent <= 2.4 * (double)bytes + 1024, "%.0f bytes", sent);
}

static void fast_is_close(void) {
  enum { COUNT = 5000 };
  const int shards = dft_shards_auto(size);
  dft_reducer *r = NULL;
  OK(dft_reducer_new(world, shards, false, NULL, &r));
  float *a = make(DFT_F32, shards, COUNT, 1);
  double *b = make(DFT_F64, shards, COUNT, 2);
  reduce_both(r, a, b, COUNT);
  check_close(shards, a, b, COUNT);
  free(a);
  free(b);
  dft_reducer_free(r);
}

static void more_ranks_than_shards_are_refused(void) {
  dft_reducer *r = NULL;
  if (size > 1)
    CHECK(dft_reducer_new(world, size > 2 ? 2 : 1, true, NULL, &r) == DFT_EUSAGE && r == NULL, " ");
  CHECK(dft_reducer_new(world, 12, true, NULL, &r) == DFT_EUSAGE && r == NULL, " ");
}

int main(void) {
  open_world(30);
  for (int shards = 8; shards <= 64; shards *= shards == 16 ? 4 : 2)
    if (shards >= size) {
      sums_have_the_bits_of_the_tree(shards);
      parts_have_the_bits_of_the_tree(shards);
    }
  buckets_are_parted();
  plans_have_a_hash();
  several_are_under_way_at_once();
  tags_wrap();
  seed_phase_two_costs_what_a_ring_costs();
  fast_is_close();
  more_ranks_than_shards_are_refused();
  dft_comm_close(world, 0);
  return 0;
}
