/* Augmentation: each step against Keras or torchvision, its random numbers, and views of a dataset. */
#include "../../src/data/augment.h"
#include "dft/data.h"
#include "golden/augment_keras_goldens.h"
#include "golden/augment_torchvision_goldens.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { H = KERAS_HEIGHT, W = KERAS_WIDTH, VALUES = H * W * 3 };

static float pixel(size_t i) {
  return (float)((uint32_t)(i * 2654435761u) >> 24);
}

/* The config with `augment`, a key=value, and as many other overrides as there are. */
static dft_config *parse(const char *augment, const char *other) {
  static const char text[] = "model: {input_shape: [33, 40, 3], classes: 3}\n"
                             "data: {format: random, augment: {value_range: [0, 255]}, train: {samples: 20}, "
                             "validation: {samples: 5}}\n"
                             "phases: [{epochs: 1}]\n";
  const char *overrides[] = {augment, other};
  dft_config *c = NULL;
  if (dft_config_parse("test.yaml", text, overrides, other ? 2 : augment ? 1 : 0, &c) != DFT_OK)
    fail_msg("%s", dft_error());
  return c;
}

static dft_config_augment parse_augment(const char *text) {
  dft_config *c = parse(text, strstr(text, "value_range") ? NULL : "data.augment.value_range=[0, 255]");
  dft_config_augment a = c->data.augment; /* it owns nothing */
  dft_config_free(c);
  return a;
}

static void agrees_with_keras(void **state) {
  (void)state;
  for (size_t k = 0; k < sizeof keras_goldens / sizeof *keras_goldens; k++) {
    const struct keras_golden *g = &keras_goldens[k];
    dft_config_augment a = parse_augment(g->config);
    float image[VALUES], top = (float)a.value_range[1];
    for (int i = 0; i < VALUES; i++) image[i] = pixel((size_t)i) * (top / 255);
    assert_int_equal(dft_augment(&a, 1, 2, (int64_t)k, H, W, image), DFT_OK);
    for (int i = 0; i < VALUES; i += KERAS_STEP)
      if (!(fabsf(image[i] - g->values[i / KERAS_STEP]) < 1e-4f * top))
        fail_msg("%s, value %d: %.7g, Keras has %.7g", g->config, i, (double)image[i],
                 (double)g->values[i / KERAS_STEP]);
  }
}

/* Whether a value is interpolated with what lies beyond the border: torchvision blends there twice. */
static bool at_border(const dft_affine *map, int i) {
  double x = i / 3 % W, y = i / 3 / W; /* NOLINT(bugprone-integer-division) */
  double at[2] = {map->m[0] * x + map->m[1] * y + map->m[2], map->m[3] * x + map->m[4] * y + map->m[5]};
  return fabs(at[0] + 0.5) < 0.51 || fabs(at[1] + 0.5) < 0.51 || fabs(at[0] - W + 0.5) < 0.51 ||
         fabs(at[1] - H + 0.5) < 0.51;
}

static void agrees_with_torchvision(void **state) {
  (void)state;
  const dft_config_augment a = parse_augment("data.augment={fill_mode: constant}");
  for (size_t k = 0; k < sizeof torchvision_goldens / sizeof *torchvision_goldens; k++) {
    const struct torchvision_golden *g = &torchvision_goldens[k];
    float image[VALUES];
    _Alignas(16) float spare[4 * H * W];
    for (int i = 0; i < VALUES; i++) image[i] = g->third ? floorf(pixel((size_t)i) / 3) : pixel((size_t)i);
    dft_canvas c = {&a, H, W, image, spare, .pending = {{1, 0, 0, 0, 1, 0}}};
    dft_rand_apply(&c, g->op, g->strength);
    const dft_affine map = c.pending;
    bool moved = c.moved;
    dft_canvas_settle(&c);
    for (int i = 0; i < VALUES; i += TORCHVISION_STEP)
      if ((!moved || !at_border(&map, i)) && !(fabsf(c.pixels[i] - g->values[i / TORCHVISION_STEP]) < 0.03f))
        fail_msg("operation %d, strength %g, value %d: %.7g, torchvision has %.7g", (int)g->op, g->strength,
                 i, (double)c.pixels[i], (double)g->values[i / TORCHVISION_STEP]);
  }
}

