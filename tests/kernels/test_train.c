/* Training layers of every set against the reference set over ragged shapes, and their promises about bits.
 * (The reference set's are composed of operations that have their own tests, finite differences included.) */
#include "conv_test.h"

enum { BATCH = 5 };

typedef struct layer {
  dft_conv_kind kind;
  dft_conv conv;
  bool normed, gives_dx, skips, sums_below, relu6, below_relu6, frozen;
  float *x, *w, *dy, *z, *skip;
  float *coefficients[2]; /* of the layer's norm and of the one below: 6 rows of channels */
  dft_norm norm, below;
} layer;

static dft_norm norm_of(float *values, int c, bool relu6, bool frozen) {
  for (int i = 0; i < c; i++) values[i] *= 4, values[c + i] += 2; /* so that both clamps happen */
  return (dft_norm){.scale = values,
                    .shift = values + c,
                    .relu6 = relu6,
                    .mean = values + 2 * c,
                    .a = values + 3 * c,
                    .b = frozen ? NULL : values + 4 * c,
                    .d = frozen ? NULL : values + 5 * c};
}

static size_t weights_of(const layer *l) {
  return (size_t)l->conv.channels * (l->kind == DFT_POINTWISE   ? (size_t)l->conv.in_channels
                                     : l->kind == DFT_DEPTHWISE ? 9
                                                                : 27);
}

/* number picks the options. */
static layer new_layer(dft_conv_kind kind, const dft_conv *g, int number) {
  layer l = {.kind = kind,
             .conv = *g,
             .normed = number & 1,
             .gives_dx = kind != DFT_STEM && number % 5 != 0,
             .skips = number & 2,
             .sums_below = number % 3 != 0,
             .relu6 = number & 4,
             .below_relu6 = number & 8,
             .frozen = number % 7 == 0};
  if (kind == DFT_STEM) l.normed = false;
  l.x = filled(BATCH * in_values(g));
  l.w = filled(weights_of(&l));
  l.dy = filled(BATCH * out_values(g));
  l.z = filled(BATCH * out_values(g));
  l.skip = filled(BATCH * in_values(g));
  device_rounded(l.x, BATCH * in_values(g)), device_rounded(l.skip, BATCH * in_values(g));
  device_rounded(l.dy, BATCH * out_values(g)), device_rounded(l.z, BATCH * out_values(g));
  l.coefficients[0] = filled(6 * (size_t)g->channels);
  l.coefficients[1] = filled(6 * (size_t)g->in_channels);
  l.norm = norm_of(l.coefficients[0], g->channels, l.relu6, l.frozen);
  l.below = norm_of(l.coefficients[1], g->in_channels, l.below_relu6, false);
  return l;
}

static void free_layer(layer *l) {
  free(l->x), free(l->w), free(l->dy), free(l->z), free(l->skip);
  free(l->coefficients[0]), free(l->coefficients[1]);
}

/* What one call of both directions makes of a rank's samples. */
typedef struct results {
  float *z, *dx, *dw;
  double *sums, *below;
} results;

static results new_results(const layer *l, int samples, int nodes) {
  results r = {.z = empty((size_t)samples * out_values(&l->conv)),
               .dx = empty((size_t)samples * in_values(&l->conv)),
               .dw = empty((size_t)nodes * weights_of(l)),
               .sums = malloc((size_t)nodes * 2 * (size_t)l->conv.channels * sizeof(double)),
               .below = malloc((size_t)nodes * 2 * (size_t)l->conv.in_channels * sizeof(double))};
  assert_true(r.sums != NULL && r.below != NULL);
  return r;
}

static void free_results(results *r) {
  free(r->z), free(r->dx), free(r->dw), free(r->sums), free(r->below);
}

static void run_layer(const layer *l, const dft_ops *ops, const dft_shard_map *map, results *r) {
  const dft_conv *g = &l->conv;
  const size_t first = (size_t)map->begin, count = (size_t)map->samples * out_values(g);
  size_t bytes = dft_train_work_floats(l->kind, g, map->samples) * sizeof(float);
  float *work = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
  float *dy = empty(count);
  memcpy(dy, l->dy + first * out_values(g), count * sizeof *dy);
  const dft_train_conv t = {.kind = l->kind,
                            .conv = *g,
                            .map = map,
                            .x = l->x + first * in_values(g),
                            .x_norm = l->normed ? &l->below : NULL,
                            .weight = l->w,
                            .work = work};
  ops->train_forward(ops, &t, r->z, r->sums);
  dft_train_gradient b = {
      .dy = dy, .dy_kept = l->skips, .z = l->z + first * out_values(g), .norm = &l->norm, .dw = r->dw};
  if (l->gives_dx) {
    b.dx = r->dx;
    b.skip = l->skips ? l->skip + first * in_values(g) : NULL;
    b.below_z = l->x + first * in_values(g);
    b.below_norm = &l->below;
    b.below_sums = l->sums_below ? r->below : NULL;
  }
  ops->train_backward(ops, &t, &b);
  if (l->skips) assert_bits(dy, l->dy + first * out_values(g), count * sizeof *dy, "dy is kept");
  free(work), free(dy);
}

