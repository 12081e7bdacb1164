/* Depthwise backward in training: a sample's group of channels at a time. Rows of x and dz are made into
 * rings in L1; from them come the weight gradient, dx and the sums for the BatchNorm below, in one pass.
 *
 * dx. Stride 1 (padding 1): row i reads dz rows i-1, i, i+1 through the taps mirrored. Stride 2: rows and
 * columns 2t - pad read outputs t and t - 1 through taps 0 and 2, rows and columns 2t + 1 - pad output t
 * through tap 1. dz rows have one zero column before them and at least one after. */
#include "train_depthwise.h"

/* What is done with a row of dx: skip added, stored, summed. Below an expansion it is gated by y first. */
typedef struct below {
  const float *y;       /* of the row's first pixel and the vector's first channel, GROUP apart, or NULL */
  ptrdiff_t stride;     /* of the others */
  ptrdiff_t row;        /* to the next row of dx, fetched for writing */
  const dft_norm *norm; /* NULL: no sums */
  const float *z;       /* of the row's first pixel and the vector's first channel, as dx and skip */
  const float *skip;
  float *dx;
  float *beta, *gamma; /* sums of the vector */
} below;

typedef struct below_vectors {
  vf scale, shift, mean, beta, gamma;
} below_vectors;

INLINE below_vectors below_open(const below *b, int ch, int lanes) {
  below_vectors v = {vf_zero(), vf_zero(), vf_zero(), vf_zero(), vf_zero()};
  if (b->y != NULL) v.beta = vf_get(b->beta, lanes);
  if (b->norm == NULL) return v;
  v.scale = vf_get(b->norm->scale + ch, lanes);
  v.shift = vf_get(b->norm->shift + ch, lanes);
  v.mean = vf_get(b->norm->mean + ch, lanes);
  v.beta = vf_get(b->beta, lanes);
  v.gamma = vf_get(b->gamma, lanes);
  return v;
}

INLINE void below_put(const below *b, below_vectors *v, int column, vf dx, int lanes) {
  const ptrdiff_t at = column * b->stride;
  if (b->y != NULL) {
    dx = vf_gate6(vf_get(b->y + (ptrdiff_t)column * GROUP, lanes), dx);
    v->beta = vf_add(v->beta, dx);
    vf_put(b->dx + at, dx, lanes);
    return;
  }
  if (b->skip != NULL) dx = vf_add(dx, vf_get(b->skip + at, lanes));
  __builtin_prefetch(b->dx + b->row + at, 1);
  vf_put(b->dx + at, dx, lanes);
  if (b->norm == NULL) return;
  const vf z = vf_get(b->z + at, lanes);
  const vf g = b->norm->relu6 ? vf_gate6(vf_fma(z, v->scale, v->shift), dx) : dx;
  v->beta = vf_add(v->beta, g);
  v->gamma = vf_fma(g, vf_sub(z, v->mean), v->gamma);
}

INLINE void below_close(const below *b, const below_vectors *v, int lanes) {
  if (b->y != NULL) vf_put(b->beta, v->beta, lanes);
  if (b->norm == NULL) return;
  vf_put(b->beta, v->beta, lanes);
  vf_put(b->gamma, v->gamma, lanes);
}

INLINE void dx_run(const float *const dz[3], const vf w[9], const below *b, below_vectors *v, int at,
                   int count, int lanes) {
  vf out[SIDE];
  nine_taps(dz, w, at, 1, count, lanes, out);
#pragma GCC unroll 4
  for (int o = 0; o < count; o++) below_put(b, v, at + o, out[o], lanes);
}

/* A row of dx at stride 1; dz[3] are ring rows at their zero column. */
INLINE void dx_row_1(const float *const dz[3], const vf w[9], const dft_conv *g, const below *b, int ch,
                     int lanes) {
  below_vectors v = below_open(b, ch, lanes);
  vf mirrored[9];
  for (int k = 0; k < 9; k++) mirrored[k] = w[8 - k];
  IN_RUNS(g->in_w, dx_run(dz, mirrored, b, &v, at, count, lanes));
  below_close(b, &v, lanes);
}