/* What is no number stays none through every operation that reads pixels: training must hear of it. */
static void keeps_what_is_no_number(void **state) {
  (void)state;
  const dft_config_augment a = parse_augment("data.augment={fill_mode: constant}");
  for (int op = 0; op < DFT_RAND_OPS; op++)
    for (int infinite = 0; infinite < 2; infinite++) {
      float image[VALUES];
      _Alignas(16) float spare[4 * H * W];
      for (int i = 0; i < VALUES; i++) image[i] = pixel((size_t)i);
      image[VALUES / 2] = infinite ? INFINITY : NAN;
      dft_canvas c = {&a, H, W, image, spare, .pending = {{1, 0, 0, 0, 1, 0}}};
      dft_rand_apply(&c, op, 1);
      if (!infinite && !c.moved && !isnan(c.pixels[VALUES / 2]))
        fail_msg("operation %d made a number of NaN", op);
    }
}

/* ---- random numbers: steps on canvases of many samples ---- */

enum { MANY = 4000 };

typedef void (*step_function)(dft_canvas *);

/* What a geometric step has composed for a sample. */
static dft_canvas geometry(const dft_config_augment *a, step_function step, int64_t sample, int64_t view) {
  dft_canvas c = {.config = a, .height = H, .width = W, .pending = {{1, 0, 0, 0, 1, 0}}};
  c.seed = 42;
  c.sample = sample;
  c.view = view;
  step(&c);
  return c;
}

/* A value that should be uniform in [low, high]: range, mean and variance. */
typedef struct spread {
  double least, most, sum, squares;
  int count;
} spread;

static void add(spread *s, double value) {
  if (s->count == 0 || value < s->least) s->least = value;
  if (s->count == 0 || value > s->most) s->most = value;
  s->sum += value;
  s->squares += value * value;
  s->count++;
}

static void check_uniform(const spread *s, const char *what, double low, double high) {
  double mean = s->sum / s->count, variance = s->squares / s->count - mean * mean;
  double width = high - low, slack = width * 1e-9; /* of rounding */
  if (s->least < low - slack || s->most > high + slack)
    fail_msg("%s: from %g to %g", what, s->least, s->most);
  if (fabs(mean - (low + high) / 2) > 0.02 * width) fail_msg("%s: mean %g", what, mean);
  if (fabs(variance / (width * width / 12) - 1) > 0.06) fail_msg("%s: variance %g", what, variance);
}

static void draws_are_uniform(void **state) {
  (void)state;
  const dft_config_augment a =
      parse_augment("data.augment={rotation: [-0.1, 0.2], zoom: 0.5, translation: [0, 0.4], "
                    "flip: horizontal_and_vertical}");
  spread turns = {0}, zoom = {0}, down = {0}, right = {0}, product = {0};
  int flips = 0;
  for (int64_t i = 0; i < MANY; i++) {
    dft_canvas r = geometry(&a, dft_augment_rotation, i, 3), z = geometry(&a, dft_augment_zoom, i, 3);
    dft_canvas t = geometry(&a, dft_augment_translation, i, 3), f = geometry(&a, dft_augment_flip, i, 3);
    add(&turns, atan2(r.pending.m[3], r.pending.m[0]) / (2 * 3.141592653589793));
    add(&zoom, z.pending.m[0] - 1);
    assert_true(z.pending.m[0] == z.pending.m[4]);
    double dx = -t.pending.m[2] / W, dy = -t.pending.m[5] / H;
    add(&right, dx);
    add(&down, dy);
    add(&product, (dx - 0.2) * (dy - 0.2));
    flips += f.moved;
    assert_true(f.moved == (f.pending.m[0] < 0) && f.moved == (f.pending.m[4] < 0));
  }
  check_uniform(&turns, "rotation", -0.1, 0.2);
  check_uniform(&zoom, "zoom", -0.5, 0.5);
  check_uniform(&right, "right", 0, 0.4);
  check_uniform(&down, "down", 0, 0.4);
  assert_true(fabs(product.sum / MANY) < 0.05 * 0.4 * 0.4 / 12); /* independent */
  assert_in_range(flips, MANY * 47 / 100, MANY * 53 / 100);
  int counts[DFT_RAND_OPS] = {0}; /* the draw behind RandAugment's choice */
  dft_canvas c = geometry(&a, dft_augment_flip, 0, 0);
  for (c.sample = 0; c.sample < 14 * 500; c.sample++)
    counts[dft_draw_below(DFT_RAND_OPS, dft_draw(&c, DFT_AUGMENT_RAND_AUGMENT, 1).v[0])]++;
  for (int k = 0; k < DFT_RAND_OPS; k++) assert_in_range(counts[k], 410, 590);
}

