/* What only a device has: memory, order, recorded steps, the parts of a step that the host does itself
 * elsewhere; against the host's own. Run on the device that DFT_TEST_DEVICE asks for (device_set.h). */
#include "kernels/kernel_test.h"

#include "dft/loss.h"
#include "dft/optim.h"
#include "dft/rng.h"
#include <stdio.h>

static const dft_ops *ops;
static const dft_device *dev;

static void ok(dft_status status) {
  if (status != DFT_OK) fail_msg("%s", dft_error());
}

static void *on_device(const void *host, size_t bytes) {
  void *memory;
  ok(dev->alloc(bytes, &memory));
  if (host != NULL) dev->upload(memory, host, bytes);
  ok(dev->finish());
  return memory;
}

static void to_host(void *host, const void *memory, size_t bytes) {
  dev->download(host, memory, bytes);
  ok(dev->finish());
}

/* ---- products ---- */

/* More rows than one grid of some of cuBLASLt's kernels has room for: none is forgotten. */
static void test_many_rows(void **state) {
  (void)state;
  enum { ROWS = 65535 * 32 + 5, N = 2 };
  const float w[N * N] = {1, 2, 3, 4};
  float *x = malloc(ROWS * N * sizeof *x), *y = malloc(ROWS * N * sizeof *y);
  for (int i = 0; i < ROWS * N; i++) x[i] = (float)(i % 1000);
  float *xd = on_device(x, ROWS * N * sizeof *x), *wd = on_device(w, sizeof w);
  float *yd = on_device(NULL, ROWS * N * sizeof *y);
  ops->gemm(xd, wd, yd, ROWS, 1, N, N, &(dft_epilogue){0});
  to_host(y, yd, ROWS * N * sizeof *y);
  for (int r = 0; r < ROWS; r++) {
    const float *in = x + r * N, *out = y + r * N;
    if (out[0] != in[0] + 3 * in[1] || out[1] != 2 * in[0] + 4 * in[1]) fail_msg("row %d", r);
  }
  dev->free(xd), dev->free(wd), dev->free(yd);
  free(x), free(y);
}

/* ---- memory and order ---- */

static void test_memory(void **state) {
  (void)state;
  void *a, *b;
  unsigned char *host = malloc(1000), zeros[1000] = {0};
  ok(dev->alloc(1000, &a));
  memset(host, 1, 1000);
  to_host(host, a, 1000);
  assert_bits(host, zeros, 1000, "new memory");
  for (int i = 0; i < 1000; i++) host[i] = (unsigned char)(i * 7);
  dev->upload(a, host, 1000);
  ok(dev->alloc(1000, &b));
  dev->copy(b, a, 1000);
  memset(zeros, 1, 1000);
  to_host(zeros, b, 1000);
  assert_bits(zeros, host, 1000, "up, over and down");
  const size_t before = dev->free_bytes();
  dev->free(a), dev->free(b), dev->free(NULL);
  assert_true(dev->free_bytes() >= before);
  ok(dev->host_alloc(100, &a));
  assert_int_equal(((unsigned char *)a)[99], 0);
  dev->host_free(a), dev->host_free(NULL);
  assert_int_equal(dev->alloc((size_t)1 << 50, &a), DFT_EINTERNAL);
  assert_null(a);
  assert_non_null(strstr(dft_error(), "1125899906842624 bytes wanted"));
  assert_non_null(strstr(dft_error(), "lower data.batch_size"));
  ok(dev->finish()); /* it is no error of the stream */
  bool finished = false;
  while (!finished) ok(dev->poll(&finished));
  free(host);
}

