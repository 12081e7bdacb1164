/* Steps that move pixels: each composes one affine map. Matrices as the transformations of keras.layers
 * RandomFlip, RandomRotation, RandomZoom and RandomTranslation, and torchvision's RandomResizedCrop. */
#include "augment.h"
#include <math.h>

enum { ATTEMPTS = 10 };

static bool is_off(const double range[2], double off) {
  return range[0] == off && range[1] == off;
}

/* One draw for both directions, as Keras 3 has it. */
void dft_augment_flip(dft_canvas *c) {
  dft_flip flip = c->config->flip;
  if (flip == DFT_FLIP_NONE || dft_draw(c, DFT_AUGMENT_FLIP, 0).v[0] >> 31) return;
  dft_affine map = {{1, 0, 0, 0, 1, 0}};
  if (flip != DFT_FLIP_VERTICAL) {
    map.m[0] = -1;
    map.m[2] = c->width - 1;
  }
  if (flip != DFT_FLIP_HORIZONTAL) {
    map.m[4] = -1;
    map.m[5] = c->height - 1;
  }
  dft_canvas_move(c, map);
}

bool dft_draw_box(const dft_canvas *c, dft_step step, const double scale[2], const double ratio[2],
                  bool smaller, dft_box *box) {
  double area = (double)c->height * c->width;
  const double log_ratio[2] = {log(ratio[0]), log(ratio[1])};
  for (int i = 0; i < ATTEMPTS; i++) {
    dft_philox random = dft_draw(c, step, 1 + i);
    double wanted = area * dft_draw_in(scale, random.v[0]), r = exp(dft_draw_in(log_ratio, random.v[1]));
    double width = rint(sqrt(wanted * r)), height = rint(sqrt(wanted / r)); /* rint as Python's round */
    if (width < 1 || height < 1 || width > c->width - smaller || height > c->height - smaller) continue;
    box->width = (int)width;
    box->height = (int)height;
    box->top = dft_draw_below(c->height - box->height + 1, random.v[2]);
    box->left = dft_draw_below(c->width - box->width + 1, random.v[3]);
    return true;
  }
  return false;
}

/* The largest part in the middle whose ratio is allowed: torchvision's choice when nothing fitted. */
static dft_box central_box(const dft_canvas *c, const double ratio[2]) {
  dft_box box = {.height = c->height, .width = c->width};
  double own = (double)c->width / c->height;
  if (own < ratio[0]) box.height = (int)rint(c->width / ratio[0]);
  if (own > ratio[1]) box.width = (int)rint(c->height * ratio[1]);
  if (box.height < 1) box.height = 1;
  if (box.width < 1) box.width = 1;
  box.top = (c->height - box.height) / 2;
  box.left = (c->width - box.width) / 2;
  return box;
}

void dft_augment_crop(dft_canvas *c) {
  const double *scale = c->config->crop_scale, *ratio = c->config->crop_ratio;
  if (is_off(scale, 1)) return;
  dft_box box;
  if (!dft_draw_box(c, DFT_AUGMENT_CROP, scale, ratio, false, &box)) box = central_box(c, ratio);
  double x = (double)box.width / c->width, y = (double)box.height / c->height;
  dft_canvas_move(c, (dft_affine){{x, 0, box.left + 0.5 * x - 0.5, 0, y, box.top + 0.5 * y - 0.5}});
}

dft_affine dft_affine_rotation(const dft_canvas *c, double turns) {
  double angle = turns * 6.283185307179586, s = sin(angle), k = cos(angle);
  double x = (c->width - 1) / 2.0, y = (c->height - 1) / 2.0;
  return (dft_affine){{k, -s, x - k * x + s * y, s, k, y - s * x - k * y}};
}

dft_affine dft_affine_translation(double right, double down) {
  return (dft_affine){{1, 0, -right, 0, 1, -down}};
}

void dft_augment_rotation(dft_canvas *c) {
  if (is_off(c->config->rotation, 0)) return;
  double turns = dft_draw_in(c->config->rotation, dft_draw(c, DFT_AUGMENT_ROTATION, 0).v[0]);
  dft_canvas_move(c, dft_affine_rotation(c, turns));
}

void dft_augment_zoom(dft_canvas *c) {
  if (is_off(c->config->zoom, 0)) return;
  double shown = 1 + dft_draw_in(c->config->zoom, dft_draw(c, DFT_AUGMENT_ZOOM, 0).v[0]);
  double x = (c->width - 1) / 2.0 * (1 - shown), y = (c->height - 1) / 2.0 * (1 - shown);
  dft_canvas_move(c, (dft_affine){{shown, 0, x, 0, shown, y}});
}

void dft_augment_translation(dft_canvas *c) {
  if (is_off(c->config->translation, 0)) return;
  dft_philox random = dft_draw(c, DFT_AUGMENT_TRANSLATION, 0);
  double down = dft_draw_in(c->config->translation, random.v[0]) * c->height;
  double right = dft_draw_in(c->config->translation, random.v[1]) * c->width;
  dft_canvas_move(c, dft_affine_translation(right, down));
}
