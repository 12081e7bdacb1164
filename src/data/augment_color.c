/* Brightness and contrast as keras.layers.RandomBrightness and RandomContrast, saturation as torchvision's
 * adjust_saturation. */
#include "augment.h"

static void add(float *values, size_t n, float delta) {
#pragma omp simd
  for (size_t i = 0; i < n; i++) values[i] = dft_color_clip(values[i] + delta);
}

/* Loops over values work on blocks of four pixels: enough for any vector width, and a channel stays in its
 * lane.
 */
enum { BLOCK = 12 };

/* Sums of rows in float, of the rows in double: large images lose nothing. */
static void channel_means(const float *values, int height, int width, float mean[3]) {
  double sum[3] = {0};
  size_t line = 3 * (size_t)width;
  for (int y = 0; y < height; y++) {
    const float *row = values + (size_t)y * line;
    float part[BLOCK] = {0};
    size_t i = 0;
    for (; i + BLOCK <= line; i += BLOCK)
#pragma omp simd
      for (size_t k = 0; k < BLOCK; k++) part[k] += row[i + k];
    for (; i < line; i++) part[i % BLOCK] += row[i];
    for (int k = 0; k < BLOCK; k++) sum[k % 3] += (double)part[k];
  }
  for (int k = 0; k < 3; k++) mean[k] = (float)(sum[k] / ((double)height * width));
}

/* About each channel's mean. */
static void contrast(float *values, int height, int width, float factor) {
  float mean[3], means[BLOCK];
  channel_means(values, height, width, mean);
  for (int k = 0; k < BLOCK; k++) means[k] = mean[k % 3];
  size_t n = 3 * (size_t)height * (size_t)width, i = 0;
  for (; i + BLOCK <= n; i += BLOCK)
#pragma omp simd
    for (size_t k = 0; k < BLOCK; k++)
      values[i + k] = dft_color_clip((values[i + k] - means[k]) * factor + means[k]);
  for (; i < n; i++) values[i] = dft_color_clip((values[i] - mean[i % 3]) * factor + mean[i % 3]);
}

void dft_color_saturation(float *values, size_t n, float factor) {
  for (size_t i = 0; i < n; i += 3) {
    float grey = (1 - factor) * dft_color_grey(values + i);
    for (size_t k = 0; k < 3; k++) values[i + k] = dft_color_clip(factor * values[i + k] + grey);
  }
}

/* Whether the step is on; then its draw, and the pixels made ready. */
static bool draw(dft_canvas *c, dft_step step, const double range[2], float *value) {
  if (range[0] == 0 && range[1] == 0) return false;
  *value = (float)dft_draw_in(range, dft_draw(c, step, 0).v[0]);
  dft_canvas_bytes(c);
  return true;
}

static size_t count(const dft_canvas *c) {
  return 3 * (size_t)c->height * (size_t)c->width;
}

void dft_augment_brightness(dft_canvas *c) {
  float value;
  if (draw(c, DFT_AUGMENT_BRIGHTNESS, c->config->brightness, &value)) add(c->pixels, count(c), 255 * value);
}

void dft_augment_contrast(dft_canvas *c) {
  float value;
  if (draw(c, DFT_AUGMENT_CONTRAST, c->config->contrast, &value))
    contrast(c->pixels, c->height, c->width, 1 + value);
}

void dft_augment_saturation(dft_canvas *c) {
  float value;
  if (draw(c, DFT_AUGMENT_SATURATION, c->config->saturation, &value))
    dft_color_saturation(c->pixels, count(c), 1 + value);
}
