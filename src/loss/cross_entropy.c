#include "dft/loss.h"
#include <math.h>
#include <stddef.h>

/* softmax of one row; returns log(sum(exp(z - max))). */
static float softmax_row(const float *z, int classes, float max, float *p) {
  float sum = 0.0F;
  for (int c = 0; c < classes; c++) {
    p[c] = expf(z[c] - max);
    sum += p[c];
  }
  for (int c = 0; c < classes; c++) p[c] /= sum;
  return logf(sum);
}

int dft_argmax(const float *values, int classes) {
  int best = 0;
  for (int c = 1; c < classes; c++)
    if (values[c] > values[best]) best = c;
  return best;
}

void dft_softmax(const float *logits, int samples, int classes, float *probabilities) {
  for (int i = 0; i < samples; i++) {
    const float *z = logits + (size_t)i * (size_t)classes;
    softmax_row(z, classes, z[dft_argmax(z, classes)], probabilities + (size_t)i * (size_t)classes);
  }
}

void dft_cross_entropy(const float *logits, const int *labels, int samples, int classes, float *loss,
                       float *dlogits, unsigned char *correct) {
  for (int i = 0; i < samples; i++) {
    const float *z = logits + (size_t)i * (size_t)classes;
    float *d = dlogits + (size_t)i * (size_t)classes;
    int best = dft_argmax(z, classes);
    float log_sum = softmax_row(z, classes, z[best], d);
    loss[i] = log_sum - (z[labels[i]] - z[best]);
    d[labels[i]] -= 1.0F;
    correct[i] = best == labels[i];
  }
}

/* The label with the larger weight. */
static int main_label(int label, int other, float weight) {
  if (weight == 0.5F) return label < other ? label : other;
  return weight > 0.5F ? label : other;
}

void dft_cross_entropy_mixed(const float *logits, const int *labels, const int *others, const float *weights,
                             int samples, int classes, float *loss, float *dlogits, unsigned char *correct) {
  for (int i = 0; i < samples; i++) {
    const float *z = logits + (size_t)i * (size_t)classes;
    float *d = dlogits + (size_t)i * (size_t)classes;
    float own = weights[i], other = 1.0F - own;
    int best = dft_argmax(z, classes);
    float log_sum = softmax_row(z, classes, z[best], d);
    loss[i] = log_sum - (own * (z[labels[i]] - z[best]) + other * (z[others[i]] - z[best]));
    d[labels[i]] -= own;
    d[others[i]] -= other;
    correct[i] = best == main_label(labels[i], others[i], own);
  }
}
