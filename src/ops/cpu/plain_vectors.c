/* Operations on a BatchNorm's vectors and other small things, each O(channels) or O(features). */
#include "dft/rng.h"
#include "kernels.h"
#include <string.h>

#define VECTORS(name) name##_plain
#include "batchnorm_vectors.h"

void dft_dropout_plain(const float *in, float *out, const int64_t *samples, uint64_t seed, uint32_t epoch,
                       double rate, int count, int features) {
  const float keep = (float)(1.0 - rate), scale = 1.0F / keep;
  for (int s = 0; s < count; s++)
    for (int f = 0; f < features; f++) {
      const uint64_t index = (uint64_t)samples[s] * (uint64_t)features + (uint64_t)f;
      const dft_philox b = dft_rng_block(seed, DFT_STREAM_DROPOUT, epoch, index / 4);
      const size_t i = (size_t)s * (size_t)features + (size_t)f;
      out[i] = dft_rng_float(b.v[index % 4]) < keep ? in[i] * scale : 0.0F;
    }
}

void dft_copy_nodes_plain(const float *from, float *to, size_t stride, int64_t count, int nodes) {
  for (int n = 0; n < nodes; n++)
    memcpy(to + (size_t)n * stride, from + (size_t)n * (size_t)count, (size_t)count * sizeof *to);
}
