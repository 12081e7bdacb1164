/* Rows in L1 for the fused depthwise kernels: a group of channels, zero-padded at both ends. */
#ifndef DFT_SIMD_TRAIN_DEPTHWISE_H
#define DFT_SIMD_TRAIN_DEPTHWISE_H

#include "../tasks.h"
#include "gemm_panel.h"
#include "train.h"
#include <string.h>

enum {
  GROUP = 48,          /* channels: every expanded width is a multiple of it */
  RING_FLOATS = 49152, /* all rows of a kernel, on the stack; wider images are not fused */
  FLUSH_VALUES = 256,  /* after so many pixels, rounded up to rows, float32 sums join float64 ones */
  SIDE = 4             /* outputs side by side */
};

/* Three rows of `columns` pixels of GROUP channels; input row r lies in slot (r + 3) % 3. */
typedef struct ring {
  float *rows;
  int columns;
} ring;

static inline float *ring_row(const ring *r, int row) {
  return r->rows + (ptrdiff_t)((row + 3) % 3) * r->columns * GROUP;
}

/* Columns that outputs [0, out_w) read, and the image itself. */
static inline int ring_columns(const dft_conv *g) {
  const int read = (g->out_w - 1) * g->stride + 3, image = g->pad_left + g->in_w;
  return read > image ? read : image;
}

/* Brings row `row` of the image z (its first channel of the group) into the ring; zeros outside. */
static inline void ring_fetch(const ring *r, const dft_conv *g, const float *z, const dft_norm *norm, int ch,
                              int width, int row) {
  float *to = ring_row(r, row);
  if (row < 0 || row >= g->in_h) {
    memset(to, 0, (size_t)r->columns * GROUP * sizeof *to);
    return;
  }
  memset(to, 0, (size_t)g->pad_left * GROUP * sizeof *to);
  to += (ptrdiff_t)g->pad_left * GROUP;
  const float *from = z + (ptrdiff_t)row * g->in_w * g->channels;
  if (norm != NULL)
    normalise(from, g->channels, norm, ch, g->in_w, width, to, GROUP);
  else
    for (int i = 0; i < g->in_w; i++)
      memcpy(to + (ptrdiff_t)i * GROUP, from + (ptrdiff_t)i * g->channels, (size_t)width * sizeof *to);
  memset(to + (ptrdiff_t)g->in_w * GROUP, 0,
         (size_t)(r->columns - g->pad_left - g->in_w) * GROUP * sizeof *to);
}

/* An expansion (train_pair.c) whose output is not stored, of one sample: y = relu6(x . w + shift), w with the
 * BatchNorm's scale in it. */
typedef struct expansion {
  const float *x; /* [pixels][k] */
  int k;
  const float *w; /* packed for each group of channels: [k][GROUP] */
  const float *shift;
  /* Backward, with g the gated gradient of y: */
  const float *back; /* w^T, packed */
  float *products;   /* [k][c] += x^T . g; NULL: nothing below the depthwise layer trains */
  float *dx;         /* [pixels][k] = skip + g . w^T, or NULL */
  const float *skip;
} expansion;

/* ring_fetch of the group of channels from ch on, from an expansion. */
static inline void ring_expand(const ring *r, const dft_conv *g, const expansion *e, int ch, int row) {
  float *to = ring_row(r, row);
  if (row < 0 || row >= g->in_h) {
    memset(to, 0, (size_t)r->columns * GROUP * sizeof *to);
    return;
  }
  memset(to, 0, (size_t)g->pad_left * GROUP * sizeof *to);
  to += (ptrdiff_t)g->pad_left * GROUP;
  const panel_call call = {.x = e->x + (ptrdiff_t)row * g->in_w * e->k,
                           .x_stride = e->k,
                           .w = e->w + (ptrdiff_t)ch * e->k,
                           .k = e->k,
                           .n = GROUP,
                           .bias = e->shift + ch,
                           .y = to,
                           .y_stride = GROUP,
                           .relu6 = true};
  DFT_SIMD(dft_gemm_whole)(&call, g->in_w);
  memset(to + (ptrdiff_t)g->in_w * GROUP, 0,
         (size_t)(r->columns - g->pad_left - g->in_w) * GROUP * sizeof *to);
}

/* Forward of one group of a sample's channels, [ch, ch + width), of what t->x stores or `e` makes. */
void DFT_SIMD(dft_depthwise_group)(const dft_train_conv *t, const expansion *e, int s, int ch, int width,
                                   float *z, double *part);
/* The same of small images that are stored, of 3x3 pixels and of 6x6 and 7x7; and backward, as backward_group
 * in train_depthwise_backward.c. */
bool DFT_SIMD(dft_depthwise_is_3x3)(const dft_conv *g);
void DFT_SIMD(dft_depthwise_3x3_group)(const dft_train_conv *t, int s, int ch, int width, float *z,
                                       double *part);
void DFT_SIMD(dft_depthwise_3x3_backward_group)(const dft_train_conv *t, const dft_train_gradient *g, int s,
                                                int ch, int width, float *taps, double *below);
bool DFT_SIMD(dft_depthwise_is_small)(const dft_conv *g);
void DFT_SIMD(dft_depthwise_small_group)(const dft_train_conv *t, int s, int ch, int width, float *z,
                                         double *part);
void DFT_SIMD(dft_depthwise_small_backward_group)(const dft_train_conv *t, const dft_train_gradient *g, int s,
                                                  int ch, int width, float *taps, double *below);
/* Backward of one sample above an expansion: taps[9][c], and below[c], the sums of g. */
void DFT_SIMD(dft_expanded_backward)(const dft_train_conv *t, const dft_train_gradient *g, const expansion *e,
                                     int s, float *taps, double *below);
