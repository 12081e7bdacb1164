/* Depthwise forward and, for stride 1, the gradient of its input: the same sum with the taps mirrored. Four
 * outputs at a time for one vector of channels, nine weights in registers, taps in row-major order. */
#include "../kernels.h"
#include "lanes.h"

#define OUTPUTS 4

static const float no_row[VF_LANES]; /* stands for every pixel of a row outside the image, with step 0 */

/* Three input rows at column 0, and the distance between their pixels. */
typedef struct rows3 {
  const float *row[3];
  int64_t step[3];
} rows3;

static rows3 rows_at(const float *x, const dft_conv *g, int oh, int ch) {
  rows3 r;
  for (int kh = 0; kh < 3; kh++) {
    const int ih = oh * g->stride - g->pad_top + kh;
    const bool inside = ih >= 0 && ih < g->in_h;
    r.row[kh] = inside ? x + (int64_t)ih * g->in_w * g->channels + ch : no_row;
    r.step[kh] = inside ? g->channels : 0;
  }
  return r;
}

/* sum[t] += taps of outputs t = 0 ... 3, the first of which begins at input column iw; edge: columns may lie
 * outside. */
INLINE void taps(const rows3 *r, int iw, int in_w, const vf *w, int stride, bool edge, int lanes, vf *sum) {
#pragma GCC unroll 3
  for (int kh = 0; kh < 3; kh++) {
#pragma GCC unroll 9
    for (int j = 0; j < (OUTPUTS - 1) * stride + 3; j++) {
      const bool outside = edge && (iw + j < 0 || iw + j >= in_w);
      const vf v = outside ? vf_zero() : vf_get(r->row[kh] + (iw + j) * r->step[kh], lanes);
#pragma GCC unroll 4
      for (int t = 0; t < OUTPUTS; t++) {
        const int kw = j - t * stride;
        if (kw >= 0 && kw < 3) sum[t] = vf_fma(v, w[kh * 3 + kw], sum[t]);
      }
    }
  }
}

INLINE void store(const vf *sum, const dft_epilogue *e, int64_t at, int c, int count, int lanes, float *y) {
#pragma GCC unroll 4
  for (int t = 0; t < OUTPUTS; t++) {
    if (t == count) return;
    vf v = sum[t];
    if (e->residual != NULL) v = vf_add(v, vf_get(e->residual + at + (int64_t)t * c, lanes));
    if (e->relu6) v = vf_relu6(v);
    vf_put(y + at + (int64_t)t * c, v, lanes);
  }
}

/* One output row for the channels [ch, ch + lanes); `at` is its first value in y. */
INLINE void row_lanes(const float *x, const float *w, bool mirrored, const dft_conv *g, const dft_epilogue *e,
                      int oh, int ch, int64_t at, int stride, int lanes, float *y) {
  const int c = g->channels;
  const rows3 r = rows_at(x, g, oh, ch);
  vf weights[9];
  for (int k = 0; k < 9; k++) weights[k] = vf_get(w + (int64_t)(mirrored ? 8 - k : k) * c + ch, lanes);
  const vf bias = e->bias == NULL ? vf_zero() : vf_get(e->bias + ch, lanes);
  for (int ow = 0; ow < g->out_w; ow += OUTPUTS) {
    const int iw = ow * stride - g->pad_left, last = iw + (OUTPUTS - 1) * stride + 2;
    vf sum[OUTPUTS] = {bias, bias, bias, bias};
    if (iw >= 0 && last < g->in_w)
      taps(&r, iw, g->in_w, weights, stride, false, lanes, sum);
    else
      taps(&r, iw, g->in_w, weights, stride, true, lanes, sum);
    store(sum, e, at + (int64_t)ow * c, c, g->out_w - ow, lanes, y);
  }
}

static void forward(const float *x, const float *w, bool mirrored, float *y, int samples, const dft_conv *g,
                    const dft_epilogue *e) {
  const int64_t rows = (int64_t)samples * g->out_h;
  const int c = g->channels;
  const int threads = dft_threads_for(rows * g->out_w * c);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < rows; row++) {
    const float *sample = x + row / g->out_h * g->in_h * g->in_w * c;
    const int oh = (int)(row % g->out_h);
    for (int ch = 0; ch < c; ch += VF_LANES) {
      const int64_t at = row * g->out_w * c + ch;
      if (g->stride == 1)
        WITH_LANES(c - ch, row_lanes(sample, w, mirrored, g, e, oh, ch, at, 1, lanes, y));
      else
        WITH_LANES(c - ch, row_lanes(sample, w, mirrored, g, e, oh, ch, at, 2, lanes, y));
    }
  }
}

