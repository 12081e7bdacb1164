/* An expansion and the depthwise layer above it in training, for the early blocks: their expanded tensor is
 * the largest there is and the cheapest to make, so it is not stored but made again, a row at a time in L1.
 *
 * With z = x.w over the expansion's K inputs, BatchNorm's sums come from G = x^T.x: sum z = (sum x).w and
 * sum z^2 = diag(w^T G w). Backward, with g the gated gradient of the expanded tensor and dz = a*g + b*z + d
 * (ops.h, a = scale): one pass makes P = x^T.g and x's gradient g.(w*a)^T, which need no sums; sum g*z =
 * diag(w^T P). Once b and d are known,
 *     dw = a*P + b*(G.w) + d*(sum x),    dx = g.(w*a)^T + x.(w*b.w^T) + d.w^T,
 * the latter a product of K x K. Sums over pixels are of one sample; they fold as everywhere. */
#include "../gemm.h"
#include "../sums.h"
#include "../tasks.h"
#include "train_depthwise.h"

enum {
  WIDEST = 32,      /* inputs of the expansion; above, making it again costs more than reading it */
  WIDEST_OUT = 512, /* its outputs */
  GRAM = (WIDEST + 1) * WIDEST,
  STRIP_ROWS = 96 /* of dx, summed in float32 before they join float64 */
};

bool DFT_SIMD(dft_train_pair_fits)(const dft_conv *expand, const dft_conv *depthwise) {
  return expand->in_channels <= WIDEST && expand->channels <= WIDEST_OUT && expand->channels % GROUP == 0 &&
         DFT_SIMD(dft_expanded_fits)(depthwise);
}

/* Where things lie in `work`; sizes in floats, all for so many samples. */
typedef struct pair_work {
  double *sums;    /* [samples][2][c] of either layer */
  float *taps;     /* [samples][9][c] */
  float *products; /* [samples][k][c]: P, from backward to finish */
  float *packed, *back, *square;
  size_t floats;
} pair_work;

static pair_work plan(const dft_conv *expand, int samples, float *work) {
  const size_t n = (size_t)samples, k = (size_t)expand->in_channels, c = (size_t)expand->channels;
  const size_t packed = c * (k + 16), square = (k + 16) * (k + 16) + 16;
  const size_t sizes[] = {n * 4 * c, n * 9 * c, n * k * c, packed, packed, square};
  size_t at[7] = {0};
  for (int i = 0; i < 6; i++) at[i + 1] = at[i] + (sizes[i] + 15) / 16 * 16;
  if (work == NULL) return (pair_work){.floats = at[6]};
  return (pair_work){.sums = (double *)(void *)work,
                     .taps = work + at[1],
                     .products = work + at[2],
                     .packed = work + at[3],
                     .back = work + at[4],
                     .square = work + at[5],
                     .floats = at[6]};
}

size_t DFT_SIMD(dft_train_pair_work_floats)(const dft_conv *expand, int samples) {
  return plan(expand, samples, NULL).floats;
}

static int pair_threads(const dft_train_conv *t) {
  return dft_threads_for((int64_t)t->map->samples * t->conv.in_h * t->conv.in_w * t->conv.channels);
}

/* What tasks and folds need, forward or backward: of a sample, of its groups of channels, of a shard's G. */
typedef struct pair_job {
  const dft_train_conv *expand, *t;
  const dft_train_gradient *g;
  pair_work work;
  float *z;
  const float *square_bias; /* of finish */
  bool below;               /* the expansion trains, or something below it */
} pair_job;

/* G of samples [first, first + count). */
static void gram_of_shard(const pair_job *job, int first, int count, double *gram) {
  const int k = job->expand->conv.in_channels, values = (k + 1) * k;
  memset(gram, 0, (size_t)values * sizeof *gram);
  for (int s = first; s < first + count; s++)
    for (int i = 0; i < values; i++) gram[i] += job->expand->gram[(ptrdiff_t)s * values + i];
}

