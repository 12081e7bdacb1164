/* The depthwise convolution of one group of channels, from a bordered buffer in L1. */
#ifndef DFT_SIMD_FROZEN_DEPTHWISE_H
#define DFT_SIMD_FROZEN_DEPTHWISE_H

#include "gemm_panel.h"

#include <math.h>

/* Up to four neighbouring outputs of one vector of channels; `count`, `stride` and `rounded` are constants
 * where this is inlined. With `rounded`, out is bfloat16. Each output takes its nine taps in order onto the
 * bias; taps in the border add zero. */
static inline __attribute__((always_inline)) void outputs(const float *const in[3], const vf w[9], vf bias,
                                                          vf high, vf low, void *out, ptrdiff_t out_stride,
                                                          int lanes, int count, int group, int stride,
                                                          bool rounded) {
  vf sum[4];
#pragma GCC unroll 4
  for (int o = 0; o < count; o++) sum[o] = bias;
#pragma GCC unroll 3
  for (int r = 0; r < 3; r++)
#pragma GCC unroll 3
    for (int t = 0; t < 3; t++)
#pragma GCC unroll 4
      for (int o = 0; o < count; o++)
        sum[o] = vf_fma(vf_load(in[r] + (o * stride + t) * group), w[3 * r + t], sum[o]);
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
                                                         int count, int lanes, int group, int stride,
                                                         bool rounded) {
  const ptrdiff_t four = 4 * out_stride * (ptrdiff_t)(rounded ? sizeof(uint16_t) : sizeof(float));
  vf low = vf_set1(relu6 ? 0 : -INFINITY), high = vf_set1(relu6 ? 6 : INFINITY), w[9];
  const float *in[3] = {rows[0], rows[1], rows[2]};
#pragma GCC unroll 9
  for (int t = 0; t < 9; t++) w[t] = vf_load(weights + t * group);
  for (; count >= 4; count -= 4, out = (char *)out + four) {
    outputs(in, w, bias, high, low, out, out_stride, lanes, 4, group, stride, rounded);
    for (int r = 0; r < 3; r++) in[r] += 4 * stride * group;
  }
  if (count == 3) outputs(in, w, bias, high, low, out, out_stride, lanes, 3, group, stride, rounded);
  if (count == 2) outputs(in, w, bias, high, low, out, out_stride, lanes, 2, group, stride, rounded);
  if (count == 1) outputs(in, w, bias, high, low, out, out_stride, lanes, 1, group, stride, rounded);
}

/* One row of outputs of a group. */
typedef struct depthwise_call {
  const float *rows[3];  /* three bordered rows, from the first output's left tap; pixels are `group` apart */
  const float *w, *bias; /* [9][group], [group] */
  bool relu6;
  void *out; /* of the first output's first channel; bfloat16 with `rounded`, and then zeros follow the
                channels */
  ptrdiff_t out_stride;
  int count, channels, padded; /* outputs; channels of each, and with zeros after them */
} depthwise_call;

/* `group` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void depthwise_row(const depthwise_call *call, int group,
                                                                int stride, bool rounded) {
  for (int first = 0; first < call->channels; first += VF_LANES) {
    const int lanes = call->channels - first < VF_LANES ? call->channels - first : VF_LANES,
              count = call->count;
    const float *const in[3] = {call->rows[0] + first, call->rows[1] + first, call->rows[2] + first};
    const float *w = call->w + first;
    const vf b = vf_load(call->bias + first);
    float *values = (float *)call->out + first;
    uint16_t *halves = (uint16_t *)call->out + first;
    if (rounded && stride == 1)
      row_of(in, w, b, call->relu6, halves, call->out_stride, count, lanes, group, 1, true);
    else if (rounded)
      row_of(in, w, b, call->relu6, halves, call->out_stride, count, lanes, group, 2, true);
    else if (stride == 1)
      row_of(in, w, b, call->relu6, values, call->out_stride, count, lanes, group, 1, false);
    else
      row_of(in, w, b, call->relu6, values, call->out_stride, count, lanes, group, 2, false);
  }
  for (int i = 0; i < call->count && call->padded > call->channels; i++)
    for (int first = call->channels; first < call->padded; first += VF_LANES)
      vf_store_rounded((uint16_t *)call->out + i * call->out_stride + first, vf_zero(),
                       call->padded - first < VF_LANES ? call->padded - first : VF_LANES);
}

#endif