/* y += x, again and again: recorded once, replayed on other values. */
static void test_graph(void **state) {
  (void)state;
  enum { N = 100 };
  float x[N], y[N] = {0}, want[N] = {0};
  for (int i = 0; i < N; i++) x[i] = (float)i;
  float *xd = on_device(x, sizeof x), *sum = on_device(NULL, sizeof x);
  void *wanted;
  dft_graph *graph = NULL;
  dev->exchange_add_f32(sum, sum, xd, 0);
  ok(dev->record());
  assert_int_equal(dev->alloc(100, &wanted), DFT_EINTERNAL);
  assert_non_null(strstr(dft_error(), "while a step is recorded"));
  dev->copy(sum, xd, sizeof x);
  ok(dev->recorded(&graph));
  to_host(y, sum, sizeof y);
  assert_bits(y, want, sizeof y, "recording runs nothing");
  for (int turn = 0; turn < 3; turn++) {
    for (int i = 0; i < N; i++) x[i] = want[i] = (float)(i * turn);
    dev->upload(xd, x, sizeof x);
    dev->replay(graph);
    to_host(y, sum, sizeof y);
    assert_bits(y, want, sizeof y, "replayed");
  }
  dev->graph_free(graph), dev->graph_free(NULL);
  dev->free(xd), dev->free(sum);
}

/* The exchange's stream takes what the first one made, and gives back; recorded too. */
static void exchange(double *d, float *f, void *event, int n) {
  dev->exchange_begin();
  dev->exchange_add_f32(f, f, f + n, n);
  dev->exchange_add_f64(d, d + n, d, n);
  dev->exchange_mark(event);
  dev->exchange_wait(event);
  dev->copy(f + n, f, (size_t)n * sizeof *f);
}

static void test_exchange(void **state) {
  (void)state;
  enum { N = 33 };
  float f[2 * N];
  double d[2 * N];
  void *event;
  dft_graph *graph;
  float *fd = on_device(NULL, sizeof f);
  double *dd = on_device(NULL, sizeof d);
  ok(dev->event_new(&event));
  exchange(dd, fd, event, N); /* kernels are loaded when they first run: not while recording */
  ok(dev->record());
  exchange(dd, fd, event, N);
  ok(dev->recorded(&graph));
  for (int recorded = 0; recorded < 2; recorded++) {
    for (int i = 0; i < 2 * N; i++) d[i] = f[i] = (float)i / 3;
    dev->upload(fd, f, sizeof f);
    dev->upload(dd, d, sizeof d);
    if (recorded)
      dev->replay(graph);
    else
      exchange(dd, fd, event, N);
    float f_after[2 * N];
    double d_after[2 * N];
    dev->download(f_after, fd, sizeof f);
    to_host(d_after, dd, sizeof d);
    for (int i = 0; i < N; i++) {
      assert_true(f_after[i] == f[i] + f[i + N] && f_after[i + N] == f_after[i]);
      assert_true(d_after[i] == d[i] + d[i + N]);
    }
  }
  dev->graph_free(graph), dev->event_free(event), dev->event_free(NULL);
  dev->free(fd), dev->free(dd);
}

/* ---- rows ---- */

static void test_rows(void **state) {
  (void)state;
  enum { ROWS = 9, FLOATS = 37, TAKEN = 4 };
  static const int64_t index[TAKEN] = {7, 0, 3, 8};
  float *store = filled(ROWS * FLOATS), taken[TAKEN * FLOATS], *after = empty(ROWS * FLOATS);
  float *sd = on_device(store, sizeof(float) * ROWS * FLOATS), *xd = on_device(NULL, sizeof taken);
  int64_t *id = on_device(index, sizeof index);
  dev->gather(sd, id, xd, TAKEN, FLOATS);
  to_host(taken, xd, sizeof taken);
  for (int i = 0; i < TAKEN; i++)
    assert_bits(taken + i * FLOATS, store + index[i] * FLOATS, FLOATS * sizeof(float), "gathered");
  for (int i = 0; i < TAKEN * FLOATS; i++) taken[i] = (float)i;
  dev->upload(xd, taken, sizeof taken);
  dev->scatter(xd, id, sd, TAKEN, FLOATS);
  to_host(after, sd, sizeof(float) * ROWS * FLOATS);
  for (int i = 0; i < TAKEN; i++)
    memcpy(store + index[i] * FLOATS, taken + i * FLOATS, FLOATS * sizeof(float));
  assert_bits(after, store, sizeof(float) * ROWS * FLOATS, "scattered");
  /* to activations and back by way of a mean over one pixel */
  void *ad = on_device(NULL, (size_t)(ROWS * FLOATS * dev->activation_bytes));
  for (int count = ROWS * FLOATS; count > ROWS * FLOATS - 2; count--) {
    dev->to_activations(sd, ad, count);
    ops->pool_avg(ad, sd, count, 1, 1);
    to_host(after, sd, (size_t)count * sizeof(float));
    device_rounded(store, (size_t)count);
    assert_bits(after, store, (size_t)count * sizeof(float), "activations");
  }
  dev->free(sd), dev->free(xd), dev->free(id), dev->free(ad);
  free(store), free(after);
}