void DFT_SIMD(dft_depthwise)(const float *x, const float *w, float *y, int samples, const dft_conv *conv,
                             const dft_epilogue *epilogue) {
  static const dft_epilogue nothing;
  forward(x, w, false, y, samples, conv, epilogue == NULL ? &nothing : epilogue);
}

/* Stride 2: along a row, inputs 2t - pad and 2t + 1 - pad read outputs t and t - 1 through taps 0 and 2, and
 * output t through tap 1. Likewise down the rows: a row reads two output rows, or one (two false). */
INLINE void dx_row_lanes(const float *const dy[2], const float *const w[2], bool two, const dft_conv *g,
                         int ch, int lanes, float *dx) {
  const int c = g->channels, last = (g->in_w - 1 + g->pad_left) / 2;
  vf weights[2][3], before[2] = {vf_zero(), vf_zero()};
  int t = g->pad_left / 2;
  for (int r = 0; r < 1 + two; r++) {
    for (int kw = 0; kw < 3; kw++) weights[r][kw] = vf_get(w[r] + (int64_t)kw * c + ch, lanes);
    if (t > 0 && t <= g->out_w && dy[r] != NULL) before[r] = vf_get(dy[r] + (int64_t)(t - 1) * c + ch, lanes);
  }
  for (; t <= last; t++) {
    const int even = 2 * t - g->pad_left;
    vf sums[2] = {vf_zero(), vf_zero()};
    for (int r = 0; r < 1 + two; r++) {
      const vf v = t < g->out_w && dy[r] != NULL ? vf_get(dy[r] + (int64_t)t * c + ch, lanes) : vf_zero();
      sums[0] = vf_fma(before[r], weights[r][2], vf_fma(v, weights[r][0], sums[0]));
      sums[1] = vf_fma(v, weights[r][1], sums[1]);
      before[r] = v;
    }
    if (even >= 0) vf_put(dx + (int64_t)even * c + ch, sums[0], lanes);
    if (even + 1 < g->in_w) vf_put(dx + (int64_t)(even + 1) * c + ch, sums[1], lanes);
  }
}

static void dx_row(const float *dy, const float *w, const dft_conv *g, int ih, float *dx) {
  const int c = g->channels, at = ih + g->pad_top;
  const bool two = at % 2 == 0;
  const int64_t tap_row = 3 * (int64_t)c;
  const int oh[2] = {at / 2, at / 2 - 1};
  const float *rows[2], *taps_of[2] = {two ? w : w + tap_row, w + 2 * tap_row};
  for (int r = 0; r < 2; r++)
    rows[r] = oh[r] >= 0 && oh[r] < g->out_h ? dy + (int64_t)oh[r] * g->out_w * c : NULL;
  for (int ch = 0; ch < c; ch += VF_LANES) {
    if (two)
      WITH_LANES(c - ch, dx_row_lanes(rows, taps_of, true, g, ch, lanes, dx));
    else
      WITH_LANES(c - ch, dx_row_lanes(rows, taps_of, false, g, ch, lanes, dx));
  }
}

void DFT_SIMD(dft_depthwise_dx)(const float *dy, const float *w, float *dx, int samples,
                                const dft_conv *conv) {
  if (conv->stride == 1) {
    static const dft_epilogue nothing;
    const dft_conv mirror = {.in_h = conv->out_h,
                             .in_w = conv->out_w,
                             .out_h = conv->in_h,
                             .out_w = conv->in_w,
                             .in_channels = conv->channels,
                             .channels = conv->channels,
                             .stride = 1,
                             .pad_top = 2 - conv->pad_top,
                             .pad_left = 2 - conv->pad_left};
    forward(dy, w, true, dx, samples, &mirror, &nothing);
    return;
  }
  const int64_t rows = (int64_t)samples * conv->in_h, width = (int64_t)conv->channels;
  const int threads = dft_threads_for(rows * conv->in_w * width);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < rows; row++)
    dx_row(dy + row / conv->in_h * conv->out_h * conv->out_w * width, w, conv, (int)(row % conv->in_h),
           dx + row * conv->in_w * width);
}
