/* Optimizer steps against Keras' own trajectories, the kernel sets against each other bit for bit, and the
 * passes over flat arrays. */
#include "golden/optimizer_goldens.h"
#include "kernel_test.h"

enum { STEPS = 8, COUNT = 7 };

typedef struct config {
  const char *name;
  const float (*golden)[COUNT];
  double learning_rate, beta_1, beta_2, epsilon, momentum, weight_decay;
  bool adam, nesterov;
} config;

static const config configs[] = {
    {"adam", golden_adam, 0.01, 0.9, 0.999, 1e-7, 0, 0, true, false},
    {"adam_betas", golden_adam_betas, 0.02, 0.8, 0.95, 1e-4, 0, 0, true, false},
    {"adamw", golden_adamw, 0.01, 0.9, 0.999, 1e-7, 0, 0.1, true, false},
    {"sgd", golden_sgd, 0.05, 0, 0, 0, 0, 0, false, false},
    {"sgd_decay", golden_sgd_decay, 0.05, 0, 0, 0, 0, 0.3, false, false},
    {"sgd_momentum", golden_sgd_momentum, 0.05, 0, 0, 0, 0.9, 0, false, false},
    {"sgd_nesterov", golden_sgd_nesterov, 0.05, 0, 0, 0, 0.9, 0.02, false, true},
};

static void step(const dft_ops *ops, const config *c, int t, float scale, const float *g, float *w, float *m,
                 float *v, int64_t count) {
  const float decay = (float)(c->learning_rate * c->weight_decay);
  const double alpha = c->learning_rate * sqrt(1 - pow(c->beta_2, t)) / (1 - pow(c->beta_1, t));
  if (c->adam)
    ops->adam(w, m, v, g, scale, (float)alpha, c->beta_1, c->beta_2, (float)c->epsilon, decay, count);
  else
    ops->sgd(w, c->momentum == 0 ? NULL : m, g, scale, (float)c->learning_rate, (float)c->momentum,
             c->nesterov, decay, count);
}

/* The gradients of make_optimizer_goldens.py, as a sum over four samples. */
static void check_goldens(const dft_ops *ops) {
  for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
    float w[COUNT], m[COUNT] = {0}, v[COUNT] = {0}, g[COUNT];
    for (int i = 0; i < COUNT; i++) w[i] = (float)(i * 5 % 7 - 3) / 4;
    for (int t = 0; t < STEPS; t++) {
      for (int i = 0; i < COUNT; i++) g[i] = 4 * (float)((t * 13 + i * 29) % 17 - 8) / 16;
      step(ops, &configs[k], t + 1, 0.25f, g, w, m, v, COUNT);
      assert_all_close(w, configs[k].golden[t], COUNT, 5e-7, configs[k].name);
    }
  }
}

static void test_goldens(void **state) {
  (void)state;
  each_set(check_goldens);
}

/* All sets and thread counts step alike, at any count and alignment. */
static void check_bits(const dft_ops *ops) {
  static const int64_t counts[] = {0, 1, 7, 8, 15, 16, 17, 100, 50001};
  for (size_t n = 0; n < sizeof counts / sizeof *counts; n++)
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
      const size_t count = (size_t)counts[n];
      float *g = spread(count), *start = spread(4 * count), *want = empty(4 * count), *got = empty(4 * count);
      for (size_t i = 0; i < count; i++) start[2 * count + i] = fabsf(start[2 * count + i]);
      memcpy(want, start, 4 * count * sizeof *want);
      dft_ops_set_threads(1);
      step(reference(), &configs[k], 3, 0.1f, g, want, want + count, want + 2 * count, counts[n]);
      reference()->add(g, want + 3 * count, counts[n]);
      for (int threads = 1; threads <= 3; threads++) {
        dft_ops_set_threads(threads);
        memcpy(got, start, 4 * count * sizeof *got);
        step(ops, &configs[k], 3, 0.1f, g, got, got + count, got + 2 * count, counts[n]);
        ops->add(g, got + 3 * count, counts[n]);
        assert_bits(got, want, 4 * count * sizeof *got, configs[k].name);
      }
      free(g), free(start), free(want), free(got);
    }
}

static void test_bits(void **state) {
  (void)state;
  each_set(check_bits);
}

#if defined(__x86_64__) || defined(__aarch64__)
/* Moments that die away never are denormal, on any thread, nor does a denormal gradient count. */
static void check_denormals(const dft_ops *ops) {
  enum { N = 17000, LONG = 8 };
  float *w = spread(N), *kept = empty(N), *m = empty(N), *v = empty(N), *g = empty(N);
  memcpy(kept, w, N * sizeof *w);
  for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
    if (configs[k].weight_decay != 0) continue;
    for (int threads = 1; threads <= 3; threads++) {
      for (int i = 0; i < N; i++) {
        m[i] = i % 3 ? 4e-38F : 1e-40F; /* v is sgd's spare */
        v[i] = i % 5 ? 4e-38F : 1e-40F;
        g[i] = i % 2 ? 1e-40F : 0;
      }
      dft_ops_set_threads(threads);
      for (int t = 0; t < LONG; t++) step(ops, &configs[k], 900 + t, 1, g, w, m, v, N);
      for (int i = 0; i < N && (configs[k].adam || configs[k].momentum != 0); i++)
        assert_true(fpclassify(m[i]) != FP_SUBNORMAL);
      for (int i = 0; i < N && configs[k].adam; i++) assert_true(fpclassify(v[i]) != FP_SUBNORMAL);
      assert_bits(w, kept, N * sizeof *w, configs[k].name);
    }
  }
  volatile float least = 1e-40F; /* the mode does not outlive the call */
  assert_true(least / 2 > 0);
  free(w), free(kept), free(m), free(v), free(g);
}

static void test_denormals(void **state) {
  (void)state;
  each_set(check_denormals);
}
#endif

static void check_finite(const dft_ops *ops) {
  static const float bad[] = {NAN, INFINITY, -INFINITY};
  for (int64_t count = 0; count < 200; count += count < 40 ? 1 : 37) {
    float *x = spread((size_t)count);
    if (count > 0) x[0] = 3.4e38f;
    assert_true(ops->all_finite(x, count));
    for (int64_t i = 0; i < count; i++) {
      const float kept = x[i];
      x[i] = bad[i % 3];
      assert_false(ops->all_finite(x, count));
      x[i] = kept;
    }
    free(x);
  }
}

static void test_finite(void **state) {
  (void)state;
  each_set(check_finite);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_goldens),
    cmocka_unit_test(test_bits),
#if defined(__x86_64__) || defined(__aarch64__)
    cmocka_unit_test(test_denormals),
#endif
    cmocka_unit_test(test_finite),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
