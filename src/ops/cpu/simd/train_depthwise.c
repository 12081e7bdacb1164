/* Depthwise forward in training: a sample's group of channels at a time, input rows normalised into a ring in
 * L1, output rows summed on their way out. */
#include "train_depthwise.h"

/* `count` outputs of a row from output `at` on; sums[2] of them and of their squares. `soon`: the same of the
 * row below, fetched for writing: z is larger than L2, and a store that waits for its line holds up the rest.
 */
INLINE void run(const float *const in[3], const vf w[9], float *z, const float *soon, int c, int at,
                int stride, int count, int lanes, vf sums[2]) {
  vf out[SIDE];
  nine_taps(in, w, at, stride, count, lanes, out);
#pragma GCC unroll 4
  for (int o = 0; o < count; o++) {
    __builtin_prefetch(soon + (ptrdiff_t)(at + o) * c, 1);
    vf_put(z + (ptrdiff_t)(at + o) * c, out[o], lanes);
    sums[0] = vf_add(sums[0], out[o]);
    sums[1] = vf_fma(out[o], out[o], sums[1]);
  }
}

/* One output row of one vector of channels. */
INLINE void row_vector(const float *const in[3], const float *w, int c, float *z, int out_w, int stride,
                       int lanes, float (*sums)[GROUP]) {
  vf weights[9], sum[2] = {vf_get(sums[0], lanes), vf_get(sums[1], lanes)};
  for (int k = 0; k < 9; k++) weights[k] = vf_get(w + (ptrdiff_t)k * c, lanes);
  IN_RUNS(out_w, run(in, weights, z, z + (ptrdiff_t)out_w * c, c, at, stride, count, lanes, sum));
  vf_put(sums[0], sum[0], lanes);
  vf_put(sums[1], sum[1], lanes);
}

/* One sample, channels [ch, ch + width), of what t->x stores or `e` makes. */
void DFT_SIMD(dft_depthwise_group)(const dft_train_conv *t, const expansion *e, int s, int ch, int width,
                                   float *z, double *part) {
  const dft_conv *g = &t->conv;
  const int c = g->channels, flush = flush_rows(g);
  _Alignas(64) float rows[RING_FLOATS];
  _Alignas(64) float sums[2][GROUP] = {{0}};
  _Alignas(64) double totals[2][GROUP] = {{0}};
  const ring x = {rows, ring_columns(g)};
  const float *image = e != NULL ? NULL : t->x + (ptrdiff_t)s * g->in_h * g->in_w * c + ch;
  z += (ptrdiff_t)s * g->out_h * g->out_w * c + ch;
  int next = -g->pad_top;
  for (int oh = 0; oh < g->out_h; oh++, z += (ptrdiff_t)g->out_w * c) {
    const int top = oh * g->stride - g->pad_top;
    for (; next < top + 3; next++) {
      if (e != NULL)
        ring_expand(&x, g, e, ch, next);
      else
        ring_fetch(&x, g, image, t->x_norm, ch, width, next);
    }
    for (int i = 0; i < width; i += VF_LANES) {
      const float *const in[3] = {ring_row(&x, top) + i, ring_row(&x, top + 1) + i,
                                  ring_row(&x, top + 2) + i};
      float(*to)[GROUP] = (float(*)[GROUP])(void *)(sums[0] + i);
      if (g->stride == 1)
        WITH_LANES(width - i, row_vector(in, t->weight + ch + i, c, z + i, g->out_w, 1, lanes, to));
      else
        WITH_LANES(width - i, row_vector(in, t->weight + ch + i, c, z + i, g->out_w, 2, lanes, to));
    }
    if ((oh + 1) % flush == 0 || oh + 1 == g->out_h) flush_sums(sums, totals, 2, width);
  }
  memcpy(part + ch, totals[0], (size_t)width * sizeof *part);
  memcpy(part + c + ch, totals[1], (size_t)width * sizeof *part);
}

typedef struct forward_job {
  const dft_train_conv *t;
  float *z;
  int groups; /* of channels in a sample */
  /* of images of one size; NULL: the general one */
  void (*kernel)(const dft_train_conv *, int s, int ch, int width, float *z, double *part);
} forward_job;

static double *parts_of(const dft_train_conv *t) {
  return (double *)(void *)t->work;
}

static void group_task(const void *context, int task) {
  const forward_job *job = context;
  const int c = job->t->conv.channels, s = task / job->groups, ch = task % job->groups * GROUP;
  const int width = c - ch < GROUP ? c - ch : GROUP;
  double *part = parts_of(job->t) + (size_t)s * 2 * (size_t)c;
  if (job->kernel != NULL)
    job->kernel(job->t, s, ch, width, job->z, part);
  else
    DFT_SIMD(dft_depthwise_group)(job->t, NULL, s, ch, width, job->z, part);
}

bool DFT_SIMD(dft_train_depthwise)(const dft_train_conv *t, float *z, double *sums) {
  const dft_conv *g = &t->conv;
  const int c = g->channels, samples = t->map->samples, groups = (c + GROUP - 1) / GROUP;
  if (t->kind != DFT_DEPTHWISE) return false;
  if ((int64_t)3 * ring_columns(g) * GROUP > RING_FLOATS || g->pad_top > 1 || g->pad_left > 1) return false;
  const int threads = dft_threads_for((int64_t)samples * g->in_h * g->in_w * c);
  forward_job job = {t, z, groups, NULL};
  if (DFT_SIMD(dft_depthwise_is_3x3)(g)) job.kernel = DFT_SIMD(dft_depthwise_3x3_group);
  if (DFT_SIMD(dft_depthwise_is_small)(g)) job.kernel = DFT_SIMD(dft_depthwise_small_group);
  dft_run_tasks(&(dft_tasks){group_task, &job, samples * groups}, 1, threads);
  if (sums != NULL) DFT_SIMD(dft_fold_doubles)(parts_of(t), 2 * c, t->map, sums);
  return true;
}