/* The same values as the host's, whatever the sample's number. */
static void test_dropout(void **state) {
  (void)state;
  enum { SAMPLES = 3, FEATURES = 30 };
  static const int64_t samples[SAMPLES] = {0, 123456789012, 5};
  float *in = filled(SAMPLES * FEATURES), *want = empty(SAMPLES * FEATURES), *got = empty(SAMPLES * FEATURES);
  const uint64_t key = 0x123456789abcdef0;
  reference()->dropout(in, want, samples, key, 17, 0.3, SAMPLES, FEATURES);
  device_set()->dropout(in, got, samples, key, 17, 0.3, SAMPLES, FEATURES);
  assert_bits(got, want, SAMPLES * FEATURES * sizeof *got, "dropout");
  memcpy(got, in, SAMPLES * FEATURES * sizeof *got);
  device_set()->dropout(got, got, samples, key, 17, 0.3, SAMPLES, FEATURES);
  assert_bits(got, want, SAMPLES * FEATURES * sizeof *got, "dropout in place");
  float to[3 * 11] = {0}, expected[3 * 11] = {0};
  reference()->copy_nodes(in, expected, 11, 7, 3);
  device_set()->copy_nodes(in, to, 11, 7, 3);
  assert_bits(to, expected, sizeof to, "copy_nodes");
  free(in), free(want), free(got);
}

/* ---- the loss and a step's sums ---- */

static void check_loss(int classes, bool mixed) {
  enum { N = 13 };
  const size_t count = (size_t)(N * classes);
  float *logits = filled(count), *want_d = empty(count), *got_d = empty(count), weights[N], want[N], got[N];
  int labels[N], others[N];
  unsigned char want_right[N], got_right[N];
  for (size_t i = 0; i < count; i++) logits[i] *= 8;
  for (int i = 0; i < N; i++) {
    labels[i] = i % classes, others[i] = (i * 5 + 1) % classes;
    weights[i] = i % 4 == 0 ? 0.5F : (float)i / N;
  }
  if (mixed)
    dft_cross_entropy_mixed(logits, labels, others, weights, N, classes, want, want_d, want_right);
  else
    dft_cross_entropy(logits, labels, N, classes, want, want_d, want_right);
  float *ld = on_device(logits, count * sizeof(float)), *dd = on_device(NULL, count * sizeof(float));
  float *wd = on_device(weights, sizeof weights), *lossd = on_device(NULL, sizeof got);
  int *labelsd = on_device(labels, sizeof labels), *othersd = on_device(others, sizeof others);
  unsigned char *rightd = on_device(NULL, sizeof got_right);
  dev->loss(ld, labelsd, mixed ? othersd : NULL, mixed ? wd : NULL, N, classes, lossd, dd, rightd);
  dev->download(got, lossd, sizeof got);
  dev->download(got_d, dd, count * sizeof(float));
  to_host(got_right, rightd, sizeof got_right);
  assert_all_close(got, want, N, 2e-6, "loss");
  assert_all_close(got_d, want_d, count, 2e-6, "dlogits");
  assert_bits(got_right, want_right, sizeof got_right, "correct");
  dev->free(ld), dev->free(dd), dev->free(wd), dev->free(lossd), dev->free(labelsd), dev->free(othersd);
  dev->free(rightd);
  free(logits), free(want_d), free(got_d);
}