/* out[width] = row[k] . w, some columns at a time, whose sums stay in registers. */
static void row_times(const double *row, const float *w, int k, int c, int width, double *out) {
  enum { UNIT = 4 * VF_LANES / 2 };
  int j = 0;
  for (; width - j >= UNIT; j += UNIT) {
    double sum[UNIT] = {0};
    for (int i = 0; i < k; i++)
#pragma omp simd
      for (int l = 0; l < UNIT; l++) sum[l] += row[i] * (double)w[(ptrdiff_t)i * c + j + l];
    memcpy(out + j, sum, sizeof sum);
  }
  for (; j < width; j++) {
    out[j] = 0;
    for (int i = 0; i < k; i++) out[j] += row[i] * (double)w[(ptrdiff_t)i * c + j];
  }
}

static void statistics_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const pair_job *job = context;
  const int k = job->expand->conv.in_channels, c = job->expand->conv.channels;
  const float *w = job->expand->weight + channel;
  double gram[GRAM], row[WIDEST_OUT];
  gram_of_shard(job, first, count, gram);
  row_times(gram + (ptrdiff_t)k * k, w, k, c, width, row);
  for (int j = 0; j < width; j++) sums[j] += row[j];
  for (int i = 0; i < k; i++) {
    row_times(gram + (ptrdiff_t)i * k, w, k, c, width, row);
    for (int j = 0; j < width; j++) sums[width + j] += (double)w[(ptrdiff_t)i * c + j] * row[j];
  }
}

static void gram_task(const void *context, int s) {
  const pair_job *job = context;
  const dft_conv *conv = &job->expand->conv;
  const int k = conv->in_channels, pixels = conv->in_h * conv->in_w;
  DFT_SIMD(dft_gram)
  (job->expand->x + (ptrdiff_t)s * pixels * k, k, pixels, job->expand->gram + (ptrdiff_t)s * (k + 1) * k);
}

void DFT_SIMD(dft_train_pair_sums)(const dft_train_conv *expand, double *sums) {
  const int k = expand->conv.in_channels, c = expand->conv.channels, samples = expand->map->samples;
  const pair_job job = {.expand = expand};
  dft_run_tasks(&(dft_tasks){gram_task, &job, samples}, 1, pair_threads(expand));
  const dft_sums fold = {
      .leaf = statistics_leaf, .job = &job, .values = 2, .c = c, .work = (int64_t)k * k * c, .out64 = sums};
  dft_sum_shards(&fold, expand->map);
}

/* The kernel with the BatchNorm's scale in it, packed by groups of channels, and its transpose as a whole. */
static void pack(const dft_train_conv *expand, const dft_norm *norm, const pair_work *work, bool back) {
  const int k = expand->conv.in_channels, c = expand->conv.channels;
  float scaled[WIDEST * WIDEST_OUT], group[WIDEST * GROUP];
  for (int i = 0; i < k; i++)
    for (int j = 0; j < c; j++) scaled[i * c + j] = expand->weight[(ptrdiff_t)i * c + j] * norm->scale[j];
  for (int ch = 0; ch < c; ch += GROUP) {
    for (int i = 0; i < k; i++)
      memcpy(group + (ptrdiff_t)i * GROUP, scaled + (ptrdiff_t)i * c + ch, GROUP * sizeof *group);
    DFT_SIMD(dft_gemm_pack)(group, k, GROUP, false, work->packed + (ptrdiff_t)ch * k);
  }
  if (back) DFT_SIMD(dft_gemm_pack)(scaled, c, k, true, work->back);
}

static expansion expansion_of(const dft_train_conv *expand, const dft_norm *norm, const pair_work *work,
                              int s) {
  const int k = expand->conv.in_channels;
  return (expansion){.x = expand->x + (ptrdiff_t)s * expand->conv.in_h * expand->conv.in_w * k,
                     .k = k,
                     .w = work->packed,
                     .shift = norm->shift,
                     .back = work->back};
}

