/* The first convolution: three input channels, so an output pixel is 27 scalars times vectors of channels.
 * Input rows are read in place where a run of outputs lies inside the image, else from a zero-padded copy. */
#include "stem.h"
#include "../kernels.h"
#include "../sums.h"
#include "lanes.h"
#include <string.h>

#define RUN       32                       /* output pixels whose input rows are fetched together */
#define RUN_PIXEL (2 * (RUN - 1) + 3)      /* input pixels they see at stride 2 */
#define TILE      (VF_LANES == 16 ? 8 : 4) /* output pixels side by side */
#define PAIR      (2 * VF_LANES)           /* channels that take each factor together */

typedef struct run {
  const float *row[3]; /* [pixels][3] from the first output's first column */
  float padded[3][RUN_PIXEL * 3];
} run;

/* The input rows of outputs [ow, ow + count) of row oh. */
static void fetch(const float *x, const dft_conv *g, int oh, int ow, int count, run *r) {
  const int iw = ow * g->stride - g->pad_left, pixels = (count - 1) * g->stride + 3;
  const int from = iw < 0 ? 0 : iw, to = iw + pixels > g->in_w ? g->in_w : iw + pixels;
  for (int kh = 0; kh < 3; kh++) {
    const int ih = oh * g->stride - g->pad_top + kh;
    const bool inside = ih >= 0 && ih < g->in_h;
    r->row[kh] = r->padded[kh];
    if (inside && to - from == pixels) {
      r->row[kh] = x + ((int64_t)ih * g->in_w + iw) * 3;
      continue;
    }
    memset(r->padded[kh], 0, sizeof r->padded[kh]);
    if (inside && to > from)
      memcpy(r->padded[kh] + (from - iw) * 3, x + ((int64_t)ih * g->in_w + from) * 3,
             (size_t)(to - from) * 3 * sizeof(float));
  }
}

/* Outputs p ... p + tile - 1 of the run, `vectors` vectors of channels; `at` is output p's place in y. */
INLINE void tile_outputs(const run *r, const float *w, const dft_conv *g, const dft_epilogue *e, int p,
                         int ch, int64_t at, int tile, int stride, int vectors, int lanes, float *y) {
  const int c = g->channels;
  vf sum[TILE][2];
  for (int v = 0; v < vectors; v++) {
    const vf bias = e->bias == NULL ? vf_zero() : vf_get(e->bias + ch + v * VF_LANES, lanes);
    for (int t = 0; t < tile; t++) sum[t][v] = bias;
  }
  for (int kh = 0; kh < 3; kh++) {
    const float *x = r->row[kh] + (int64_t)p * stride * 3;
    const float *wp = w + (int64_t)kh * 9 * c + ch;
#pragma GCC unroll 9
    for (int j = 0; j < 9; j++) {
      vf weight[2];
      for (int v = 0; v < vectors; v++) weight[v] = vf_get(wp + (int64_t)j * c + v * VF_LANES, lanes);
#pragma GCC unroll 8
      for (int t = 0; t < tile; t++) {
        const vf value = vf_set1(x[t * stride * 3 + j]);
        for (int v = 0; v < vectors; v++) sum[t][v] = vf_fma(value, weight[v], sum[t][v]);
      }
    }
  }
  for (int t = 0; t < tile; t++)
    for (int v = 0; v < vectors; v++) {
      const int64_t i = at + (int64_t)t * c + ch + v * VF_LANES;
      vf s = sum[t][v];
      if (e->residual != NULL) s = vf_add(s, vf_get(e->residual + i, lanes));
      vf_put(y + i, e->relu6 ? vf_relu6(s) : s, lanes);
    }
}

INLINE void run_outputs(const run *r, const float *w, const dft_conv *g, const dft_epilogue *e, int64_t at,
                        int count, int stride, float *y) {
  const int c = g->channels;
  for (int p = 0; p < count;) {
    const bool whole = count - p >= TILE;
    const int64_t here = at + (int64_t)p * c;
    int ch = 0;
    for (; whole && c - ch >= 2 * VF_LANES; ch += 2 * VF_LANES)
      tile_outputs(r, w, g, e, p, ch, here, TILE, stride, 2, VF_LANES, y);
    for (; ch < c; ch += VF_LANES) {
      const int lanes = c - ch < VF_LANES ? c - ch : VF_LANES;
      if (whole)
        tile_outputs(r, w, g, e, p, ch, here, TILE, stride, 1, lanes, y);
      else
        tile_outputs(r, w, g, e, p, ch, here, 1, stride, 1, lanes, y);
    }
    p += whole ? TILE : 1;
  }
}

void DFT_SIMD(dft_stem_row)(const float *x, const float *w, const dft_conv *g, const dft_epilogue *e, int oh,
                            int64_t at, float *y) {
  for (int ow = 0; ow < g->out_w; ow += RUN) {
    const int count = g->out_w - ow < RUN ? g->out_w - ow : RUN;
    run r;
    fetch(x, g, oh, ow, count, &r);
    if (g->stride == 1)
      run_outputs(&r, w, g, e, at + (int64_t)ow * g->channels, count, 1, y);
    else
      run_outputs(&r, w, g, e, at + (int64_t)ow * g->channels, count, 2, y);
  }
}

