/* mixup and cutmix: partners, weights, rectangles, images, and the loss of two labels. */
#include "../../src/data/mix.h"
#include "dft/loss.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 7, SAMPLES = 25, H = 33, W = 40, VALUES = H * W * 3 };

static dft_mixing mixing(double mixup, double cutmix) {
  return (dft_mixing){.seed = 42,
                      .mixup = mixup,
                      .cutmix = cutmix,
                      .samples = SAMPLES,
                      .batch_size = BATCH,
                      .height = H,
                      .width = W};
}

/* In each batch, also the last smaller one, partners are a permutation of the batch; epochs differ. */
static void partners(void **state) {
  (void)state;
  const dft_mixing m = mixing(0.4, 0);
  int alone = 0, same = 0, shifted = 0;
  for (int64_t epoch = 0; epoch < 50; epoch++) {
    int taken[SAMPLES] = {0};
    for (int64_t p = 0; p < SAMPLES; p++) {
      dft_mix mix = dft_mix_of(&m, epoch, p);
      int64_t partner = mix.partner < 0 ? p : mix.partner;
      assert_true(partner / BATCH == p / BATCH && partner < SAMPLES && mix.partner != p);
      taken[partner]++;
      alone += mix.partner < 0;
      assert_true(mix.partner >= 0 || mix.weight == 1);
      assert_true(mix.bottom == 0 && mix.weight >= 0 && mix.weight <= 1);
      same += dft_mix_of(&m, epoch + 1, p).partner == mix.partner;
      if (p < BATCH) continue;
      const dft_mix before =
          dft_mix_of(&m, epoch + 1, p - BATCH); /* the batch before this one, in the next epoch */
      shifted += before.weight == mix.weight && before.weight < 1;
    }
    for (int p = 0; p < SAMPLES; p++) assert_int_equal(taken[p], 1);
  }
  assert_in_range(alone, 120, 280); /* one fixed point per batch on average */
  assert_in_range(same, 100, 400);
  assert_int_equal(shifted, 0);
  const dft_mixing off = mixing(0, 0);
  assert_int_equal(dft_mix_of(&off, 0, 3).partner, -1);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Moments of Beta(a, a), and for a = 1 and 0.5 its distribution function (Kolmogorov and Smirnov, 1 % level).
 */
static void weights(void **state) {
  (void)state;
  enum { MANY = 20000 };
  static double x[MANY];
  static const double alphas[] = {0.001, 0.2, 0.5, 1, 5, 100};
  for (int k = 0; k < 6; k++) {
    double a = alphas[k], sum = 0, squares = 0, worst = 0;
    for (int i = 0; i < MANY; i++) {
      x[i] = dft_mix_beta(7, (uint32_t)k, (uint64_t)i, a);
      assert_true(x[i] >= 0 && x[i] <= 1);
      sum += x[i];
      squares += (x[i] - 0.5) * (x[i] - 0.5);
    }
    double variance = 1 / (4 * (2 * a + 1));
    assert_true(fabs(sum / MANY - 0.5) < 4 * sqrt(variance / MANY));
    assert_true(fabs(squares / MANY / variance - 1) < 0.05);
    if (a != 1 && a != 0.5) continue;
    qsort(x, MANY, sizeof *x, compare);
    for (int i = 0; i < MANY; i++) {
      double f = a == 1 ? x[i] : 2 / 3.141592653589793 * asin(sqrt(x[i]));
      worst = fmax(worst, fabs(f - (i + 0.5) / MANY));
    }
    assert_true(worst < 1.63 / sqrt(MANY));
  }
}

/* Rectangles lie inside, weights are what of the image is left, and with both each batch has one of the two.
 */
static void rectangles(void **state) {
  (void)state;
  const dft_mixing m = mixing(0.2, 1);
  double sum = 0;
  int cut_batches = 0, cuts = 0, at_left = 0, at_right = 0;
  for (int64_t epoch = 0; epoch < 200; epoch++) {
    int cut = -1;
    for (int64_t p = 0; p < SAMPLES; p++) {
      if (p % BATCH == 0) cut = -1;
      dft_mix mix = dft_mix_of(&m, epoch, p);
      if (mix.partner < 0) continue;
      bool is_cut = mix.bottom > 0;
      if (cut < 0) {
        cut = is_cut;
        cut_batches += is_cut;
      }
      assert_int_equal(cut, is_cut);
      if (!is_cut) continue;
      assert_true(mix.top >= 0 && mix.left >= 0 && mix.top < mix.bottom && mix.left < mix.right);
      assert_true(mix.bottom <= H && mix.right <= W);
      assert_true(fabs((double)mix.weight -
                       (1 - (double)(mix.bottom - mix.top) * (mix.right - mix.left) / (H * W))) < 1e-6);
      sum += (double)mix.weight;
      cuts++;
      at_left += mix.left == 0;
      at_right += mix.right == W;
    }
  }
  assert_in_range(cut_batches, 300, 500); /* of 800, in some of which nobody is mixed */
  assert_true(fabs(sum / cuts - 0.5) < 0.03);
  assert_true(at_left > 0 && at_right > 0 && abs(at_left - at_right) < cuts / 10);
}

static void images(void **state) {
  (void)state;
  static float a[VALUES], b[VALUES], mixed[VALUES];
  for (int i = 0; i < VALUES; i++) {
    a[i] = (float)(i % 251);
    b[i] = (float)(i % 239) + 300;
  }
  memcpy(mixed, a, sizeof a);
  dft_mix_images(&(dft_mix){.partner = 1, .weight = 0.25F}, H, W, mixed, b);
  for (int i = 0; i < VALUES; i++) assert_true(fabsf(mixed[i] - (0.25F * a[i] + 0.75F * b[i])) < 1e-4F);
  memcpy(mixed, a, sizeof a);
  dft_mix_images(&(dft_mix){.partner = 1, .weight = 0.5F, .top = 3, .bottom = 9, .left = 30, .right = 40}, H,
                 W, mixed, b);
  for (int i = 0; i < VALUES; i++) {
    int x = i / 3 % W, y = i / 3 / W;
    assert_true(mixed[i] == (y >= 3 && y < 9 && x >= 30 ? b[i] : a[i]));
  }
}

/* A dataset mixes views of two samples, and its partners are samples that the epoch's order puts in the
 * batch. */
static void datasets(void **state) {
  (void)state;
  static const char text[] =
      "model: {input_shape: [33, 40, 3], classes: 3}\n"
      "data: {format: random, batch_size: 7, train: {samples: 25}, augment: {zoom: 0.2, mixup: 1}}\n"
      "phases: [{epochs: 1}]\n";
  dft_config *c = NULL;
  dft_dataset *d = NULL, *none = NULL;
  assert_int_equal(dft_config_parse("mix.yaml", text, NULL, 0, &c), DFT_OK);
  assert_int_equal(dft_data_open(c, dft_share_alone(), &d, &none), DFT_OK);
  assert_true(dft_dataset_mixes(d));
  assert_int_equal(dft_dataset_views(d), 0);
  static float a[VALUES], b[VALUES], mixed[VALUES];
  int mixes = 0;
  for (int64_t p = 0; p < SAMPLES; p++) {
    int64_t sample = dft_sampler(42, true, 2, SAMPLES, p), others[BATCH];
    dft_mix mix = dft_dataset_mix(d, 2, p), before = mix;
    assert_int_equal(dft_dataset_view(d, sample, 2, NULL, a), DFT_OK);
    assert_int_equal(dft_dataset_view(d, sample, 2, &mix, mixed), DFT_OK);
    assert_memory_equal(&mix, &before, sizeof mix);
    if (mix.partner < 0) {
      assert_memory_equal(a, mixed, sizeof a);
      continue;
    }
    bool found = false;
    int64_t begin = p / BATCH * BATCH;
    for (int64_t i = 0; i < BATCH && begin + i < SAMPLES; i++) {
      others[i] = dft_sampler(42, true, 2, SAMPLES, begin + i);
      found = found || others[i] == mix.partner;
    }
    assert_true(found && mix.partner != sample);
    assert_int_equal(dft_dataset_view(d, mix.partner, 2, NULL, b), DFT_OK);
    dft_mix_images(&mix, H, W, a, b);
    assert_memory_equal(a, mixed, sizeof a);
    mixes++;
  }
  assert_true(mixes > SAMPLES / 2);
  dft_dataset_free(d);
  dft_config_free(c);
}

/* ---- loss ---- */

enum { ROWS = 6, CLASSES = 5 };
static const int labels[ROWS] = {0, 3, 2, 4, 1, 4}, others[ROWS] = {1, 3, 0, 2, 4, 2};
static const float shares[ROWS] = {1, 0.3F, 0.5F, 0.75F, 0, 0.5F};

static double soft_loss(const double z[CLASSES], int row) {
  double sum = 0, w = (double)shares[row];
  for (int c = 0; c < CLASSES; c++) sum += exp(z[c]);
  return log(sum) - w * z[labels[row]] - (1 - w) * z[others[row]];
}

static void loss_of_two_labels(void **state) {
  (void)state;
  float logits[ROWS][CLASSES], loss[ROWS], d[ROWS][CLASSES], plain_loss[ROWS], plain[ROWS][CLASSES];
  unsigned char correct[ROWS], plain_correct[ROWS];
  for (int i = 0; i < ROWS * CLASSES; i++)
    logits[i / CLASSES][i % CLASSES] = (float)((i * 7919 + 13) % 101) / 17 - 3;
  logits[2][0] = 9; /* equal weights: the lower of labels 2 and 0 */
  logits[5][4] = 9; /* equal weights of 4 and 2: the higher one is wrong */
  dft_cross_entropy_mixed(logits[0], labels, others, shares, ROWS, CLASSES, loss, d[0], correct);
  for (int i = 0; i < ROWS; i++) {
    double z[CLASSES];
    for (int c = 0; c < CLASSES; c++) z[c] = (double)logits[i][c];
    assert_true(fabs((double)loss[i] - soft_loss(z, i)) < 1e-5);
    for (int c = 0; c < CLASSES; c++) { /* central differences */
      const double e = 1e-4;
      z[c] += e;
      double above = soft_loss(z, i);
      z[c] -= 2 * e;
      double slope = (above - soft_loss(z, i)) / (2 * e);
      z[c] += e;
      assert_true(fabs((double)d[i][c] - slope) < 1e-5);
    }
  }
  assert_int_equal(correct[2], 1);
  assert_int_equal(correct[5], 0);
  for (int i = 0; i < ROWS; i++) {
    int best = dft_argmax(logits[i], CLASSES);
    if (shares[i] > 0.5F) assert_int_equal(correct[i], best == labels[i]);
    if (shares[i] < 0.5F) assert_int_equal(correct[i], best == others[i]);
  }
  /* which of two equal labels is named first does not matter */
  dft_cross_entropy_mixed(logits[0], others, labels, shares, ROWS, CLASSES, plain_loss, plain[0],
                          plain_correct);
  assert_int_equal(plain_correct[2], 1);
  assert_int_equal(plain_correct[5], 0);
  /* all the weight on the first label: the bits of the plain loss */
  const float ones[ROWS] = {1, 1, 1, 1, 1, 1};
  dft_cross_entropy_mixed(logits[0], labels, others, ones, ROWS, CLASSES, loss, d[0], correct);
  dft_cross_entropy(logits[0], labels, ROWS, CLASSES, plain_loss, plain[0], plain_correct);
  assert_memory_equal(loss, plain_loss, sizeof loss);
  assert_memory_equal(d, plain, sizeof d);
  assert_memory_equal(correct, plain_correct, sizeof correct);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(partners), cmocka_unit_test(weights),  cmocka_unit_test(rectangles),
      cmocka_unit_test(images),   cmocka_unit_test(datasets), cmocka_unit_test(loss_of_two_labels),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
