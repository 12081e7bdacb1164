/* Sums over samples, in the one order of ops.h: a shard's rows in chunks, its chunks in groups, its groups in
 * order, then the shards of each node in the tree. */
#include "device.h"

#include <string.h>

enum { GROUP = 16, UNGROUPED = 32 };

/* ---- the map's bounds on the device ---- */

enum { BOUNDS = DFT_MAX_SHARDS + 1 + DFT_MAX_NODES + 1 };

static int *bounds_host, *bounds_device; /* first[shards + 1], node_first[nodes + 1] */
static int bounds_count;
static cudaEvent_t bounds_there;

static int fill(const dft_shard_map *map, int *to) {
  memcpy(to, map->first, (size_t)(map->shards + 1) * sizeof *to);
  memcpy(to + map->shards + 1, map->node_first, (size_t)(map->nodes + 1) * sizeof *to);
  return map->shards + map->nodes + 2;
}

static bool bounds_ready(void) {
  void *memory;
  if (bounds_device != nullptr) return true;
  if (cuda.recording) {
    dft_cuda_keep("GPU: a map is used for the first time in a recorded step");
    return false;
  }
  if (dft_cuda_host_alloc(BOUNDS * sizeof(int), &memory) != DFT_OK) goto failed;
  bounds_host = (int *)memory;
  if (!dft_cuda_event(&bounds_there)) return false;
  if (dft_cuda_alloc(BOUNDS * sizeof(int), &memory) != DFT_OK) goto failed;
  bounds_device = (int *)memory;
  return true;
failed:
  dft_cuda_keep("GPU: no memory for a map's bounds");
  return false;
}

static void use_map(const dft_shard_map *map) {
  int wanted[BOUNDS];
  const int count = fill(map, wanted);
  if (!bounds_ready()) return;
  if (count == bounds_count && memcmp(wanted, bounds_host, (size_t)count * sizeof *wanted) == 0) return;
  if (cuda.recording) {
    dft_cuda_keep("GPU: another map is used in a recorded step");
    return;
  }
  /* The last upload may still be reading. */
  if (bounds_count > 0 && !dft_cuda_wait_event(bounds_there, "waiting for a map")) return;
  memcpy(bounds_host, wanted, (size_t)count * sizeof *wanted);
  bounds_count = count;
  dft_cuda_check(cudaMemcpyAsync(bounds_device, bounds_host, (size_t)count * sizeof *wanted,
                                 cudaMemcpyHostToDevice, cuda.stream),
                 "uploading a map");
  dft_cuda_check(cudaEventRecord(bounds_there, cuda.stream), "uploading a map");
}

dft_chunks dft_cuda_chunks(const dft_shard_map *map, int pixels, int least, int most, int target) {
  use_map(map);
  dft_chunks c = {pixels, least, most, target, map->shards, 1, bounds_device};
  for (int s = 0; s < map->shards; s++) {
    const int64_t rows = (int64_t)(map->first[s + 1] - map->first[s]) * pixels;
    const int64_t size = dft_chunk_rows(c, rows), slots = (rows + size - 1) / size;
    if (slots > c.slots) c.slots = (int)slots;
  }
  return c;
}

/* ---- scratch: grows outside of recordings; what recorded steps use stays ---- */

static char *scratch;
static size_t scratch_bytes;

static bool scratch_for(size_t bytes) {
  void *memory;
  if (bytes <= scratch_bytes) return true;
  if (cuda.recording) {
    dft_cuda_keep("GPU: a recorded step needs %zu bytes of scratch, more than when it ran unrecorded", bytes);
    return false;
  }
  if (bytes < 2 * scratch_bytes) bytes = 2 * scratch_bytes;
  if (dft_cuda_alloc(bytes, &memory) != DFT_OK) {
    dft_cuda_keep("GPU: no memory for partial sums (%zu bytes, %zu are free); lower data.batch_size", bytes,
                  cuda.device.free_bytes());
    return false;
  }
  scratch = (char *)memory;
  scratch_bytes = bytes;
  return true;
}