static void test_loss(void **state) {
  (void)state;
  static const int classes[] = {2, 5, 1000};
  for (int i = 0; i < 6; i++) check_loss(classes[i / 2], i % 2);
}

static double tree(const dft_shard_map *map, const float *loss, int shard, int count) {
  double sum = 0;
  if (count > 1) return tree(map, loss, shard, count / 2) + tree(map, loss, shard + count / 2, count / 2);
  for (int s = map->first[shard]; s < map->first[shard + 1]; s++) sum += loss[s];
  return sum;
}

static void test_step_sums(void **state) {
  (void)state;
  static const int cases[][4] = {{8, 1, 0, 21}, {8, 3, 1, 21}, {16, 5, 2, 40}, {8, 1, 0, 3}, {64, 5, 3, 200}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    dft_shard_map map = {0};
    ok(dft_shard_map_set(&map, cases[i][0], cases[i][1], cases[i][2], cases[i][3]));
    const size_t n = (size_t)map.samples;
    float *loss = spread(n);
    unsigned char *right = malloc(n + 1);
    for (size_t s = 0; s < n; s++) right[s] = s % 3 == 0;
    const double flags[2] = {1, 2};
    double sums[DFT_MAX_NODES * DFT_STEP_SUMS];
    float *lossd = on_device(loss, n * sizeof *loss);
    unsigned char *rightd = on_device(right, n);
    double *flagsd = on_device(flags, sizeof flags), *sumsd = on_device(NULL, sizeof sums);
    dev->step_sums(lossd, rightd, &map, flagsd, sumsd);
    to_host(sums, sumsd, sizeof sums);
    for (int node = 0; node < map.nodes; node++) {
      const int from = map.node_first[node], to = map.node_first[node + 1];
      const double *s = sums + node * DFT_STEP_SUMS;
      double correct = 0;
      for (int at = map.first[from]; at < map.first[to]; at++) correct += right[at];
      assert_true(s[DFT_STEP_LOSS] == tree(&map, loss, from, to - from));
      assert_true(s[DFT_STEP_CORRECT] == correct);
      assert_true(s[DFT_STEP_COUNT] == map.first[to] - map.first[from]);
      assert_true(s[DFT_STEP_STOP] == (node == 0 ? 1 : 0) && s[DFT_STEP_FAILED] == (node == 0 ? 2 : 0));
    }
    dev->free(lossd), dev->free(rightd), dev->free(flagsd), dev->free(sumsd);
    free(loss), free(right);
    dft_shard_map_free(&map);
  }
}

/* ---- updates ---- */

enum { TENSORS = 3 };
static const int64_t counts[TENSORS] = {1, 1000, 70001};

typedef struct model {
  float *w[TENSORS], *slots[2][TENSORS], *gradient[TENSORS];
} model;

static model new_model(void) {
  model m;
  for (int t = 0; t < TENSORS; t++) {
    m.w[t] = filled((size_t)counts[t]), m.gradient[t] = filled((size_t)counts[t]);
    m.slots[0][t] = filled((size_t)counts[t]), m.slots[1][t] = filled((size_t)counts[t]);
    for (int64_t i = 0; i < counts[t]; i++) m.slots[1][t][i] = fabsf(m.slots[1][t][i]);
  }
  return m;
}

static void free_model(model *m) {
  for (int t = 0; t < TENSORS; t++)
    free(m->w[t]), free(m->gradient[t]), free(m->slots[0][t]), free(m->slots[1][t]);
}

