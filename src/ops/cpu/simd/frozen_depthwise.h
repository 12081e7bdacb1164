/* The depthwise convolution of one group of channels, from a bordered buffer in L1. */
#ifndef DFT_SIMD_FROZEN_DEPTHWISE_H
#define DFT_SIMD_FROZEN_DEPTHWISE_H

#include "gemm_panel.h"
#include "lanes.h"

#include <math.h>

/* Some rows of outputs of a group, one after the other in memory. An output row sees three of the bordered
 * input rows (from the first output's left tap; pixels are a group apart), the next one those that begin
 * `stride` further. */
typedef struct depthwise_call {
  const float *const *rows;
  const float *w, *bias; /* [9][group], [group] */
  bool relu6;
  void *out;            /* of the first output's first channel */
  ptrdiff_t out_stride; /* of pixels; TWINS: of half a pair */
  int out_rows, out_w;
  bool top, bottom;     /* the first row of rows is the border above the image, the last one that below */
  int channels, padded; /* of each output, and with zeros after them */
} depthwise_call;

enum { MOST_OUTPUTS = 7, LAST_OUTPUTS = 6, SIDE = 4 }; /* side by side: ever, at the end of a row, before */

/* `count` outputs at out + at, out_stride apart. */
INLINE void put_outputs(void *out, ptrdiff_t at, ptrdiff_t out_stride, const vf *value, int lanes, int count,
                        wide_layout layout) {
#pragma GCC unroll 9
  for (int o = 0; o < count; o++, at += out_stride) {
    if (layout == WIDE_ROUNDED)
      vf_store_rounded((vf_bf16 *)out + at, value[o], lanes);
    else if (layout == WIDE_VALUES)
      vf_put((float *)out + at, value[o], lanes);
    else if (o % 2 == 0 && o + 1 < count) { /* rows of twins are even */
      vf low, high;
      vf_interleave(value[o], value[o + 1], &low, &high);
      float *to = (float *)out + at;
      vf_put(to, low, lanes < VF_LANES / 2 ? 2 * lanes : VF_LANES);
      if (lanes > VF_LANES / 2) vf_put(to + VF_LANES, high, 2 * lanes - VF_LANES);
    }
  }
}

/* Rows [top, end) and columns [left, right) of the inputs that some neighbouring outputs see. */
typedef struct taps {
  int top, end, left, right;
} taps;

/* Neighbouring outputs of one vector of channels; `count`, `group`, `stride`, `layout` and `seen` are
 * constants where this is inlined. Each output takes its taps in order onto the bias; those in the border add
 * zero, where they are not left out. */
INLINE void outputs(const float *const in[3], const vf w[9], vf bias, vf low, vf high, void *out,
                    ptrdiff_t out_stride, int lanes, int count, int group, int stride, wide_layout layout,
                    taps seen) {
  vf sum[MOST_OUTPUTS];
#pragma GCC unroll 7
  for (int o = 0; o < count; o++) sum[o] = bias;
#pragma GCC unroll 3
  for (int r = seen.top; r < seen.end; r++)
#pragma GCC unroll 13
    for (int column = seen.left; column < seen.right; column++) {
      const vf x = vf_load(in[r] + column * group);
#pragma GCC unroll 7
      for (int o = 0; o < count; o++) {
        const int t = column - o * stride;
        if (t >= 0 && t < 3) sum[o] = vf_fma(x, w[3 * r + t], sum[o]);
      }
    }
#pragma GCC unroll 7
  for (int o = 0; o < count; o++) sum[o] = vf_clamp(sum[o], low, high);
  put_outputs(out, 0, out_stride, sum, lanes, count, layout);
}

/* All of the call's rows of one vector of channels, whose taps stay in registers. */
INLINE void rows_of(const depthwise_call *call, int first, int lanes, int group, int stride,
                    wide_layout layout) {
  const vf low = vf_set1(call->relu6 ? 0 : -INFINITY), high = vf_set1(call->relu6 ? 6 : INFINITY);
  const vf bias = vf_load(call->bias + first);
  const ptrdiff_t out_stride = call->out_stride, pixel = out_stride * wide_bytes(layout);
  char *out = (char *)call->out + first * wide_channel_bytes(layout);
  vf w[9];
#pragma GCC unroll 9
  for (int t = 0; t < 9; t++) w[t] = vf_load(call->w + t * group + first);
  for (int row = 0; row < call->out_rows; row++) {
    const float *const *rows = call->rows + row * stride;
    const float *in[3] = {rows[0] + first, rows[1] + first, rows[2] + first};
    int left = call->out_w;
#define ALL(count) ((taps){0, 3, 0, ((count)-1) * stride + 3})
    for (; left > LAST_OUTPUTS; left -= SIDE, out += SIDE * pixel) {
      outputs(in, w, bias, low, high, out, out_stride, lanes, SIDE, group, stride, layout, ALL(SIDE));
      for (int r = 0; r < 3; r++) in[r] += SIDE * stride * group;
    }
#define CASE(count)                                                                                          \
  case count:                                                                                                \
    outputs(in, w, bias, low, high, out, out_stride, lanes, count, group, stride, layout, ALL(count));       \
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
#undef ALL
    out += left * pixel;
  }
}

/* The same with a stride of one for rows of some whole `unit`s, or of one (`alone`). Taps in the border are
 * left out: a fifth of all in an image of 6x6 pixels. */
