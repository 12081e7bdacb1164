/* The optimizers' updates: operation by operation as plain_optim.c has them. */
#include "device.h"

#include <float.h>

struct rule {
  bool sgd, nesterov;
  float rest_1, rest_2, epsilon, learning_rate, momentum, decay;
};

static rule rule_of(const dft_update_rule *r) {
  return rule{r->sgd,
              r->nesterov,
              (float)(1 - r->beta_1),
              (float)(1 - r->beta_2),
              (float)r->epsilon,
              (float)r->learning_rate,
              (float)r->momentum,
              (float)(r->learning_rate * r->weight_decay)};
}

/* A denormal is zero, in every step of the sum as in the CPU's: --ftz would have it so for whole files. */
__device__ __forceinline__ float z(float x) {
  return fabsf(x) < FLT_MIN ? copysignf(0.0f, x) : x;
}

__device__ __forceinline__ void move(const rule &r, const dft_update_tensor &t, float scale, float alpha_t,
                                     int64_t i) {
  const float w = z(t.w[i]), kept = z(w - z(w * r.decay)), g = z(scale * z(t.gradient[i]));
  if (!r.sgd) {
    float m = z(t.slots[0][i]), v = z(t.slots[1][i]);
    m = z(m + z(z(g - m) * r.rest_1));
    v = z(v + z(z(z(g * g) - v) * r.rest_2));
    t.slots[0][i] = m;
    t.slots[1][i] = v;
    t.w[i] = z(kept - z(z(m * alpha_t) / (sqrtf(v) + r.epsilon)));
    return;
  }
  const float step = z(g * r.learning_rate);
  if (r.momentum == 0) {
    t.w[i] = z(kept - step);
    return;
  }
  const float velocity = z(z(z(t.slots[0][i]) * r.momentum) - step);
  t.slots[0][i] = velocity;
  t.w[i] = z(r.nesterov ? kept + z(z(velocity * r.momentum) - step) : kept + velocity);
}

/* ---- all tensors by one launch: each thread takes every `threads`-th value of them all, as if they lay one
 * after the other. Were the count to begin anew with each, the first threads would have a value of every
 * tensor, one memory latency after the other, and the last ones nothing to do. ---- */

struct finite_kernel {
  const dft_update_tensor *tensors;
  int count;
  int64_t threads;
  int *not_finite;
  __device__ void operator()(int64_t i) const {
    bool finite = true;
    for (int t = 0; t < count; t++) {
      const float *g = tensors[t].gradient;
      const int64_t values = tensors[t].count;
      for (; i < values; i += threads) finite = finite && isfinite(g[i]);
      i -= values;
    }
    if (!finite) *not_finite = 1; /* all who write write the same */
  }
};

struct update_kernel {
  const dft_update_tensor *tensors;
  int count;
  int64_t threads;
  const int *not_finite;
  rule r;
  const double *totals;
  const float *alpha_t;
  int *done;
  __device__ int outcome(void) const {
    if (totals[DFT_STEP_FAILED] > 0) return DFT_UPDATE_NONE;
    if (!isfinite(totals[DFT_STEP_LOSS])) return DFT_UPDATE_LOSS_NOT_FINITE;
    if (!(totals[DFT_STEP_COUNT] > 0)) return DFT_UPDATE_NONE;
    return *not_finite ? DFT_UPDATE_GRADIENT_NOT_FINITE : DFT_UPDATE_DONE;
  }
  __device__ void operator()(int64_t first) const {
    const int result = outcome();
    if (first == 0) *done = result;
    if (result != DFT_UPDATE_DONE) return;
    const float scale = (float)(1.0 / totals[DFT_STEP_COUNT]), alpha = r.sgd ? 0 : *alpha_t;
    int64_t i = first;
    for (int t = 0; t < count; t++) {
      const dft_update_tensor tensor = tensors[t];
      for (; i < tensor.count; i += threads) move(r, tensor, scale, alpha, i);
      i -= tensor.count;
    }
  }
};

static void update(const dft_update_tensor *tensors, int count, const dft_update_rule *r,
                   const double *totals, const float *alpha_t, int *done) {
  const int64_t threads = (int64_t)cuda.processors * 2048; /* as many as run at once */
  if (!dft_cuda_check(cudaMemsetAsync(cuda.flag, 0, sizeof *cuda.flag, cuda.stream), "update")) return;
  dft_launch("gradients' check", threads, finite_kernel{tensors, count, threads, cuda.flag});
  dft_launch("update", threads,
             update_kernel{tensors, count, threads, cuda.flag, rule_of(r), totals, alpha_t, done});
}

/* ---- one tensor (ops.h) ---- */

struct one_kernel {
  dft_update_tensor tensor;
  rule r;
  float scale, alpha_t;
  __device__ void operator()(int64_t i) const { move(r, tensor, scale, alpha_t, i); }
};

static void adam(float *w, float *m, float *v, const float *grad, float scale, float alpha_t, double beta_1,
                 double beta_2, float epsilon, float decay, int64_t count) {
  const rule r = {false, false, (float)(1 - beta_1), (float)(1 - beta_2), epsilon, 0, 0, decay};
  dft_launch("adam", count, one_kernel{{w, {m, v}, grad, count}, r, scale, alpha_t});
}

static void sgd(float *w, float *velocity, const float *grad, float scale, float learning_rate,
                float momentum, bool nesterov, float decay, int64_t count) {
  const rule r = {true, nesterov, 0, 0, 0, learning_rate, momentum, decay};
  dft_launch("sgd", count, one_kernel{{w, {velocity, nullptr}, grad, count}, r, scale, 0});
}

struct all_finite_kernel {
  const float *x;
  int *not_finite;
  __device__ void operator()(int64_t i) const {
    if (!isfinite(x[i])) *not_finite = 1;
  }
};

/* Waits. After an error of the device it says false. */
static bool all_finite(const float *x, int64_t count) {
  int not_finite = 1;
  bool good = dft_cuda_check(cudaMemsetAsync(cuda.flag, 0, sizeof *cuda.flag, cuda.stream), "all_finite");
  dft_launch("all_finite", count, all_finite_kernel{x, cuda.flag});
  good = good && dft_cuda_check(cudaMemcpyAsync(&not_finite, cuda.flag, sizeof not_finite,
                                                cudaMemcpyDeviceToHost, cuda.stream),
                                "all_finite");
  return good && dft_cuda_wait(cuda.stream, "all_finite") && !not_finite;
}

void dft_cuda_table_update(void) {
  cuda.device.update = update;
  cuda.ops.adam = adam;
  cuda.ops.sgd = sgd;
  cuda.ops.all_finite = all_finite;
}
