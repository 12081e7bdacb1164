/* Which training layers are fused. It depends on the shape alone, so that no bit depends on ranks or threads.
 */
#include "train.h"
#include "../tasks.h"
#include <string.h>

enum { FOLD_CHUNK = 512 }; /* values at a time: a tree of them stays in L1 */

/* sum[width] over shards [shard, shard + count) of parts that begin at part[0]. */
static void fold_doubles(const double *part, ptrdiff_t stride, const dft_shard_map *map, int shard, int count,
                         int width, double *sum) {
  if (count == 1) {
    memset(sum, 0, (size_t)width * sizeof *sum);
    for (int s = map->first[shard]; s < map->first[shard + 1]; s++)
#pragma omp simd
      for (int i = 0; i < width; i++) sum[i] += part[s * stride + i];
    return;
  }
  double right[FOLD_CHUNK];
  fold_doubles(part, stride, map, shard, count / 2, width, sum);
  fold_doubles(part, stride, map, shard + count / 2, count / 2, width, right);
#pragma omp simd
  for (int i = 0; i < width; i++) sum[i] += right[i];
}

/* sum[width] of `count` samples' parts, in float64, rounded once; part[count][stride]. */
static void sum_samples(const float *part, ptrdiff_t stride, int count, int width, float *sum) {
  enum { UNIT = 64 };
  for (int i = 0; i < width; i += UNIT) {
    const int unit = width - i < UNIT ? width - i : UNIT;
    double total[UNIT] = {0};
    for (int s = 0; s < count; s++)
      for (int v = 0; v < unit; v++) total[v] += (double)part[s * stride + i + v];
    for (int v = 0; v < unit; v++) sum[i + v] = (float)total[v];
  }
}

/* sum[width] over shards [shard, shard + count) of parts that begin at part[0]. In the tree sums are float32,
 * as between ranks. */
static void fold_floats(const float *part, ptrdiff_t stride, const dft_shard_map *map, int shard, int count,
                        int width, float *sum) {
  const int first = map->first[shard], samples = map->first[shard + count] - first;
  if (samples == 0) {
    memset(sum, 0, (size_t)width * sizeof *sum);
  } else if (count == 1) {
    sum_samples(part + first * stride, stride, samples, width, sum);
  } else {
    float right[FOLD_CHUNK];
    fold_floats(part, stride, map, shard, count / 2, width, sum);
    fold_floats(part, stride, map, shard + count / 2, count / 2, width, right);
    for (int i = 0; i < width; i++) sum[i] += right[i];
  }
}

/* Parts of samples, [samples][values], and where the nodes' sums go: doubles or floats. */
typedef struct fold_job {
  const dft_shard_map *map;
  int values, chunks;
  const double *doubles;
  double *double_sums;
  const float *floats;
  float *float_sums;
} fold_job;

static void fold_task(const void *context, int task) {
  const fold_job *job = context;
  const int node = task / job->chunks, first = task % job->chunks * FOLD_CHUNK;
  const int width = job->values - first < FOLD_CHUNK ? job->values - first : FOLD_CHUNK;
  const int shard = job->map->node_first[node], count = job->map->node_first[node + 1] - shard;
  const ptrdiff_t to = (ptrdiff_t)node * job->values + first;
  if (job->doubles != NULL)
    fold_doubles(job->doubles + first, job->values, job->map, shard, count, width, job->double_sums + to);
  else
    fold_floats(job->floats + first, job->values, job->map, shard, count, width, job->float_sums + to);
}

static void fold(fold_job job) {
  job.chunks = (job.values + FOLD_CHUNK - 1) / FOLD_CHUNK;
  dft_run_tasks(&(dft_tasks){fold_task, &job, job.map->nodes * job.chunks}, 1,
                dft_threads_for((int64_t)job.values * job.map->samples));
}

void DFT_SIMD(dft_fold_doubles)(const double *part, int values, const dft_shard_map *map, double *sums) {
  fold((fold_job){.map = map, .values = values, .doubles = part, .double_sums = sums});
}

void DFT_SIMD(dft_fold_floats)(const float *part, int values, const dft_shard_map *map, float *sums) {
  fold((fold_job){.map = map, .values = values, .floats = part, .float_sums = sums});
}

static bool small_product(const dft_train_conv *t) {
  return t->kind == DFT_POINTWISE && dft_train_weights(t->kind, &t->conv) <= DFT_TRAIN_SMALL &&
         t->conv.in_channels <= DFT_TRAIN_WIDEST && t->conv.channels <= DFT_TRAIN_WIDEST;
}

void DFT_SIMD(dft_train_forward)(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums) {
  if (small_product(t))
    DFT_SIMD(dft_train_pointwise)(t, z, sums);
  else if (!DFT_SIMD(dft_train_large)(ops, t, z, sums) && !DFT_SIMD(dft_train_depthwise)(t, z, sums) &&
           !DFT_SIMD(dft_train_stem)(t, z, sums))
    dft_train_forward_composed(ops, t, z, sums);
}

void DFT_SIMD(dft_train_backward)(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g) {
  if (small_product(t))
    DFT_SIMD(dft_train_pointwise_backward)(t, g);
  else if (!DFT_SIMD(dft_train_large_backward)(ops, t, g) && !DFT_SIMD(dft_train_depthwise_backward)(t, g) &&
           !DFT_SIMD(dft_train_stem_backward)(t, g))
    dft_train_backward_composed(ops, t, g);
}
