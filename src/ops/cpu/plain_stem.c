#include "kernels.h"
#include "plain.h"
#include "sums.h"
#include <string.h>

/* The 27 inputs of one output pixel: patch[3][3][3], zeros outside the image. */
static void gather(const float *x, const dft_conv *conv, int oh, int ow, float *patch) {
  for (int kh = 0; kh < 3; kh++) {
    const int ih = oh * conv->stride - conv->pad_top + kh;
    for (int kw = 0; kw < 3; kw++, patch += 3) {
      const int iw = ow * conv->stride - conv->pad_left + kw;
      const bool inside = ih >= 0 && ih < conv->in_h && iw >= 0 && iw < conv->in_w;
      for (int i = 0; i < 3; i++) patch[i] = inside ? x[((int64_t)ih * conv->in_w + iw) * 3 + i] : 0;
    }
  }
}

static void forward_row(const float *x, const float *w, const dft_conv *conv, const dft_epilogue *epilogue,
                        int64_t row, float *y) {
  const int c = conv->channels;
  x += row / conv->out_h * conv->in_h * conv->in_w * 3;
  for (int ow = 0; ow < conv->out_w; ow++) {
    const int64_t at = (row * conv->out_w + ow) * c;
    float patch[27];
    gather(x, conv, (int)(row % conv->out_h), ow, patch);
    for (int ch = 0; ch < c; ch += PLAIN_BLOCK) {
      const int n = plain_min(c - ch, PLAIN_BLOCK);
      float sum[PLAIN_BLOCK] = {0};
      if (epilogue->bias != NULL) memcpy(sum, epilogue->bias + ch, (size_t)n * sizeof *sum);
      for (int k = 0; k < 27; k++) {
        const float *wp = w + (int64_t)k * c + ch;
#pragma omp simd
        for (int i = 0; i < n; i++) sum[i] += patch[k] * wp[i];
      }
      const float *residual = epilogue->residual == NULL ? NULL : epilogue->residual + at + ch;
      plain_store(sum, y + at + ch, residual, epilogue->relu6, n);
    }
  }
}

void dft_stem_plain(const float *x, const float *w, float *y, int samples, const dft_conv *conv,
                    const dft_epilogue *epilogue) {
  static const dft_epilogue nothing;
  const dft_epilogue *e = epilogue == NULL ? &nothing : epilogue;
  const int64_t rows = (int64_t)samples * conv->out_h;
  const int threads = dft_threads_for(rows * conv->out_w * conv->channels);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < rows; row++) forward_row(x, w, conv, e, row, y);
}

typedef struct dw_job {
  const float *x, *dy;
  const dft_conv *conv;
} dw_job;

static void dw_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const dw_job *job = context;
  const dft_conv *conv = job->conv;
  for (int64_t s = first; s < (int64_t)first + count; s++) {
    const float *x = job->x + s * conv->in_h * conv->in_w * 3;
    for (int64_t p = 0; p < (int64_t)conv->out_h * conv->out_w; p++) {
      const float *dy = job->dy + (s * conv->out_h * conv->out_w + p) * conv->channels + channel;
      float patch[27];
      gather(x, conv, (int)(p / conv->out_w), (int)(p % conv->out_w), patch);
      for (int k = 0; k < 27; k++)
        for (int i = 0; i < width; i++) sums[(int64_t)k * width + i] += (double)patch[k] * (double)dy[i];
    }
  }
}

void dft_stem_dw_plain(const float *x, const float *dy, const dft_conv *conv, const dft_shard_map *map,
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