/* Flips are exact, and each direction alone. */
static void flips(void **state) {
  (void)state;
  static const char *const modes[] = {"horizontal", "vertical", "horizontal_and_vertical"};
  for (int mode = 0; mode < 3; mode++) {
    char text[100];
    snprintf(text, sizeof text, "data.augment={flip: %s}", modes[mode]);
    const dft_config_augment a = parse_augment(text);
    int flipped = 0;
    for (int64_t sample = 0; sample < 12; sample++) {
      float image[VALUES];
      for (int i = 0; i < VALUES; i++) image[i] = pixel((size_t)i);
      assert_int_equal(dft_augment(&a, 7, sample, 0, H, W, image), DFT_OK);
      bool is_flipped = image[0] != pixel(0);
      flipped += is_flipped;
      for (int i = 0; i < VALUES; i++) {
        int x = i / 3 % W, y = i / 3 / W;
        if (is_flipped && mode != 1) x = W - 1 - x;
        if (is_flipped && mode != 0) y = H - 1 - y;
        assert_true(image[i] == pixel((size_t)(3 * (y * W + x) + i % 3)));
      }
    }
    assert_in_range(flipped, 1, 11);
  }
}

static double source(int x, int y, int k) { /* clamped at the border */
  x = x < 0 ? 0 : x > W - 1 ? W - 1 : x;
  y = y < 0 ? 0 : y > H - 1 ? H - 1 : y;
  return (double)pixel((size_t)(3 * (y * W + x) + k));
}

/* A crop is the bilinear resize of its rectangle by half-pixel centres, seeing its surroundings at its edge.
 */
static void crops(void **state) {
  (void)state;
  const dft_config_augment a = parse_augment("data.augment.crop={scale: [0.2, 0.9], ratio: [0.5, 2]}");
  spread area = {0}, ratio = {0}, left = {0};
  for (int64_t sample = 0; sample < MANY; sample++) {
    dft_canvas c = geometry(&a, dft_augment_crop, sample, 0);
    dft_box box;
    if (!dft_draw_box(&c, DFT_AUGMENT_CROP, a.crop_scale, a.crop_ratio, false, &box)) continue;
    assert_true(box.top >= 0 && box.left >= 0 && box.top + box.height <= H && box.left + box.width <= W);
    add(&area, (double)box.height * box.width / (H * W));
    add(&ratio, log((double)box.width / box.height));
    if (box.width <= W / 2) add(&left, (double)box.left / (W - box.width));
    if (sample >= 20) continue;
    float image[VALUES];
    for (int i = 0; i < VALUES; i++) image[i] = pixel((size_t)i);
    assert_int_equal(dft_augment(&a, 42, sample, 0, H, W, image), DFT_OK);
    for (int i = 0; i < VALUES; i++) {
      double x = box.left + (i / 3 % W + 0.5) * box.width / W - 0.5; /* NOLINT(bugprone-integer-division) */
      double y = box.top + (i / 3 / W + 0.5) * box.height / H - 0.5; /* NOLINT(bugprone-integer-division) */
      int x0 = (int)floor(x), y0 = (int)floor(y), k = i % 3;
      double u = x - x0, v = y - y0;
      double expected = (1 - v) * ((1 - u) * source(x0, y0, k) + u * source(x0 + 1, y0, k)) +
                        v * ((1 - u) * source(x0, y0 + 1, k) + u * source(x0 + 1, y0 + 1, k));
      if (fabs(image[i] - expected) > 0.01)
        fail_msg("sample %d value %d: %g, not %g", (int)sample, i, image[i], expected);
    }
  }
  assert_true(area.count > MANY * 9 / 10); /* the rest did not fit in ten attempts */
  assert_true(area.least > 0.18 && area.least < 0.22 && area.most > 0.85 && area.most < 0.95);
  assert_true(ratio.least > log(0.45) && ratio.most < log(2.2) && fabs(ratio.sum / ratio.count) < 0.1);
  assert_true(left.least == 0 && left.most == 1 && fabs(left.sum / left.count - 0.5) < 0.03);
  /* what never fits: the middle, as wide as the ratio allows */
  const dft_config_augment wide = parse_augment("data.augment.crop={scale: [0.9, 0.9], ratio: [4, 4]}");
  dft_canvas c = geometry(&wide, dft_augment_crop, 0, 0);
  assert_true(fabs(c.pending.m[0] - 1) < 1e-12 && fabs(c.pending.m[4] - 10.0 / H) < 1e-12);
  assert_true(fabs(c.pending.m[5] - (11 + 5.0 / H - 0.5)) < 1e-12);
}

