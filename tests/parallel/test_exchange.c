/* Reductions of buffers in a device's memory, by NCCL and through the host: the bits of the serial tree, as
 * the host's own. The device and NCCL are those that tests/cuda/host plays, slowed down so that what is not
 * waited for is not there yet. */
#include "dft/buckets.h"
#include "dft/device.h"
#include "dft/ops.h"
#include "tree.h"
#include <unistd.h>

static const dft_device *device;

/* Node sums on the device. */
static void *put_there(dft_dtype type, int shards, size_t count, int salt, void *there) {
  dft_shard_map map = {0};
  OK(dft_shard_map_set(&map, shards, size, rank, shards));
  const size_t bytes = (size_t)map.nodes * count * width(type);
  dft_shard_map_free(&map);
  void *here = make(type, shards, count, salt);
  if (there == NULL) OK(device->alloc(bytes, &there));
  device->upload(there, here, bytes);
  OK(device->finish());
  free(here);
  return there;
}

/* What reductions wait for is enqueued work: a peer's part may still be missing, so nobody may block. */
static void check_there(dft_reducer *r, dft_dtype type, int shards, size_t count, int salt,
                        const void *there) {
  void *here = malloc(count * width(type));
  device->download(here, there, count * width(type));
  OK(dft_reducer_finish(r));
  check(type, shards, count, salt, here);
  free(here);
}

static void sums_have_the_bits_of_the_tree(int shards) {
  static const size_t counts[] = {1, 7, 1000, 20003};
  dft_reducer *r = NULL;
  OK(dft_reducer_new(world, shards, true, device, &r));
  CHECK(dft_reducer_device(r) == device, " ");
  for (int type = DFT_F32; type <= DFT_F64; ++type)
    for (int c = 0; c < 4; ++c) {
      void *data = put_there((dft_dtype)type, shards, counts[c], c, NULL);
      dft_reducer_reset(r);
      OK(dft_reduce(r, (dft_dtype)type, data, counts[c]));
      check_there(r, (dft_dtype)type, shards, counts[c], c, data);
      device->free(data);
      check_bytes_sent(r, (dft_dtype)type, shards, counts[c]);
    }
  dft_reducer_free(r);
}

static void several_are_under_way_at_once(void) {
  enum { COUNT = 6 };
  static const size_t counts[COUNT] = {3, 20000, 1, 4096, 9001, 17};
  static const int order[COUNT] = {4, 0, 2, 5, 1, 3};
  const int shards = dft_shards_auto(size);
  dft_reducer *r = NULL;
  void *data[COUNT] = {0};
  OK(dft_reducer_new(world, shards, true, device, &r));
  for (int round = 0; round < 2; ++round) {
    dft_reduction_handle *handle[COUNT];
    for (int k = 0; k < COUNT; ++k) {
      const dft_dtype type = k % 3 == 2 ? DFT_F64 : DFT_F32;
      data[k] = put_there(type, shards, counts[k], k + round, data[k]);
    }
    for (int k = 0; k < COUNT; ++k) {
      OK(dft_reduce_start(r, k % 3 == 2 ? DFT_F64 : DFT_F32, data[k], counts[k], &handle[k]));
      for (int poll = 0; poll < (rank * 7 + k) % 5; ++poll) OK(dft_reduce_poll(r));
    }
    for (int k = 0; k < COUNT; ++k) OK(dft_reduce_wait(r, handle[order[(k + rank) % COUNT]]));
    for (int k = 0; k < COUNT; ++k)
      check_there(r, k % 3 == 2 ? DFT_F64 : DFT_F32, shards, counts[k], k + round, data[k]);
  }
  for (int k = 0; k < COUNT; ++k) device->free(data[k]);
  dft_reducer_free(r);
}

static void fast_is_close(void) {
  enum { COUNT = 5000 };
  const int shards = dft_shards_auto(size);
  dft_reducer *r = NULL;
  OK(dft_reducer_new(world, shards, false, device, &r));
  void *a = put_there(DFT_F32, shards, COUNT, 1, NULL), *b = put_there(DFT_F64, shards, COUNT, 2, NULL);
  reduce_both(r, a, b, COUNT);
  static float f32[COUNT];
  static double f64[COUNT];
  device->download(f32, a, sizeof f32);
  device->download(f64, b, sizeof f64);
  OK(dft_reducer_finish(r));
  check_close(shards, f32, f64, COUNT);
  device->free(a);
  device->free(b);
  dft_reducer_free(r);
}

