/* Expansion and depthwise layer as one, of every set that has it, against the reference set's two layers; and
 * their promises about bits. */
#include "conv_test.h"

enum { BATCH = 5 };

typedef struct pair {
  dft_conv expand, depthwise;
  bool below, gives_dx, skips, sums_below, frozen;
  float *x, *w, *taps, *dy, *z, *skip, *below_z;
  float *coefficients[3]; /* of the expansion's norm, of the depthwise layer's, and of the one below */
  dft_norm middle, norm, under;
} pair;

/* a is scale, as it is everywhere but for rounding: the fused layers rely on it. */
static dft_norm norm_of(float *values, int c, bool relu6, bool frozen) {
  for (int i = 0; i < c; i++) values[i] *= 4, values[c + i] += 2; /* so that both clamps happen */
  return (dft_norm){.scale = values,
                    .shift = values + c,
                    .relu6 = relu6,
                    .mean = values + 2 * c,
                    .a = values,
                    .b = frozen ? NULL : values + 3 * c,
                    .d = frozen ? NULL : values + 4 * c};
}

static pair new_pair(int k, const dft_conv *depthwise, int number) {
  pair p = {.depthwise = *depthwise,
            .below = number % 6 != 5,
            .gives_dx = number % 5 != 0,
            .skips = number & 1,
            .sums_below = number & 2,
            .frozen = number % 4 == 3};
  p.gives_dx = p.gives_dx && p.below;
  const int h = depthwise->in_h, w = depthwise->in_w, c = depthwise->channels;
  p.expand = (dft_conv){h, w, h, w, k, c, 1, 0, 0};
  const size_t in = BATCH * in_values(&p.expand), out = BATCH * out_values(depthwise);
  p.x = filled(in), p.skip = filled(in), p.below_z = filled(in);
  p.dy = filled(out), p.z = filled(out);
  p.w = filled((size_t)k * (size_t)c), p.taps = filled(9 * (size_t)c);
  const int channels[] = {c, c, k};
  for (int i = 0; i < 3; i++) p.coefficients[i] = filled(5 * (size_t)channels[i]);
  p.middle = norm_of(p.coefficients[0], c, true, p.frozen);
  p.norm = norm_of(p.coefficients[1], c, true, false);
  p.under = norm_of(p.coefficients[2], k, false, false);
  return p;
}

static void free_pair(pair *p) {
  free(p->x), free(p->skip), free(p->below_z), free(p->dy), free(p->z), free(p->w), free(p->taps);
  for (int i = 0; i < 3; i++) free(p->coefficients[i]);
}

/* sums: of the expansion; of the depthwise layer; for the expansion's BatchNorm; for the one below. */
typedef struct results {
  float *z, *dx, *taps, *dw;
  double *sums[4];
} results;

static int sums_of(const pair *p, int i) {
  return 2 * (i == 3 ? p->expand.in_channels : p->expand.channels);
}

static results new_results(const pair *p, int samples, int nodes) {
  const size_t n = (size_t)samples, some = (size_t)nodes, c = (size_t)p->expand.channels;
  results r = {.z = empty(n * out_values(&p->depthwise)),
               .dx = empty(n * in_values(&p->expand)),
               .taps = empty(some * 9 * c),
               .dw = empty(some * c * (size_t)p->expand.in_channels)};
  for (int i = 0; i < 4; i++) {
    r.sums[i] = calloc(some * (size_t)sums_of(p, i), sizeof(double));
    assert_non_null(r.sums[i]);
  }
  return r;
}

static void free_results(results *r) {
  free(r->z), free(r->dx), free(r->taps), free(r->dw);
  for (int i = 0; i < 4; i++) free(r->sums[i]);
}

static float *work_of(size_t floats) {
  float *work = aligned_alloc(64, (floats * sizeof *work + 63) / 64 * 64 + 64);
  assert_non_null(work);
  return work;
}

/* The samples of map as the layers see them. */
typedef struct layers {
  dft_train_conv expand, depthwise;
  dft_train_gradient upper, lower; /* of the depthwise layer and of the expansion */
} layers;

static layers layers_of(const pair *p, const dft_shard_map *map, float *dy, float *work, results *r) {
  const size_t in = (size_t)map->begin * in_values(&p->expand);
  layers l = {.expand = {DFT_POINTWISE, p->expand, map, p->x + in, NULL, p->w, work},
              .depthwise = {DFT_DEPTHWISE, p->depthwise, map, NULL, &p->middle, p->taps, work},
              .upper = {.dy = dy,
                        .z = p->z + (size_t)map->begin * out_values(&p->depthwise),
                        .norm = &p->norm,
                        .dw = r->taps},
              .lower = {.norm = &p->middle, .dw = r->dw}};
  if (p->below) {
    l.upper.below_norm = &p->middle;
    l.upper.below_sums = p->frozen ? NULL : r->sums[2];
  }
  if (p->gives_dx) {
    l.lower.dx = r->dx;
    l.lower.skip = p->skips ? p->skip + in : NULL;
    l.lower.below_z = p->below_z + in;
    l.lower.below_norm = &p->under;
    l.lower.below_sums = p->sums_below ? r->sums[3] : NULL;
  }
  return l;
}

