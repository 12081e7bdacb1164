#include "mix.h"
#include "dft/rng.h"
#include <math.h>
#include <string.h>

enum { ATTEMPTS = 64 };

/* Draws of one position: the two gammas of its weight, then its rectangle. */
enum { FIRST_GAMMA = 0, SECOND_GAMMA = ATTEMPTS, RECTANGLE = 2 * ATTEMPTS, KIND = 2 * ATTEMPTS + 1 };

static dft_philox draw(uint64_t seed, uint32_t sub, uint64_t index, int number) {
  return dft_rng_block(seed, DFT_STREAM_MIX, sub, index << 8 | (uint64_t)number);
}

static double above_zero(uint32_t bits) {
  return ((double)bits + 0.5) * 0x1p-32;
}

/* Logarithm of a Gamma(alpha, 1) variate: Marsaglia & Tsang (2000), with their boost below 1. In logarithms
 * because the variates of a small alpha underflow. */
static double log_gamma_draw(uint64_t seed, uint32_t sub, uint64_t index, int first, double alpha) {
  double d = (alpha < 1 ? alpha + 1 : alpha) - 1.0 / 3, c = 1 / sqrt(9 * d), value = log(d);
  dft_philox random = {{0}};
  for (int i = 0; i < ATTEMPTS; i++) { /* more than 95 % are accepted */
    random = draw(seed, sub, index, first + i);
    double x = dft_rng_normal(random), v = 1 + c * x;
    if (v <= 0) continue;
    v = v * v * v;
    value = log(d) + log(v);
    if (log(above_zero(random.v[2])) < 0.5 * x * x + d - d * v + d * log(v)) break;
  }
  return alpha < 1 ? value + log(above_zero(random.v[3])) / alpha : value;
}

double dft_mix_beta(uint64_t seed, uint32_t sub, uint64_t index, double alpha) {
  double a = log_gamma_draw(seed, sub, index, FIRST_GAMMA, alpha);
  double b = log_gamma_draw(seed, sub, index, SECOND_GAMMA, alpha);
  return 1 / (1 + exp(b - a));
}

dft_mix dft_mix_none(void) {
  return (dft_mix){.partner = -1, .weight = 1};
}

/* The pixels of [0, size) in an interval of `share` of it, placed uniformly: those whose centre lies in it.
 */
static void place(int size, double share, uint32_t bits, int *begin, int *end) {
  double start = bits * 0x1p-32 * size * (1 - share);
  *begin = (int)ceil(start - 0.5);
  *end = (int)ceil(start + share * size - 0.5);
  if (*end > size) *end = size;
}

dft_mix dft_mix_of(const dft_mixing *m, int64_t epoch, int64_t position) {
  dft_mix mix = dft_mix_none();
  if (!(m->mixup > 0 || m->cutmix > 0)) return mix;
  int64_t batch = position / m->batch_size, begin = batch * m->batch_size, left = m->samples - begin;
  uint64_t size = (uint64_t)(left < m->batch_size ? left : m->batch_size), at = (uint64_t)(position - begin);
  int64_t batches = (m->samples + m->batch_size - 1) / m->batch_size;
  uint32_t sub = (uint32_t)(epoch * batches + batch); /* counted over the run */
  uint64_t partner = dft_rng_permute(m->seed, DFT_STREAM_MIX_PARTNER, sub, size, at);
  if (partner == at) return mix;
  mix.partner = begin + (int64_t)partner;
  bool cut = m->cutmix > 0 && (!(m->mixup > 0) || draw(m->seed, sub, 0, KIND).v[0] >> 31);
  double weight = dft_mix_beta(m->seed, sub, at, cut ? m->cutmix : m->mixup);
  mix.weight = (float)weight;
  if (!cut) return mix;
  dft_philox random = draw(m->seed, sub, at, RECTANGLE);
  double side = sqrt(1 - weight);
  place(m->height, side, random.v[0], &mix.top, &mix.bottom);
  place(m->width, side, random.v[1], &mix.left, &mix.right);
  double pixels = (double)(mix.bottom - mix.top) * (mix.right - mix.left);
  if (pixels == 0) return dft_mix_none();
  mix.weight = (float)(1 - pixels / ((double)m->height * m->width));
  return mix;
}

void dft_mix_images(const dft_mix *mix, int height, int width, float *image, const float *partner) {
  size_t line = 3 * (size_t)width, n = line * (size_t)height;
  if (mix->bottom == 0) {
    float own = mix->weight, other = 1 - own;
    for (size_t i = 0; i < n; i++) image[i] = own * image[i] + other * partner[i];
    return;
  }
  for (int y = mix->top; y < mix->bottom; y++) {
    size_t at = (size_t)y * line + 3 * (size_t)mix->left;
    memcpy(image + at, partner + at, 3 * (size_t)(mix->right - mix->left) * sizeof *image);
  }
}