static void run_sums(const summed *op, const dft_ops *ops, const dft_shard_map *map, void *out) {
  const layer *l = op->job;
  results r = new_results(l, map->samples, map->nodes);
  run_layer(l, ops, map, &r);
  memcpy(out, r.sums, (size_t)map->nodes * op->values * sizeof(double));
  free_results(&r);
}

static void run_below(const summed *op, const dft_ops *ops, const dft_shard_map *map, void *out) {
  const layer *l = op->job;
  results r = new_results(l, map->samples, map->nodes);
  run_layer(l, ops, map, &r);
  memcpy(out, r.below, (size_t)map->nodes * op->values * sizeof(double));
  free_results(&r);
}

static void run_dw(const summed *op, const dft_ops *ops, const dft_shard_map *map, void *out) {
  const layer *l = op->job;
  results r = new_results(l, map->samples, map->nodes);
  run_layer(l, ops, map, &r);
  memcpy(out, r.dw, (size_t)map->nodes * op->values * sizeof(float));
  free_results(&r);
}

/* A sample's z and dx have the same bits alone as in company, with any number of threads. */
static void check_alone(const layer *l, const dft_ops *ops, const results *all) {
  dft_shard_map map = {0};
  for (int r = 0; r < 8; r++) {
    assert_int_equal(dft_shard_map_set(&map, 8, 8, r, BATCH), DFT_OK);
    if (map.samples == 0) continue;
    dft_ops_set_threads(1 + r % 3);
    results one = new_results(l, map.samples, map.nodes);
    run_layer(l, ops, &map, &one);
    const size_t out = out_values(&l->conv), in = in_values(&l->conv), n = (size_t)map.samples;
    assert_bits(one.z, all->z + (size_t)map.begin * out, n * out * sizeof(float), "z alone");
    if (l->gives_dx)
      assert_bits(one.dx, all->dx + (size_t)map.begin * in, n * in * sizeof(float), "dx alone");
    free_results(&one);
  }
  dft_shard_map_free(&map);
}

static void check_layer(const dft_ops *ops, dft_conv_kind kind, const dft_conv *g, int number) {
  layer l = new_layer(kind, g, number);
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, 8, 1, 0, BATCH), DFT_OK);
  results want = new_results(&l, BATCH, map.nodes), got = new_results(&l, BATCH, map.nodes);
  run_layer(&l, reference(), &map, &want);
  dft_ops_set_threads(2);
  run_layer(&l, ops, &map, &got);
  const size_t c = (size_t)g->channels, below = (size_t)g->in_channels;
  assert_near(got.z, want.z, BATCH * out_values(g), 1e-5 * sqrt((double)weights_of(&l) / (double)c), "z");
  assert_near(got.dw, want.dw, weights_of(&l), 1e-4, "dw");
  assert_doubles_near(got.sums, want.sums, 2 * c, 1e-4, "sums");
  if (l.gives_dx) {
    assert_near(got.dx, want.dx, BATCH * in_values(g), 1e-5 * sqrt(9 + (double)c), "dx");
    if (l.sums_below) assert_doubles_near(got.below, want.below, 2 * below, 1e-4, "sums below");
  }
  if (number % 23 == 0) {
    check_alone(&l, ops, &got);
    double *out = malloc(2 * (c + below) * sizeof *out + weights_of(&l) * sizeof(float));
    check_sums(&(summed){run_sums, &l, 2 * c, true}, ops, BATCH, out);
    assert_bits(out, got.sums, 2 * c * sizeof *out, "sums");
    check_sums(&(summed){run_dw, &l, weights_of(&l), false}, ops, BATCH, out);
    assert_bits(out, got.dw, weights_of(&l) * sizeof(float), "dw");
    if (l.gives_dx && l.sums_below) check_sums(&(summed){run_below, &l, 2 * below, true}, ops, BATCH, out);
    free(out);
  }
  free_results(&want), free_results(&got);
  dft_shard_map_free(&map);
  free_layer(&l);
}

/* Tensors that no cache near a core holds: the same bits as a sample alone. */
static void check_large(const dft_ops *ops, dft_conv_kind kind, const dft_conv *g) {
  layer l = new_layer(kind, g, 23);
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, 8, 1, 0, BATCH), DFT_OK);
  results all = new_results(&l, BATCH, map.nodes);
  free(all.z), free(all.dx);
  all.z = empty(BATCH * out_values(g)), all.dx = empty(BATCH * in_values(g));
  dft_ops_set_threads(1);
  run_layer(&l, ops, &map, &all);
  check_alone(&l, ops, &all);
  free_results(&all);
  dft_shard_map_free(&map);
  free_layer(&l);
}

