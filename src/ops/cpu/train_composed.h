/* See train_composed.c and, for what each function does, ops.h. */
#ifndef DFT_OPS_CPU_TRAIN_COMPOSED_H
#define DFT_OPS_CPU_TRAIN_COMPOSED_H

#include "dft/ops.h"

/* Products with at most so many weights, and channels on either side, may be fused: their gradient is summed
 * beside the other work in L1. */
enum { DFT_TRAIN_SMALL = 8192, DFT_TRAIN_WIDEST = 512 };

size_t dft_train_weights(dft_conv_kind kind, const dft_conv *conv);
/* Bound for a packed kernel of either direction. */
size_t dft_train_packed_floats(const dft_conv *conv);

/* The input as the convolution sees it, in `work` where it has to be made. */
const float *dft_train_input(const dft_ops *ops, const dft_train_conv *t);
/* dz, in place of dy unless that is kept. */
float *dft_train_dz(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g);

void dft_train_forward_composed(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums);
void dft_train_backward_composed(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g);

#define DFT_TRAIN_DECLARE(set)                                                                               \
  void dft_train_forward_##set(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums);         \
  void dft_train_backward_##set(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g);

#define DFT_TRAIN_PAIR_DECLARE(set)                                                                          \
  bool dft_train_pair_fits_##set(const dft_conv *expand, const dft_conv *depthwise);                         \
  size_t dft_train_pair_work_floats_##set(const dft_conv *expand, int samples);                              \
  void dft_train_pair_sums_##set(const dft_train_conv *expand, double *sums);                                \
  void dft_train_pair_forward_##set(const dft_train_conv *expand, const dft_train_conv *t, float *z,         \
                                    double *sums);                                                           \
  void dft_train_pair_backward_##set(const dft_train_conv *expand, const dft_train_conv *t,                  \
                                     const dft_train_gradient *g, bool below);                               \
  void dft_train_pair_finish_##set(const dft_train_conv *expand, const dft_train_gradient *g);

DFT_TRAIN_PAIR_DECLARE(avx2)
DFT_TRAIN_PAIR_DECLARE(avx512)
DFT_TRAIN_DECLARE(avx2)
DFT_TRAIN_DECLARE(avx512)

#endif