INLINE void units_of(const depthwise_call *call, int first, int lanes, int group, int unit, bool alone,
                     wide_layout layout) {
  const vf low = vf_set1(call->relu6 ? 0 : -INFINITY), high = vf_set1(call->relu6 ? 6 : INFINITY);
  const vf bias = vf_load(call->bias + first);
  const ptrdiff_t out_stride = call->out_stride, step = unit * out_stride * wide_bytes(layout);
  const int units = call->out_w / unit;
  const float *const *rows = call->rows, *const *const last = rows + call->out_rows - call->bottom;
  char *out = (char *)call->out + first * wide_channel_bytes(layout);
  vf w[9];
#pragma GCC unroll 9
  for (int t = 0; t < 9; t++) w[t] = vf_load(call->w + t * group + first);
#define UNIT(...)                                                                                            \
  do {                                                                                                       \
    outputs(in, w, bias, low, high, out, out_stride, lanes, unit, group, 1, layout, (taps){__VA_ARGS__});    \
    out += step;                                                                                             \
    for (int r = 0; r < 3; r++) in[r] += (ptrdiff_t)unit * group;                                            \
  } while (0)
#define ROW(top, end)                                                                                        \
  do {                                                                                                       \
    const float *in[3] = {rows[0] + first, rows[1] + first, rows[2] + first};                                \
    UNIT(top, end, 1, alone ? unit + 1 : unit + 2);                                                          \
    for (int i = 2; !alone && i < units; i++) UNIT(top, end, 0, unit + 2);                                   \
    if (!alone) UNIT(top, end, 0, unit + 1);                                                                 \
    rows++;                                                                                                  \
  } while (0)
  if (call->top) ROW(1, 3);
  while (rows < last) ROW(0, 3);
  if (call->bottom) ROW(0, 2);
#undef ROW
#undef UNIT
}

enum { TINY = 3 }; /* edge of the images below */

/* One vector of channels of a whole image of 3x3 pixels: nine sums in registers. Taps in the border are left
 * out. */
INLINE void tiny_image(const depthwise_call *call, int first, int lanes, int group, wide_layout layout) {
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
  for (int o = 0; o < TINY * TINY; o++) sum[o] = vf_clamp(sum[o], low, high);
  put_outputs(call->out, first, call->out_stride, sum, lanes, TINY * TINY, layout);
}

/* Functions of their own, so that each begins with what it needs and no more. */
typedef void depthwise_vector(const depthwise_call *call, int first, int lanes);
#define VECTOR(name, kernel)                                                                                 \
  static __attribute__((noinline)) void name(const depthwise_call *call, int first, int lanes) {             \
    kernel;                                                                                                  \
  }
#define LAYOUTS(name, kernel, group, ...)                                                                    \
  VECTOR(name, kernel(call, first, lanes, group, __VA_ARGS__ WIDE_VALUES))                                   \
  VECTOR(name##_rounded, kernel(call, first, lanes, group, __VA_ARGS__ WIDE_ROUNDED))
#define EVEN_LAYOUTS(name, kernel, group, ...)                                                               \
  LAYOUTS(name, kernel, group, __VA_ARGS__)                                                                  \
  VECTOR(name##_twins, kernel(call, first, lanes, group, __VA_ARGS__ WIDE_TWINS))
#define VECTORS(name, group)                                                                                 \
  EVEN_LAYOUTS(name##_rows, rows_of, group, 1, )                                                             \
  EVEN_LAYOUTS(name##_strided, rows_of, group, 2, )                                                          \
  EVEN_LAYOUTS(name##_sixes, units_of, group, 6, false, )                                                    \
  EVEN_LAYOUTS(name##_six, units_of, group, 6, true, )                                                       \
  LAYOUTS(name##_sevens, units_of, group, 7, false, )                                                        \
  LAYOUTS(name##_seven, units_of, group, 7, true, )                                                          \
  LAYOUTS(name##_tiny, tiny_image, group, )
VECTORS(stem, STEM_GROUP)
VECTORS(wide, GROUP)

static void depthwise_rows(const depthwise_call *call, int group, depthwise_way way, wide_layout layout) {
#define NAMES(name)                                                                                          \
  { name, name##_rounded }
#define EVEN_NAMES(name)                                                                                     \
  { name, name##_rounded, name##_twins }
#define WAYS(name)                                                                                           \
  {                                                                                                          \
    [DEPTHWISE_ROWS] = EVEN_NAMES(name##_rows), [DEPTHWISE_STRIDED] = EVEN_NAMES(name##_strided),            \
    [DEPTHWISE_SIXES] = EVEN_NAMES(name##_sixes), [DEPTHWISE_SIX] = EVEN_NAMES(name##_six),                  \
    [DEPTHWISE_SEVENS] = NAMES(name##_sevens), [DEPTHWISE_SEVEN] = NAMES(name##_seven),                      \
    [DEPTHWISE_TINY] = NAMES(name##_tiny)                                                                    \
  }
  static depthwise_vector *const vectors[2][DEPTHWISE_WAYS][3] = {WAYS(stem), WAYS(wide)};
  depthwise_vector *const vector = vectors[group == GROUP][way][layout];
  for (int first = 0; first < call->channels; first += VF_LANES)
    vector(call, first, call->channels - first < VF_LANES ? call->channels - first : VF_LANES);
  if (call->padded == call->channels) return;
  for (int i = 0; i < call->out_rows * call->out_w; i++)
    for (int first = call->channels; first < call->padded; first += VF_LANES)
      vf_store_rounded((vf_bf16 *)call->out + i * call->out_stride + first, vf_zero(),
                       call->padded - first < VF_LANES ? call->padded - first : VF_LANES);
}

#endif
