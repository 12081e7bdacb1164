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
    float image[VALUES], spare[VALUES];
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(agrees_with_keras),
      cmocka_unit_test(agrees_with_torchvision),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
