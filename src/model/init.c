#include "dft/model.h"
#include "dft/rng.h"
#include <math.h>
#include <string.h>

/* Keras' compute_fans: a kernel [.., in, out] has fan_in = receptive field * in and fan_out = receptive field
 * * out. A DepthwiseConv2D kernel is [3,3,c,1], so its fans are 9*c and 9, as in Keras. */
static void glorot_uniform(dft_param *p, uint64_t seed, uint32_t tensor) {
  double receptive = 1;
  for (int i = 0; i < p->rank - 2; i++) receptive *= (double)p->shape[i];
  double fan_in = receptive * (double)p->shape[p->rank - 2];
  double fan_out = receptive * (double)p->shape[p->rank - 1];
  float limit = (float)sqrt(6.0 / (fan_in + fan_out));
  dft_rng_floats(seed, DFT_STREAM_INIT, tensor, 0, p->data, (size_t)p->elements);
  float *values = p->data;
#pragma omp simd
  for (int64_t i = 0; i < p->elements; i++) values[i] = (2.0F * values[i] - 1.0F) * limit;
}

void dft_model_init(dft_model *model, uint64_t seed) {
#pragma omp parallel for schedule(dynamic)
  for (int t = 0; t < model->param_count; t++) {
    dft_param *p = &model->params[t];
    if (strcmp(p->variable, "kernel") == 0) {
      glorot_uniform(p, seed, (uint32_t)t);
      continue;
    }
    float value =
        strcmp(p->variable, "gamma") == 0 || strcmp(p->variable, "moving_variance") == 0 ? 1.0F : 0.0F;
    for (int64_t i = 0; i < p->elements; i++) p->data[i] = value;
  }
}
