/* Every CPU kernel but the product family (gemm.h), by name, for the table in ops.c; ops.h says what each
 * does. "plain" is the C that the reference and portable sets share; avx2 and avx512 are one source, simd/,
 * compiled twice. */
#ifndef DFT_OPS_CPU_KERNELS_H
#define DFT_OPS_CPU_KERNELS_H

#include "dft/ops.h"

#define DFT_KERNELS_DECLARE(set)                                                                             \
  void dft_depthwise_##set(const float *x, const float *w, float *y, int samples, const dft_conv *conv,      \
                           const dft_epilogue *epilogue);                                                    \
  void dft_depthwise_dx_##set(const float *dy, const float *w, float *dx, int samples,                       \
                              const dft_conv *conv);                                                         \
  void dft_depthwise_dw_##set(const float *x, const float *dy, const dft_conv *conv,                         \
                              const dft_shard_map *map, float *dw);                                          \
  void dft_stem_##set(const float *x, const float *w, float *y, int samples, const dft_conv *conv,           \
                      const dft_epilogue *epilogue);                                                         \
  void dft_stem_dw_##set(const float *x, const float *dy, const dft_conv *conv, const dft_shard_map *map,    \
                         float *dw);                                                                         \
  void dft_bn_sums_##set(const float *z, int pixels, int c, const dft_shard_map *map, double *sums);         \
  void dft_scale_shift_##set(const float *z, const float *scale, const float *shift, const float *residual,  \
                             bool relu6, float *y, int64_t rows, int c);                                     \
  void dft_bn_backward_sums_##set(const float *dy, const float *z, const dft_norm *norm, int pixels, int c,  \
                                  const dft_shard_map *map, double *sums);                                   \
  void dft_bn_backward_##set(const float *dy, const float *z, const dft_norm *norm, float *dz, int64_t rows, \
                             int c);                                                                         \
  void dft_add_##set(const float *x, float *y, int64_t count);                                               \
  void dft_pool_avg_##set(const float *x, float *y, int samples, int pixels, int c);                         \
  void dft_pool_avg_dx_##set(const float *dy, float *dx, int samples, int pixels, int c);                    \
  void dft_pool_max_##set(const float *x, float *y, int samples, int pixels, int c);                         \
  void dft_pool_max_dx_##set(const float *x, const float *y, const float *dy, float *dx, int samples,        \
                             int pixels, int c);                                                             \
  void dft_row_sums_##set(const float *x, int pixels, int c, const dft_shard_map *map, float *sums);         \
  void dft_adam_##set(float *w, float *m, float *v, const float *grad, float scale, float alpha_t,           \
                      double beta_1, double beta_2, float epsilon, float decay, int64_t count);              \
  void dft_sgd_##set(float *w, float *velocity, const float *grad, float scale, float learning_rate,         \
                     float momentum, bool nesterov, float decay, int64_t count);                             \
  bool dft_all_finite_##set(const float *x, int64_t count);                                                  \
  void dft_bn_statistics_##set(const double *totals, double count, const float *gamma, const float *beta,    \
                               double epsilon, int c, const dft_batch_norm_vectors *vectors);                \
  void dft_bn_gradients_##set(const double *totals, double count, const float *gamma, int c,                 \
                              const dft_batch_norm_vectors *vectors);                                        \
  void dft_bn_frozen_##set(const float *gamma, const float *beta, const float *mean, const float *variance,  \
                           float epsilon, int c, float *scale, float *shift);                                \
  void dft_bn_commit_##set(float *mean, float *variance, const dft_batch_norm_vectors *vectors,              \
                           double momentum, int c, const int *done);

/* Of all sets. */
void dft_dropout_plain(const float *in, float *out, const int64_t *samples, uint64_t seed, uint32_t epoch,
                       double rate, int count, int features);
void dft_copy_nodes_plain(const float *from, float *to, size_t stride, int64_t count, int nodes);

DFT_KERNELS_DECLARE(plain)
DFT_KERNELS_DECLARE(avx2)
DFT_KERNELS_DECLARE(avx512)

/* An operation on fewer values than this runs on one thread: waking the others would cost more. */
#define DFT_PARALLEL_MIN 16384

/* Threads for work on `values` values. */
static inline int dft_threads_for(int64_t values) {
  return values < DFT_PARALLEL_MIN ? 1 : dft_ops_threads();
}

/* The same for a product of so many multiply-adds, of which a core does some hundred in the time of a value.
 */
static inline int dft_threads_for_product(int64_t rows, int k, int n) {
  enum { PER_VALUE = 64 };
  return dft_threads_for(rows * k * n / PER_VALUE);
}

#endif