/* A step that was recorded gives the sums of what its buffers hold then, also after larger ones have come. */
static void recorded_reductions_are_replayed(void) {
  enum { SMALL = 999, LARGE = 9001, LARGER = 30000 };
  const int shards = dft_shards_auto(size);
  dft_reducer *r = NULL;
  dft_graph *graph = NULL;
  OK(dft_reducer_new(world, shards, true, device, &r));
  void *small = put_there(DFT_F64, shards, SMALL, 0, NULL),
       *large = put_there(DFT_F32, shards, LARGE, 0, NULL);
  void *larger = put_there(DFT_F32, shards, LARGER, 0, NULL);
  for (int recording = 0; recording < 2; ++recording) {
    dft_reduction_handle *hs, *hl;
    if (recording) OK(device->record());
    OK(dft_reduce_start(r, DFT_F32, large, LARGE, &hl));
    OK(dft_reduce_start(r, DFT_F64, small, SMALL, &hs));
    OK(dft_reduce_wait(r, hs));
    OK(dft_reduce_wait(r, hl));
    if (recording) OK(device->recorded(&graph));
  }
  OK(dft_reducer_finish(r));
  for (int round = 1; round < 4; ++round) {
    put_there(DFT_F64, shards, SMALL, round, small);
    put_there(DFT_F32, shards, LARGE, round + 10, large);
    device->replay(graph);
    check_there(r, DFT_F64, shards, SMALL, round, small);
    check_there(r, DFT_F32, shards, LARGE, round + 10, large);
    put_there(DFT_F32, shards, LARGER, round, larger);
    OK(dft_reduce(r, DFT_F32, larger, LARGER));
    check_there(r, DFT_F32, shards, LARGER, round, larger);
  }
  device->graph_free(graph);
  device->free(small);
  device->free(large);
  device->free(larger);
  dft_reducer_free(r);
}

static void buckets_are_on_the_device(void) {
  enum { TENSORS = 4, NODES = DFT_MAX_NODES };
  static const int64_t elements[TENSORS] = {5, 3000, 7, 11000};
  const int shards = dft_shards_auto(size);
  dft_reducer *r = NULL;
  dft_buckets *b = NULL;
  dft_shard_map map = {0};
  OK(dft_shard_map_set(&map, shards, size, rank, shards));
  OK(dft_reducer_new(world, shards, true, device, &r));
  OK(dft_buckets_new(r, map.nodes, elements, TENSORS, 16384, false, &b));
  for (int t = 0; t < TENSORS; ++t) {
    const size_t count = (size_t)elements[t];
    size_t stride;
    float *here = make(DFT_F32, shards, count, t), *there = dft_buckets_at(b, t, &stride);
    for (int node = 0; node < map.nodes; ++node)
      device->upload(there + (size_t)node * stride, here + (size_t)node * count, count * sizeof *here);
    OK(device->finish());
    free(here);
  }
  for (int t = 0; t < TENSORS; ++t) OK(dft_buckets_ready(b, t));
  OK(dft_buckets_wait(b));
  for (int t = 0; t < TENSORS; ++t) {
    size_t stride;
    check_there(r, DFT_F32, shards, (size_t)elements[t], t, dft_buckets_at(b, t, &stride));
  }
  dft_buckets_free(b);
  dft_reducer_free(r);
  dft_shard_map_free(&map);
}

static void all_of_it(void) {
  for (int shards = 8; shards <= 64; shards *= shards == 16 ? 4 : 2)
    if (shards >= size) sums_have_the_bits_of_the_tree(shards);
  several_are_under_way_at_once();
  fast_is_close();
  buckets_are_on_the_device();
}

/* The module beside this program. */
static const dft_cuda_interface *open_module(void) {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 64);
  if (length <= 0) return NULL;
  path[length] = '\0';
  snprintf(strrchr(path, '/') + 1, 32, "dft_cuda_host.so");
  setenv("DFT_CUDA_MODULE", path, 0);
  setenv("DFT_HOST_CUDA", "devices=8,slow_us=20", 0);
  return dft_device_module(NULL);
}

int main(void) {
  const dft_cuda_interface *module = open_module();
  const char *why = "";
  if (module == NULL) {
    (void)dft_device_module(&why);
    printf("SKIPPED: %s\n", why);
    return 77;
  }
  open_world(30);
  const dft_ops *ops = NULL;
  OK(module->open(dft_comm_local_rank(world) % module->devices(), DFT_PRECISION_FLOAT32, &ops));
  device = ops->device;
  all_of_it(); /* through the host; alone: not at all */
  OK(dft_comm_use_nccl(world, module->nccl));
  CHECK(dft_comm_has_nccl(world) == (size > 1), " ");
  all_of_it();
  recorded_reductions_are_replayed();
  dft_comm_close(world, 0);
  return 0;
}