static int groups_of(const dft_chunks &c) {
  return c.slots <= UNGROUPED ? 1 : (c.slots + GROUP - 1) / GROUP;
}

float *dft_cuda_partials(const dft_chunks &c, int64_t width) {
  const size_t floats = dft_cuda_round_up((size_t)dft_chunk_count(c) * (size_t)width * sizeof(float));
  const size_t doubles =
      dft_cuda_round_up((size_t)c.shards * (size_t)groups_of(c) * (size_t)width * sizeof(double));
  const size_t shards = dft_cuda_round_up((size_t)c.shards * (size_t)width * sizeof(double));
  return scratch_for(floats + doubles + shards) ? (float *)(void *)scratch : nullptr;
}

/* sums[shard][group][width] = the group's chunks in order; with one group, all of them */
struct group_kernel {
  dft_chunks c;
  const float *partials;
  int width, groups, each;
  double *sums;
  __device__ void operator()(int64_t i) const {
    int64_t at, shard;
    const int element = dft_divide(i, width, &at), group = dft_divide(at, groups, &shard);
    const int64_t rows = (int64_t)(c.first[shard + 1] - c.first[shard]) * c.pixels;
    const int64_t size = dft_chunk_rows(c, rows), count = (rows + size - 1) / size;
    const int64_t from = (int64_t)group * each, to = from + each < count ? from + each : count;
    const float *p = partials + (shard * c.slots + from) * width + element;
    double sum = 0;
    for (int64_t chunk = from; chunk < to; chunk++, p += width) sum += (double)*p;
    sums[i] = sum;
  }
};

struct shard_kernel {
  const double *sums;
  int width, groups;
  double *shards;
  __device__ void operator()(int64_t i) const {
    int64_t shard;
    const int element = dft_divide(i, width, &shard);
    const double *p = sums + shard * groups * width + element;
    double sum = 0;
    for (int g = 0; g < groups; g++, p += width) sum += *p;
    shards[i] = sum;
  }
};

/* The node's shards, folded as a counter in base two carries. */
template <typename T> struct node_kernel {
  const double *shards;
  const int *node_first;
  int width;
  T *out;
  __device__ void operator()(int64_t i) const {
    int64_t node;
    const int element = dft_divide(i, width, &node);
    const int from = node_first[node], to = node_first[node + 1];
    T level[DFT_CUDA_LEVELS];
    int top = 0;
    for (int shard = from; shard < to; shard++) {
      level[top++] = (T)shards[(int64_t)shard * width + element];
      for (int done = shard - from; done & 1; done >>= 1, top--) level[top - 2] += level[top - 1];
    }
    out[i] = level[0];
  }
};

void dft_cuda_fold(const dft_chunks &c, const dft_shard_map *map, const float *partials, int width,
                   double *out64, float *out32) {
  const int groups = groups_of(c), each = groups == 1 ? c.slots : GROUP;
  char *after = scratch + dft_cuda_round_up((size_t)dft_chunk_count(c) * (size_t)width * sizeof(float));
  double *sums = (double *)(void *)after;
  dft_launch("chunks' sums", (int64_t)c.shards * groups * width,
             group_kernel{c, partials, width, groups, each, sums});
  double *shards = sums;
  if (groups > 1) {
    after += dft_cuda_round_up((size_t)c.shards * (size_t)groups * (size_t)width * sizeof(double));
    shards = (double *)(void *)after;
    dft_launch("shards' sums", (int64_t)c.shards * width, shard_kernel{sums, width, groups, shards});
  }
  const int *node_first = c.first + map->shards + 1;
  if (out64 != nullptr)
    dft_launch("nodes' sums", (int64_t)map->nodes * width,
               node_kernel<double>{shards, node_first, width, out64});
  else
    dft_launch("nodes' sums", (int64_t)map->nodes * width,
               node_kernel<float>{shards, node_first, width, out32});
}

void dft_cuda_table_reduce(void) {
  cuda.device.use_map = use_map;
}
