/* Large products in training, over the whole batch: a panel of the kernel at a time, where it lies or,
 * transposed, packed where it is used, into memory that stays in L2 (a packed copy of all would be written to
 * be read once). What the panel makes is summed for BatchNorm before it leaves L2. A wide input is normalised
 * as the weight gradient's product packs it; forward, a block of rows at a time where the kernel is the
 * smaller. */
#include "../gemm.h"
#include "gemm_dw.h"
#include "gemm_panel.h"
#include "train.h"
#include <string.h>

enum {
  DEEPEST = 2048,
  SUM_ROWS = 96,           /* of a sample, summed in float32 (ops.h) */
  BLOCK_FLOATS = 36864,    /* of normalised rows: a third of a small L2 */
  TASKS_EACH = 4,          /* of a thread, if they have ... */
  LEAST_ROWS = 72,         /* ... so many rows, ... */
  LEAST_ROWS_PACKED = 288, /* ... or so many where the kernel is packed */
  FAR_FLOATS = 131072      /* inputs up to this size stay in L2 anyway */
};

/* One product of the whole batch. */
typedef struct product {
  const float *x, *w;
  bool transposed; /* w is [n][k] */
  float *y;
  int samples, pixels, k, n;
  const float *residual;
  const float *below_z; /* y is dx: sums through below_norm; else of y */
  const dft_norm *below_norm;
  double *parts;           /* [samples][2][n], or NULL: no sums */
  int panels, panel_parts; /* of columns; of the samples, each of which takes all panels */
} product;

/* Sums of columns [first, first + width) of samples [from, to). */
static void sum_samples(const product *p, int from, int to, int first, int width) {
  for (int s = from; s < to; s++) {
    double *part = p->parts + (ptrdiff_t)s * 2 * p->n + first;
    memset(part, 0, (size_t)width * sizeof *part);
    memset(part + p->n, 0, (size_t)width * sizeof *part);
    for (int row = 0; row < p->pixels; row += SUM_ROWS) {
      const int rows = p->pixels - row < SUM_ROWS ? p->pixels - row : SUM_ROWS;
      const ptrdiff_t at = ((ptrdiff_t)s * p->pixels + row) * p->n + first;
      if (p->below_norm == NULL)
        DFT_SIMD(dft_strip_sums)(p->y + at, NULL, NULL, first, p->n, rows, width, part);
      else
        DFT_SIMD(dft_strip_sums)(p->below_z + at, p->y + at, p->below_norm, first, p->n, rows, width, part);
    }
  }
}

/* Whether the kernel's rows can be read where they are: it changes with every step, so that packing never
 * pays. */
static bool lies_in_panels(const product *p) {
  return !p->transposed && p->n % VF_LANES == 0;
}

/* One panel of one part of the samples (panel_tasks). */
static void panel_task(const void *job, int task) {
  const product *p = job;
  _Alignas(64) float packed[DEEPEST * PANEL];
  const int panel = task % p->panels, part = task / p->panels, parts = p->panel_parts;
  const int first = panel_first(p->n, panel), next = panel_first(p->n, panel + 1);
  const int width = panel_columns(p->n - first, false);
  const int from = p->samples * part / parts, to = p->samples * (part + 1) / parts;
  if (from == to) return;
  const int rows = (to - from) * p->pixels;
  const bool as_it_lies = lies_in_panels(p);
  if (!as_it_lies) DFT_SIMD(dft_gemm_pack_panel)(p->w, p->k, p->n, p->transposed, first, packed);
  const ptrdiff_t row = (ptrdiff_t)from * p->pixels, at = row * p->n + first;
  const panel_call call = {.x = p->x + row * p->k,
                           .x_stride = p->k,
                           .w = as_it_lies ? p->w + first : packed,
                           .w_stride = as_it_lies ? p->n : 0,
                           .k = p->k,
                           .n = width,
                           .residual = p->residual == NULL ? NULL : p->residual + at,
                           .y = p->y + at,
                           .y_stride = p->n,
                           .next = p->w + next * (ptrdiff_t)(p->transposed ? p->k : 1),
                           .next_stride = p->transposed ? width : p->n,
                           .far = (p->below_z == NULL ? p->y : p->below_z) + at};
  DFT_SIMD(dft_gemm_panel)(&call, rows);
  if (p->parts != NULL) sum_samples(p, from, to, first, width);
}

/* All panels of p, whose panels and panel_parts it sets: parts of the samples, so that threads have as much
 * to do and something to take over from each other, but not so many that packing each part's panel anew
 * costs. */
static dft_tasks panel_tasks(product *p, int threads) {
  const int panels = p->panels = panel_count(p->n), wanted = TASKS_EACH * threads;
  const int most = p->samples * p->pixels / (lies_in_panels(p) ? LEAST_ROWS : LEAST_ROWS_PACKED);
  int parts = panels % threads == 0 || panels >= 8 * threads ? 1 : 2;
  while (threads > 1 && panels * parts < wanted && parts < most) parts++;
  p->panel_parts = parts;
  return (dft_tasks){panel_task, p, panels * parts};
}

typedef struct blocks {
  const product *p;
  const dft_norm *norm;
  const float *packed; /* or NULL: the kernel is read where it lies */
  int each;            /* samples */
} blocks;

