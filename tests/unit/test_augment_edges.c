/* What the goldens of augmentation leave out: draws of its own for each step, sizes that fill no vector,
 * boxes that are as large as can be, and the far side of a wrapped border. */
#include "../../src/data/augment.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { H = 33, W = 40, VALUES = 3 * H * W };

static dft_config_augment nothing(void) {
  return (dft_config_augment){
      .crop_scale = {1, 1}, .crop_ratio = {0.75, 4.0 / 3}, .value_range = {0, 255}, .erasing_ratio = {1, 1}};
}

static float pixel(size_t i) {
  return (float)((uint32_t)(i * 2654435761u) >> 24);
}

static void steps_draw_apart(void **state) {
  (void)state;
  const dft_canvas c = {.seed = 42, .sample = 3, .view = 1};
  for (int a = DFT_AUGMENT_FLIP; a <= DFT_AUGMENT_ERASING; a++)
    for (int b = a; b <= DFT_AUGMENT_ERASING; b++)
      for (int draw = a == b; draw < 3; draw++) {
        const dft_philox x = dft_draw(&c, (dft_step)a, 0), y = dft_draw(&c, (dft_step)b, draw);
        assert_true(memcmp(&x, &y, sizeof x) != 0);
      }
}

/* About the mean of each channel, to the last pixel. */
static void contrast_of_odd_sizes(void **state) {
  (void)state;
  dft_config_augment a = nothing();
  a.contrast[0] = a.contrast[1] = -0.5;
  for (int h = 1; h < 4; h++)
    for (int w = 1; w < 10; w++) {
      float image[3 * 4 * 10];
      double mean[3] = {0};
      const int n = 3 * h * w;
      for (int i = 0; i < n; i++) image[i] = 50 * (float)(i % 3) + pixel((size_t)i) / 4;
      for (int i = 0; i < n; i++) mean[i % 3] += (double)image[i] / (h * w);
      assert_int_equal(dft_augment(&a, 1, 2, 3, h, w, image), DFT_OK);
      for (int i = 0; i < n; i++) {
        const double value = 50.0 * (i % 3) + (double)pixel((size_t)i) / 4;
        assert_true(fabs((double)image[i] - (value + mean[i % 3]) / 2) < 1e-3);
      }
    }
}

/* Where nothing fits, the middle, as wide or as high as the ratio allows. */
static void crops_that_never_fit(void **state) {
  (void)state;
  dft_config_augment a = nothing();
  dft_canvas c = {.config = &a, .height = H, .width = W, .pending = {{1, 0, 0, 0, 1, 0}}};
  a.crop_scale[0] = a.crop_scale[1] = 0.9;
  a.crop_ratio[0] = a.crop_ratio[1] = 0.25; /* 8 of 40 columns */
  dft_augment_crop(&c);
  assert_true(fabs(c.pending.m[0] - 8.0 / W) < 1e-12 && fabs(c.pending.m[4] - 1) < 1e-12);
  assert_true(fabs(c.pending.m[2] - (16 + 4.0 / W - 0.5)) < 1e-12);
}

/* torchvision erases no whole image: a rectangle is smaller in both directions. */
static void nothing_erases_all(void **state) {
  (void)state;
  dft_config_augment a = nothing();
  float image[VALUES], plain[VALUES];
  for (int i = 0; i < VALUES; i++) image[i] = plain[i] = 1 + pixel((size_t)i);
  a.erasing = 1;
  a.erasing_scale[0] = a.erasing_scale[1] = 1;
  a.erasing_ratio[0] = a.erasing_ratio[1] = (double)H / W;
  assert_int_equal(dft_augment(&a, 1, 2, 3, H, W, image), DFT_OK);
  assert_memory_equal(image, plain, sizeof plain);
}

/* TensorFlow's MapCoordinate (image_ops.h): what lies beyond the border by up to a pixel less than the image
 * is wide comes from one period on, what lies further from two, and is brought back to the border. */
static void wraps_as_tensorflow(void **state) {
  (void)state;
  enum { N = 5 };
  static const double at[] = {-0.5, -3.75, -4.25, -4.75, 4.25, 6.5, -9};
  static const float want[] = {4, 1.25F, 4, 4, 0, 1.5F, 4};
  for (size_t k = 0; k < sizeof at / sizeof *at; k++) {
    float row[3 * N];
    _Alignas(16) float spare[4 * N];
    for (int i = 0; i < N; i++) row[3 * i] = row[3 * i + 1] = row[3 * i + 2] = (float)i;
    dft_resample(row, 1, N, (dft_affine){{0, 0, at[k], 0, 1, 0}}, DFT_FILL_WRAP, 0, spare);
    for (int i = 0; i < 3 * N; i++)
      if (row[i] != want[k]) fail_msg("%g: %g, not %g", at[k], (double)row[i], (double)want[k]);
  }
}

/* In values of another range the fill is theirs, whether colours were changed before or not. */
static void fills_in_the_images_values(void **state) {
  (void)state;
  dft_config_augment a = nothing();
  float image[VALUES];
  a.value_range[0] = -1;
  a.value_range[1] = 1;
  a.fill_value = 0.5;
  a.erasing = 1;
  a.erasing_scale[0] = a.erasing_scale[1] = 0.1;
  for (int bright = 0; bright < 2; bright++) {
    int erased = 0;
    if (bright) a.brightness[0] = a.brightness[1] = 0.01;
    for (int i = 0; i < VALUES; i++) image[i] = -1;
    assert_int_equal(dft_augment(&a, 1, 2, 3, H, W, image), DFT_OK);
    for (int i = 0; i < VALUES; i++) erased += fabsf(image[i] - 0.5F) < 1e-6F;
    assert_in_range(erased, VALUES / 20, VALUES / 5);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(steps_draw_apart),     cmocka_unit_test(contrast_of_odd_sizes),
      cmocka_unit_test(crops_that_never_fit), cmocka_unit_test(nothing_erases_all),
      cmocka_unit_test(wraps_as_tensorflow),  cmocka_unit_test(fills_in_the_images_values),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
