/* How a stage of frozen.h runs. */
#include "frozen.h"
#include "frozen_depthwise.h"
#include "frozen_stem.h"

#include <string.h>

/* One group of channels on its way through the border buffer. */
typedef struct passage {
  const stage *s;
  const workspace *space;
  const float *x; /* the input of a sample, or of all; words where the source's factors are bfloat16 */
  int group, channels;
  ptrdiff_t border_row; /* floats of a bordered row */
  int ready;            /* rows of the depthwise input before it are in the ring, or not needed */
} passage;

enum { NONE_YET = -100 };

static int min_int(int a, int b) {
  return a < b ? a : b;
}

static ptrdiff_t bordered_row(const stage *s) {
  return (ptrdiff_t)(s->conv.in_w + 2) * s->group;
}

static int border_rows(const stage *s) {
  return s->whole ? s->stack * s->conv.in_h : s->ring;
}

size_t DFT_SIMD(dft_stage_border)(const stage *s) {
  if (!s->depthwise) return 0;
  return (size_t)bordered_row(s) * (size_t)border_rows(s);
}

size_t DFT_SIMD(dft_stage_wide)(const stage *s, int samples) {
  if (!s->depthwise || !s->product) return 0;
  size_t rows = (size_t)(s->whole ? min_int(samples, s->pass) * s->conv.out_h : s->strip) * s->conv.out_w;
  if (s->layout != WIDE_ROUNDED) return rows * s->conv.channels;
  return (rows + ROUNDED_ROWS_PAST) * stage_wide_channels(s) / BF16_IN_WORD;
}

/* One row of the stem's outputs, the passage's channels of it. */
static void produce_stem(passage *p, int row, float *to, ptrdiff_t stride) {
  const stage *s = p->s;
  const dft_conv *c = &s->source_conv;
  stem_call call = {.in_w = c->in_w,
                    .pad_left = c->pad_left,
                    .w = s->source_w + (ptrdiff_t)p->group * s->group * STEM_TAPS,
                    .bias = s->source_bias + (ptrdiff_t)p->group * s->group,
                    .n = p->channels,
                    .relu6 = s->source_relu6,
                    .y = to,
                    .y_stride = stride};
  for (int r = 0; r < 3; r++) {
    const int at = row * c->stride - c->pad_top + r;
    call.rows[r] = at < 0 || at >= c->in_h ? p->space->zeros : p->x + (ptrdiff_t)at * 3 * c->in_w;
  }
  stem_row(&call, c->out_w, c->stride);
}

/* bfloat16 in memory as the words that products read (simd.h). */
static const float *words(const vf_bf16 *rounded) {
  return (const float *)(const void *)rounded;
}

/* Some rows of the source's product, into bordered rows. A group is one panel. */
static void produce_product(const passage *p, int row, int count, float *to) {
  const stage *s = p->s;
  const int width = s->conv.in_w, depth = s->source_conv.in_channels;
  const int k = s->source_pairs ? rounded_channels(depth) / BF16_IN_WORD : depth;
  panel_call call = {.x = p->x + (size_t)row * width * k,
                     .x_stride = k,
                     .w = s->source_w + (size_t)p->group * s->group * k,
                     .k = k,
                     .n = p->channels,
                     .bias = s->source_bias + (size_t)p->group * s->group,
                     .y = to,
                     .y_stride = s->group,
                     .y_row = width,
                     .y_gap = 2 * s->group,
                     .relu6 = s->source_relu6,
                     .pairs = VF_PAIRS && s->source_pairs};
  DFT_SIMD(dft_gemm_panel)(&call, count * width);
}

/* Writes `count` rows of the depthwise input to `to`, the first pixel inside the border. */
static void produce(passage *p, int row, int count, float *to) {
  const stage *s = p->s;
  const int width = s->conv.in_w;
  if (s->source == SOURCE_PRODUCT) {
    produce_product(p, row, count, to);
    return;
  }
  for (int end = row + count; row < end; row++, to += p->border_row) {
    if (s->source == SOURCE_STEM) {
      produce_stem(p, row, to, s->group);
    } else {
      const float *from = p->x + (size_t)row * width * s->conv.channels + (size_t)p->group * s->group;
      for (int column = 0; column < width; column++)
        memcpy(to + (ptrdiff_t)column * s->group, from + (size_t)column * s->conv.channels,
               (size_t)p->channels * sizeof(float));
    }
  }
}

static size_t wide_row_bytes(const stage *s) {
  return (size_t)s->conv.out_w * (size_t)stage_wide_channels(s) * (size_t)wide_bytes(s->layout);
}

/* Rows [row, row + count) of the depthwise outputs of the passage's group; its input's row i, if there is
 * one, is at border + (i & mask) rows. */