/* One update on the device, in place of the model's values. */
static int update(model *m, const dft_update_rule *rule, const double *totals, float alpha_t) {
  dft_update_tensor tensors[TENSORS];
  int done = -1;
  for (int t = 0; t < TENSORS; t++) {
    const size_t bytes = (size_t)counts[t] * sizeof(float);
    tensors[t] = (dft_update_tensor){on_device(m->w[t], bytes),
                                     {on_device(m->slots[0][t], bytes), on_device(m->slots[1][t], bytes)},
                                     on_device(m->gradient[t], bytes),
                                     counts[t]};
  }
  dft_update_tensor *list = on_device(tensors, sizeof tensors);
  double *totals_device = on_device(totals, DFT_STEP_SUMS * sizeof *totals);
  float *alpha = on_device(&alpha_t, sizeof alpha_t);
  int *done_device = on_device(&done, sizeof done);
  dev->update(list, TENSORS, rule, totals_device, alpha, done_device);
  to_host(&done, done_device, sizeof done);
  for (int t = 0; t < TENSORS; t++) {
    const size_t bytes = (size_t)counts[t] * sizeof(float);
    dev->download(m->w[t], tensors[t].w, bytes);
    dev->download(m->slots[0][t], tensors[t].slots[0], bytes);
    to_host(m->slots[1][t], tensors[t].slots[1], bytes);
    dev->free(tensors[t].w), dev->free(tensors[t].slots[0]), dev->free(tensors[t].slots[1]);
    dev->free((float *)tensors[t].gradient);
  }
  dev->free(list), dev->free(totals_device), dev->free(alpha), dev->free(done_device);
  return done;
}

static void assert_same_model(const model *a, const model *b) {
  for (int t = 0; t < TENSORS; t++) {
    const size_t bytes = (size_t)counts[t] * sizeof(float);
    assert_bits(a->w[t], b->w[t], bytes, "w");
    assert_bits(a->slots[0][t], b->slots[0][t], bytes, "first slot");
    assert_bits(a->slots[1][t], b->slots[1][t], bytes, "second slot");
  }
}

static void update_on_host(model *m, const dft_update_rule *r, double count, float alpha_t) {
  const float scale = (float)(1.0 / count), decay = (float)(r->learning_rate * r->weight_decay);
  for (int t = 0; t < TENSORS; t++)
    if (r->sgd)
      reference()->sgd(m->w[t], m->slots[0][t], m->gradient[t], scale, (float)r->learning_rate,
                       (float)r->momentum, r->nesterov, decay, counts[t]);
    else
      reference()->adam(m->w[t], m->slots[0][t], m->slots[1][t], m->gradient[t], scale, alpha_t, r->beta_1,
                        r->beta_2, (float)r->epsilon, decay, counts[t]);
}

static const dft_update_rule rules[] = {
    {false, false, 0.001, 0.9, 0.999, 1e-7, 0, 0},
    {false, false, 0.02, 0.8, 0.95, 1e-4, 0, 0.004},
    {true, false, 0.01, 0, 0, 0, 0, 0},
    {true, false, 0.01, 0, 0, 0, 0.9, 0},
    {true, true, 0.01, 0, 0, 0, 0.9, 0.01},
};

static void test_update(void **state) {
  (void)state;
  const double totals[DFT_STEP_SUMS] = {[DFT_STEP_LOSS] = 3, [DFT_STEP_COUNT] = 7, [DFT_STEP_STOP] = 1};
  for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
    seed = 5;
    model got = new_model();
    seed = 5;
    model want = new_model();
    for (int step = 0; step < 3; step++) {
      assert_int_equal(update(&got, &rules[r], totals, 0.01F), DFT_UPDATE_DONE);
      update_on_host(&want, &rules[r], totals[DFT_STEP_COUNT], 0.01F);
    }
    assert_same_model(&got, &want);
    free_model(&got), free_model(&want);
  }
}