/* A row of dx at stride 2 from one or two rows of dz, at their zero column, with the tap rows w[r]. */
INLINE void dx_row_2(const float *const dz[2], const vf *const w[2], int rows, const dft_conv *g,
                     const below *b, int ch, int lanes) {
  below_vectors v = below_open(b, ch, lanes);
  const int last = (g->in_w - 1 + g->pad_left) / 2;
  for (int t = 0; t <= last; t++) {
    const int even = 2 * t - g->pad_left;
    vf left = vf_zero(), right = vf_zero();
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++) {
      const vf before = vf_get(dz[r] + (ptrdiff_t)t * GROUP, lanes);
      const vf here = vf_get(dz[r] + (ptrdiff_t)(t + 1) * GROUP, lanes);
      left = vf_fma(before, w[r][2], vf_fma(here, w[r][0], left));
      right = vf_fma(here, w[r][1], right);
    }
    if (even >= 0) below_put(b, &v, even, left, lanes);
    if (even + 1 < g->in_w) below_put(b, &v, even + 1, right, lanes);
  }
  below_close(b, &v, lanes);
}

INLINE void dw_run(const float *const x[3], const float *dz, const float *const soon[2], ptrdiff_t c, int at,
                   int stride, int count, int lanes, vf sum[9]) {
  vf d[SIDE];
#pragma GCC unroll 4
  for (int o = 0; o < count; o++) {
    d[o] = vf_get(dz + (ptrdiff_t)(at + o) * GROUP, lanes);
    __builtin_prefetch(soon[0] + (at + o) * c, 0, 2);
    __builtin_prefetch(soon[1] + (at + o) * c, 0, 2);
  }
#pragma GCC unroll 3
  for (int r = 0; r < 3; r++)
#pragma GCC unroll 9
    for (int j = 0; j < (count - 1) * stride + 3; j++) {
      const vf value = vf_get(x[r] + (ptrdiff_t)(at * stride + j) * GROUP, lanes);
#pragma GCC unroll 4
      for (int o = 0; o < count; o++) {
        const int tap = j - o * stride;
        if (tap >= 0 && tap < 3) sum[3 * r + tap] = vf_fma(value, d[o], sum[3 * r + tap]);
      }
    }
}

/* sums[9] += a row of dz times the three rows of x it saw; on the way, what the row after next is made of is
 * fetched: between products there is time for it. */
INLINE void dw_row(const float *const x[3], const float *dz, const float *const soon[2], ptrdiff_t c,
                   int out_w, int stride, int lanes, float (*sums)[GROUP]) {
  vf sum[9];
#pragma GCC unroll 9
  for (int k = 0; k < 9; k++) sum[k] = vf_get(sums[k], lanes);
  IN_RUNS(out_w, dw_run(x, dz, soon, c, at, stride, count, lanes, sum));
#pragma GCC unroll 9
  for (int k = 0; k < 9; k++) vf_put(sums[k], sum[k], lanes);
}

/* Sums over more values than float32 takes. */
typedef struct totals {
  double weights[9][GROUP], below[2][GROUP];
} totals;

/* One sample's group of channels under way. */
typedef struct group {
  const dft_train_conv *t;
  const dft_train_gradient *g;
  int ch, width;
  const expansion *e; /* or NULL, and where g of input rows from `first` on goes: [pixels][channels] */
  float *gated;
  int first;
  ring x, dz;
  ptrdiff_t in, out; /* the group's first value of the sample in x and in z */
  int next, ih;      /* the next rows of x to fetch and of dx to make */
  _Alignas(64) float weights[9][GROUP], below[2][GROUP];
  totals *totals; /* that they join from time to time; NULL: an image is not too much for them */
} group;

/* dz row oh, or zeros outside the image; column 0 of the ring's row is the zero before it. */
static void fetch_dz(const group *p, int oh) {
  const dft_conv *g = &p->t->conv;
  const int c = g->channels;
  float *to = ring_row(&p->dz, oh);
  if (oh < 0 || oh >= g->out_h) {
    memset(to, 0, (size_t)p->dz.columns * GROUP * sizeof *to);
    return;
  }
  const ptrdiff_t at = p->out + (ptrdiff_t)oh * g->out_w * c;
  memset(to, 0, GROUP * sizeof *to);
  gradient(p->g->dy + at, p->g->z + at, c, p->g->norm, 0, p->ch, g->out_w, p->width, to + GROUP, GROUP);
  memset(to + (ptrdiff_t)(g->out_w + 1) * GROUP, 0,
         (size_t)(p->dz.columns - g->out_w - 1) * GROUP * sizeof *to);
}