static void depthwise_outputs(const passage *p, const float *border, int mask, int row, int count,
                              char *wide) {
  enum { AT_ONCE = 8 };
  const stage *s = p->s;
  const dft_conv *c = &s->conv;
  const int first = p->group * s->group, stride = stage_wide_channels(s);
  const int shift = s->whole ? 0 : s->shift;
  const bool last = first + p->channels == c->channels;
  const float *rows[2 * (AT_ONCE - 1) + 3] = {NULL};
  depthwise_call call = {.rows = rows,
                         .w = s->depthwise_w + (size_t)first * 9,
                         .bias = s->depthwise_bias + first,
                         .relu6 = s->depthwise_relu6,
                         .out_stride = stride,
                         .out_w = c->out_w,
                         .channels = p->channels,
                         .padded = last ? stride - first : p->channels};
  for (; count > 0; count -= call.out_rows, row += call.out_rows) {
    call.out = wide;
    call.out_rows = min_int(count, AT_ONCE);
    call.top = row == 0;
    call.bottom = row + call.out_rows == c->out_h;
    for (int r = 0; r < (call.out_rows - 1) * c->stride + 3; r++) {
      const int at = row * c->stride - c->pad_top + r;
      rows[r] = at < 0 || at >= c->in_h ? p->space->zeros : border + ((at + shift) & mask) * p->border_row;
      rows[r] += (ptrdiff_t)(1 - c->pad_left) * s->group;
    }
    depthwise_rows(&call, s->group, s->way, s->layout);
    wide += call.out_rows * (ptrdiff_t)wide_row_bytes(s);
  }
}

/* The rows of its input that a row of depthwise outputs sees end here. */
static int input_end(const dft_conv *c, int row) {
  return min_int(row * c->stride - c->pad_top + 3, c->in_h);
}

/* Depthwise output rows [from, to) of one group by way of the ring; `wide` is where row `from` begins. */
static void run_ring(passage *p, int from, int to, char *wide) {
  const stage *s = p->s;
  const dft_conv *c = &s->conv;
  float *border = p->space->border;
  for (int row = from, next; row < to; row = next) {
    const int top = row * c->stride - c->pad_top, end = input_end(c, row);
    if (p->ready < top) p->ready = top;
    if (p->ready < 0) p->ready = 0;
    p->ready -= p->ready < end ? min_int((p->ready + s->shift) % s->batch, p->ready) : 0;
    while (p->ready < end) {
      const int at = p->ready + s->shift, count = min_int(s->batch - at % s->batch, c->in_h - p->ready);
      produce(p, p->ready, count, border + (at & (s->ring - 1)) * p->border_row + s->group);
      p->ready += count;
    }
    for (next = row + 1; next < to && input_end(c, next) <= p->ready;) next++;
    depthwise_outputs(p, border, s->ring - 1, row, next - row, wide);
    wide += (next - row) * (ptrdiff_t)wide_row_bytes(s);
  }
}

/* The border's columns are zero before a stage begins; its sources never write there. */
static passage begun(const stage *s, const workspace *space, const float *x) {
  size_t row = (size_t)bordered_row(s);
  for (int r = 0; r < border_rows(s); r++) {
    memset(space->border + r * row, 0, (size_t)s->group * sizeof(float));
    memset(space->border + (r + 1) * row - s->group, 0, (size_t)s->group * sizeof(float));
  }
  return (passage){.s = s, .space = space, .x = x, .border_row = (ptrdiff_t)row, .ready = NONE_YET};
}

static void set_group(passage *p, int group) {
  p->group = group;
  p->channels = min_int(p->s->conv.channels - group * p->s->group, p->s->group);
}

static int groups(const stage *s, const dft_conv *c) {
  return (c->channels + s->group - 1) / s->group;
}

/* Output rows [from, to) of the depthwise convolution of one sample, all groups. A lone group goes on where
 * it was. */
static void run_rows(passage *p, int from, int to, float *wide) {
  const int count = groups(p->s, &p->s->conv);
  for (int group = 0; group < count; group++) {
    set_group(p, group);
    if (count > 1) p->ready = NONE_YET;
    run_ring(p, from, to, (char *)wide + group * p->s->group * wide_channel_bytes(p->s->layout));
  }
}

/* The depthwise convolution of all samples, whole images at a time: as many as the border buffer has room
 * for. A group goes through all samples before the next, so that its weights stay in L1. */
static void run_whole(const stage *s, const workspace *space, const float *x, float *wide, int samples) {
  const dft_conv *c = &s->conv;
  const size_t image_bytes = wide_row_bytes(s) * (size_t)c->out_h;
  passage p = begun(s, space, x);
  for (int group = 0; group < groups(s, c); group++) {
    char *to = (char *)wide + group * s->group * wide_channel_bytes(s->layout);
    set_group(&p, group);
    for (int first = 0; first < samples; first += s->stack) {
      const int count = min_int(samples - first, s->stack);
      produce(&p, first * c->in_h, count * c->in_h, space->border + s->group);
      for (int i = 0; i < count; i++, to += image_bytes)
        depthwise_outputs(&p, space->border + i * c->in_h * p.border_row, -1, 0, c->out_h, to);
    }
  }
}

