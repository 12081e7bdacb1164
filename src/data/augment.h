/* Random changes to a training image: data.augment.
 *
 * They are made on the resized image [height][width][3], float32, before preprocessing, in this order: flip,
 * crop, rotation, zoom, translation; RandAugment; brightness, contrast, saturation; erasing. Each is a row of
 * the table in augment.c. Geometric ones only compose an affine map; the image is interpolated when the first
 * step after them needs its pixels, once for all of them.
 *
 * Random numbers are keyed by (seed, view, sample, step, draw) and depend on nothing else: not on ranks,
 * threads or order, and no step's setting changes what another draws.
 *
 * Colours and RandAugment follow formulas for values in 0..255 and clip to them; value_range says what stands
 * for 0 and 255. Pure functions of what they are given; any thread.
 */
#ifndef DFT_DATA_AUGMENT_H
#define DFT_DATA_AUGMENT_H

#include "dft/config.h"
#include "dft/rng.h"
#include "dft/status.h"

/* Makes view `view` of an image, in place. DFT_EINTERNAL: no memory. */
dft_status dft_augment(const dft_config_augment *config, uint64_t seed, int64_t sample, int64_t view,
                       int height, int width, float *image);

/* ---- inside: the canvas that steps work on ---- */

/* The steps, as part of a random number's key: append only. */
typedef enum {
  DFT_AUGMENT_FLIP = 1,
  DFT_AUGMENT_CROP = 2,
  DFT_AUGMENT_ROTATION = 3,
  DFT_AUGMENT_ZOOM = 4,
  DFT_AUGMENT_TRANSLATION = 5,
  DFT_AUGMENT_RAND_AUGMENT = 6,
  DFT_AUGMENT_BRIGHTNESS = 7,
  DFT_AUGMENT_CONTRAST = 8,
  DFT_AUGMENT_SATURATION = 9,
  DFT_AUGMENT_ERASING = 10
} dft_step;

/* Output pixel (x, y) shows position (m[0] x + m[1] y + m[2], m[3] x + m[4] y + m[5]) of the input, where
 * pixel centres are whole numbers, as in Keras' affine_transform. */
typedef struct dft_affine {
  double m[6];
} dft_affine;

typedef struct dft_canvas {
  const dft_config_augment *config;
  int height, width;
  float *pixels;      /* [height][width][3] */
  float *spare;       /* 4*height*width floats, for steps that need a copy */
  dft_affine pending; /* not yet applied to the pixels */
  bool moved;         /* pending is not the identity */
  bool bytes;         /* values are in 0..255 whatever value_range says */
  uint64_t seed;
  int64_t sample, view;
} dft_canvas;

dft_philox dft_draw(const dft_canvas *c, dft_step step, int draw); /* draw: 0 to 255 */
double dft_draw_in(const double range[2], uint32_t bits);          /* uniform in [low, high) */
int dft_draw_below(int n, uint32_t bits);                          /* uniform in 0 .. n - 1 */

/* Puts `next`, which maps the new image to the one before it, after the pending map. */
void dft_canvas_move(dft_canvas *c, dft_affine next);
/* Applies the pending map: what reads pixels calls this first. */
void dft_canvas_settle(dft_canvas *c);
/* The same, and brings values into 0..255. */
void dft_canvas_bytes(dft_canvas *c);
float dft_canvas_fill(const dft_canvas *c); /* fill_value in the units of the pixels */

/* ---- augment_geometry.c ---- */

void dft_augment_flip(dft_canvas *c);
void dft_augment_crop(dft_canvas *c);
void dft_augment_rotation(dft_canvas *c);
void dft_augment_zoom(dft_canvas *c);
void dft_augment_translation(dft_canvas *c);

dft_affine dft_affine_rotation(const dft_canvas *c, double turns); /* about the centre, as RandomRotation */
dft_affine dft_affine_translation(double right, double down);

/* A rectangle inside the image: its share of the area uniform in scale, its width over its height log-uniform
 * in ratio, its place uniform; in ten attempts, as torchvision draws it. False when none fitted. `smaller`:
 * it must be smaller than the image in both directions. */
typedef struct dft_box {
  int top, left, height, width;
} dft_box;
bool dft_draw_box(const dft_canvas *c, dft_step step, const double scale[2], const double ratio[2],
                  bool smaller, dft_box *box);

/* ---- augment_resample.c ---- */

/* image[height][width][3] becomes what `map` shows of it: bilinear, and fill modes, as
 * keras.ops.image.affine_transform does it. spare: 4*height*width floats, aligned to 16 bytes. */
void dft_resample(float *image, int height, int width, dft_affine map, dft_fill fill, float fill_value,
                  float *spare);

/* ---- augment_color.c: values in 0..255, clipped to it ---- */

void dft_augment_brightness(dft_canvas *c);
void dft_augment_contrast(dft_canvas *c);
void dft_augment_saturation(dft_canvas *c);

/* Operations with a given strength; values n of whole pixels. */
void dft_color_saturation(float *values, size_t n, float factor); /* about the grey of each pixel */

/* In every loop over values: to be inlined. */
static inline float dft_color_clip(float value) {
  value = value < 0 ? 0 : value;
  return value > 255 ? 255 : value;
}

static inline float dft_color_grey(const float *pixel) { /* torchvision's */
  return 0.2989f * pixel[0] + 0.587f * pixel[1] + 0.114f * pixel[2];
}

/* ---- augment_rand.c, augment_erase.c ---- */

void dft_augment_rand(dft_canvas *c);
void dft_augment_erase(dft_canvas *c);

/* torchvision's fourteen operations of RandAugment, in its order. */
typedef enum {
  DFT_RAND_IDENTITY,
  DFT_RAND_SHEAR_X,
  DFT_RAND_SHEAR_Y,
  DFT_RAND_TRANSLATE_X,
  DFT_RAND_TRANSLATE_Y,
  DFT_RAND_ROTATE,
  DFT_RAND_BRIGHTNESS,
  DFT_RAND_COLOR,
  DFT_RAND_CONTRAST,
  DFT_RAND_SHARPNESS,
  DFT_RAND_POSTERIZE,
  DFT_RAND_SOLARIZE,
  DFT_RAND_AUTO_CONTRAST,
  DFT_RAND_EQUALIZE,
  DFT_RAND_OPS
} dft_rand_op;

/* One of them. `strength` from -1 to 1: magnitude / 30, and a sign where the operation has one. */
void dft_rand_apply(dft_canvas *c, dft_rand_op op, double strength);

#endif