static below below_row(group *p, int ih, int i) {
  const dft_train_gradient *g = p->g;
  if (p->e != NULL)
    return (below){.y = ring_row(&p->x, ih) + (ptrdiff_t)p->t->conv.pad_left * GROUP + i,
                   .stride = p->t->conv.channels,
                   .dx = p->gated + (ptrdiff_t)(ih - p->first) * p->t->conv.in_w * p->t->conv.channels +
                         p->ch + i,
                   .beta = p->below[0] + i};
  const ptrdiff_t at = p->in + (ptrdiff_t)ih * p->t->conv.in_w * p->t->conv.channels + i;
  return (below){.stride = p->t->conv.channels,
                 .norm = g->below_sums == NULL ? NULL : g->below_norm,
                 .z = g->below_sums == NULL ? NULL : g->below_z + at,
                 .skip = g->skip == NULL ? NULL : g->skip + at,
                 .dx = g->dx + at,
                 .row = (ptrdiff_t)p->t->conv.in_w * p->t->conv.channels,
                 .beta = p->below[0] + i,
                 .gamma = p->below[1] + i};
}

INLINE void dx_lanes(group *p, int ih, int i, int lanes) {
  const dft_conv *g = &p->t->conv;
  const below b = below_row(p, ih, i);
  vf w[9];
  for (int k = 0; k < 9; k++) w[k] = vf_get(p->t->weight + (ptrdiff_t)k * g->channels + p->ch + i, lanes);
  if (g->stride == 1) {
    const float *const dz[3] = {ring_row(&p->dz, ih - 1) + i, ring_row(&p->dz, ih) + i,
                                ring_row(&p->dz, ih + 1) + i};
    dx_row_1(dz, w, g, &b, p->ch + i, lanes);
    return;
  }
  const int at = ih + g->pad_top, oh = at / 2;
  const float *const dz[2] = {ring_row(&p->dz, oh) + i, ring_row(&p->dz, oh - 1) + i};
  const vf *const two[2] = {w, w + 6}, *const one[2] = {w + 3, NULL};
  if (at % 2 == 0)
    dx_row_2(dz, two, 2, g, &b, p->ch + i, lanes);
  else
    dx_row_2(dz, one, 1, g, &b, p->ch + i, lanes);
}

static void dx_row(group *p, int ih) {
  for (int i = 0; i < p->width; i += VF_LANES) WITH_LANES(p->width - i, dx_lanes(p, ih, i, lanes));
}

static void dw_rows(group *p, int oh) {
  const dft_conv *g = &p->t->conv;
  const int top = oh * g->stride - g->pad_top;
  for (int i = 0; i < p->width; i += VF_LANES) {
    const float *const x[3] = {ring_row(&p->x, top) + i, ring_row(&p->x, top + 1) + i,
                               ring_row(&p->x, top + 2) + i};
    const float *dz = ring_row(&p->dz, oh) + GROUP + i;
    float(*sums)[GROUP] = (float(*)[GROUP])(void *)(p->weights[0] + i);
    const ptrdiff_t ahead = p->out + (ptrdiff_t)(oh + 2) * g->out_w * g->channels + i;
    const float *const soon[2] = {p->g->dy + ahead, p->g->z + ahead};
    if (g->stride == 1)
      WITH_LANES(p->width - i, dw_row(x, dz, soon, g->channels, g->out_w, 1, lanes, sums));
    else
      WITH_LANES(p->width - i, dw_row(x, dz, soon, g->channels, g->out_w, 2, lanes, sums));
  }
}

/* `rows`: memory of ring_floats. */
static void open_group(group *p, const dft_train_conv *t, const dft_train_gradient *g, const expansion *e,
                       int s, int ch, int width, float *rows, totals *totals_) {
  const dft_conv *conv = &t->conv;
  const int columns = ring_columns(conv);
  *p = (group){.t = t,
               .g = g,
               .ch = ch,
               .width = width,
               .e = e,
               .x = {rows, columns},
               .dz = {rows + 3 * (ptrdiff_t)columns * GROUP, conv->out_w + 3},
               .in = (ptrdiff_t)s * conv->in_h * conv->in_w * conv->channels + ch,
               .out = (ptrdiff_t)s * conv->out_h * conv->out_w * conv->channels + ch,
               .next = -conv->pad_top};
  if (flush_rows(conv) < conv->out_h) {
    memset(totals_, 0, sizeof *totals_);
    p->totals = totals_;
  }
  fetch_dz(p, -1);
  fetch_dz(p, 0);
}