/* `x`: words where the product's factors are bfloat16. */
static void run_product(const stage *s, const float *x, const float *residual, tensor y, int64_t rows) {
#if VF_LANES == 16
  if (s->layout == WIDE_TWINS) {
    const twins_call call = {.x = x,
                             .w = s->product_w,
                             .bias = s->product_bias,
                             .k = s->product_k,
                             .n = s->product_n,
                             .residual = residual,
                             .y = y.values};
    DFT_SIMD(dft_twins_run)(&call, rows);
    return;
  }
#endif
  int k = s->layout == WIDE_ROUNDED ? rounded_channels(s->product_k) / BF16_IN_WORD : s->product_k;
  /* The output of the last convolution is large, and the caller's: not in the caches. */
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
                     .pairs = VF_PAIRS && s->layout == WIDE_ROUNDED,
                     .rounded = y.rounded,
                     .rounded_stride = rounded_channels(s->product_n),
                     .only_rounded = y.only_rounded,
                     .far = !s->depthwise ? y.values : NULL};
  DFT_SIMD(dft_gemm_whole)(&call, rows);
}

/* The stem alone. */
static void run_stem(const stage *s, const workspace *space, const float *x, float *y) {
  const dft_conv *c = &s->source_conv;
  passage p = {.s = s, .space = space, .x = x};
  for (int row = 0; row < c->out_h; row++, y += (size_t)c->out_w * c->channels)
    for (p.group = 0; p.group < groups(s, c); p.group++) {
      p.channels = min_int(c->channels - p.group * s->group, s->group);
      produce_stem(&p, row, y + (size_t)p.group * s->group, c->channels);
    }
}

/* One sample by strips; `source` is what the depthwise convolution's source reads. */
static void run_strips(const stage *s, const workspace *space, const float *source, const float *x,
                       tensor y) {
  const dft_conv *c = &s->conv;
  passage p = begun(s, space, source);
  for (int from = 0; from < c->out_h; from += s->strip) {
    int to = min_int(from + s->strip, c->out_h);
    size_t pixel = (size_t)from * c->out_w, at = pixel * s->product_n;
    tensor strip = y;
    strip.values += at;
    if (y.rounded) strip.rounded += pixel * rounded_channels(s->product_n);
    run_rows(&p, from, to, space->wide);
    run_product(s, space->wide, s->residual ? x + at : NULL, strip, (int64_t)(to - from) * c->out_w);
  }
}

/* A stage whose samples go one at a time. */
static void run_sample(const stage *s, const workspace *space, const float *source, const float *x,
                       tensor y) {
  if (!s->depthwise) {
    run_stem(s, space, x, y.values);
  } else if (s->product) {
    run_strips(s, space, source, x, y);
  } else {
    passage p = begun(s, space, source);
    run_rows(&p, 0, s->conv.out_h, y.values);
  }
}

/* Some samples of a stage that takes whole images: as many as their wide tensor has room for. */
static void run_pass(const stage *s, const workspace *space, const float *source, const float *x, tensor y,
                     int samples) {
  run_whole(s, space, source, space->wide, samples);
  run_product(s, space->wide, s->residual ? x : NULL, y, (int64_t)samples * s->out_pixels);
}

static tensor sample_of(const stage *s, tensor t, int sample) {
  t.values += (size_t)sample * (size_t)s->out_floats;
  if (t.rounded) t.rounded += (size_t)sample * (size_t)s->out_rounded;
  return t;
}

void DFT_SIMD(dft_stage_run)(const stage *s, const workspace *space, const float *x, const vf_bf16 *x_rounded,
                             tensor y, int samples) {
  bool rounded = stage_reads_rounded(s);
  const float *source = rounded ? words(x_rounded) : x;
  const size_t in = (size_t)s->in_floats, source_floats = rounded ? (size_t)s->in_rounded / BF16_IN_WORD : in;
  if (!s->depthwise && s->product) {
    run_product(s, source, s->residual ? x : NULL, y, (int64_t)samples * s->out_pixels);
  } else if (s->whole && !s->product) {
    run_whole(s, space, source, y.values, samples);
  } else if (s->whole) {
    for (int i = 0; i < samples; i += s->pass)
      run_pass(s, space, source + i * source_floats, x + i * in, sample_of(s, y, i),
               min_int(samples - i, s->pass));
  } else {
    for (int i = 0; i < samples; i++)
      run_sample(s, space, source + i * source_floats, x + i * in, sample_of(s, y, i));
  }
}
