/* The loader against Keras' own values, and its paths against each other. */
#include "../../src/data/source.h"
#include "golden/resize_goldens.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint8_t pixel(size_t i) {
  return (uint8_t)((uint32_t)(i * 2654435761u) >> 24);
}

static dft_loader make_loader(const struct golden *g, dft_type type, dft_preprocessing preprocessing) {
  dft_loader l = {.height = g->height,
                  .width = g->width,
                  .channels = g->channels,
                  .type = type,
                  .out_height = g->out_height,
                  .out_width = g->out_width,
                  .preprocessing = preprocessing};
  assert_int_equal(dft_loader_init(&l, g->mode), DFT_OK);
  return l;
}

/* The result of golden `g`, fresh. Pixels lie one byte off alignment, as they may in a file. */
static float *make_image(const struct golden *g, dft_type type, dft_preprocessing preprocessing) {
  size_t n = (size_t)(g->height * g->width * g->channels), m = (size_t)(g->out_height * g->out_width) * 3;
  uint8_t *memory = malloc(4 * n + 1);
  float *out = malloc(m * sizeof *out);
  assert_non_null(memory);
  assert_non_null(out);
  for (size_t i = 0; i < n; i++) {
    float value = pixel(i);
    if (type == DFT_TYPE_F32)
      memcpy(memory + 1 + 4 * i, &value, 4);
    else
      memory[1 + i] = pixel(i);
  }
  dft_loader l = make_loader(g, type, preprocessing);
  dft_loader_image(&l, memory + 1, out);
  dft_loader_free(&l);
  free(memory);
  return out;
}

static void agrees_with_keras(void **state) {
  (void)state;
  for (size_t k = 0; k < sizeof goldens / sizeof *goldens; k++) {
    const struct golden *g = &goldens[k];
    float *bytes = make_image(g, DFT_TYPE_U8, DFT_PREPROCESS_NONE);
    float *floats = make_image(g, DFT_TYPE_F32, DFT_PREPROCESS_NONE);
    int elements = g->out_height * g->out_width * g->channels;
    assert_int_equal(g->count, (elements + g->step - 1) / g->step);
    for (int i = 0; i < g->count; i++) {
      int at = i * g->step;
      if (g->channels == 1) at = 3 * at + i % 3; /* grey: any of the three copies */
      if (fabsf(bytes[at] - g->values[i]) > 255 * 1e-6f)
        fail_msg("case %zu value %d: %.9g, Keras has %.9g", k, i, bytes[at], g->values[i]);
    }
    assert_memory_equal(bytes, floats, (size_t)(g->out_height * g->out_width) * 3 * sizeof(float));
    free(bytes);
    free(floats);
  }
}

static void preprocesses_the_resized_values(void **state) {
  (void)state;
  for (size_t k = 0; k < 4; k++) {
    const struct golden *g = &goldens[k];
    float *none = make_image(g, DFT_TYPE_U8, DFT_PREPROCESS_NONE);
    float *unit = make_image(g, DFT_TYPE_U8, DFT_PREPROCESS_UNIT);
    float *mobilenet = make_image(g, DFT_TYPE_F32, DFT_PREPROCESS_MOBILENET_V2);
    for (int i = 0; i < g->out_height * g->out_width * 3; i++) {
      float quotient = none[i] / 127.5f;
      assert_true(unit[i] == none[i] / 255.0f);
      assert_true(mobilenet[i] == quotient - 1.0f);
    }
    free(none);
    free(unit);
    free(mobilenet);
  }
}

/* Of the right size already: values pass through, also where strips and vectors end raggedly. */
static void copies_without_resize(void **state) {
  (void)state;
  static const int sizes[][3] = {{33, 35, 3}, {1, 1, 3}, {96, 96, 3}, {5, 77, 1}, {1, 3, 1}, {40, 40, 1}};
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
    const struct golden g = {.height = sizes[k][0],
                             .width = sizes[k][1],
                             .channels = sizes[k][2],
                             .out_height = sizes[k][0],
                             .out_width = sizes[k][1],
                             .mode = (dft_resize)(k % 3)};
    for (int type = 0; type < 2; type++) {
      float *out = make_image(&g, type ? DFT_TYPE_F32 : DFT_TYPE_U8, DFT_PREPROCESS_NONE);
      for (int i = 0; i < g.height * g.width * 3; i++)
        assert_true(out[i] == (float)pixel((size_t)(g.channels == 3 ? i : i / 3)));
      free(out);
    }
  }
}

/* Grey images are those of three equal channels, also where they are padded, whatever their type. */
static void grey_is_three_channels(void **state) {
  (void)state;
  static const int sizes[][4] = {{5, 9, 33, 35}, {40, 7, 33, 36}, {60, 90, 32, 32}, {1, 30, 34, 33}};
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
    for (int mode = 0; mode < 3; mode++) {
      struct golden g = {.height = sizes[k][0],
                         .width = sizes[k][1],
                         .out_height = sizes[k][2],
                         .out_width = sizes[k][3],
                         .channels = 1,
                         .mode = (dft_resize)mode};
      const size_t n = (size_t)(g.height * g.width), out = 3 * (size_t)(g.out_height * g.out_width);
      float *bytes = make_image(&g, DFT_TYPE_U8, DFT_PREPROCESS_NONE);
      float *floats = make_image(&g, DFT_TYPE_F32, DFT_PREPROCESS_NONE), *wide = malloc(out * sizeof *wide);
      uint8_t *rgb = malloc(3 * n);
      assert_true(wide != NULL && rgb != NULL);
      for (size_t i = 0; i < 3 * n; i++) rgb[i] = pixel(i / 3);
      g.channels = 3;
      dft_loader l = make_loader(&g, DFT_TYPE_U8, DFT_PREPROCESS_NONE);
      dft_loader_image(&l, rgb, wide);
      assert_memory_equal(bytes, wide, out * sizeof *wide);
      assert_memory_equal(floats, wide, out * sizeof *wide);
      dft_loader_free(&l);
      free(bytes), free(floats), free(wide), free(rgb);
    }
}

/* A part of which nothing would be left has a pixel. */
static void a_crop_keeps_a_pixel(void **state) {
  (void)state;
  const struct golden g = {
      .height = 201, .width = 1, .channels = 3, .out_height = 32, .out_width = 96, .mode = DFT_RESIZE_CROP};
  float *out = make_image(&g, DFT_TYPE_U8, DFT_PREPROCESS_NONE);
  for (int i = 0; i < 3 * 32 * 96; i++) assert_true(out[i] == (float)pixel((size_t)(3 * 100 + i % 3)));
  free(out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(agrees_with_keras),     cmocka_unit_test(preprocesses_the_resized_values),
      cmocka_unit_test(copies_without_resize), cmocka_unit_test(grey_is_three_channels),
      cmocka_unit_test(a_crop_keeps_a_pixel),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