bool DFT_SIMD(dft_depthwise_fits)(const dft_conv *g);
bool DFT_SIMD(dft_expanded_fits)(const dft_conv *g);

/* What kernels that take a vector of channels of a whole image have in common: z through its norm, or as it
 * is without one; dz (dft_norm); and dx on its way out. */
typedef struct norm_vector {
  const dft_norm *norm; /* or NULL */
  vf scale, shift, low, high;
} norm_vector;

INLINE norm_vector open_norm(const dft_norm *n, int ch, int lanes) {
  norm_vector v = {.norm = n};
  if (n == NULL) return v;
  v.scale = vf_get(n->scale + ch, lanes);
  v.shift = vf_get(n->shift + ch, lanes);
  v.low = vf_set1(n->relu6 ? 0 : -INFINITY);
  v.high = vf_set1(n->relu6 ? 6 : INFINITY);
  return v;
}

INLINE vf norm_of(const norm_vector *v, vf z) {
  return v->norm == NULL ? z : vf_min(v->high, vf_max(v->low, vf_fma(z, v->scale, v->shift)));
}

typedef struct gradient_vector {
  bool relu6;
  vf scale, shift, a, b, d;
} gradient_vector;

INLINE gradient_vector open_gradient(const dft_norm *n, int ch, int lanes) {
  return (gradient_vector){.relu6 = n->relu6,
                           .scale = vf_get(n->scale + ch, lanes),
                           .shift = vf_get(n->shift + ch, lanes),
                           .a = vf_get(n->a + ch, lanes),
                           .b = n->b == NULL ? vf_zero() : vf_get(n->b + ch, lanes),
                           .d = n->d == NULL ? vf_zero() : vf_get(n->d + ch, lanes)};
}

INLINE vf gradient_of(const gradient_vector *v, vf dy, vf z) {
  if (v->relu6) dy = vf_gate6(vf_fma(z, v->scale, v->shift), dy);
  return vf_fma(v->a, dy, vf_fma(v->b, z, v->d));
}

typedef struct dx_vector {
  const dft_train_gradient *g;
  const dft_norm *norm; /* of the BatchNorm below; NULL: no sums */
  vf scale, shift, mean, beta, gamma;
} dx_vector;

INLINE dx_vector open_dx(const dft_train_gradient *g, bool sums, int ch, int lanes) {
  dx_vector v = {.g = g, .norm = sums ? g->below_norm : NULL};
  if (!sums) return v;
  v.scale = vf_get(v.norm->scale + ch, lanes);
  v.shift = vf_get(v.norm->shift + ch, lanes);
  v.mean = vf_get(v.norm->mean + ch, lanes);
  v.beta = v.gamma = vf_zero();
  return v;
}

/* Skip added, stored, summed. */
INLINE void put_dx(dx_vector *v, ptrdiff_t at, vf dx, int lanes) {
  if (v->g->skip != NULL) dx = vf_add(dx, vf_get(v->g->skip + at, lanes));
  vf_put(v->g->dx + at, dx, lanes);
  if (v->norm == NULL) return;
  const vf z = vf_get(v->g->below_z + at, lanes);
  if (v->norm->relu6) dx = vf_gate6(vf_fma(z, v->scale, v->shift), dx);
  v->beta = vf_add(v->beta, dx);
  v->gamma = vf_fma(dx, vf_sub(z, v->mean), v->gamma);
}

/* sums[0 ... ) and sums[c ... ) of the vector's channels. */
INLINE void close_dx(const dx_vector *v, int c, int lanes, double *sums) {
  if (v->norm == NULL) return;
  vf_put_doubles(sums, v->beta, lanes);
  vf_put_doubles(sums + c, v->gamma, lanes);
}

/* Calls statement with `count` constant for whole runs of SIDE and for what is left. */
#define IN_RUNS(total, statement)                                                                            \
  do {                                                                                                       \
    int at = 0;                                                                                              \
    for (; (total)-at >= SIDE; at += SIDE) {                                                                 \
      enum { count = SIDE };                                                                                 \
      statement;                                                                                             \
    }                                                                                                        \
    for (; at < (total); at++) {                                                                             \
      enum { count = 1 };                                                                                    \
      statement;                                                                                             \
    }                                                                                                        \
  } while (0)

/* sum[o] of outputs at, at + 1, ...: nine taps in order. in[3] are bordered rows, first tap of output 0. */
INLINE void nine_taps(const float *const in[3], const vf w[9], int at, int stride, int count, int lanes,
                      vf *sum) {
#pragma GCC unroll 4
  for (int o = 0; o < count; o++) sum[o] = vf_zero();
#pragma GCC unroll 3
  for (int r = 0; r < 3; r++)
#pragma GCC unroll 9
    for (int j = 0; j < (count - 1) * stride + 3; j++) {
      const vf value = vf_get(in[r] + (ptrdiff_t)(at * stride + j) * GROUP, lanes);
#pragma GCC unroll 4
      for (int o = 0; o < count; o++) {
        const int tap = j - o * stride;
        if (tap >= 0 && tap < 3) sum[o] = vf_fma(value, w[3 * r + tap], sum[o]);
      }
    }
}

/* Output rows after which float32 sums join float64 ones. */
static inline int flush_rows(const dft_conv *g) {
  return FLUSH_VALUES / g->out_w + 1;
}

/* Adds float32 sums[values][GROUP] to float64 ones and empties them. */
static inline void flush_sums(float (*sums)[GROUP], double (*to)[GROUP], int values, int width) {
  for (int v = 0; v < values; v++)
    for (int i = 0; i < width; i += VF_LANES) {
      vf_flush_all(to[v] + i, vf_load(sums[v] + i));
      vf_store(sums[v] + i, vf_zero());
    }
}

#endif