static int mode; /* the next layer's */

static void check_depthwise_shape(const dft_ops *ops, const dft_conv *g) {
  check_layer(ops, DFT_DEPTHWISE, g, mode++);
}

static void check_depthwise(const dft_ops *ops) {
  static const int channels[] = {20, 51};
  mode = 1;
  for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
    each_conv(channels[i], channels[i], check_depthwise_shape, ops);
  dft_conv g;
  for (int side = 3; side <= 8; side++) /* images with kernels of their own, and their neighbours */
    for (int i = 0; i < 24; i++) {
      static const int widths[] = {16, 51, 96};
      assert_true(conv_of(&g, side, side, widths[i % 3], 1, 1, 1));
      check_layer(ops, DFT_DEPTHWISE, &g, mode++);
    }
  assert_true(conv_of(&g, 48, 48, 32, 1, 1, 1)); /* more pixels than float32 may sum */
  check_layer(ops, DFT_DEPTHWISE, &g, 23);
  assert_true(conv_of(&g, 40, 56, 16, 2, 0, 1));
  check_layer(ops, DFT_DEPTHWISE, &g, 69);
  assert_true(conv_of(&g, 28, 40, 144, 1, 1, 1));
  check_large(ops, DFT_DEPTHWISE, &g);
  assert_true(conv_of(&g, 3, 1200, 5, 1, 1, 1)); /* too wide for L1 */
  check_layer(ops, DFT_DEPTHWISE, &g, 8);
}

static void check_pointwise(const dft_ops *ops) {
  static const int sides[] = {1, 5, 16, 24, 33, 96, 100};
  mode = 1;
  for (size_t a = 0; a < sizeof sides / sizeof *sides; a++)
    for (size_t b = 0; b < sizeof sides / sizeof *sides; b++, mode++) {
      if (sides[a] == sides[b] && a > 4) continue;
      const dft_conv g = {.in_h = 1 + mode % 4,
                          .in_w = 1 + mode % 7,
                          .out_h = 1 + mode % 4,
                          .out_w = 1 + mode % 7,
                          .in_channels = sides[a],
                          .channels = sides[b],
                          .stride = 1};
      check_layer(ops, DFT_POINTWISE, &g, mode);
    }
  const dft_conv wide = {3, 5, 3, 5, 520, 100, 1, 0, 0}; /* too large to be fused */
  check_layer(ops, DFT_POINTWISE, &wide, 23);
  /* so large that the whole batch is treated otherwise than a sample alone */
  const dft_conv far = {7, 8, 7, 8, 520, 60, 1, 0, 0};
  check_layer(ops, DFT_POINTWISE, &far, 23);
  /* kernels whose rows are whole vectors, read as they lie: panel by panel, and block by block of rows */
  const dft_conv whole[] = {{3, 5, 3, 5, 100, 208, 1, 0, 0}, {7, 8, 7, 8, 520, 64, 1, 0, 0}};
  for (int i = 0; i < 2; i++) check_layer(ops, DFT_POINTWISE, &whole[i], 21);
  for (int i = 0; i < 3; i++) { /* several strips, the last a short one */
    static const int shapes[][2] = {{16, 96}, {144, 24}, {40, 240}};
    const dft_conv g = {25, 11, 25, 11, shapes[i][0], shapes[i][1], 1, 0, 0};
    check_layer(ops, DFT_POINTWISE, &g, 11 + 2 * i);
  }
  const dft_conv large[] = {{28, 40, 28, 40, 24, 144, 1, 0, 0}, {28, 40, 28, 40, 144, 24, 1, 0, 0}};
  for (int i = 0; i < 2; i++) check_large(ops, DFT_POINTWISE, &large[i]);
}

static void check_stem_shape(const dft_ops *ops, const dft_conv *g) {
  check_layer(ops, DFT_STEM, g, mode++);
}

static void check_stem(const dft_ops *ops) {
  mode = 1;
  each_conv(17, 3, check_stem_shape, ops);
  static const int widths[][2] = {{33, 150}, {5, 400}}; /* several strips; rows too long for L1 */
  dft_conv g;
  for (int i = 0; i < 2; i++) {
    assert_true(conv_of(&g, widths[i][0], widths[i][1], 48, 2, 0, 1));
    g.in_channels = 3;
    check_layer(ops, DFT_STEM, &g, 46);
  }
  assert_true(conv_of(&g, 100, 140, 48, 2, 0, 1));
  g.in_channels = 3;
  check_large(ops, DFT_STEM, &g);
}

static void test_depthwise(void **state) {
  (void)state;
  each_set(check_depthwise);
}

static void test_pointwise(void **state) {
  (void)state;
  each_set(check_pointwise);
}

static void test_stem(void **state) {
  (void)state;
  each_set(check_stem);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_depthwise), cmocka_unit_test(test_pointwise),
                                     cmocka_unit_test(test_stem)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
