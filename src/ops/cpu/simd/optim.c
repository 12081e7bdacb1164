/* Optimizer steps and other passes over flat arrays. The formulas stand in plain_optim.c; here too every
 * operation is rounded by itself, so all kernel sets step alike, bit for bit. */
#include "../kernels.h"
#include "lanes.h"

/* Threads take runs of whole vectors, with `flush` denormals as zero; call sees `i` and `lanes`. */
#define EACH_VECTOR(count, flush, call)                                                                      \
  do {                                                                                                       \
    const int threads = dft_threads_for(count);                                                              \
    _Pragma("omp parallel for schedule(static) num_threads(threads) if (threads > 1)") for (int t = 0;       \
                                                                                            t < threads;     \
                                                                                            t++) {           \
      const uint64_t before = (flush) ? dft_begin_flush() : 0;                                               \
      int64_t i, to;                                                                                         \
      dft_part(count, VF_LANES, t, threads, &i, &to);                                                        \
      for (; i < to; i += VF_LANES) WITH_LANES((int)(to - i < VF_LANES ? to - i : VF_LANES), call);          \
      if (flush) dft_end_flush(before);                                                                      \
    }                                                                                                        \
  } while (0)

INLINE void add_lanes(const float *x, float *y, int lanes) {
  vf_put(y, vf_add(vf_get(y, lanes), vf_get(x, lanes)), lanes);
}

void DFT_SIMD(dft_add)(const float *x, float *y, int64_t count) {
  EACH_VECTOR(count, false, add_lanes(x + i, y + i, lanes));
}

typedef struct adam_job {
  float *w, *m, *v;
  const float *grad;
  float scale, alpha_t, rest_1, rest_2, epsilon, decay;
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

void DFT_SIMD(dft_adam)(float *w, float *m, float *v, const float *grad, float scale, float alpha_t,
                        double beta_1, double beta_2, float epsilon, float decay, int64_t count) {
  const adam_job job = {w,       m,    v, grad, scale, alpha_t, (float)(1 - beta_1), (float)(1 - beta_2),
                        epsilon, decay};
  EACH_VECTOR(count, true, adam_lanes(&job, i, lanes));
}

typedef struct sgd_job {
  float *w, *velocity;
  const float *grad;
  float scale, learning_rate, momentum, decay;
  bool nesterov;
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

void DFT_SIMD(dft_sgd)(float *w, float *velocity, const float *grad, float scale, float learning_rate,
                       float momentum, bool nesterov, float decay, int64_t count) {
  const sgd_job job = {w, velocity, grad, scale, learning_rate, momentum, decay, nesterov};
  EACH_VECTOR(count, true, sgd_lanes(&job, i, lanes));
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

bool DFT_SIMD(dft_all_finite)(const float *x, int64_t count) {
  const int threads = dft_threads_for(count);
  bool finite = true;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1) reduction(&& : finite)
  for (int t = 0; t < threads; t++) {
    int64_t from, to;
    dft_part(count, VF_LANES, t, threads, &from, &to);
    finite = finite && finite_part(x + from, to - from);
  }
  return finite;
}
