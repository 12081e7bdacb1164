#include "kernels.h"
#include "plain.h"
#include "sums.h"
#include <string.h>

/* Channels [ch, ch + n) of one output pixel. */
static void forward_pixel(const float *x, const float *w, const dft_conv *conv, int oh, int ow, int ch, int n,
                          float *sum) {
  const int c = conv->channels;
  for (int kh = 0; kh < 3; kh++) {
    const int ih = oh * conv->stride - conv->pad_top + kh;
    if (ih < 0 || ih >= conv->in_h) continue;
    for (int kw = 0; kw < 3; kw++) {
      const int iw = ow * conv->stride - conv->pad_left + kw;
      if (iw < 0 || iw >= conv->in_w) continue;
      const float *xp = x + ((int64_t)ih * conv->in_w + iw) * c + ch;
      const float *wp = w + (int64_t)(kh * 3 + kw) * c + ch;
#pragma omp simd
      for (int i = 0; i < n; i++) sum[i] += xp[i] * wp[i];
    }
  }
}

static void forward_row(const float *x, const float *w, const dft_conv *conv, const dft_epilogue *epilogue,
                        int64_t row, float *y) {
  const int c = conv->channels, oh = (int)(row % conv->out_h);
  x += row / conv->out_h * conv->in_h * conv->in_w * c;
  for (int ow = 0; ow < conv->out_w; ow++) {
    const int64_t at = (row * conv->out_w + ow) * c;
    for (int ch = 0; ch < c; ch += PLAIN_BLOCK) {
      const int n = plain_min(c - ch, PLAIN_BLOCK);
      float sum[PLAIN_BLOCK] = {0};
      if (epilogue->bias != NULL) memcpy(sum, epilogue->bias + ch, (size_t)n * sizeof *sum);
      forward_pixel(x, w, conv, oh, ow, ch, n, sum);
      const float *residual = epilogue->residual == NULL ? NULL : epilogue->residual + at + ch;
      plain_store(sum, y + at + ch, residual, epilogue->relu6, n);
    }
  }
}

void dft_depthwise_plain(const float *x, const float *w, float *y, int samples, const dft_conv *conv,
                         const dft_epilogue *epilogue) {
  static const dft_epilogue nothing;
  const dft_epilogue *e = epilogue == NULL ? &nothing : epilogue;
  const int64_t rows = (int64_t)samples * conv->out_h;
  const int threads = dft_threads_for(rows * conv->out_w * conv->channels);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < rows; row++) forward_row(x, w, conv, e, row, y);
}

/* The output that reads input i through tap k, or -1. */
static int output_of(int i, int pad, int k, int stride, int outputs) {
  const int at = i + pad - k;
  return at >= 0 && at % stride == 0 && at / stride < outputs ? at / stride : -1;
}

static void dx_pixel(const float *dy, const float *w, const dft_conv *conv, int ih, int iw, int ch, int n,
                     float *sum) {
  const int c = conv->channels;
  for (int kh = 0; kh < 3; kh++) {
    const int oh = output_of(ih, conv->pad_top, kh, conv->stride, conv->out_h);
    if (oh < 0) continue;
    for (int kw = 0; kw < 3; kw++) {
      const int ow = output_of(iw, conv->pad_left, kw, conv->stride, conv->out_w);
      if (ow < 0) continue;
      const float *dyp = dy + ((int64_t)oh * conv->out_w + ow) * c + ch;
      const float *wp = w + (int64_t)(kh * 3 + kw) * c + ch;
#pragma omp simd
      for (int i = 0; i < n; i++) sum[i] += dyp[i] * wp[i];
    }
  }
}

static void dx_row(const float *dy, const float *w, const dft_conv *conv, int64_t row, float *dx) {
  const int c = conv->channels, ih = (int)(row % conv->in_h);
  dy += row / conv->in_h * conv->out_h * conv->out_w * c;
  for (int iw = 0; iw < conv->in_w; iw++) {
    for (int ch = 0; ch < c; ch += PLAIN_BLOCK) {
      const int n = plain_min(c - ch, PLAIN_BLOCK);
      float sum[PLAIN_BLOCK] = {0};
      dx_pixel(dy, w, conv, ih, iw, ch, n, sum);
      memcpy(dx + (row * conv->in_w + iw) * c + ch, sum, (size_t)n * sizeof *sum);
    }
  }
}

void dft_depthwise_dx_plain(const float *dy, const float *w, float *dx, int samples, const dft_conv *conv) {
  const int64_t rows = (int64_t)samples * conv->in_h;
  const int threads = dft_threads_for(rows * conv->in_w * conv->channels);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < rows; row++) dx_row(dy, w, conv, row, dx);
}

typedef struct dw_job {
  const float *x, *dy;
  const dft_conv *conv;
} dw_job;

static void dw_pixel(const dw_job *job, const float *x, const float *dyp, int oh, int ow, int channel,
                     int width, double *sums) {
  const dft_conv *conv = job->conv;
  for (int kh = 0; kh < 3; kh++) {
    const int ih = oh * conv->stride - conv->pad_top + kh;
    if (ih < 0 || ih >= conv->in_h) continue;
    for (int kw = 0; kw < 3; kw++) {
      const int iw = ow * conv->stride - conv->pad_left + kw;
      if (iw < 0 || iw >= conv->in_w) continue;
      const float *xp = x + ((int64_t)ih * conv->in_w + iw) * conv->channels + channel;
      double *sum = sums + (int64_t)(kh * 3 + kw) * width;
#pragma omp simd
      for (int i = 0; i < width; i++) sum[i] += (double)xp[i] * (double)dyp[i];
    }
  }
}

static void dw_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const dw_job *job = context;
  const dft_conv *conv = job->conv;
  for (int64_t s = first; s < (int64_t)first + count; s++) {
    const float *x = job->x + s * conv->in_h * conv->in_w * conv->channels;
    const float *dy = job->dy + s * conv->out_h * conv->out_w * conv->channels + channel;
    for (int oh = 0; oh < conv->out_h; oh++)
      for (int ow = 0; ow < conv->out_w; ow++, dy += conv->channels)
        dw_pixel(job, x, dy, oh, ow, channel, width, sums);
  }
}

void dft_depthwise_dw_plain(const float *x, const float *dy, const dft_conv *conv, const dft_shard_map *map,
                            float *dw) {
  const dw_job job = {x, dy, conv};
  const dft_sums s = {.leaf = dw_leaf,
                      .job = &job,
                      .values = 9,
                      .c = conv->channels,
                      .work = 9LL * conv->out_h * conv->out_w * conv->channels,
                      .out32 = dw};
  dft_sum_shards(&s, map);
}
