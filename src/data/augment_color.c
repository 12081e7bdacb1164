/* Brightness and contrast as keras.layers.RandomBrightness and RandomContrast, saturation as torchvision's
 * adjust_saturation. */
#include "augment.h"

float dft_color_clip(float value) {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

float dft_color_grey(const float *pixel) {
  return 0.2989f * pixel[0] + 0.587f * pixel[1] + 0.114f * pixel[2];
}

void dft_color_add(float *values, size_t n, float delta) {
  for (size_t i = 0; i < n; i++) values[i] = dft_color_clip(values[i] + delta);
}

/* Sums of rows in float, of the rows in double: large images lose nothing. */
static void channel_means(const float *values, int height, int width, float mean[3]) {
  double sum[3] = {0};
  for (int y = 0; y < height; y++) {
    const float *row = values + 3 * (size_t)y * (size_t)width;
    float part[3] = {0};
    for (int x = 0; x < width; x++)
      for (int k = 0; k < 3; k++) part[k] += row[3 * x + k];
    for (int k = 0; k < 3; k++) sum[k] += (double)part[k];
  }
  for (int k = 0; k < 3; k++) mean[k] = (float)(sum[k] / ((double)height * width));
}

void dft_color_contrast(float *values, int height, int width, float factor) {
  float mean[3];
  channel_means(values, height, width, mean);
  size_t n = 3 * (size_t)height * (size_t)width;
  for (size_t i = 0; i < n; i += 3)
    for (size_t k = 0; k < 3; k++)
      values[i + k] = dft_color_clip((values[i + k] - mean[k]) * factor + mean[k]);
}

void dft_color_saturation(float *values, size_t n, float factor) {
  for (size_t i = 0; i < n; i += 3) {
    float grey = dft_color_grey(values + i);
    for (size_t k = 0; k < 3; k++)
      values[i + k] = dft_color_clip(factor * values[i + k] + (1 - factor) * grey);
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
  if (draw(c, DFT_STEP_BRIGHTNESS, c->config->brightness, &value))
    dft_color_add(c->pixels, count(c), 255 * value);
}

void dft_augment_contrast(dft_canvas *c) {
  float value;
  if (draw(c, DFT_STEP_CONTRAST, c->config->contrast, &value))
    dft_color_contrast(c->pixels, c->height, c->width, 1 + value);
}

void dft_augment_saturation(dft_canvas *c) {
  float value;
  if (draw(c, DFT_STEP_SATURATION, c->config->saturation, &value))
    dft_color_saturation(c->pixels, count(c), 1 + value);
}