/* Nothing is touched, and why is told. */
static void test_no_update(void **state) {
  (void)state;
  static const struct {
    double loss, count, failed;
    float gradient;
    int done;
  } cases[] = {{1, 4, 1, 0, DFT_UPDATE_NONE},
               {NAN, 4, 1, 0, DFT_UPDATE_NONE},
               {1, 0, 0, 0, DFT_UPDATE_NONE},
               {NAN, 4, 0, NAN, DFT_UPDATE_LOSS_NOT_FINITE},
               {INFINITY, 4, 0, 0, DFT_UPDATE_LOSS_NOT_FINITE},
               {1, 4, 0, NAN, DFT_UPDATE_GRADIENT_NOT_FINITE},
               {1, 4, 0, -INFINITY, DFT_UPDATE_GRADIENT_NOT_FINITE}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int place = 0; place < 3; place++) {
      const double totals[DFT_STEP_SUMS] = {[DFT_STEP_LOSS] = cases[i].loss,
                                            [DFT_STEP_COUNT] = cases[i].count,
                                            [DFT_STEP_FAILED] = cases[i].failed};
      seed = 6;
      model got = new_model();
      seed = 6;
      model want = new_model();
      got.gradient[place][counts[place] - 1] = cases[i].gradient;
      assert_int_equal(update(&got, &rules[0], totals, 0.01F), cases[i].done);
      assert_same_model(&got, &want);
      free_model(&got), free_model(&want);
    }
}

/* BatchNorm's vectors: doubles in between, so nearly all bits; the moving statistics only after an update. */
static void test_vectors(void **state) {
  (void)state;
  enum { C = 70 };
  float *f = filled(14 * C), *want = empty(14 * C), *got = empty(14 * C);
  double totals[2 * C];
  for (int i = 0; i < C; i++) totals[i] = 3 * (double)f[i], totals[C + i] = i == 3 ? 0 : 40 + (double)f[i];
  memcpy(want, f, 14 * C * sizeof *f), memcpy(got, f, 14 * C * sizeof *f);
  for (int i = 0; i < 14 * C; i++) want[i] = got[i] = fabsf(f[i]) + 0.1F;
  for (int which = 0; which < 2; which++) {
    float *v = which ? got : want;
    const dft_ops *set = which ? device_set() : reference();
    const dft_batch_norm_vectors of = {v,         v + C,     v + 2 * C, v + 3 * C, v + 4 * C,
                                       v + 5 * C, v + 6 * C, v + 7 * C, v + 8 * C, v + 9 * C};
    set->bn_statistics(totals, 11, f + 10 * C, f + 11 * C, 1e-3, C, &of);
    set->bn_gradients(totals, 11, f + 10 * C, C, &of);
    set->bn_frozen(f + 10 * C, f + 11 * C, f + 12 * C, v + 13 * C, 1e-3F, C, v + 10 * C, v + 11 * C);
    for (int done = 0; done <= DFT_UPDATE_GRADIENT_NOT_FINITE; done++)
      if (which || done == DFT_UPDATE_DONE) set->bn_commit(v + 12 * C, v + 13 * C, &of, 0.99, C, &done);
  }
  assert_all_close(got, want, 14 * C, 1e-6, "vectors");
  free(f), free(want), free(got);
}

/* What only activations in bfloat16 change: y's rounding, residuals, the maximum. */
static void test_activations(void **state) {
  (void)state;
  enum { ROWS = 12, PIXELS = 4, C = 24 };
  float *z = filled(ROWS * C), *residual = filled(ROWS * C), *scale = filled(C), *shift = filled(C);
  float *want = empty(ROWS * C), *got = empty(ROWS * C), want_y[ROWS / PIXELS * C], got_y[ROWS / PIXELS * C];
  device_rounded(z, ROWS * C), device_rounded(residual, ROWS * C);
  for (int mode = 0; mode < 4; mode++) {
    reference()->scale_shift(z, scale, shift, mode & 1 ? residual : NULL, mode & 2, want, ROWS, C);
    device_rounded(want, ROWS * C);
    device_set()->scale_shift(z, scale, shift, mode & 1 ? residual : NULL, mode & 2, got, ROWS, C);
    assert_bits(got, want, ROWS * C * sizeof *got, "scale_shift");
  }
  for (int max = 0; max < 2; max++) {
    const dft_ops *sets[] = {reference(), device_set()};
    for (int i = 0; i < 2; i++) {
      float *y = i ? got_y : want_y, *dx = i ? got : want;
      (max ? sets[i]->pool_max : sets[i]->pool_avg)(z, y, ROWS / PIXELS, PIXELS, C);
      if (max)
        sets[i]->pool_max_dx(z, y, scale, dx, 1, PIXELS, C);
      else
        sets[i]->pool_avg_dx(scale, dx, 1, PIXELS, C);
    }
    device_rounded(want, PIXELS * C);
    assert_bits(got_y, want_y, sizeof got_y, "pooled");
    assert_bits(got, want, PIXELS * C * sizeof *got, "pooling's gradient");
  }
  free(z), free(residual), free(scale), free(shift), free(want), free(got);
}

