/* Depthwise weight gradients: nine accumulators in registers for one vector of channels, along strips of
 * output rows; a strip's float32 sums are added to the shard's float64 ones. */
#include "../kernels.h"
#include "../sums.h"
#include "lanes.h"

#define STRIP_VALUES 256 /* output pixels per strip, rounded down to rows, at least one row */

static const float no_row[VF_LANES];

typedef struct dw_job {
  const float *x, *dy;
  const dft_conv *conv;
} dw_job;

/* sum[9] += dy of output columns [from, to) times the inputs they saw; edge: columns may lie outside. */
INLINE void columns(const float *const x[3], const int64_t step[3], const float *dy, const dft_conv *g,
                    int from, int to, bool edge, int lanes, vf *sum) {
  for (int ow = from; ow < to; ow++) {
    const int iw = ow * g->stride - g->pad_left;
    const vf d = vf_get(dy + (int64_t)ow * g->channels, lanes);
#pragma GCC unroll 9
    for (int k = 0; k < 9; k++) {
      const int at = iw + k % 3;
      if (edge && (at < 0 || at >= g->in_w)) continue;
      sum[k] = vf_fma(d, vf_get(x[k / 3] + at * step[k / 3], lanes), sum[k]);
    }
  }
}

static int clamp(int a, int low, int high) {
  return a < low ? low : a > high ? high : a;
}

/* Output rows [from, to), counted through the samples, for channels [ch, ch + lanes). */
INLINE void strip(const dw_job *job, int64_t from, int64_t to, int ch, int lanes, double *sums, int width) {
  const dft_conv *g = job->conv;
  const int c = g->channels;
  const int left = clamp((g->pad_left + g->stride - 1) / g->stride, 0, g->out_w);
  const int inner = g->in_w - 3 + g->pad_left; /* columns up to inner/stride read only inside */
  const int right = inner < 0 ? left : clamp(inner / g->stride + 1, left, g->out_w);
  vf sum[9];
  for (int k = 0; k < 9; k++) sum[k] = vf_zero();
  for (int64_t row = from; row < to; row++) {
    const int oh = (int)(row % g->out_h);
    const float *sample = job->x + row / g->out_h * g->in_h * g->in_w * c + ch;
    const float *dy = job->dy + row * g->out_w * c + ch, *x[3];
    int64_t step[3];
    for (int kh = 0; kh < 3; kh++) {
      const int ih = oh * g->stride - g->pad_top + kh;
      const bool inside = ih >= 0 && ih < g->in_h;
      x[kh] = inside ? sample + (int64_t)ih * g->in_w * c : no_row;
      step[kh] = inside ? c : 0;
    }
    columns(x, step, dy, g, 0, left, true, lanes, sum);
    columns(x, step, dy, g, left, right, false, lanes, sum);
    columns(x, step, dy, g, right, g->out_w, true, lanes, sum);
  }
  for (int k = 0; k < 9; k++) vf_flush(sums + (int64_t)k * width, sum[k], lanes);
}

static void dw_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const dw_job *job = context;
  const int64_t begin = (int64_t)first * job->conv->out_h, end = begin + (int64_t)count * job->conv->out_h;
  const int rows = job->conv->out_w < STRIP_VALUES ? STRIP_VALUES / job->conv->out_w : 1;
  for (int64_t from = begin; from < end; from += rows) {
    const int64_t to = from + rows < end ? from + rows : end;
    for (int i = 0; i < width; i += VF_LANES)
      WITH_LANES(width - i, strip(job, from, to, channel + i, lanes, sums + i, width));
  }
}

void DFT_SIMD(dft_depthwise_dw)(const float *x, const float *dy, const dft_conv *conv,
                                const dft_shard_map *map, float *dw) {
  const dw_job job = {x, dy, conv};
  const dft_sums s = {.leaf = dw_leaf,
                      .job = &job,
                      .values = 9,
                      .c = conv->channels,
                      .work = 9LL * conv->out_h * conv->out_w * conv->channels,
                      .out32 = dw};
  dft_sum_shards(&s, map);
}
