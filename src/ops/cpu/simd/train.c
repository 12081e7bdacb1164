/* Which training layers are fused. It depends on the shape alone, so that no bit depends on ranks or threads.
 */
#include "train.h"
#include "../sums.h"

typedef struct fold_job {
  const double *doubles;
  const float *floats;
  int values;
} fold_job;

static void double_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const fold_job *job = context;
  for (int s = first; s < first + count; s++) {
    const double *part = job->doubles + (size_t)s * job->values + channel;
    for (int i = 0; i < width; i++) sums[i] += part[i];
  }
}

static void float_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const fold_job *job = context;
  for (int s = first; s < first + count; s++) {
    const float *part = job->floats + (size_t)s * job->values + channel;
    for (int i = 0; i < width; i++) sums[i] += (double)part[i];
  }
}

void DFT_SIMD(dft_fold_doubles)(const double *part, int values, const dft_shard_map *map, double *sums) {
  const fold_job job = {.doubles = part, .values = values};
  const dft_sums s = {
      .leaf = double_leaf, .job = &job, .values = 1, .c = values, .work = values, .out64 = sums};
  dft_sum_shards(&s, map);
}

void DFT_SIMD(dft_fold_floats)(const float *part, int values, const dft_shard_map *map, float *sums) {
  const fold_job job = {.floats = part, .values = values};
  const dft_sums s = {
      .leaf = float_leaf, .job = &job, .values = 1, .c = values, .work = values, .out32 = sums};
  dft_sum_shards(&s, map);
}

static bool small_product(const dft_train_conv *t) {
  return t->kind == DFT_POINTWISE && dft_train_weights(t->kind, &t->conv) <= DFT_TRAIN_SMALL &&
         t->conv.in_channels <= DFT_TRAIN_WIDEST && t->conv.channels <= DFT_TRAIN_WIDEST;
}

void DFT_SIMD(dft_train_forward)(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums) {
  if (small_product(t))
    DFT_SIMD(dft_train_pointwise)(t, z, sums);
  else if (!DFT_SIMD(dft_train_large)(ops, t, z, sums) && !DFT_SIMD(dft_train_depthwise)(t, z, sums))
    dft_train_forward_composed(ops, t, z, sums);
}

void DFT_SIMD(dft_train_backward)(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g) {
  if (small_product(t))
    DFT_SIMD(dft_train_pointwise_backward)(t, g);
  else if (!DFT_SIMD(dft_train_large_backward)(ops, t, g) && !DFT_SIMD(dft_train_depthwise_backward)(t, g))
    dft_train_backward_composed(ops, t, g);
}