static void forward_task(const void *context, int task) {
  const pair_job *job = context;
  const int c = job->t->conv.channels, groups = c / GROUP, s = task / groups;
  const expansion e = expansion_of(job->expand, job->t->x_norm, &job->work, s);
  DFT_SIMD(dft_depthwise_group)
  (job->t, &e, s, task % groups * GROUP, GROUP, job->z, job->work.sums + (ptrdiff_t)s * 2 * c);
}

void DFT_SIMD(dft_train_pair_forward)(const dft_train_conv *expand, const dft_train_conv *t, float *z,
                                      double *sums) {
  const int c = t->conv.channels, samples = t->map->samples;
  const pair_job job = {.expand = expand, .t = t, .work = plan(&expand->conv, samples, t->work), .z = z};
  pack(expand, t->x_norm, &job.work, false);
  dft_run_tasks(&(dft_tasks){forward_task, &job, samples * (c / GROUP)}, 1, pair_threads(expand));
  if (sums != NULL) DFT_SIMD(dft_fold_doubles)(job.work.sums, 2 * c, t->map, sums);
}

/* The sums for the expansion's BatchNorm of a sample: sum g is there, sum g*(z-mean) follows from P. */
static void sums_of_products(const dft_train_conv *expand, const dft_norm *norm, const float *products,
                             double *sums) {
  const int k = expand->conv.in_channels, c = expand->conv.channels;
  double *gamma = sums + c;
  for (int j = 0; j < c; j++) gamma[j] = -(double)norm->mean[j] * sums[j];
  for (int i = 0; i < k; i++)
    for (int j = 0; j < c; j++)
      gamma[j] += (double)expand->weight[(ptrdiff_t)i * c + j] * (double)products[(ptrdiff_t)i * c + j];
}

static void backward_task(const void *context, int s) {
  const pair_job *job = context;
  const dft_train_conv *expand = job->expand, *t = job->t;
  const dft_train_gradient *g = job->g;
  const int c = t->conv.channels, k = expand->conv.in_channels;
  const ptrdiff_t in = (ptrdiff_t)expand->conv.in_h * expand->conv.in_w * k;
  float *products = job->work.products + (ptrdiff_t)s * k * c;
  double *sums = job->work.sums + (ptrdiff_t)s * 2 * c;
  expansion e = expansion_of(expand, t->x_norm, &job->work, s);
  if (job->below) e.products = memset(products, 0, (size_t)k * (size_t)c * sizeof *products);
  e.dx = g->dx == NULL ? NULL : g->dx + s * in;
  e.skip = g->skip == NULL ? NULL : g->skip + s * in;
  DFT_SIMD(dft_expanded_backward)(t, g, &e, s, job->work.taps + (ptrdiff_t)s * 9 * c, sums);
  if (g->below_sums != NULL) sums_of_products(expand, t->x_norm, products, sums);
}

void DFT_SIMD(dft_train_pair_backward)(const dft_train_conv *expand, const dft_train_conv *t,
                                       const dft_train_gradient *g, bool below) {
  const int c = t->conv.channels, samples = t->map->samples;
  const pair_job job = {
      .expand = expand, .t = t, .g = g, .work = plan(&expand->conv, samples, t->work), .below = below};
  pack(expand, t->x_norm, &job.work, true);
  dft_run_tasks(&(dft_tasks){backward_task, &job, samples}, 1, pair_threads(expand));
  if (g->below_sums != NULL) DFT_SIMD(dft_fold_doubles)(job.work.sums, 2 * c, t->map, g->below_sums);
  if (g->dw != NULL) DFT_SIMD(dft_fold_floats)(job.work.taps, 9 * c, t->map, g->dw);
}