static void erases(void **state) {
  (void)state;
  const dft_config_augment a = parse_augment(
      "data.augment={fill_value: 77.5, erasing: {probability: 0.3, scale: [0.1, 0.2], ratio: [2, 3]}}");
  int erased = 0;
  for (int64_t sample = 0; sample < 1000; sample++) {
    float image[VALUES];
    int top = H, bottom = -1, left = W, right = -1, count = 0;
    for (int i = 0; i < VALUES; i++) image[i] = pixel((size_t)i);
    assert_int_equal(dft_augment(&a, 42, sample, 5, H, W, image), DFT_OK);
    for (int i = 0; i < VALUES; i++) {
      if (image[i] == pixel((size_t)i)) continue;
      assert_true(image[i] == 77.5f);
      int x = i / 3 % W, y = i / 3 / W;
      count++;
      top = y < top ? y : top;
      bottom = y > bottom ? y : bottom;
      left = x < left ? x : left;
      right = x > right ? x : right;
    }
    if (count == 0) continue;
    erased++;
    int height = bottom - top + 1, width = right - left + 1;
    assert_int_equal(count, 3 * height * width);
    assert_true(height * width >= 0.09 * H * W && height * width <= 0.22 * H * W);
    assert_true(height > 1.7 * width &&
                height < 3.4 * width); /* ratio is height to width, as in torchvision */
  }
  assert_in_range(erased, 250, 350);
}

/* No setting changes what another step draws, and nothing drawn changes nothing. */
static void steps_are_apart(void **state) {
  (void)state;
  const dft_config_augment rotated = parse_augment("data.augment={rotation: 0.2}");
  const dft_config_augment both = parse_augment("data.augment={rotation: 0.2, brightness: 0.3}");
  const dft_config_augment bright = parse_augment("data.augment={brightness: 0.3}");
  const dft_config_augment none =
      parse_augment("data.augment={rotation: 0, zoom: [0, 0], crop: {scale: [1, 1]}}");
  float plain[VALUES], first[VALUES], second[VALUES], again[VALUES];
  for (int i = 0; i < VALUES; i++) plain[i] = first[i] = second[i] = again[i] = pixel((size_t)i);
  assert_false(dft_config_augments(&none));
  assert_int_equal(dft_augment(&none, 1, 2, 3, H, W, first), DFT_OK);
  assert_memory_equal(first, plain, sizeof plain);
  assert_int_equal(dft_augment(&rotated, 1, 2, 3, H, W, first), DFT_OK);
  assert_int_equal(dft_augment(&bright, 1, 2, 3, H, W, first), DFT_OK);
  assert_int_equal(dft_augment(&both, 1, 2, 3, H, W, second), DFT_OK);
  assert_memory_equal(first, second, sizeof first);
  assert_true(memcmp(first, plain, sizeof first) != 0);
  static const int64_t others[][3] = {{2, 2, 3}, {1, 3, 3}, {1, 2, 4}};
  for (int k = 0; k < 3; k++) {
    memcpy(again, plain, sizeof again);
    assert_int_equal(dft_augment(&both, (uint64_t)others[k][0], others[k][1], others[k][2], H, W, again),
                     DFT_OK);
    assert_true(memcmp(again, second, sizeof again) != 0);
  }
}

/* Each change alone makes an image another one, and is known to: a config of it has views. */
static void each_change_counts(void **state) {
  (void)state;
  static const char *const changes[] = {
      "flip: horizontal",       "flip: vertical",           "crop: {scale: [0.3, 0.5]}",
      "rotation: 0.2",          "zoom: [-0.4, -0.3]",       "translation: [0.1, 0.3]",
      "brightness: [0.1, 0.2]", "contrast: [0.2, 0.3]",     "rand_augment: {num_ops: 2}",
      "saturation: [0.2, 0.3]", "erasing: {probability: 1}"};
  for (size_t k = 0; k < sizeof changes / sizeof *changes; k++) {
    char text[128];
    float plain[VALUES], image[VALUES];
    int changed = 0;
    snprintf(text, sizeof text, "data.augment={%s}", changes[k]);
    const dft_config_augment a = parse_augment(text);
    if (!dft_config_augments(&a)) fail_msg("%s is no change", changes[k]);
    for (int64_t sample = 0; sample < 20; sample++) { /* half of them stay, where the change is a flip */
      for (int i = 0; i < VALUES; i++) plain[i] = image[i] = pixel((size_t)i);
      assert_int_equal(dft_augment(&a, 1, sample, 3, H, W, image), DFT_OK);
      changed += memcmp(image, plain, sizeof plain) != 0;
    }
    if (changed == 0) fail_msg("%s changes nothing", changes[k]);
  }
}

