/* Keras 3's updates, operation by operation (keras/src/optimizers/{base_optimizer,adam,sgd}.py), each
 * rounded to float32 as Keras rounds it; g = scale*grad:
 *   decay:  w -= w*decay                        decay = weight_decay*learning_rate, before the step
 *   adam:   m += (g - m)*(1 - beta_1)
 *           v += (g*g - v)*(1 - beta_2)
 *           w -= m*alpha_t/(sqrt(v) + epsilon)  alpha_t = lr*sqrt(1 - beta_2^t)/(1 - beta_1^t)
 *   sgd:    without momentum: w -= g*lr; else velocity = velocity*momentum - g*lr and w += velocity, or with
 *           nesterov w += velocity*momentum - g*lr
 * Denormals count as zero, as in TensorFlow's kernels: the moments of a weight that no longer has a gradient
 * would be denormal after some hundred steps, and stay so.
 */
#include "denormals.h"
#include "kernels.h"
#include <math.h>

void dft_add_plain(const float *x, float *y, int64_t count) {
  const int threads = dft_threads_for(count);
#pragma omp parallel for simd schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < count; i++) y[i] += x[i];
}

void dft_adam_plain(float *w, float *m, float *v, const float *grad, float scale, float alpha_t,
                    double beta_1, double beta_2, float epsilon, float decay, int64_t count) {
  const float rest_1 = (float)(1 - beta_1), rest_2 = (float)(1 - beta_2);
  const int threads = dft_threads_for(count);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const uint64_t before = dft_begin_flush();
#pragma omp for simd schedule(static)
    for (int64_t i = 0; i < count; i++) {
      const float g = scale * grad[i];
      m[i] += (g - m[i]) * rest_1;
      v[i] += (g * g - v[i]) * rest_2;
      const float kept = w[i] - w[i] * decay;
      w[i] = kept - m[i] * alpha_t / (sqrtf(v[i]) + epsilon);
    }
    dft_end_flush(before);
  }
}

void dft_sgd_plain(float *w, float *velocity, const float *grad, float scale, float learning_rate,
                   float momentum, bool nesterov, float decay, int64_t count) {
  const int threads = dft_threads_for(count);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const uint64_t before = dft_begin_flush();
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count; i++) {
      const float step = scale * grad[i] * learning_rate, kept = w[i] - w[i] * decay;
      if (momentum == 0) {
        w[i] = kept - step;
        continue;
      }
      velocity[i] = velocity[i] * momentum - step;
      w[i] = nesterov ? kept + (velocity[i] * momentum - step) : kept + velocity[i];
    }
    dft_end_flush(before);
  }
}

bool dft_all_finite_plain(const float *x, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(x[i])) return false;
  return true;
}
