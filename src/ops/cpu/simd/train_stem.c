/* The first convolution in training, a sample's rows at a time in L1: forward sums what it writes, backward
 * makes dz and adds to the sample's weight gradient. Nothing lies below, so there is no dx. */
#include "../tasks.h"
#include "stem.h"
#include "train.h"
#include <string.h>

enum {
  ROWS_FLOATS = 8192, /* of output rows under way; a wider image's are not fused */
  SUM_PIXELS = 256    /* of a sample, summed in float32, at least one row (ops.h) */
};

static bool fits(const dft_train_conv *t) {
  return t->kind == DFT_STEM && t->conv.channels <= DFT_STEM_WIDEST &&
         t->conv.out_w * t->conv.channels <= ROWS_FLOATS;
}

/* Output rows at a time. */
static int step_rows(const dft_conv *g) {
  const int fit = ROWS_FLOATS / (g->out_w * g->channels), most = SUM_PIXELS / g->out_w;
  return most < 1 ? 1 : fit < most ? fit : most;
}

typedef struct forward_job {
  const dft_train_conv *t;
  float *z;
} forward_job;

static void forward_sample(const void *context, int s) {
  const forward_job *job = context;
  const dft_train_conv *t = job->t;
  float *z = job->z;
  const dft_conv *g = &t->conv;
  const int c = g->channels, step = step_rows(g);
  const float *x = t->x + (ptrdiff_t)s * g->in_h * g->in_w * 3;
  double *part = (double *)(void *)t->work + (size_t)s * 2 * (size_t)c;
  memset(part, 0, 2 * (size_t)c * sizeof *part);
  for (int oh = 0; oh < g->out_h; oh += step) {
    const int rows = g->out_h - oh < step ? g->out_h - oh : step;
    float *to = z + ((ptrdiff_t)s * g->out_h + oh) * g->out_w * c;
    for (int r = 0; r < rows; r++)
      DFT_SIMD(dft_stem_row)(x, t->weight, g, &(dft_epilogue){0}, oh + r, (int64_t)r * g->out_w * c, to);
    DFT_SIMD(dft_strip_sums)(to, NULL, NULL, 0, c, rows * g->out_w, c, part);
  }
}

bool DFT_SIMD(dft_train_stem)(const dft_train_conv *t, float *z, double *sums) {
  if (!fits(t)) return false;
  const int c = t->conv.channels, samples = t->map->samples;
  const int64_t floats = (int64_t)samples * t->conv.out_h * t->conv.out_w * c;
  const forward_job job = {t, z};
  dft_run_tasks(&(dft_tasks){forward_sample, &job, samples}, 1, dft_threads_for(floats));
  if (sums != NULL) DFT_SIMD(dft_fold_doubles)((double *)(void *)t->work, 2 * c, t->map, sums);
  return true;
}

typedef struct backward_job {
  const dft_train_conv *t;
  const dft_train_gradient *g;
} backward_job;

static void backward_sample(const void *context, int s) {
  const backward_job *job = context;
  const dft_train_conv *t = job->t;
  const dft_train_gradient *g = job->g;
  _Alignas(64) float dz[ROWS_FLOATS];
  const dft_conv *conv = &t->conv;
  const int c = conv->channels, step = step_rows(conv);
  const float *x = t->x + (ptrdiff_t)s * conv->in_h * conv->in_w * 3;
  float *taps = t->work + (size_t)s * 27 * (size_t)c;
  double total[27][DFT_STEM_WIDEST] = {{0}};
  for (int oh = 0; oh < conv->out_h; oh += step) {
    const int rows = conv->out_h - oh < step ? conv->out_h - oh : step, pixels = rows * conv->out_w;
    const ptrdiff_t at = ((ptrdiff_t)s * conv->out_h + oh) * conv->out_w * c;
    gradient(g->dy + at, g->z + at, c, g->norm, 0, 0, pixels, c, dz, c);
    const ptrdiff_t next = at + (ptrdiff_t)pixels * c;
    float part[27][DFT_STEM_WIDEST] = {{0}};
    for (int r = 0; r < rows; r++) {
      const ptrdiff_t row = (ptrdiff_t)r * conv->out_w * c;
      const float *const soon[2] = {g->dy + next + row, g->z + next + row};
      DFT_SIMD(dft_stem_dw_row)(x, conv, oh + r, dz + row, soon, c, part);
    }
    for (int k = 0; k < 27; k++)
      for (int i = 0; i < c; i++) total[k][i] += (double)part[k][i];
  }
  for (int k = 0; k < 27; k++)
    for (int i = 0; i < c; i++) taps[k * c + i] = (float)total[k][i];
}

bool DFT_SIMD(dft_train_stem_backward)(const dft_train_conv *t, const dft_train_gradient *g) {
  if (!fits(t)) return false;
  if (g->dw == NULL) return true;
  const int values = 27 * t->conv.channels, samples = t->map->samples;
  const backward_job job = {t, g};
  dft_run_tasks(&(dft_tasks){backward_sample, &job, samples}, 1,
                dft_threads_for((int64_t)samples * t->conv.out_h * t->conv.out_w * values));
  DFT_SIMD(dft_fold_floats)(t->work, values, t->map, g->dw);
  return true;
}