/* Maps far outside, and images of one row, column or pixel: every value comes from the image or the fill. */
static void resamples_anything(void **state) {
  (void)state;
  static const int sizes[][2] = {{1, 1}, {1, 7}, {6, 1}, {5, 4}};
  static const dft_affine maps[] = {{{1, 0, -1e6, 0, 1, 3e5}},     {{0, 0, 0, 0, 0, 0}},
                                    {{-1, 0, 3, 0, -1, 3}},        {{40, 3, -7, 2, -50, 9}},
                                    {{1e-9, 0, -0.5, 0, 1e-9, 4}}, {{1, 0, -1, 0, 1, 1}}};
  for (int k = 0; k < 4; k++)
    for (int fill = 0; fill < 4; fill++)
      for (size_t m = 0; m < sizeof maps / sizeof *maps; m++) {
        int n = sizes[k][0] * sizes[k][1] * 3;
        float *image = malloc((size_t)n * sizeof *image), *spare = malloc((size_t)n / 3 * 4 * sizeof *spare);
        assert_true(image != NULL && spare != NULL);
        for (int i = 0; i < n; i++) image[i] = 100 + pixel((size_t)i);
        dft_resample(image, sizes[k][0], sizes[k][1], maps[m], (dft_fill)fill, 150, spare);
        for (int i = 0; i < n; i++) assert_true(image[i] >= 100 && image[i] <= 355);
        free(image);
        free(spare);
      }
}

/* ---- datasets ---- */

static void views(void **state) {
  (void)state;
  dft_config *c =
      parse("data.augment={value_range: [0, 1], rotation: 0.1, brightness: 0.2}", "cache.views=3");
  dft_config *raw = parse("data.preprocessing=none", NULL), *endless = parse("data.augment.zoom=0.1", NULL);
  dft_dataset *train, *validation, *plain, *other, *open, *more;
  assert_int_equal(dft_data_open(c, dft_share_alone(), &train, &validation), DFT_OK);
  assert_int_equal(dft_data_open(raw, dft_share_alone(), &plain, &other), DFT_OK);
  assert_int_equal(dft_data_open(endless, dft_share_alone(), &open, &more), DFT_OK);
  assert_true(dft_dataset_augments(train) && !dft_dataset_augments(validation) &&
              !dft_dataset_augments(plain));
  assert_int_equal(dft_dataset_views(train), 3);
  assert_int_equal(dft_dataset_views(validation), 1);
  assert_int_equal(dft_dataset_views(open), 0);
  assert_int_equal(dft_dataset_view_of(train, 7), 1);
  assert_int_equal(dft_dataset_view_of(open, 7), 7);
  assert_int_equal(dft_dataset_view_of(validation, 7), DFT_VIEW_PLAIN);
  float expected[VALUES], image[VALUES];
  for (int64_t view = -1; view < 3; view++) { /* view -1: not augmented */
    assert_int_equal(dft_dataset_image(plain, 4, expected), DFT_OK);
    if (view >= 0) assert_int_equal(dft_augment(&c->data.augment, 42, 4, view, H, W, expected), DFT_OK);
    for (int i = 0; i < VALUES; i++) expected[i] = expected[i] / 127.5f - 1;
    assert_int_equal(dft_dataset_view(train, 4, view, NULL, image), DFT_OK);
    assert_memory_equal(image, expected, sizeof image);
  }
  assert_int_equal(dft_dataset_image(validation, 4, expected), DFT_OK);
  assert_int_equal(dft_dataset_view(validation, 4, 2, NULL, image), DFT_OK);
  assert_memory_equal(image, expected, sizeof image);
  dft_dataset *const all[] = {train, validation, plain, other, open, more};
  for (int k = 0; k < 6; k++) dft_dataset_free(all[k]);
  dft_config_free(c);
  dft_config_free(raw);
  dft_config_free(endless);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(agrees_with_keras),
      cmocka_unit_test(agrees_with_torchvision),
      cmocka_unit_test(keeps_what_is_no_number),
      cmocka_unit_test(draws_are_uniform),
      cmocka_unit_test(flips),
      cmocka_unit_test(crops),
      cmocka_unit_test(erases),
      cmocka_unit_test(steps_are_apart),
      cmocka_unit_test(each_change_counts),
      cmocka_unit_test(resamples_anything),
      cmocka_unit_test(views),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
