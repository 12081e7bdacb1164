/* The stem for the fused forward: a row of outputs from three rows of the image, read where they lie; only
 * the few columns next to a border are copied, with the border. */
#ifndef DFT_SIMD_FROZEN_STEM_H
#define DFT_SIMD_FROZEN_STEM_H

#include "gemm_panel.h"
#include "lanes.h"

#include <math.h>

enum { STEM_TAPS = 27, STEM_OUTPUTS = VF_LANES == 16 ? 12 : 6 /* side by side in registers */ };

/* Floats of a row that STEM_OUTPUTS outputs see, and what a whole vector may write past them. */
enum { STEM_WINDOW = 3 * (2 * (STEM_OUTPUTS - 1) + 3) + VF_LANES };

/* One panel of a row. */
typedef struct stem_call {
  const float *rows[3]; /* the image's, or zeros */
  int in_w, pad_left;
  const float *w; /* packed, as a product's panel of STEM_TAPS rows */
  const float *bias;
  int n; /* 1 ... 2*VF_LANES channels */
  bool relu6;
  float *y;
  ptrdiff_t y_stride;
} stem_call;

/* `width` pixels of a row from pixel `left` on, zero where the image has none. */
INLINE void stem_copy(const float *row, int in_w, int left, int width, float copy[STEM_WINDOW]) {
  const int begin = left < 0 ? -3 * left : 0;
  const int end = left + width > in_w ? 3 * (in_w - left) : 3 * width;
#pragma GCC unroll 5
  for (int i = 0; i < 3 * width; i += VF_LANES) vf_store(copy + i, vf_zero());
  for (int i = begin; i < end; i += VF_LANES)
    vf_store(copy + i, vf_load_n(row + (3 * left + i), end - i < VF_LANES ? end - i : VF_LANES));
}

/* `count` outputs side by side from output `first` on: the taps in order onto the bias, as a product of 27
 * terms. `count`, `stride` and `vectors` are constants where this is inlined. */
INLINE void stem_outputs(const stem_call *call, int first, int count, int stride, int vectors) {
  const int left = first * stride - call->pad_left, width = (count - 1) * stride + 3;
  const bool inside = left >= 0 && left + width <= call->in_w;
  float copy[3][STEM_WINDOW];
  for (int r = 0; r < 3 && !inside; r++) stem_copy(call->rows[r], call->in_w, left, width, copy[r]);
  const int last = call->n - (vectors - 1) * VF_LANES;
  const vf low = vf_set1(call->relu6 ? 0 : -INFINITY), high = vf_set1(call->relu6 ? 6 : INFINITY);
  vf sum[STEM_OUTPUTS][2];
  for (int v = 0; v < vectors; v++) {
    const vf bias = vf_load_n(call->bias + v * VF_LANES, v == vectors - 1 ? last : VF_LANES);
#pragma GCC unroll 12
    for (int o = 0; o < count; o++) sum[o][v] = bias;
  }
  const float *w = call->w;
  for (int r = 0; r < 3; r++) {
    const float *x = inside ? call->rows[r] + (ptrdiff_t)3 * left : copy[r];
#pragma GCC unroll 9
    for (int j = 0; j < 9; j++, x++, w += (ptrdiff_t)vectors * VF_LANES) {
      /* Neighbours share inputs; gcc would keep those in registers that it has not got. */
      __asm__("" : "+r"(x));
      const vf w0 = vf_load(w), w1 = vectors == 2 ? vf_load(w + VF_LANES) : vf_zero();
#pragma GCC unroll 12
      for (int o = 0; o < count; o++) {
        const vf factor = vf_set1(x[o * stride * 3]);
        sum[o][0] = vf_fma(factor, w0, sum[o][0]);
        if (vectors == 2) sum[o][1] = vf_fma(factor, w1, sum[o][1]);
      }
    }
  }
  float *y = call->y + first * call->y_stride;
#pragma GCC unroll 12
  for (int o = 0; o < count; o++, y += call->y_stride)
    for (int v = 0; v < vectors; v++) {
      const vf value = vf_clamp(sum[o][v], low, high);
      if (v < vectors - 1 || last == VF_LANES)
        vf_store(y + v * VF_LANES, value);
      else
        vf_store_n(y + v * VF_LANES, value, last);
    }
}

/* All of a row; the last outputs of a row that is no multiple of STEM_OUTPUTS are computed twice. */
INLINE void stem_run(const stem_call *call, int count, int stride, int vectors) {
  if (count < STEM_OUTPUTS) {
    for (int o = 0; o < count; o++) stem_outputs(call, o, 1, stride, vectors);
    return;
  }
  for (int o = 0; o < count; o += STEM_OUTPUTS)
    stem_outputs(call, o + STEM_OUTPUTS <= count ? o : count - STEM_OUTPUTS, STEM_OUTPUTS, stride, vectors);
}

static inline void stem_row(const stem_call *call, int count, int stride) {
  if (call->n > VF_LANES && stride == 2)
    stem_run(call, count, 2, 2);
  else if (call->n > VF_LANES)
    stem_run(call, count, 1, 2);
  else if (stride == 2)
    stem_run(call, count, 2, 1);
  else
    stem_run(call, count, 1, 1);
}

#endif