/* A block of whole samples, whose rows are normalised; the packed kernel stays in L2. */
static void block_task(const void *context, int block) {
  const blocks *b = context;
  const product *p = b->p;
  _Alignas(64) float x[BLOCK_FLOATS];
  const int from = block * b->each, to = from + b->each < p->samples ? from + b->each : p->samples;
  const int rows = (to - from) * p->pixels;
  const ptrdiff_t row = (ptrdiff_t)from * p->pixels;
  normalise(p->x + row * p->k, p->k, b->norm, 0, rows, p->k, x, p->k);
  const panel_call call = {.x = x,
                           .x_stride = p->k,
                           .w = b->packed == NULL ? p->w : b->packed,
                           .w_stride = b->packed == NULL ? p->n : 0,
                           .k = p->k,
                           .n = p->n,
                           .y = p->y + row * p->n,
                           .y_stride = p->n,
                           .far = p->y + row * p->n};
  DFT_SIMD(dft_gemm_whole)(&call, rows);
  if (p->parts != NULL) sum_samples(p, from, to, 0, p->n);
}

static void by_blocks(const product *p, const dft_norm *norm, float *packed, int threads) {
  const int most = BLOCK_FLOATS / (p->pixels * p->k), share = (p->samples + threads - 1) / threads;
  const int each = most < share ? most : share;
  const bool as_it_lies = lies_in_panels(p);
  if (!as_it_lies) DFT_SIMD(dft_gemm_pack)(p->w, p->k, p->n, p->transposed, packed);
  const blocks job = {p, norm, as_it_lies ? NULL : packed, each};
  dft_run_tasks(&(dft_tasks){block_task, &job, (p->samples + each - 1) / each}, 1, threads);
}

static bool fits(const dft_train_conv *t) {
  return t->kind == DFT_POINTWISE && t->conv.in_channels <= DEEPEST && t->conv.channels <= DEEPEST;
}

/* Whether the input is normalised where it is used: it is far away, and longer than the kernel is wide. No
 * bit depends on it. */
static bool normalise_late(const dft_train_conv *t) {
  const int64_t rows = (int64_t)t->map->samples * t->conv.in_h * t->conv.in_w;
  return t->x_norm != NULL && rows * t->conv.in_channels > FAR_FLOATS &&
         rows >= 4 * (int64_t)t->conv.channels;
}

/* Sums lie behind the packed kernel and whatever the composed layers keep (train_composed.c). */
static double *parts_of(const dft_train_conv *t) {
  const size_t pixels = (size_t)t->conv.in_h * (size_t)t->conv.in_w, samples = (size_t)t->map->samples;
  const size_t x = (samples * pixels * (size_t)t->conv.in_channels + 15) / 16 * 16;
  const size_t z = (samples * pixels * (size_t)t->conv.channels + 15) / 16 * 16;
  return (double *)(void *)(t->work + x + z + dft_train_packed_floats(&t->conv));
}

bool DFT_SIMD(dft_train_large)(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums) {
  if (!fits(t)) return false;
  const int pixels = t->conv.in_h * t->conv.in_w, samples = t->map->samples;
  product p = {.x = t->x,
               .w = t->weight,
               .y = z,
               .samples = samples,
               .pixels = pixels,
               .k = t->conv.in_channels,
               .n = t->conv.channels,
               .parts = sums == NULL ? NULL : parts_of(t)};
  const int threads = dft_threads_for_product((int64_t)samples * pixels, p.k, p.n);
  if (normalise_late(t) && pixels * p.k <= BLOCK_FLOATS) {
    by_blocks(&p, t->x_norm, t->work, threads);
  } else {
    p.x = dft_train_input(ops, t);
    const dft_tasks tasks = panel_tasks(&p, threads);
    dft_run_tasks(&tasks, 1, threads);
  }
  if (sums != NULL) DFT_SIMD(dft_fold_doubles)(p.parts, 2 * p.n, t->map, sums);
  return true;
}

bool DFT_SIMD(dft_train_large_backward)(const dft_ops *ops, const dft_train_conv *t,
                                        const dft_train_gradient *g) {
  if (!fits(t)) return false;
  const int k = t->conv.in_channels, n = t->conv.channels, pixels = t->conv.in_h * t->conv.in_w;
  const float *dz = dft_train_dz(ops, t, g);
  const int threads = dft_threads_for_product((int64_t)t->map->samples * pixels, k, n);
  dft_tasks lists[2];
  int count = 0;
  dft_dw_job weights;
  if (g->dw != NULL) {
    const bool late = normalise_late(t);
    weights = DFT_SIMD(dft_dw_plan)(late ? t->x : dft_train_input(ops, t), late ? t->x_norm : NULL, dz,
                                    pixels, k, n, t->map, g->dw);
    lists[count++] = (dft_tasks){DFT_SIMD(dft_dw_task), &weights, weights.tasks};
  }
  product p = {.x = dz,
               .w = t->weight,
               .transposed = true,
               .y = g->dx,
               .samples = t->map->samples,
               .pixels = pixels,
               .k = n,
               .n = k,
               .residual = g->skip,
               .below_z = g->below_z,
               .below_norm = g->below_norm,
               .parts = g->below_sums == NULL ? NULL : parts_of(t)};
  if (g->dx != NULL) lists[count++] = panel_tasks(&p, threads);
  dft_run_tasks(lists, count, threads);
  if (g->dx != NULL && p.parts != NULL) DFT_SIMD(dft_fold_doubles)(p.parts, 2 * k, t->map, g->below_sums);
  return true;
}
