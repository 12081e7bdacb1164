/* The depthwise convolution of one group of channels, from a bordered buffer in L1. */
#ifndef DFT_SIMD_FROZEN_DEPTHWISE_H
#define DFT_SIMD_FROZEN_DEPTHWISE_H

#include "gemm_panel.h"
#include "lanes.h"

#include <math.h>

/* Some rows of outputs of a group, one after the other in memory. An output row sees three of the bordered
 * input rows (from the first output's left tap; pixels are a group apart), the next one those that begin
 * `stride` further. Out is bfloat16 with `rounded`, and then zeros follow the channels. */
typedef struct depthwise_call {
  const float *const *rows;
  const float *w, *bias; /* [9][group], [group] */
  bool relu6;
  void *out;            /* of the first output's first channel */
  ptrdiff_t out_stride; /* of pixels */
  int out_rows, out_w;
  int channels, padded; /* of each output, and with zeros after them */
} depthwise_call;

enum { MOST_OUTPUTS = 6, SIDE = 4 }; /* side by side */

INLINE void put_output(void *out, ptrdiff_t at, vf value, int lanes, bool rounded) {
  if (rounded)
    vf_store_rounded((uint16_t *)out + at, value, lanes);
  else
    vf_put((float *)out + at, value, lanes);
}

/* Neighbouring outputs of one vector of channels; `count`, `group`, `stride` and `rounded` are constants
 * where this is inlined. Each output takes its nine taps in order onto the bias; taps in the border add zero.
 */
INLINE void outputs(const float *const in[3], const vf w[9], vf bias, vf low, vf high, void *out,
                    ptrdiff_t out_stride, int lanes, int count, int group, int stride, bool rounded) {
  vf sum[MOST_OUTPUTS];
#pragma GCC unroll 6
  for (int o = 0; o < count; o++) sum[o] = bias;
#pragma GCC unroll 3
  for (int r = 0; r < 3; r++)
#pragma GCC unroll 3
    for (int t = 0; t < 3; t++)
#pragma GCC unroll 6
      for (int o = 0; o < count; o++)
        sum[o] = vf_fma(vf_load(in[r] + (o * stride + t) * group), w[3 * r + t], sum[o]);
#pragma GCC unroll 6
  for (int o = 0; o < count; o++)
    put_output(out, o * out_stride, vf_clamp(sum[o], low, high), lanes, rounded);
}

/* All of the call's rows of one vector of channels, whose taps stay in registers. */
INLINE void rows_of(const depthwise_call *call, int first, int lanes, int group, int stride, bool rounded) {
  const vf low = vf_set1(call->relu6 ? 0 : -INFINITY), high = vf_set1(call->relu6 ? 6 : INFINITY);
  const vf bias = vf_load(call->bias + first);
  const ptrdiff_t bytes = rounded ? sizeof(uint16_t) : sizeof(float);
  const ptrdiff_t out_stride = call->out_stride, pixel = out_stride * bytes;
  char *out = (char *)call->out + first * bytes;
  vf w[9];
#pragma GCC unroll 9
  for (int t = 0; t < 9; t++) w[t] = vf_load(call->w + t * group + first);
  for (int row = 0; row < call->out_rows; row++) {
    const float *const *rows = call->rows + row * stride;
    const float *in[3] = {rows[0] + first, rows[1] + first, rows[2] + first};
    int left = call->out_w;
    for (; left > MOST_OUTPUTS; left -= SIDE, out += SIDE * pixel) {
      outputs(in, w, bias, low, high, out, out_stride, lanes, SIDE, group, stride, rounded);
      for (int r = 0; r < 3; r++) in[r] += SIDE * stride * group;
    }
#define CASE(count)                                                                                          \
  case count:                                                                                                \
    outputs(in, w, bias, low, high, out, out_stride, lanes, count, group, stride, rounded);                  \
    break
    switch (left) {
      CASE(6);
      CASE(5);
      CASE(4);
      CASE(3);
      CASE(2);
      CASE(1);
    }
#undef CASE
    out += left * pixel;
  }
}

