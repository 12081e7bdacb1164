#include "augment.h"
#include <stdlib.h>

/* In the order of application. A step that is off returns at once. */
static void (*const steps[])(dft_canvas *) = {
    dft_augment_flip,        dft_augment_crop,  dft_augment_rotation,   dft_augment_zoom,
    dft_augment_translation, dft_augment_rand,  dft_augment_brightness, dft_augment_contrast,
    dft_augment_saturation,  dft_augment_erase,
};

dft_philox dft_draw(const dft_canvas *c, dft_step step, int draw) {
  uint64_t index =
      (uint64_t)c->sample | (uint64_t)step << 48 | (uint64_t)draw << 40; /* samples are below 2^40 */
  return dft_rng_block(c->seed, DFT_STREAM_AUGMENT, (uint32_t)c->view, index);
}

double dft_draw_in(const double range[2], uint32_t bits) {
  return range[0] + (range[1] - range[0]) * (bits * 0x1p-32);
}

int dft_draw_below(int n, uint32_t bits) {
  return (int)(((uint64_t)n * bits) >> 32);
}

void dft_canvas_move(dft_canvas *c, dft_affine next) {
  const double *p = c->pending.m, *n = next.m;
  c->pending =
      (dft_affine){{p[0] * n[0] + p[1] * n[3], p[0] * n[1] + p[1] * n[4], p[0] * n[2] + p[1] * n[5] + p[2],
                    p[3] * n[0] + p[4] * n[3], p[3] * n[1] + p[4] * n[4], p[3] * n[2] + p[4] * n[5] + p[5]}};
  c->moved = true;
}

void dft_canvas_settle(dft_canvas *c) {
  if (!c->moved) return;
  dft_resample(c->pixels, c->height, c->width, c->pending, c->config->fill_mode, dft_canvas_fill(c),
               c->spare);
  c->pending = (dft_affine){{1, 0, 0, 0, 1, 0}};
  c->moved = false;
}

static bool is_bytes(const double range[2]) {
  return range[0] == 0 && range[1] == 255;
}

void dft_canvas_bytes(dft_canvas *c) {
  dft_canvas_settle(c);
  const double *range = c->config->value_range;
  if (c->bytes || is_bytes(range)) return;
  float low = (float)range[0], scale = (float)(255 / (range[1] - range[0]));
  size_t n = (size_t)c->height * (size_t)c->width * 3;
  for (size_t i = 0; i < n; i++) c->pixels[i] = (c->pixels[i] - low) * scale;
  c->bytes = true;
}

float dft_canvas_fill(const dft_canvas *c) {
  const double *range = c->config->value_range;
  double value = c->config->fill_value;
  return (float)(c->bytes ? (value - range[0]) * 255 / (range[1] - range[0]) : value);
}

/* Back to the image's own values. */
static void finish(dft_canvas *c) {
  const double *range = c->config->value_range;
  size_t n = (size_t)c->height * (size_t)c->width * 3;
  dft_canvas_settle(c);
  if (c->bytes) {
    float low = (float)range[0], scale = (float)((range[1] - range[0]) / 255);
    for (size_t i = 0; i < n; i++) c->pixels[i] = c->pixels[i] * scale + low;
  }
}

dft_status dft_augment(const dft_config_augment *config, uint64_t seed, int64_t sample, int64_t view,
                       int height, int width, float *image) {
  size_t bytes = (size_t)height * (size_t)width * 4 * sizeof(float);
  float *spare = malloc(bytes);
  if (spare == NULL) return dft_fail_memory("augmentation", bytes);
  dft_canvas c = {.config = config,
                  .height = height,
                  .width = width,
                  .pixels = image,
                  .spare = spare,
                  .pending = {{1, 0, 0, 0, 1, 0}},
                  .seed = seed,
                  .sample = sample,
                  .view = view};
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) steps[i](&c);
  finish(&c);
  free(spare);
  return DFT_OK;
}
