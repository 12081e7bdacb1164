/* How a stage of frozen.h runs. */
#include "frozen.h"
#include "frozen_depthwise.h"

#include <string.h>

enum { RING_ROWS = 4, STEM_TAPS = 27 };

/* One group of channels of one sample on its way through the border buffer. */
typedef struct passage {
  const stage *s;
  const workspace *space;
  const float *x; /* the sample's input; words where the source's factors are bfloat16 */
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
  size_t rows = (size_t)(s->whole ? samples * s->conv.out_h : s->strip) * s->conv.out_w;
  if (!s->product_pairs) return rows * s->conv.channels;
  return (rows + ROUNDED_ROWS_PAST) * stage_wide_channels(s) / 2;
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

/* bfloat16 in memory as words of two (gemm_panel.h). */
static const float *words(const uint16_t *rounded) {
  return (const float *)(const void *)rounded;
}

/* Some channels of the source's product for pixels that lie together in `x`, k words each, into `to`. */
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
                     .relu6 = s->source_relu6,
                     .pairs = s->source_pairs};
  DFT_SIMD(dft_gemm_panel)(&call, pixels);
}

/* Writes one row of the depthwise input, or all of them (count = in_h), to `to`, the first pixel inside the
 * border. */
static void produce(const passage *p, int row, int count, float *to) {
  const stage *s = p->s;
  int width = s->conv.in_w;
  ptrdiff_t gap = 2 * PANEL;
  if (s->source == SOURCE_PRODUCT) {
    int k = s->source_pairs ? rounded_channels(s->source_conv.in_channels) / 2 : s->source_conv.in_channels;
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

static size_t wide_bytes(const stage *s) {
  return s->product_pairs ? sizeof(uint16_t) : sizeof(float);
}

/* Depthwise output rows [from, to) of one group; `wide` is where row `from` begins. */
static void run_rows(const passage *p, int from, int to, char *wide) {
  const stage *s = p->s;
  const dft_conv *c = &s->conv;
  const float *weights = s->depthwise_w + (size_t)p->group * 9 * PANEL;
  const float *bias = s->depthwise_bias + (size_t)p->group * PANEL;
  float *border = p->space->border;
  int wide_stride = stage_wide_channels(s);
  size_t wide_row = (size_t)c->out_w * wide_stride * wide_bytes(s);
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
    depthwise_row(in, weights, bias, s->depthwise_relu6, wide + (size_t)(row - from) * wide_row, wide_stride,
                  c->out_w, p->channels, c->stride, s->product_pairs);
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
 * samples before the next, so that its weights stay in L1. `x` is as passage says. */
static void run_depthwise(const stage *s, const workspace *space, const float *x, int from, int to,
                          float *wide, int samples) {
  const dft_conv *c = &s->conv;
  size_t value = wide_bytes(s),
         sample_bytes = (size_t)(to - from) * c->out_w * stage_wide_channels(s) * value;
  size_t sample_words = (size_t)(s->source_pairs ? s->in_rounded / 2 : s->in_floats);
  passage p = {.s = s, .space = space, .border_row = bordered_row(c)};
  clear_border(s, space);
  for (p.group = 0; p.group * PANEL < c->channels; p.group++) {
    p.channels = min_int(c->channels - p.group * PANEL, PANEL);
    for (int sample = 0; sample < samples; sample++) {
      p.x = x + sample * sample_words;
      run_rows(&p, from, to, (char *)wide + sample * sample_bytes + (size_t)p.group * PANEL * value);
    }
  }
}

/* `x`: words where the product's factors are bfloat16. */
static void run_product(const stage *s, const float *x, const float *residual, tensor y, int64_t rows) {
  int k = s->product_pairs ? rounded_channels(s->product_k) / 2 : s->product_k;
  panel_call call = {.x = x,
                     .x_stride = k,
                     .w = s->product_w,
                     .k = k,
                     .n = s->product_n,
                     .bias = s->product_bias,
                     .residual = residual,
                     .y = y.values,
                     .y_stride = s->product_n,
                     .relu6 = s->product_relu6,
                     .pairs = s->product_pairs,
                     .rounded = y.rounded,
                     .rounded_stride = rounded_channels(s->product_n)};
  DFT_SIMD(dft_gemm_whole)(&call, rows);
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

/* One sample by strips; `source` is what the depthwise convolution's source reads. */
static void run_strips(const stage *s, const workspace *space, const float *source, const float *x,
                       tensor y) {
  const dft_conv *c = &s->conv;
  for (int from = 0; from < c->out_h; from += s->strip) {
    int to = min_int(from + s->strip, c->out_h);
    size_t pixel = (size_t)from * c->out_w, at = pixel * s->product_n;
    tensor strip = {y.values + at, y.rounded ? y.rounded + pixel * rounded_channels(s->product_n) : NULL};
    run_depthwise(s, space, source, from, to, space->wide, 1);
    run_product(s, space->wide, s->residual ? x + at : NULL, strip, (int64_t)(to - from) * c->out_w);
  }
}

/* A stage whose samples go one at a time. */
static void run_sample(const stage *s, const workspace *space, const float *source, const float *x,
                       tensor y) {
  if (!s->depthwise)
    run_stem(s, space, x, y.values);
  else if (s->product)
    run_strips(s, space, source, x, y);
  else
    run_depthwise(s, space, source, 0, s->conv.out_h, y.values, 1);
}

void DFT_SIMD(dft_stage_run)(const stage *s, const workspace *space, const float *x,
                             const uint16_t *x_rounded, tensor y, int samples) {
  bool rounded = stage_reads_rounded(s);
  const float *source = rounded ? words(x_rounded) : x;
  const float *residual = s->residual ? x : NULL;
  int64_t rows = (int64_t)samples * s->out_pixels;
  if (!s->depthwise && s->product) {
    run_product(s, source, residual, y, rows);
  } else if (s->whole) {
    run_depthwise(s, space, source, 0, s->conv.out_h, s->product ? space->wide : y.values, samples);
    if (s->product) run_product(s, space->wide, residual, y, rows);
  } else {
    size_t in = (size_t)s->in_floats, out = (size_t)s->out_floats;
    for (int i = 0; i < samples; i++) {
      tensor to = {y.values + i * out, y.rounded ? y.rounded + (size_t)i * s->out_rounded : NULL};
      run_sample(s, space, source + i * (rounded ? (size_t)s->in_rounded / 2 : in), x + i * in, to);
    }
  }
}