/* Goes down output rows [from, to); rows of dx follow as soon as all that they read is there. */
static void run_group(group *p, int from, int to) {
  const dft_train_conv *t = p->t;
  const dft_conv *conv = &t->conv;
  const int flush = flush_rows(conv);
  const bool goes_on = p->e != NULL ? p->e->products != NULL : p->g->dx != NULL;
  for (int oh = from; oh < to; oh++) {
    const int top = oh * conv->stride - conv->pad_top;
    fetch_dz(p, oh + 1);
    for (; p->next < top + 3 && p->e != NULL; p->next++) ring_expand(&p->x, conv, p->e, p->ch, p->next);
    if (p->g->dw != NULL) {
      for (; p->next < top + 3; p->next++)
        ring_fetch(&p->x, conv, t->x + p->in, t->x_norm, p->ch, p->width, p->next);
      dw_rows(p, oh);
    }
    /* dx rows before the first that reads output row oh + 2 */
    const int ready = oh + 1 == conv->out_h ? conv->in_h
                      : conv->stride == 1   ? oh + 1
                                            : 2 * oh + 2 - conv->pad_top;
    for (; goes_on && p->ih < ready; p->ih++) dx_row(p, p->ih);
    if (p->totals != NULL && ((oh + 1) % flush == 0 || oh + 1 == conv->out_h)) {
      flush_sums(p->weights, p->totals->weights, 9, p->width);
      flush_sums(p->below, p->totals->below, 2, p->width);
    }
  }
}

static void close_group(const group *p, float *taps, double *beta, double *gamma) {
  const int c = p->t->conv.channels, ch = p->ch, width = p->width;
  for (int k = 0; k < 9 && p->g->dw != NULL; k++)
    for (int i = 0; i < width; i++)
      taps[(ptrdiff_t)k * c + ch + i] = p->totals ? (float)p->totals->weights[k][i] : p->weights[k][i];
  double *const to[2] = {beta, gamma};
  for (int v = 0; v < 2; v++)
    for (int i = 0; i < width && to[v] != NULL; i++)
      to[v][ch + i] = p->totals ? p->totals->below[v][i] : (double)p->below[v][i];
}

static int64_t ring_floats(const dft_conv *g) {
  return 3 * ((int64_t)ring_columns(g) + g->out_w + 3) * GROUP;
}

enum {
  MOST_GROUPS = 12,
  POOL_FLOATS = 98304,  /* all groups' rings */
  GATED_FLOATS = 65536, /* a block's g */
  BLOCK_PIXELS = 96     /* of input, at least, if there are so many */
};

/* Output rows of a block, and the input rows that may become ready in it. */
static int block_rows(const dft_conv *g) {
  const int wide = g->in_w * g->stride;
  return (BLOCK_PIXELS + wide - 1) / wide;
}

bool DFT_SIMD(dft_expanded_fits)(const dft_conv *g) {
  const int groups = g->channels / GROUP;
  const int64_t rows = block_rows(g) * g->stride + 1;
  return DFT_SIMD(dft_depthwise_fits)(g) && g->channels % GROUP == 0 && groups <= MOST_GROUPS &&
         groups * ring_floats(g) <= POOL_FLOATS && rows * g->in_w * g->channels <= GATED_FLOATS;
}

/* g of some rows goes on to the expansion's weights and input. */
static void through_expansion(const expansion *e, const dft_conv *conv, const float *g, int row, int rows) {
  const ptrdiff_t at = (ptrdiff_t)row * conv->in_w * e->k;
  DFT_SIMD(dft_outer)(e->x + at, e->k, g, conv->channels, rows * conv->in_w, e->products);
  if (e->dx == NULL) return;
  const panel_call call = {.x = g,
                           .x_stride = conv->channels,
                           .w = e->back,
                           .k = conv->channels,
                           .n = e->k,
                           .residual = e->skip == NULL ? NULL : e->skip + at,
                           .y = e->dx + at,
                           .y_stride = e->k};
  DFT_SIMD(dft_gemm_whole)(&call, (int64_t)rows * conv->in_w);
}