static void run_apart(const pair *p, const dft_ops *ops, const dft_shard_map *map, layers *l, results *r) {
  const size_t wide = (size_t)map->samples * in_values(&p->depthwise);
  float *z = empty(wide), *dz = empty(wide);
  ops->train_forward(ops, &l->expand, z, r->sums[0]);
  l->depthwise.x = z;
  ops->train_forward(ops, &l->depthwise, r->z, r->sums[1]);
  l->upper.dx = p->below ? dz : NULL;
  l->upper.below_z = z;
  ops->train_backward(ops, &l->depthwise, &l->upper);
  l->lower.dy = dz;
  l->lower.z = z;
  if (p->below) ops->train_backward(ops, &l->expand, &l->lower);
  free(z), free(dz);
}

static void run_fused(const pair *p, const dft_ops *ops, layers *l, results *r) {
  ops->train_pair_sums(&l->expand, r->sums[0]);
  ops->train_pair_forward(&l->expand, &l->depthwise, r->z, r->sums[1]);
  l->upper.dx = l->lower.dx;
  l->upper.skip = l->lower.skip;
  ops->train_pair_backward(&l->expand, &l->depthwise, &l->upper, p->below);
  if (p->below) ops->train_pair_finish(&l->expand, &l->lower);
}

static void run_pair(const pair *p, const dft_ops *ops, bool fused, const dft_shard_map *map, results *r) {
  const size_t out = (size_t)map->samples * out_values(&p->depthwise);
  const size_t apart[] = {dft_train_work_floats(DFT_POINTWISE, &p->expand, map->samples),
                          dft_train_work_floats(DFT_DEPTHWISE, &p->depthwise, map->samples)};
  float *work = work_of(fused                 ? ops->train_pair_work_floats(&p->expand, map->samples)
                        : apart[0] > apart[1] ? apart[0]
                                              : apart[1]);
  float *dy = empty(out);
  memcpy(dy, p->dy + (size_t)map->begin * out_values(&p->depthwise), out * sizeof *dy);
  const size_t k = (size_t)p->expand.in_channels;
  layers l = layers_of(p, map, dy, work, r);
  l.expand.gram = calloc((size_t)map->samples * (k + 1) * k, sizeof(double));
  assert_non_null(l.expand.gram);
  if (fused)
    run_fused(p, ops, &l, r);
  else
    run_apart(p, ops, map, &l, r);
  free(work), free(dy), free(l.expand.gram);
}

/* Which result check_sums looks at: dw, taps, or one of the sums. */
typedef struct wanted {
  const pair *p;
  int which;
} wanted;

static void run_wanted(const summed *op, const dft_ops *ops, const dft_shard_map *map, void *out) {
  const wanted *w = op->job;
  results r = new_results(w->p, map->samples, map->nodes);
  run_pair(w->p, ops, true, map, &r);
  const void *from[] = {r.dw, r.taps, r.sums[0], r.sums[1], r.sums[2], r.sums[3]};
  memcpy(out, from[w->which], (size_t)map->nodes * value_bytes(op));
  free_results(&r);
}

static void check_alone(const pair *p, const dft_ops *ops, const results *all) {
  dft_shard_map map = {0};
  for (int r = 0; r < 8; r++) {
    assert_int_equal(dft_shard_map_set(&map, 8, 8, r, BATCH), DFT_OK);
    if (map.samples == 0) continue;
    dft_ops_set_threads(1 + r % 3);
    results one = new_results(p, map.samples, map.nodes);
    run_pair(p, ops, true, &map, &one);
    const size_t out = out_values(&p->depthwise), in = in_values(&p->expand), n = (size_t)map.samples;
    assert_bits(one.z, all->z + (size_t)map.begin * out, n * out * sizeof(float), "z alone");
    if (p->gives_dx)
      assert_bits(one.dx, all->dx + (size_t)map.begin * in, n * in * sizeof(float), "dx alone");
    free_results(&one);
  }
  dft_shard_map_free(&map);
}

