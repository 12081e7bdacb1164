/* What the plain kernels share. */
#ifndef DFT_OPS_CPU_PLAIN_H
#define DFT_OPS_CPU_PLAIN_H

#include "dft/ops.h"

#define PLAIN_BLOCK 64 /* channels summed side by side on the stack */

static inline int plain_min(int a, int b) {
  return a < b ? a : b;
}

/* A NaN stays one. */
static inline float plain_relu6(float x) {
  return x < 0 ? 0 : x > 6 ? 6 : x;
}

/* Output values [ch, ch + n) of one pixel: sum (bias included) -> y. */
static inline void plain_store(const float *sum, float *y, const float *residual, bool relu6, int n) {
  for (int i = 0; i < n; i++) {
    const float v = residual == NULL ? sum[i] : sum[i] + residual[i];
    y[i] = relu6 ? plain_relu6(v) : v;
  }
}

#endif
