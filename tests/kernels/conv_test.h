/* What the tests of the two 3x3 convolutions share: geometries, their definition, and finite differences. */
#ifndef CONV_TEST_H
#define CONV_TEST_H

#include "kernel_test.h"

static inline int outputs(int in, int stride, int before, int after) {
  return (in + before + after - 3) / stride + 1;
}

/* Padding `before` on top and left (top one less where it can be), `after` below and right. False when there
 * would be no output. */
static inline bool conv_of(dft_conv *g, int h, int w, int c, int stride, int before, int after) {
  if (h + before + after < 3 || w + before + after < 3) return false;
  *g = (dft_conv){.in_h = h,
                  .in_w = w,
                  .out_h = outputs(h, stride, before, after),
                  .out_w = outputs(w, stride, before, after),
                  .in_channels = c,
                  .channels = c,
                  .stride = stride,
                  .pad_top = before,
                  .pad_left = before};
  return true;
}

/* Calls check for sizes 1 ... 9 and a wide one, both strides, the paddings that Keras makes and some that it
 * does not. */
static inline void each_conv(int c, int in_channels, void (*check)(const dft_ops *ops, const dft_conv *g),
                             const dft_ops *ops) {
  static const int pads[][2] = {{1, 1}, {0, 1}, {0, 0}, {2, 1}};
  for (int h = 1; h <= 10; h++)
    for (int stride = 1; stride <= 2; stride++)
      for (size_t p = 0; p < sizeof pads / sizeof *pads; p++) {
        dft_conv g;
        const int w = h == 10 ? 41 : h % 2 == 0 ? h + 3 : h;
        if (!conv_of(&g, h, w, c, stride, pads[p][0], pads[p][1])) continue;
        g.in_channels = in_channels;
        check(ops, &g);
      }
}

static inline size_t in_values(const dft_conv *g) {
  return (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_channels;
}

static inline size_t out_values(const dft_conv *g) {
  return (size_t)g->out_h * (size_t)g->out_w * (size_t)g->channels;
}

/* sum of y*dy where y is the convolution of one sample, in double: the loss whose gradients the backward
 * kernels are. in_channels 3 and channels other than 3 (or `dense`): the stem, else depthwise. */
static inline double conv_loss(const float *x, const float *w, const float *dy, const dft_conv *g,
                               bool dense) {
  double loss = 0;
  for (int oh = 0; oh < g->out_h; oh++)
    for (int ow = 0; ow < g->out_w; ow++)
      for (int c = 0; c < g->channels; c++)
        for (int k = 0; k < 9; k++) {
          const int ih = oh * g->stride - g->pad_top + k / 3, iw = ow * g->stride - g->pad_left + k % 3;
          if (ih < 0 || ih >= g->in_h || iw < 0 || iw >= g->in_w) continue;
          const double d = dy[((size_t)oh * g->out_w + ow) * g->channels + c];
          const float *xp = x + ((size_t)ih * g->in_w + iw) * g->in_channels;
          if (!dense) loss += d * xp[c] * w[(size_t)k * g->channels + c];
          for (int i = 0; dense && i < 3; i++) loss += d * xp[i] * w[((size_t)k * 3 + i) * g->channels + c];
        }
  return loss;
}

/* (loss(p + h) - loss(p - h)) / 2h for value i of p, which is x or w. */
static inline double slope(const float *x, const float *w, const float *dy, const dft_conv *g, bool dense,
                           float *p, size_t i) {
  const float kept = p[i], up = kept + 0.125f, down = kept - 0.125f;
  p[i] = up;
  const double above = conv_loss(x, w, dy, g, dense);
  p[i] = down;
  const double below = conv_loss(x, w, dy, g, dense);
  p[i] = kept;
  return (above - below) / ((double)up - (double)down);
}

#endif