enum { TINY = 3 }; /* edge of the images below */

/* One vector of channels of a whole image of 3x3 pixels: nine sums in registers. Taps in the border are left
 * out. */
INLINE void tiny_image(const depthwise_call *call, int first, int lanes, int group, bool rounded) {
  const vf low = vf_set1(call->relu6 ? 0 : -INFINITY), high = vf_set1(call->relu6 ? 6 : INFINITY);
  const float *const in[TINY] = {call->rows[1] + first, call->rows[2] + first, call->rows[3] + first};
  vf sum[TINY * TINY];
#pragma GCC unroll 9
  for (int o = 0; o < TINY * TINY; o++) sum[o] = vf_load(call->bias + first);
#pragma GCC unroll 9
  for (int tap = 0; tap < 9; tap++) {
    const vf w = vf_load(call->w + tap * group + first);
#pragma GCC unroll 9
    for (int o = 0; o < TINY * TINY; o++) {
      const int row = o / TINY + tap / 3 - 1, column = o % TINY + tap % 3 - 1;
      if (row >= 0 && row < TINY && column >= 0 && column < TINY)
        sum[o] = vf_fma(vf_load(in[row] + (column + 1) * group), w, sum[o]);
    }
  }
#pragma GCC unroll 9
  for (int o = 0; o < TINY * TINY; o++)
    put_output(call->out, o * call->out_stride + first, vf_clamp(sum[o], low, high), lanes, rounded);
}

/* Functions of their own, so that each begins with what it needs and no more. */
typedef void depthwise_vector(const depthwise_call *call, int first, int lanes);
#define VECTOR(name, kernel)                                                                                 \
  static __attribute__((noinline)) void name(const depthwise_call *call, int first, int lanes) {             \
    kernel;                                                                                                  \
  }
#define VECTORS(name, group)                                                                                 \
  VECTOR(name##_tiny, tiny_image(call, first, lanes, group, false))                                          \
  VECTOR(name##_tiny_rounded, tiny_image(call, first, lanes, group, true))                                   \
  VECTOR(name##_rows, rows_of(call, first, lanes, group, 1, false))                                          \
  VECTOR(name##_rows_rounded, rows_of(call, first, lanes, group, 1, true))                                   \
  VECTOR(name##_strided, rows_of(call, first, lanes, group, 2, false))                                       \
  VECTOR(name##_strided_rounded, rows_of(call, first, lanes, group, 2, true))
VECTORS(stem, STEM_GROUP)
VECTORS(wide, GROUP)

/* `tiny`: the rows are a whole image of 3x3 pixels, and those of zeros around it. */
static void depthwise_rows(const depthwise_call *call, int group, int stride, bool tiny, bool rounded) {
#define NAMES(name)                                                                                          \
  {                                                                                                          \
    {name##_tiny, name##_tiny_rounded}, {name##_rows, name##_rows_rounded}, {                                \
      name##_strided, name##_strided_rounded                                                                 \
    }                                                                                                        \
  }
  static depthwise_vector *const vectors[2][3][2] = {NAMES(stem), NAMES(wide)};
  depthwise_vector *const vector = vectors[group == GROUP][tiny ? 0 : stride][rounded];
  for (int first = 0; first < call->channels; first += VF_LANES)
    vector(call, first, call->channels - first < VF_LANES ? call->channels - first : VF_LANES);
  if (call->padded == call->channels) return;
  for (int i = 0; i < call->out_rows * call->out_w; i++)
    for (int first = call->channels; first < call->padded; first += VF_LANES)
      vf_store_rounded((uint16_t *)call->out + i * call->out_stride + first, vf_zero(),
                       call->padded - first < VF_LANES ? call->padded - first : VF_LANES);
}

#endif
