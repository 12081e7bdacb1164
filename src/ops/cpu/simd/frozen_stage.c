/* How a stage of frozen.h runs. */
#include "frozen.h"
#include "frozen_depthwise.h"

#include <string.h>

enum { RING_ROWS = 4, STEM_TAPS = 27 };

/* One group of channels of one sample on its way through the border buffer. */
typedef struct passage {
  const stage *s;
  const workspace *space;
  const float *x; /* the sample's input */
  int group, channels;
  ptrdiff_t border_row; /* floats of a bordered row */
} passage;

static int min_int(int a, int b) {
  return a < b ? a : b;
}

static ptrdiff_t bordered_row(const dft_conv *c) {
  return (ptrdiff_t)(c->in_w + 2) * PANEL;
}

size_t DFT_SIMD(dft_stage_border)(const stage *s) {
  if (!s->depthwise) return 0;
  return (size_t)bordered_row(&s->conv) * (size_t)(s->whole ? s->conv.in_h + 2 : RING_ROWS);
}

size_t DFT_SIMD(dft_stage_wide)(const stage *s, int samples) {
  if (!s->depthwise || !s->product) return 0;
  return (size_t)(s->whole ? samples * s->conv.out_h : s->strip) * s->conv.out_w * s->conv.channels;
}

/* Row `row` of the stem's input as [out_w][27]: what each output's window holds, zero outside the image. */
static void gather(const dft_conv *c, const float *x, int row, float *patch) {
  int in_row = 3 * c->in_w, top = row * c->stride - c->pad_top;
  for (int column = 0; column < c->out_w; column++, patch += STEM_TAPS) {
    int from = 3 * (column * c->stride - c->pad_left);
    for (int r = 0; r < 3; r++) {
      float *to = patch + 9 * r;
      if (top + r < 0 || top + r >= c->in_h) {
        memset(to, 0, 9 * sizeof(float));
      } else if (from >= 0 && from + 9 <= in_row) {
        memcpy(to, x + (size_t)(top + r) * in_row + from, 9 * sizeof(float));
      } else {
        for (int i = 0; i < 9; i++)
          to[i] = from + i >= 0 && from + i < in_row ? x[(size_t)(top + r) * in_row + from + i] : 0;
      }
    }
  }
}

/* Some channels of the source's product for pixels that lie together in `x`, into `to`. */
static void source_product(const stage *s, const float *x, int k, int pixels, int group, int channels,
                           float *to, ptrdiff_t stride, int row, ptrdiff_t gap) {
  panel_call call = {.x = x,
                     .x_stride = k,
                     .w = s->source_w + (size_t)group * PANEL * k,
                     .k = k,
                     .n = channels,
                     .bias = s->source_bias + (size_t)group * PANEL,
                     .y = to,
                     .y_stride = stride,
                     .y_row = row,
                     .y_gap = gap,
                     .relu6 = s->source_relu6};
  DFT_SIMD(dft_gemm_panel)(&call, pixels);
}

/* Writes one row of the depthwise input, or all of them (count = in_h), to `to`, the first pixel inside the
 * border. */
static void produce(const passage *p, int row, int count, float *to) {
  const stage *s = p->s;
  int width = s->conv.in_w;
  ptrdiff_t gap = 2 * PANEL;
  if (s->source == SOURCE_PRODUCT) {
    int k = s->source_conv.in_channels;
    source_product(s, p->x + (size_t)row * width * k, k, count * width, p->group, p->channels, to, PANEL,
                   width, gap);
    return;
  }
  for (int end = row + count; row < end; row++, to += p->border_row) {
    if (s->source == SOURCE_STEM) {
      gather(&s->source_conv, p->x, row, p->space->patch);
      source_product(s, p->space->patch, STEM_TAPS, width, p->group, p->channels, to, PANEL, 0, 0);
    } else {
      const float *from = p->x + (size_t)row * width * s->conv.channels + (size_t)p->group * PANEL;
      for (int column = 0; column < width; column++)
        memcpy(to + (ptrdiff_t)column * PANEL, from + (size_t)column * s->conv.channels,
               (size_t)p->channels * sizeof(float));
    }
  }
}