void DFT_SIMD(dft_stem)(const float *x, const float *w, float *y, int samples, const dft_conv *conv,
                        const dft_epilogue *epilogue) {
  static const dft_epilogue nothing;
  const dft_epilogue *e = epilogue == NULL ? &nothing : epilogue;
  const int64_t rows = (int64_t)samples * conv->out_h;
  const int threads = dft_threads_for(rows * conv->out_w * conv->channels);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < rows; row++) DFT_SIMD(dft_stem_row)
  (x + row / conv->out_h * conv->in_h * conv->in_w * 3, w, conv, e, (int)(row % conv->out_h),
   row * conv->out_w * conv->channels, y);
}

typedef struct dw_job {
  const float *x, *dy;
  const dft_conv *conv;
} dw_job;

/* sums[27] += the run's inputs times dy, one or two vectors of channels; nine taps in registers at a time.
 * What `soon` names, `at` floats on and as dy, is fetched on the way. */
INLINE void dw_run(const run *r, const float *dy, const float *const soon[2], ptrdiff_t at, const dft_conv *g,
                   int count, int stride, int vectors, int lanes, float (*sums)[DFT_STEM_WIDEST]) {
  for (int kh = 0; kh < 3; kh++) {
    vf sum[9][2], d[2];
#pragma GCC unroll 9
    for (int j = 0; j < 9; j++)
      for (int v = 0; v < vectors; v++) sum[j][v] = vf_load(sums[kh * 9 + j] + v * VF_LANES);
    for (int p = 0; p < count; p++) {
      const int64_t pixel = (int64_t)p * g->channels;
      for (int v = 0; v < vectors; v++) {
        d[v] = vf_get(dy + pixel + v * VF_LANES, lanes);
        if (kh < 2) __builtin_prefetch(soon[kh] + at + pixel + v * VF_LANES, 0, 2);
      }
      const float *x = r->row[kh] + (int64_t)p * stride * 3;
#pragma GCC unroll 9
      for (int j = 0; j < 9; j++) {
        const vf factor = vf_set1(x[j]);
        for (int v = 0; v < vectors; v++) sum[j][v] = vf_fma(factor, d[v], sum[j][v]);
      }
    }
#pragma GCC unroll 9
    for (int j = 0; j < 9; j++)
      for (int v = 0; v < vectors; v++) vf_store(sums[kh * 9 + j] + v * VF_LANES, sum[j][v]);
  }
}

void DFT_SIMD(dft_stem_dw_row)(const float *x, const dft_conv *g, int oh, const float *dy,
                               const float *const soon[2], int width, float (*sums)[DFT_STEM_WIDEST]) {
  for (int ow = 0; ow < g->out_w; ow += RUN) {
    const int count = g->out_w - ow < RUN ? g->out_w - ow : RUN;
    const ptrdiff_t at = (ptrdiff_t)ow * g->channels;
    run r;
    fetch(x, g, oh, ow, count, &r);
    int i = 0;
    for (; VF_LANES == 16 && width - i >= PAIR; i += PAIR) /* else there are too few registers */
      dw_run(&r, dy + at + i, soon, at + i, g, count, g->stride, 2, VF_LANES,
             (float(*)[DFT_STEM_WIDEST])(void *)(sums[0] + i));
    for (; i < width; i += VF_LANES)
      WITH_LANES(width - i, dw_run(&r, dy + at + i, soon, at + i, g, count, g->stride, 1, lanes,
                                   (float(*)[DFT_STEM_WIDEST])(void *)(sums[0] + i)));
  }
}

#define STRIP_VALUES 128 /* output pixels whose sums stay float32, rounded down to rows, at least one */

static void dw_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const dw_job *job = context;
  const dft_conv *g = job->conv;
  const int64_t begin = (int64_t)first * g->out_h, end = begin + (int64_t)count * g->out_h;
  const int rows = g->out_w < STRIP_VALUES ? STRIP_VALUES / g->out_w : 1;
  for (int64_t from = begin; from < end; from += rows) {
    float part[27][DFT_STEM_WIDEST] = {{0}};
    for (int64_t row = from; row < from + rows && row < end; row++) {
      const float *x = job->x + row / g->out_h * g->in_h * g->in_w * 3;
      const float *dy = job->dy + row * g->out_w * g->channels + channel, *const soon[2] = {dy, dy};
      DFT_SIMD(dft_stem_dw_row)(x, g, (int)(row % g->out_h), dy, soon, width, part);
    }
    for (int k = 0; k < 27; k++)
      for (int i = 0; i < width; i++) sums[(int64_t)k * width + i] += (double)part[k][i];
  }
}

void DFT_SIMD(dft_stem_dw)(const float *x, const float *dy, const dft_conv *conv, const dft_shard_map *map,
                           float *dw) {
  const dw_job job = {x, dy, conv};
  const dft_sums s = {.leaf = dw_leaf,
                      .job = &job,
                      .values = 27,
                      .c = conv->channels,
                      .work = 27LL * conv->out_h * conv->out_w * conv->channels,
                      .out32 = dw};
  dft_sum_shards(&s, map);
}
