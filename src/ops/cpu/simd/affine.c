/* BatchNorm's maps from values to values, one pass over the rows: a strip of them goes through a few vectors
 * of channels at a time, whose coefficients stay in registers. */
#include "../kernels.h"
#include "../tasks.h"
#include "lanes.h"
#include <math.h>

enum { VECTORS = 3, STRIP_FLOATS = 4096 };

/* What a pass goes over: the first member of its job. */
typedef struct strips {
  int64_t rows;
  int c, step; /* channels; rows of a strip */
} strips;

static strips strips_of(int64_t rows, int c) {
  return (strips){rows, c, c < STRIP_FLOATS ? STRIP_FLOATS / c : 1};
}

/* The task of a pass: strip(job, row, rows, c, channel, vectors, lanes) over the channels of a strip of rows.
 */
#define STRIP_TASK(name, job_type, strip)                                                                    \
  static void name(const void *context, int task) {                                                          \
    const job_type *job = context;                                                                           \
    const int c = job->over.c, step = job->over.step;                                                        \
    const int64_t from = (int64_t)task * step, left = job->over.rows - from;                                 \
    const int count = (int)(left < step ? left : step);                                                      \
    int i = 0;                                                                                               \
    for (; c - i >= VECTORS * VF_LANES; i += VECTORS * VF_LANES)                                             \
      strip(job, from, count, c, i, VECTORS, VF_LANES);                                                      \
    for (; i < c; i += VF_LANES) WITH_LANES(c - i, strip(job, from, count, c, i, 1, lanes));                 \
  }

static void run_strips(const strips *over, void (*task)(const void *, int)) {
  const dft_tasks tasks = {task, over, (int)((over->rows + over->step - 1) / over->step)};
  dft_run_tasks(&tasks, 1, dft_threads_for(over->rows * over->c));
}

typedef struct forward_job {
  strips over;
  const float *z, *scale, *shift, *residual;
  float *y;
  bool relu6;
} forward_job;

INLINE void forward_vectors(const forward_job *job, int64_t row, int rows, int c, int ch, int vectors,
                            int lanes) {
  vf scale[VECTORS], shift[VECTORS];
  const vf low = vf_set1(job->relu6 ? 0 : -INFINITY), high = vf_set1(job->relu6 ? 6 : INFINITY);
  const float *residual = job->residual;
  for (int v = 0; v < vectors; v++) {
    scale[v] = vf_get(job->scale + ch + v * VF_LANES, lanes);
    shift[v] = vf_get(job->shift + ch + v * VF_LANES, lanes);
  }
  int64_t at = row * c + ch;
  for (int r = 0; r < rows; r++, at += c)
    for (int v = 0; v < vectors; v++) {
      const int64_t i = at + v * VF_LANES;
      vf y = vf_min(high, vf_max(low, vf_fma(vf_get(job->z + i, lanes), scale[v], shift[v])));
      if (residual != NULL) y = vf_add(y, vf_get(residual + i, lanes));
      vf_put(job->y + i, y, lanes);
    }
}

STRIP_TASK(forward_task, forward_job, forward_vectors)

void DFT_SIMD(dft_scale_shift)(const float *z, const float *scale, const float *shift, const float *residual,
                               bool relu6, float *y, int64_t rows, int c) {
  const forward_job job = {strips_of(rows, c), z, scale, shift, residual, y, relu6};
  run_strips(&job.over, forward_task);
}

typedef struct backward_job {
  strips over;
  const float *dy, *z;
  const dft_norm *norm;
  float *dz;
} backward_job;

/* `batch`: with statistics of the batch, so that there are b and d. z is not read without need. */
INLINE void backward_vectors(const backward_job *job, int64_t row, int rows, int c, int ch, int vectors,
                             int lanes, bool relu6, bool batch) {
  const dft_norm *n = job->norm;
  vf a[VECTORS], b[VECTORS], d[VECTORS], scale[VECTORS], shift[VECTORS];
  for (int v = 0; v < vectors; v++) {
    const int from = ch + v * VF_LANES;
    a[v] = vf_get(n->a + from, lanes);
    b[v] = batch ? vf_get(n->b + from, lanes) : vf_zero();
    d[v] = batch ? vf_get(n->d + from, lanes) : vf_zero();
    scale[v] = relu6 ? vf_get(n->scale + from, lanes) : vf_zero();
    shift[v] = relu6 ? vf_get(n->shift + from, lanes) : vf_zero();
  }
  int64_t at = row * c + ch;
  for (int r = 0; r < rows; r++, at += c)
    for (int v = 0; v < vectors; v++) {
      const int64_t i = at + v * VF_LANES;
      const vf z = relu6 || batch ? vf_get(job->z + i, lanes) : vf_zero();
      vf g = vf_get(job->dy + i, lanes);
      if (relu6) g = vf_gate6(vf_fma(z, scale[v], shift[v]), g);
      vf_put(job->dz + i, batch ? vf_fma(a[v], g, vf_fma(b[v], z, d[v])) : vf_mul(a[v], g), lanes);
    }
}

#define BACKWARD(name, relu6, batch)                                                                         \
  INLINE void name(const backward_job *job, int64_t row, int rows, int c, int ch, int vectors, int lanes) {  \
    backward_vectors(job, row, rows, c, ch, vectors, lanes, relu6, batch);                                   \
  }                                                                                                          \
  STRIP_TASK(name##_task, backward_job, name)
BACKWARD(backward_relu6_batch, true, true)
BACKWARD(backward_relu6, true, false)
BACKWARD(backward_batch, false, true)
BACKWARD(backward_scale, false, false)

void DFT_SIMD(dft_bn_backward)(const float *dy, const float *z, const dft_norm *norm, float *dz, int64_t rows,
                               int c) {
  const backward_job job = {strips_of(rows, c), dy, z, norm, dz};
  if (norm->relu6)
    run_strips(&job.over, norm->b != NULL ? backward_relu6_batch_task : backward_relu6_task);
  else
    run_strips(&job.over, norm->b != NULL ? backward_batch_task : backward_scale_task);
}