static void check_bits(const pair *p, const dft_ops *ops, const results *all) {
  const size_t c = (size_t)p->expand.channels;
  const void *const want[] = {all->dw, all->taps, all->sums[0], all->sums[1], all->sums[2], all->sums[3]};
  for (int i = 0; i < 6; i++) {
    if ((i == 0 && !p->below) || (i == 4 && (!p->below || p->frozen))) continue;
    if (i == 5 && !(p->gives_dx && p->sums_below)) continue;
    const wanted w = {p, i};
    const summed op = {run_wanted, &w,
                       i == 0   ? c * (size_t)p->expand.in_channels
                       : i == 1 ? 9 * c
                                : (size_t)sums_of(p, i - 2),
                       i > 1};
    void *out = malloc(value_bytes(&op));
    check_sums(&op, ops, BATCH, out);
    assert_bits(out, want[i], value_bytes(&op), "sums");
    free(out);
  }
  check_alone(p, ops, all);
}

static int checked;

static void check_pair(const dft_ops *ops, int k, const dft_conv *depthwise, int number) {
  pair p = new_pair(k, depthwise, number);
  if (!ops->train_pair_fits(&p.expand, &p.depthwise)) {
    free_pair(&p);
    return;
  }
  checked++;
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, 8, 1, 0, BATCH), DFT_OK);
  results want = new_results(&p, BATCH, map.nodes), got = new_results(&p, BATCH, map.nodes);
  run_pair(&p, reference(), false, &map, &want);
  dft_ops_set_threads(2);
  run_pair(&p, ops, true, &map, &got);
  const size_t c = (size_t)depthwise->channels;
  assert_doubles_close(got.sums[0], want.sums[0], 2 * c, 1e-4, "sums");
  assert_all_close(got.z, want.z, BATCH * out_values(depthwise), 1e-4, "z");
  assert_doubles_close(got.sums[1], want.sums[1], 2 * c, 1e-4, "sums above");
  assert_all_close(got.taps, want.taps, 9 * c, 1e-4, "taps");
  if (p.below) {
    if (!p.frozen) assert_doubles_close(got.sums[2], want.sums[2], 2 * c, 2e-4, "sums for BatchNorm");
    assert_all_close(got.dw, want.dw, c * (size_t)k, 2e-4, "dw");
  }
  if (p.gives_dx) {
    assert_all_close(got.dx, want.dx, BATCH * in_values(&p.expand), 2e-4, "dx");
    if (p.sums_below) assert_doubles_close(got.sums[3], want.sums[3], 2 * (size_t)k, 2e-4, "sums below");
  }
  if (number % 17 == 1) check_bits(&p, ops, &got);
  free_results(&want), free_results(&got);
  dft_shard_map_free(&map);
  free_pair(&p);
}

/* Tensors that no cache near a core holds: the same bits as a sample alone. */
static void check_large(const dft_ops *ops) {
  dft_conv g;
  assert_true(conv_of(&g, 28, 40, 144, 1, 1, 1));
  pair p = new_pair(24, &g, 18);
  dft_shard_map map = {0};
  assert_int_equal(dft_shard_map_set(&map, 8, 1, 0, BATCH), DFT_OK);
  results all = new_results(&p, BATCH, map.nodes);
  free(all.z), free(all.dx);
  all.z = empty(BATCH * out_values(&p.depthwise)), all.dx = empty(BATCH * in_values(&p.expand));
  dft_ops_set_threads(1);
  run_pair(&p, ops, true, &map, &all);
  check_alone(&p, ops, &all);
  free_results(&all);
  dft_shard_map_free(&map);
  free_pair(&p);
}

static void check_set(const dft_ops *ops) {
  static const int inputs[] = {8, 16, 24, 32}, sides[][2] = {{1, 3}, {5, 4}, {8, 8}, {13, 17}, {6, 41}};
  if (ops->train_pair_fits == NULL) return;
  int number = 0;
  checked = 0;
  for (int i = 0; i < 5; i++)
    for (int stride = 1; stride <= 2; stride++)
      for (int before = 0; before <= 1; before++)
        for (int k = 0; k < 4; k++) {
          dft_conv g;
          const int c = number % 3 == 0 ? 144 : number % 3 == 1 ? 48 : 96;
          if (conv_of(&g, sides[i][0], sides[i][1], c, stride, before, 1))
            check_pair(ops, inputs[k], &g, number++);
        }
  assert_true(checked > 40);
  check_large(ops);
  const dft_conv narrow = {5, 5, 5, 5, 40, 40, 1, 1, 1}, expand = {5, 5, 5, 5, 8, 40, 1, 0, 0};
  assert_false(ops->train_pair_fits(&expand, &narrow)); /* channels in no whole groups */
}

static void test_pairs(void **state) {
  (void)state;
  each_set(check_set);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
