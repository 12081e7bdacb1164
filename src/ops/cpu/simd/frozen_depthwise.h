/* The depthwise convolution of one group of channels, from a bordered buffer in L1. */
#ifndef DFT_SIMD_FROZEN_DEPTHWISE_H
#define DFT_SIMD_FROZEN_DEPTHWISE_H

#include "frozen.h"

#include <math.h>

/* Up to four neighbouring outputs of one vector of channels; `count`, `stride` and `rounded` are constants
 * where this is inlined. With `rounded`, out is bfloat16. Each output takes its nine taps in order onto the
 * bias; taps in the border add zero. */
static inline __attribute__((always_inline)) void outputs(const float *const in[3], const vf w[9], vf bias,
                                                          vf high, vf low, void *out, ptrdiff_t out_stride,
                                                          int lanes, int count, int stride, bool rounded) {
  vf sum[4];
#pragma GCC unroll 4
  for (int o = 0; o < count; o++) sum[o] = bias;
#pragma GCC unroll 3
  for (int r = 0; r < 3; r++)
#pragma GCC unroll 3
    for (int t = 0; t < 3; t++)
#pragma GCC unroll 4
      for (int o = 0; o < count; o++)
        sum[o] = vf_fma(vf_load(in[r] + (o * stride + t) * GROUP), w[3 * r + t], sum[o]);
#pragma GCC unroll 4
  for (int o = 0; o < count; o++) {
    vf value = vf_clamp(sum[o], low, high);
    if (rounded)
      vf_store_rounded((uint16_t *)out + o * out_stride, value, lanes);
    else if (lanes == VF_LANES)
      vf_store((float *)out + o * out_stride, value);
    else
      vf_store_n((float *)out + o * out_stride, value, lanes);
  }
}

/* One row of outputs of one vector of channels. */
static inline __attribute__((always_inline)) void row_of(const float *const rows[3], const float *weights,
                                                         vf bias, bool relu6, void *out, ptrdiff_t out_stride,
                                                         int count, int lanes, int stride, bool rounded) {
  const ptrdiff_t four = 4 * out_stride * (ptrdiff_t)(rounded ? sizeof(uint16_t) : sizeof(float));
  vf low = vf_set1(relu6 ? 0 : -INFINITY), high = vf_set1(relu6 ? 6 : INFINITY), w[9];
  const float *in[3] = {rows[0], rows[1], rows[2]};
#pragma GCC unroll 9
  for (int t = 0; t < 9; t++) w[t] = vf_load(weights + t * GROUP);
  for (; count >= 4; count -= 4, out = (char *)out + four) {
    outputs(in, w, bias, high, low, out, out_stride, lanes, 4, stride, rounded);
    for (int r = 0; r < 3; r++) in[r] += 4 * stride * GROUP;
  }
  if (count == 3) outputs(in, w, bias, high, low, out, out_stride, lanes, 3, stride, rounded);
  if (count == 2) outputs(in, w, bias, high, low, out, out_stride, lanes, 2, stride, rounded);
  if (count == 1) outputs(in, w, bias, high, low, out, out_stride, lanes, 1, stride, rounded);
}

/* One row of `count` outputs of a group of `channels`, from three bordered rows that begin at the first
 * output's left tap. out[first output's first channel] is bfloat16 with `rounded`, and then zeros follow up
 * to `padded` channels. */
static inline void depthwise_row(const float *const rows[3], const float *weights, const float *bias,
                                 bool relu6, void *out, ptrdiff_t out_stride, int count, int channels,
                                 int padded, int stride, bool rounded) {
  for (int first = 0; first < channels; first += VF_LANES) {
    int lanes = channels - first < VF_LANES ? channels - first : VF_LANES;
    const float *const in[3] = {rows[0] + first, rows[1] + first, rows[2] + first}, *w = weights + first;
    vf b = vf_load(bias + first);
    float *values = (float *)out + first;
    uint16_t *halves = (uint16_t *)out + first;
    if (rounded && stride == 1)
      row_of(in, w, b, relu6, halves, out_stride, count, lanes, 1, true);
    else if (rounded)
      row_of(in, w, b, relu6, halves, out_stride, count, lanes, 2, true);
    else if (stride == 1)
      row_of(in, w, b, relu6, values, out_stride, count, lanes, 1, false);
    else
      row_of(in, w, b, relu6, values, out_stride, count, lanes, 2, false);
  }
  for (int i = 0; i < count; i++)
    for (int first = channels; first < padded; first += VF_LANES)
      vf_store_rounded((uint16_t *)out + i * out_stride + first, vf_zero(),
                       padded - first < VF_LANES ? padded - first : VF_LANES);
}

#endif
