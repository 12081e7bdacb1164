/* Softmax cross-entropy (loss.h), and a step's sums. */
#include "device.h"

/* A sample a thread: its logits are few. `others` and `weights` NULL: one label. */
struct loss_kernel {
  const float *logits;
  const int *labels, *others;
  const float *weights;
  int classes;
  float *loss, *dlogits;
  unsigned char *correct;
  __device__ void operator()(int64_t i) const {
    const float *z = logits + i * classes;
    float *d = dlogits + i * classes;
    int best = 0;
    for (int c = 1; c < classes; c++)
      if (z[c] > z[best]) best = c;
    const float most = z[best];
    float sum = 0.0f;
    for (int c = 0; c < classes; c++) {
      d[c] = expf(z[c] - most);
      sum += d[c];
    }
    for (int c = 0; c < classes; c++) d[c] /= sum;
    finish(i, z, d, best, logf(sum));
  }
  __device__ void finish(int64_t i, const float *z, float *d, int best, float log_sum) const {
    const int label = labels[i];
    if (others == nullptr) {
      loss[i] = log_sum - (z[label] - z[best]);
      d[label] -= 1.0f;
      correct[i] = best == label;
      return;
    }
    const int second = others[i];
    const float own = weights[i], other = 1.0f - own;
    loss[i] = log_sum - (own * (z[label] - z[best]) + other * (z[second] - z[best]));
    d[label] -= own;
    d[second] -= other;
    const int right = own == 0.5f ? (label < second ? label : second) : own > 0.5f ? label : second;
    correct[i] = best == right;
  }
};

static void loss(const float *logits, const int *labels, const int *others, const float *weights, int samples,
                 int classes, float *losses, float *dlogits, unsigned char *correct) {
  dft_launch("loss", samples,
             loss_kernel{logits, labels, others, weights, classes, losses, dlogits, correct});
}

/* A shard a thread. */
struct shard_sums_kernel {
  const float *loss;
  const unsigned char *correct;
  const int *first;
  double *shards; /* [shard][2] */
  __device__ void operator()(int64_t i) const {
    double sum = 0, right = 0;
    for (int s = first[i]; s < first[i + 1]; s++) sum += (double)loss[s], right += correct[s];
    shards[2 * i] = sum;
    shards[2 * i + 1] = right;
  }
};

struct node_sums_kernel {
  const double *shards;
  const int *first, *node_first;
  const double *flags;
  double *sums;
  __device__ void operator()(int64_t node) const {
    const int from = node_first[node], to = node_first[node + 1];
    double level[DFT_CUDA_LEVELS][2];
    int top = 0;
    for (int shard = from; shard < to; shard++, top++) {
      level[top][0] = shards[2 * shard];
      level[top][1] = shards[2 * shard + 1];
      for (int done = shard - from; done & 1; done >>= 1, top--) {
        level[top - 1][0] += level[top][0];
        level[top - 1][1] += level[top][1];
      }
    }
    double *out = sums + node * DFT_STEP_SUMS;
    out[DFT_STEP_LOSS] = level[0][0];
    out[DFT_STEP_CORRECT] = level[0][1];
    out[DFT_STEP_COUNT] = first[to] - first[from];
    out[DFT_STEP_STOP] = node == 0 ? flags[0] : 0;
    out[DFT_STEP_FAILED] = node == 0 ? flags[1] : 0;
  }
};

static void step_sums(const float *losses, const unsigned char *correct, const dft_shard_map *map,
                      const double *flags, double *sums) {
  const dft_chunks c = dft_cuda_chunks(map, 1, 1, 1, 1);
  double *shards = (double *)(void *)dft_cuda_partials(c, 4);
  if (shards == nullptr) return;
  dft_launch("step_sums", map->shards, shard_sums_kernel{losses, correct, c.first, shards});
  dft_launch("step_sums", map->nodes,
             node_sums_kernel{shards, c.first, c.first + map->shards + 1, flags, sums});
}

void dft_cuda_table_loss(void) {
  cuda.device.loss = loss;
  cuda.device.step_sums = step_sums;
}