/* Depthwise output rows [from, to) of one group; `wide` is where row `from` begins. */
static void run_rows(const passage *p, int from, int to, float *wide) {
  const stage *s = p->s;
  const dft_conv *c = &s->conv;
  const float *weights = s->depthwise_w + (size_t)p->group * 9 * PANEL;
  const float *bias = s->depthwise_bias + (size_t)p->group * PANEL;
  float *border = p->space->border;
  int ready = from * c->stride - c->pad_top; /* input rows before it are in the buffer, or not needed */
  if (ready < 0) ready = 0;
  if (s->whole) {
    produce(p, 0, c->in_h, border + PANEL);
    ready = c->in_h;
  }
  for (int row = from; row < to; row++) {
    int top = row * c->stride - c->pad_top;
    for (int end = min_int(top + 3, c->in_h); ready < end; ready++)
      produce(p, ready, 1, border + ready % RING_ROWS * p->border_row + PANEL);
    const float *in[3];
    for (int r = 0; r < 3; r++) {
      int at = top + r;
      in[r] = at < 0 || at >= c->in_h ? p->space->zeros
                                      : border + (s->whole ? at : at % RING_ROWS) * p->border_row;
      in[r] += (ptrdiff_t)(1 - c->pad_left) * PANEL;
    }
    depthwise_row(in, weights, bias, s->depthwise_relu6, wide + (size_t)(row - from) * c->out_w * c->channels,
                  c->channels, c->out_w, p->channels, c->stride);
  }
}

/* The border's columns are zero before a stage begins; its sources never write there. */
static void clear_border(const stage *s, const workspace *space) {
  size_t row = (size_t)bordered_row(&s->conv);
  int rows = s->whole ? s->conv.in_h : RING_ROWS;
  for (int r = 0; r < rows; r++) {
    memset(space->border + r * row, 0, PANEL * sizeof(float));
    memset(space->border + (r + 1) * row - PANEL, 0, PANEL * sizeof(float));
  }
}

/* Output rows [from, to) of the depthwise convolution of all samples, to `wide`. A group goes through all
 * samples before the next, so that its weights stay in L1. */
static void run_depthwise(const stage *s, const workspace *space, const float *x, int from, int to,
                          float *wide, int samples) {
  const dft_conv *c = &s->conv;
  size_t sample_floats = (size_t)(to - from) * c->out_w * c->channels;
  passage p = {.s = s, .space = space, .border_row = bordered_row(c)};
  clear_border(s, space);
  for (p.group = 0; p.group * PANEL < c->channels; p.group++) {
    p.channels = min_int(c->channels - p.group * PANEL, PANEL);
    for (int sample = 0; sample < samples; sample++) {
      p.x = x + (size_t)sample * s->in_floats;
      run_rows(&p, from, to, wide + sample * sample_floats + (size_t)p.group * PANEL);
    }
  }
}

static void run_product(const stage *s, const float *x, const float *residual, float *y, int64_t rows) {
  dft_epilogue epilogue = {s->product_bias, residual, s->product_relu6};
  DFT_SIMD(dft_gemm_serial)(x, s->product_w, y, rows, s->product_k, s->product_n, &epilogue);
}

/* The stem alone. */
static void run_stem(const stage *s, const workspace *space, const float *x, float *y) {
  const dft_conv *c = &s->source_conv;
  for (int row = 0; row < c->out_h; row++, y += (size_t)c->out_w * c->channels) {
    gather(c, x, row, space->patch);
    for (int group = 0; group * PANEL < c->channels; group++)
      source_product(s, space->patch, STEM_TAPS, c->out_w, group, min_int(c->channels - group * PANEL, PANEL),
                     y + (size_t)group * PANEL, c->channels, 0, 0);
  }
}

/* One sample by strips. */
static void run_strips(const stage *s, const workspace *space, const float *x, float *y) {
  const dft_conv *c = &s->conv;
  for (int from = 0; from < c->out_h; from += s->strip) {
    int to = min_int(from + s->strip, c->out_h);
    size_t at = (size_t)from * c->out_w * s->product_n;
    run_depthwise(s, space, x, from, to, space->wide, 1);
    run_product(s, space->wide, s->residual ? x + at : NULL, y + at, (int64_t)(to - from) * c->out_w);
  }
}

void DFT_SIMD(dft_stage_run)(const stage *s, const workspace *space, const float *x, float *y, int samples) {
  if (!s->depthwise && s->product) {
    run_product(s, x, s->residual ? x : NULL, y, (int64_t)samples * s->out_pixels);
  } else if (s->whole) {
    run_depthwise(s, space, x, 0, s->conv.out_h, s->product ? space->wide : y, samples);
    if (s->product) run_product(s, space->wide, s->residual ? x : NULL, y, (int64_t)samples * s->out_pixels);
  } else {
    for (int sample = 0; sample < samples; sample++, x += s->in_floats, y += s->out_floats) {
      if (!s->depthwise)
        run_stem(s, space, x, y);
      else if (s->product)
        run_strips(s, space, x, y);
      else
        run_depthwise(s, space, x, 0, s->conv.out_h, y, 1);
    }
  }
}
