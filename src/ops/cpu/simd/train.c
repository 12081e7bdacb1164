/* Which training layers are fused. It depends on the shape alone, so that no bit depends on ranks or threads.
 */
#include "train.h"
#include "../sums.h"
#include "gemm_panel.h"

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

/* Large products over the whole batch: they hide what goes before and after. */
static bool large_forward(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums) {
  const int k = t->conv.in_channels, n = t->conv.channels, pixels = t->conv.in_h * t->conv.in_w;
  if (t->kind != DFT_POINTWISE || !DFT_SIMD(dft_gemm_direct_fits)(k, n)) return false;
  const float *x = dft_train_input(ops, t);
  DFT_SIMD(dft_gemm_direct)(x, t->weight, false, z, t->map->samples * pixels, k, n, NULL);
  if (sums != NULL) ops->bn_sums(z, pixels, n, t->map, sums);
  return true;
}

static bool large_backward(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g) {
  const int k = t->conv.in_channels, n = t->conv.channels, pixels = t->conv.in_h * t->conv.in_w;
  if (t->kind != DFT_POINTWISE || !DFT_SIMD(dft_gemm_direct_fits)(k, n)) return false;
  const float *dz = dft_train_dz(ops, t, g);
  if (g->dw != NULL) ops->gemm_dw(dft_train_input(ops, t), dz, pixels, k, n, t->map, g->dw);
  if (g->dx == NULL) return true;
  DFT_SIMD(dft_gemm_direct)(dz, t->weight, true, g->dx, t->map->samples * pixels, n, k, g->skip);
  if (g->below_sums != NULL)
    ops->bn_backward_sums(g->dx, g->below_z, g->below_norm, pixels, k, t->map, g->below_sums);
  return true;
}

void DFT_SIMD(dft_train_forward)(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums) {
  if (small_product(t))
    DFT_SIMD(dft_train_pointwise)(t, z, sums);
  else if (!large_forward(ops, t, z, sums) && !DFT_SIMD(dft_train_depthwise)(t, z, sums))
    dft_train_forward_composed(ops, t, z, sums);
}

void DFT_SIMD(dft_train_backward)(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g) {
  if (small_product(t))
    DFT_SIMD(dft_train_pointwise_backward)(t, g);
  else if (!large_backward(ops, t, g) && !DFT_SIMD(dft_train_depthwise_backward)(t, g))
    dft_train_backward_composed(ops, t, g);
}