void DFT_SIMD(dft_expanded_backward)(const dft_train_conv *t, const dft_train_gradient *g, const expansion *e,
                                     int s, float *taps, double *sums) {
  _Alignas(64) float rings[POOL_FLOATS], gated[GATED_FLOATS];
  group groups[MOST_GROUPS];
  totals sums_of[MOST_GROUPS];
  const dft_conv *conv = &t->conv;
  const int count = conv->channels / GROUP, step = block_rows(conv);
  for (int i = 0; i < count; i++) {
    open_group(&groups[i], t, g, e, s, i * GROUP, GROUP, rings + i * ring_floats(conv), &sums_of[i]);
    groups[i].gated = gated;
  }
  for (int oh = 0, first = 0, ready = 0; oh < conv->out_h; oh += step, first = ready) {
    for (int i = 0; i < count; i++) {
      groups[i].first = first;
      run_group(&groups[i], oh, conv->out_h - oh < step ? conv->out_h : oh + step);
      ready = groups[i].ih; /* the same for all */
    }
    if (e->products != NULL) through_expansion(e, conv, gated, first, ready - first);
  }
  for (int i = 0; i < count; i++) close_group(&groups[i], taps, e->products != NULL ? sums : NULL, NULL);
}

/* Stride 1 with padding 1 all round, or stride 2 that leaves out nothing but what the padding covers. */
bool DFT_SIMD(dft_depthwise_fits)(const dft_conv *g) {
  if (ring_floats(g) > RING_FLOATS) return false;
  if (g->stride == 1)
    return g->pad_top == 1 && g->pad_left == 1 && g->out_h == g->in_h && g->out_w == g->in_w;
  return g->pad_top <= 1 && g->pad_left <= 1 && g->in_h - 1 + g->pad_top <= 2 * g->out_h &&
         g->in_w - 1 + g->pad_left <= 2 * g->out_w;
}

static void backward_group(const dft_train_conv *t, const dft_train_gradient *g, int s, int ch, int width,
                           float *taps, double *sums) {
  const int c = t->conv.channels;
  _Alignas(64) float rows[RING_FLOATS];
  group p;
  totals sums_of;
  open_group(&p, t, g, NULL, s, ch, width, rows, &sums_of);
  run_group(&p, 0, t->conv.out_h);
  close_group(&p, taps, sums, sums == NULL ? NULL : sums + c);
}

typedef struct backward_job {
  const dft_train_conv *t;
  const dft_train_gradient *g;
  double *below; /* [samples][2][c] */
  float *taps;   /* [samples][9][c] */
  int groups;    /* of channels in a sample */
  /* of images of one size; NULL: the general one */
  void (*kernel)(const dft_train_conv *, const dft_train_gradient *, int s, int ch, int width, float *taps,
                 double *below);
} backward_job;

static void group_task(const void *context, int task) {
  const backward_job *job = context;
  const int c = job->t->conv.channels, s = task / job->groups, ch = task % job->groups * GROUP;
  const int width = c - ch < GROUP ? c - ch : GROUP;
  float *taps = job->taps + (size_t)s * 9 * (size_t)c;
  double *sums = job->g->below_sums == NULL ? NULL : job->below + (size_t)s * 2 * (size_t)c;
  if (job->kernel != NULL)
    job->kernel(job->t, job->g, s, ch, width, taps, sums);
  else
    backward_group(job->t, job->g, s, ch, width, taps, sums);
}

bool DFT_SIMD(dft_train_depthwise_backward)(const dft_train_conv *t, const dft_train_gradient *g) {
  const int c = t->conv.channels, samples = t->map->samples, groups = (c + GROUP - 1) / GROUP;
  if (t->kind != DFT_DEPTHWISE || !DFT_SIMD(dft_depthwise_fits)(&t->conv)) return false;
  const int threads = dft_threads_for((int64_t)samples * t->conv.in_h * t->conv.in_w * c);
  double *below_parts = (double *)(void *)t->work;
  backward_job job = {.t = t,
                      .g = g,
                      .below = below_parts,
                      .taps = (float *)(below_parts + (size_t)samples * 2 * (size_t)c),
                      .groups = groups};
  if (DFT_SIMD(dft_depthwise_is_3x3)(&t->conv)) job.kernel = DFT_SIMD(dft_depthwise_3x3_backward_group);
  if (DFT_SIMD(dft_depthwise_is_small)(&t->conv)) job.kernel = DFT_SIMD(dft_depthwise_small_backward_group);
  dft_run_tasks(&(dft_tasks){group_task, &job, samples * groups}, 1, threads);
  if (g->below_sums != NULL) DFT_SIMD(dft_fold_doubles)(below_parts, 2 * c, t->map, g->below_sums);
  if (g->dw != NULL) DFT_SIMD(dft_fold_floats)(job.taps, 9 * c, t->map, g->dw);
  return true;
}