/* square = w*b.w^T, packed, and d.w^T after it: what dx still lacks. */
static void pack_square(const dft_train_conv *expand, const dft_norm *norm, float *packed, float *bias) {
  const int k = expand->conv.in_channels, c = expand->conv.channels;
  const float *w = expand->weight;
  float square[WIDEST * WIDEST];
  double turned[WIDEST_OUT][WIDEST]; /* w^T, so that the inner loop's sums are independent */
  for (int j = 0; j < c; j++)
    for (int l = 0; l < k; l++) turned[j][l] = (double)w[(ptrdiff_t)l * c + j];
  for (int i = 0; i < k; i++) {
    double constant = 0, sum[WIDEST] = {0};
    for (int j = 0; j < c; j++) {
      const double scaled = turned[j][i] * (double)norm->b[j];
      for (int l = 0; l < k; l++) sum[l] += scaled * turned[j][l];
      constant += (double)norm->d[j] * turned[j][i];
    }
    for (int l = 0; l < k; l++) square[i * k + l] = (float)sum[l];
    bias[i] = (float)constant;
  }
  DFT_SIMD(dft_gemm_pack)(square, k, k, false, packed);
}

static void dw_leaf(const void *context, int first, int count, int channel, int width, double *sums) {
  const pair_job *job = context;
  const dft_norm *n = job->g->norm;
  const int k = job->expand->conv.in_channels, c = job->expand->conv.channels;
  double gram[GRAM], row[WIDEST_OUT] = {0};
  if (n->b != NULL) gram_of_shard(job, first, count, gram);
  for (int i = 0; i < k; i++, sums += width) {
    for (int s = first; s < first + count; s++) {
      const float *p = job->work.products + ((ptrdiff_t)s * k + i) * c + channel;
      for (int j = 0; j < width; j++) sums[j] += (double)p[j];
    }
    for (int j = 0; j < width; j++) sums[j] *= (double)n->a[channel + j];
    if (n->b == NULL) continue;
    row_times(gram + (ptrdiff_t)i * k, job->expand->weight + channel, k, c, width, row);
    const double x = gram[(ptrdiff_t)k * k + i];
    for (int j = 0; j < width; j++)
      sums[j] += (double)n->b[channel + j] * row[j] + (double)n->d[channel + j] * x;
  }
}

/* dx of one sample, and the sums for the BatchNorm below. */
static void dx_task(const void *context, int s) {
  const pair_job *job = context;
  const dft_train_conv *expand = job->expand;
  const dft_train_gradient *g = job->g;
  double *below = job->work.sums + (ptrdiff_t)s * 2 * expand->conv.in_channels;
  const int k = expand->conv.in_channels, pixels = expand->conv.in_h * expand->conv.in_w;
  const ptrdiff_t at = (ptrdiff_t)s * pixels * k;
  memset(below, 0, 2 * (size_t)k * sizeof *below);
  for (int row = 0; row < pixels; row += STRIP_ROWS) {
    const int rows = pixels - row < STRIP_ROWS ? pixels - row : STRIP_ROWS;
    const ptrdiff_t from = at + (ptrdiff_t)row * k;
    if (g->norm->b != NULL) DFT_SIMD(dft_gemm_serial)
    (expand->x + from, job->work.square, g->dx + from, rows, k, k,
     &(dft_epilogue){.bias = job->square_bias, .residual = g->dx + from});
    if (g->below_sums != NULL)
      DFT_SIMD(dft_strip_sums)(g->below_z + from, g->dx + from, g->below_norm, 0, k, rows, k, below);
  }
}

void DFT_SIMD(dft_train_pair_finish)(const dft_train_conv *expand, const dft_train_gradient *g) {
  const int k = expand->conv.in_channels, c = expand->conv.channels, samples = expand->map->samples;
  float bias[WIDEST];
  const pair_job job = {
      .expand = expand, .g = g, .work = plan(&expand->conv, samples, expand->work), .square_bias = bias};
  if (g->dx != NULL && g->norm->b != NULL) pack_square(expand, g->norm, job.work.square, bias);
  if (g->dx != NULL) dft_run_tasks(&(dft_tasks){dx_task, &job, samples}, 1, pair_threads(expand));
  if (g->below_sums != NULL) DFT_SIMD(dft_fold_doubles)(job.work.sums, 2 * k, expand->map, g->below_sums);
  if (g->dw == NULL) return;
  const dft_sums fold = {
      .leaf = dw_leaf, .job = &job, .values = k, .c = c, .work = (int64_t)k * k * c, .out32 = g->dw};
  dft_sum_shards(&fold, expand->map);
}
