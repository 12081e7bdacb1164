/* RandAugment (Cubuk et al. 2020) as torchvision 0.28 has it for tensors: transforms/autoaugment.py and
 * transforms/_functional_tensor.py. Unlike there, geometric operations are bilinear with our fill mode, and
 * values stay fractions: posterize and equalize round them. */
#include "augment.h"
#include <math.h>
#include <string.h>

enum { MOST = 30 /* magnitude */ };

static size_t count(const dft_canvas *c) {
  return 3 * (size_t)c->height * (size_t)c->width;
}

/* A level from 0 to 255; of what is no number, which no table may change, 0. */
static int rounded(float value) {
  return isnan(value) ? 0 : (int)(dft_color_clip(value) + 0.5f);
}

/* ---- geometric operations ---- */

/* Shears leave the image's corner in place, half a pixel before the first centre. */

static void shear_x(dft_canvas *c, double s) {
  dft_canvas_move(c, (dft_affine){{1, 0.3 * s, 0.15 * s, 0, 1, 0}});
}

static void shear_y(dft_canvas *c, double s) {
  dft_canvas_move(c, (dft_affine){{1, 0, 0, 0.3 * s, 1, 0.15 * s}});
}

static void translate_x(dft_canvas *c, double s) {
  dft_canvas_move(c, dft_affine_translation(trunc(s * 150 / 331 * c->width), 0));
}

static void translate_y(dft_canvas *c, double s) {
  dft_canvas_move(c, dft_affine_translation(0, trunc(s * 150 / 331 * c->height)));
}

static void rotate(dft_canvas *c, double s) {
  dft_canvas_move(c, dft_affine_rotation(c, s * 30 / 360));
}

/* ---- blends: factor 1 + 0.9 s ---- */

static void brightness(dft_canvas *c, double s) {
  float factor = (float)(1 + 0.9 * s);
  for (size_t i = 0; i < count(c); i++) c->pixels[i] = dft_color_clip(factor * c->pixels[i]);
}

static void color(dft_canvas *c, double s) {
  dft_color_saturation(c->pixels, count(c), (float)(1 + 0.9 * s));
}

static void contrast(dft_canvas *c, double s) { /* about the mean of the grey image */
  double sum = 0;
  for (size_t i = 0; i < count(c); i += 3) sum += (double)dft_color_grey(c->pixels + i);
  float factor = (float)(1 + 0.9 * s), mean = (float)(sum / ((double)c->height * c->width));
  for (size_t i = 0; i < count(c); i++)
    c->pixels[i] = dft_color_clip(factor * c->pixels[i] + (1 - factor) * mean);
}

static void sharpness(dft_canvas *c,
                      double s) { /* about the image smoothed by ((1 1 1) (1 5 1) (1 1 1)) / 13 */
  if (c->height < 3 || c->width < 3) return;
  float factor = (float)(1 + 0.9 * s);
  size_t line = 3 * (size_t)c->width;
  memcpy(c->spare, c->pixels, count(c) * sizeof(float)); /* the border stays */
  for (size_t y = 1; y + 1 < (size_t)c->height; y++)
    for (size_t i = y * line + 3; i < (y + 1) * line - 3; i++) {
      const float *p = c->spare + i;
      const float *above = p - line, *below = p + line;
      float sum = above[-3] + above[0] + above[3] + p[-3] + 5 * p[0] + p[3] + below[-3] + below[0] + below[3];
      c->pixels[i] = dft_color_clip(factor * p[0] + (1 - factor) * (sum / 13));
    }
}

/* ---- values apart ---- */

static void posterize(dft_canvas *c, double s) {
  int bits = 8 - (int)rint(4 * s), mask = 256 - (1 << (8 - bits));
  for (size_t i = 0; i < count(c); i++)
    if (!isnan(c->pixels[i])) c->pixels[i] = (float)(rounded(c->pixels[i]) & mask);
}

