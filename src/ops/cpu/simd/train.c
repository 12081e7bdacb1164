/* Which training layers are fused. It depends on the shape alone, so that no bit depends on ranks or threads.
 */
#include "train.h"
#include "../tasks.h"
#include <string.h>

enum { FOLD_CHUNK = 512 }; /* values at a time: a tree of them stays in L1 */

typedef struct doubles_job {
  const double *part;
  int values, chunks;
  const dft_shard_map *map;
  double *sums;
} doubles_job;

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

static void doubles_task(const void *context, int task) {
  const doubles_job *job = context;
  const int node = task / job->chunks, at = task % job->chunks * FOLD_CHUNK;
  const int width = job->values - at < FOLD_CHUNK ? job->values - at : FOLD_CHUNK;
  const int shard = job->map->node_first[node];
  fold_doubles(job->part + at, job->values, job->map, shard, job->map->node_first[node + 1] - shard, width,
               job->sums + (ptrdiff_t)node * job->values + at);
}

void DFT_SIMD(dft_fold_doubles)(const double *part, int values, const dft_shard_map *map, double *sums) {
  const int chunks = (values + FOLD_CHUNK - 1) / FOLD_CHUNK;
  const doubles_job job = {part, values, chunks, map, sums};
  dft_run_tasks(&(dft_tasks){doubles_task, &job, map->nodes * chunks}, 1,
                dft_threads_for((int64_t)values * map->samples));
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
static void fold_subtree(const float *part, ptrdiff_t stride, const dft_shard_map *map, int shard, int count,
                         int width, float *sum) {
  const int first = map->first[shard], samples = map->first[shard + count] - first;
  if (samples == 0) {
    memset(sum, 0, (size_t)width * sizeof *sum);
  } else if (count == 1) {
    sum_samples(part + first * stride, stride, samples, width, sum);
  } else {
    float right[FOLD_CHUNK];
    fold_subtree(part, stride, map, shard, count / 2, width, sum);
    fold_subtree(part, stride, map, shard + count / 2, count / 2, width, right);
    for (int i = 0; i < width; i++) sum[i] += right[i];
  }
}

typedef struct floats_job {
  const float *part;
  int values, chunks;
  const dft_shard_map *map;
  float *sums;
} floats_job;

static void chunk_task(const void *context, int task) {
  const floats_job *job = context;
  const int node = task / job->chunks, at = task % job->chunks * FOLD_CHUNK;
  const int width = job->values - at < FOLD_CHUNK ? job->values - at : FOLD_CHUNK;
  const int shard = job->map->node_first[node];
  fold_subtree(job->part + at, job->values, job->map, shard, job->map->node_first[node + 1] - shard, width,
               job->sums + (ptrdiff_t)node * job->values + at);
}

void DFT_SIMD(dft_fold_floats)(const float *part, int values, const dft_shard_map *map, float *sums) {
  const int chunks = (values + FOLD_CHUNK - 1) / FOLD_CHUNK;
  const floats_job job = {part, values, chunks, map, sums};
  dft_run_tasks(&(dft_tasks){chunk_task, &job, map->nodes * chunks}, 1,
                dft_threads_for((int64_t)values * map->samples));
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
