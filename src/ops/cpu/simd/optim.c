/* Optimizer steps and other passes over flat arrays. The formulas stand in plain_optim.c; here too every
 * operation is rounded by itself, so all kernel sets step alike, bit for bit. */
#include "../kernels.h"
#include "../tasks.h"
#include "lanes.h"
#include <stdatomic.h>

enum { RUN = 8192 }; /* values of a task */

/* The task of a pass over job->count values: `call` sees job, `i` and `lanes`. With `flush`, denormals are
 * zero. */
#define RUN_TASK(name, job_type, flush, call)                                                                \
  static void name(const void *context, int task) {                                                          \
    const job_type *job = context;                                                                           \
    const uint64_t before = (flush) ? dft_begin_flush() : 0;                                                 \
    int64_t i = (int64_t)task * RUN;                                                                         \
    const int64_t to = job->count - i < RUN ? job->count : i + RUN;                                          \
    for (; i < to; i += VF_LANES) WITH_LANES((int)(to - i < VF_LANES ? to - i : VF_LANES), call);            \
    if (flush) dft_end_flush(before);                                                                        \
  }

static void run_all(void (*task)(const void *, int), const void *job, int64_t count) {
  const dft_tasks tasks = {task, job, (int)((count + RUN - 1) / RUN)};
  dft_run_tasks(&tasks, 1, dft_threads_for(count));
}

typedef struct add_job {
  const float *x;
  float *y;
  int64_t count;
} add_job;

INLINE void add_lanes(const float *x, float *y, int lanes) {
  vf_put(y, vf_add(vf_get(y, lanes), vf_get(x, lanes)), lanes);
}

RUN_TASK(add_task, add_job, false, add_lanes(job->x + i, job->y + i, lanes))

void DFT_SIMD(dft_add)(const float *x, float *y, int64_t count) {
  run_all(add_task, &(add_job){x, y, count}, count);
}

typedef struct adam_job {
  float *w, *m, *v;
  const float *grad;
  float scale, alpha_t, rest_1, rest_2, epsilon, decay;
  int64_t count;
} adam_job;

INLINE void adam_lanes(const adam_job *job, int64_t i, int lanes) {
  const vf g = vf_mul(vf_set1(job->scale), vf_get(job->grad + i, lanes));
  vf m = vf_get(job->m + i, lanes), v = vf_get(job->v + i, lanes), w = vf_get(job->w + i, lanes);
  m = vf_add(m, vf_mul(vf_sub(g, m), vf_set1(job->rest_1)));
  v = vf_add(v, vf_mul(vf_sub(vf_mul(g, g), v), vf_set1(job->rest_2)));
  w = vf_sub(w, vf_mul(w, vf_set1(job->decay)));
  const vf root = vf_add(vf_sqrt(v), vf_set1(job->epsilon));
  w = vf_sub(w, vf_div(vf_mul(m, vf_set1(job->alpha_t)), root));
  vf_put(job->m + i, m, lanes);
  vf_put(job->v + i, v, lanes);
  vf_put(job->w + i, w, lanes);
}

RUN_TASK(adam_task, adam_job, true, adam_lanes(job, i, lanes))

void DFT_SIMD(dft_adam)(float *w, float *m, float *v, const float *grad, float scale, float alpha_t,
                        double beta_1, double beta_2, float epsilon, float decay, int64_t count) {
  const adam_job job = {w,       m,     v,    grad, scale, alpha_t, (float)(1 - beta_1), (float)(1 - beta_2),
                        epsilon, decay, count};
  run_all(adam_task, &job, count);
}

typedef struct sgd_job {
  float *w, *velocity;
  const float *grad;
  float scale, learning_rate, momentum, decay;
  bool nesterov;
  int64_t count;
} sgd_job;

INLINE void sgd_lanes(const sgd_job *job, int64_t i, int lanes) {
  const vf g = vf_mul(vf_set1(job->scale), vf_get(job->grad + i, lanes));
  const vf step = vf_mul(g, vf_set1(job->learning_rate));
  vf w = vf_get(job->w + i, lanes);
  w = vf_sub(w, vf_mul(w, vf_set1(job->decay)));
  if (job->momentum == 0) {
    vf_put(job->w + i, vf_sub(w, step), lanes);
    return;
  }
  const vf momentum = vf_set1(job->momentum);
  const vf velocity = vf_sub(vf_mul(vf_get(job->velocity + i, lanes), momentum), step);
  vf_put(job->velocity + i, velocity, lanes);
  const vf move = job->nesterov ? vf_sub(vf_mul(velocity, momentum), step) : velocity;
  vf_put(job->w + i, vf_add(w, move), lanes);
}

RUN_TASK(sgd_task, sgd_job, true, sgd_lanes(job, i, lanes))

void DFT_SIMD(dft_sgd)(float *w, float *velocity, const float *grad, float scale, float learning_rate,
                       float momentum, bool nesterov, float decay, int64_t count) {
  const sgd_job job = {w, velocity, grad, scale, learning_rate, momentum, decay, nesterov, count};
  run_all(sgd_task, &job, count);
}

/* 0*x is 0 for a finite x and NaN for any other. */
static bool finite_part(const float *x, int64_t count) {
  vf zeros[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
  int64_t i = 0;
  for (; count - i >= 4 * VF_LANES; i += 4 * VF_LANES)
    for (int v = 0; v < 4; v++) zeros[v] = vf_fma(vf_load(x + i + v * VF_LANES), vf_zero(), zeros[v]);
  for (; i < count; i += VF_LANES) {
    const int lanes = count - i < VF_LANES ? (int)(count - i) : VF_LANES;
    zeros[0] = vf_fma(vf_get(x + i, lanes), vf_zero(), zeros[0]);
  }
  float sums[VF_LANES];
  vf_store(sums, vf_add(vf_add(zeros[0], zeros[1]), vf_add(zeros[2], zeros[3])));
  for (int lane = 0; lane < VF_LANES; lane++)
    if (!(sums[lane] == 0)) return false;
  return true;
}

typedef struct finite_job {
  const float *x;
  int64_t count;
  atomic_bool *finite;
} finite_job;

static void finite_task(const void *context, int task) {
  const finite_job *job = context;
  const int64_t from = (int64_t)task * RUN, left = job->count - from;
  if (!finite_part(job->x + from, left < RUN ? left : RUN)) atomic_store(job->finite, false);
}

bool DFT_SIMD(dft_all_finite)(const float *x, int64_t count) {
  atomic_bool finite = true;
  run_all(finite_task, &(finite_job){x, count, &finite}, count);
  return finite;
}