static void solarize(dft_canvas *c, double s) {
  float threshold = (float)(255 - 255 * s);
  for (size_t i = 0; i < count(c); i++) {
    float value = dft_color_clip(c->pixels[i]);
    c->pixels[i] = value >= threshold ? 255 - value : value;
  }
}

static void auto_contrast(dft_canvas *c, double s) {
  (void)s;
  for (size_t k = 0; k < 3; k++) {
    float low = c->pixels[k], high = low;
    for (size_t i = k; i < count(c); i += 3) {
      low = fminf(low, c->pixels[i]);
      high = fmaxf(high, c->pixels[i]);
    }
    if (!(high > low)) continue;
    float scale = 255 / (high - low);
    for (size_t i = k; i < count(c); i += 3) c->pixels[i] = dft_color_clip((c->pixels[i] - low) * scale);
  }
}

/* The table that makes a channel's histogram flat; false when the channel is to stay. */
static bool flatten(const int64_t histogram[256], float table[256]) {
  int64_t total = 0, last = 0, sum = 0;
  for (int v = 0; v < 256; v++) {
    total += histogram[v];
    if (histogram[v] > 0) last = histogram[v];
  }
  int64_t step = (total - last) / 255;
  if (step == 0) return false;
  for (int v = 0; v < 256; v++) {
    int64_t level = (sum + step / 2) / step;
    table[v] = v == 0 ? 0 : (float)(level > 255 ? 255 : level);
    sum += histogram[v];
  }
  return true;
}

static void equalize(dft_canvas *c, double s) {
  (void)s;
  for (size_t k = 0; k < 3; k++) {
    int64_t histogram[256] = {0};
    float table[256];
    for (size_t i = k; i < count(c); i += 3) histogram[rounded(c->pixels[i])]++;
    if (!flatten(histogram, table)) continue;
    for (size_t i = k; i < count(c); i += 3)
      if (!isnan(c->pixels[i])) c->pixels[i] = table[rounded(c->pixels[i])];
  }
}

static const struct {
  void (*apply)(dft_canvas *, double);
  bool is_signed, moves; /* moves: composes a map, reads no pixels */
} ops[DFT_RAND_OPS] = {
    [DFT_RAND_IDENTITY] = {NULL, false, true},
    [DFT_RAND_SHEAR_X] = {shear_x, true, true},
    [DFT_RAND_SHEAR_Y] = {shear_y, true, true},
    [DFT_RAND_TRANSLATE_X] = {translate_x, true, true},
    [DFT_RAND_TRANSLATE_Y] = {translate_y, true, true},
    [DFT_RAND_ROTATE] = {rotate, true, true},
    [DFT_RAND_BRIGHTNESS] = {brightness, true, false},
    [DFT_RAND_COLOR] = {color, true, false},
    [DFT_RAND_CONTRAST] = {contrast, true, false},
    [DFT_RAND_SHARPNESS] = {sharpness, true, false},
    [DFT_RAND_POSTERIZE] = {posterize, false, false},
    [DFT_RAND_SOLARIZE] = {solarize, false, false},
    [DFT_RAND_AUTO_CONTRAST] = {auto_contrast, false, false},
    [DFT_RAND_EQUALIZE] = {equalize, false, false},
};

void dft_rand_apply(dft_canvas *c, dft_rand_op op, double strength) {
  if (ops[op].apply == NULL) return;
  if (!ops[op].moves) dft_canvas_bytes(c);
  ops[op].apply(c, strength);
}

void dft_augment_rand(dft_canvas *c) {
  for (int i = 0; i < c->config->num_ops; i++) {
    dft_philox random = dft_draw(c, DFT_AUGMENT_RAND_AUGMENT, i);
    dft_rand_op op = (dft_rand_op)dft_draw_below(DFT_RAND_OPS, random.v[0]);
    double strength = (double)c->config->magnitude / MOST;
    dft_rand_apply(c, op, ops[op].is_signed && random.v[1] >> 31 ? -strength : strength);
  }
}