/* A layer recorded and replayed gives the bits of one run, on other values; with another map it is refused.
 */
static void test_recorded_layer(void **state) {
  (void)state;
  enum { SAMPLES = 9, K = 24, N = 40, PIXELS = 6 };
  const size_t in = SAMPLES * PIXELS * K, out = SAMPLES * PIXELS * N;
  const dft_conv conv = {2, 3, 2, 3, K, N, 1, 0, 0};
  dft_shard_map map = {0}, other = {0};
  ok(dft_shard_map_set(&map, 8, 1, 0, SAMPLES));
  ok(dft_shard_map_set(&other, 8, 1, 0, SAMPLES - 1));
  float *x = filled(in), *w = filled(K * N), *xd = on_device(x, in * sizeof *x);
  void *activations = on_device(NULL, in * sizeof *x), *z = on_device(NULL, out * sizeof *x);
  double *sums = on_device(NULL, 2 * N * sizeof *sums), want[2 * N], got[2 * N];
  const dft_train_conv t = {.kind = DFT_POINTWISE,
                            .conv = conv,
                            .map = &map,
                            .x = activations,
                            .weight = on_device(w, K * N * sizeof *w),
                            .work =
                                on_device(NULL, ops->train_work_floats(DFT_POINTWISE, &conv, SAMPLES) * 4)};
  dft_graph *graph;
  dev->use_map(&map);
  ops->train_forward(ops, &t, z, sums);
  ok(dev->finish());
  ok(dev->record());
  dev->to_activations(xd, activations, (int64_t)in);
  ops->train_forward(ops, &t, z, sums);
  ok(dev->recorded(&graph));
  for (int turn = 0; turn < 2; turn++) {
    for (size_t i = 0; i < in; i++) x[i] = draw();
    dev->upload(xd, x, in * sizeof *x);
    dev->replay(graph);
    to_host(got, sums, sizeof got);
    dev->to_activations(xd, activations, (int64_t)in);
    ops->train_forward(ops, &t, z, sums);
    to_host(want, sums, sizeof want);
    assert_bits(got, want, sizeof got, "recorded layer");
  }
  ok(dev->record());
  ops->bn_sums(z, PIXELS, N, &other, sums);
  dft_graph *refused;
  assert_int_equal(dev->recorded(&refused), DFT_EINTERNAL);
  assert_non_null(strstr(dft_error(), "another map"));
  assert_null(refused);
  dev->graph_free(graph);
  dev->free(xd), dev->free(activations), dev->free(z), dev->free(sums), dev->free((float *)t.weight);
  dev->free(t.work);
  dft_shard_map_free(&map), dft_shard_map_free(&other);
  free(x), free(w);
}

int main(void) {
  ops = device_ops();
  if (ops == NULL) {
    puts("skipped: DFT_TEST_DEVICE is not set");
    return 77;
  }
  dev = ops->device;
  printf("%s\n", dev->name);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_many_rows),     cmocka_unit_test(test_memory),
                                     cmocka_unit_test(test_graph),         cmocka_unit_test(test_exchange),
                                     cmocka_unit_test(test_rows),          cmocka_unit_test(test_dropout),
                                     cmocka_unit_test(test_loss),          cmocka_unit_test(test_step_sums),
                                     cmocka_unit_test(test_update),        cmocka_unit_test(test_no_update),
                                     cmocka_unit_test(test_vectors),       cmocka_unit_test(test_activations),
                                     cmocka_unit_test(test_recorded_layer)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
