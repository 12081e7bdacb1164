/* Bilinear resampling through an affine map, after TensorFlow's ImageProjectiveTransformV3, which Keras'
 * affine_transform calls (tensorflow/core/kernels/image/image_ops.h: MapCoordinate, bilinear_interpolation).
 */
#include "augment.h"
#include <math.h>
#include <string.h>

typedef float vec __attribute__((vector_size(16)));

/* Coordinates beyond the border, brought back into [0, size - 1] as the fill mode says. */

static float reflect(float x, int size) { /* dcba|abcd|dcba */
  float twice = 2.0f * (float)size;
  x -= twice * floorf(x / twice);
  return x >= (float)size ? twice - x - 1 : x;
}

static float wrap(float x, int size) { /* abcd|abcd|abcd */
  float period = (float)size, last = (float)(size - 1);
  if (x < 0) return x + period * (floorf(-x / last) + 1);
  return x - period * floorf(x / last);
}

static float nearest(float x, int size) { /* aaaa|abcd|dddd */
  (void)size;
  return x;
}

static float (*const folds[])(float, int) = {
    [DFT_FILL_REFLECT] = reflect, [DFT_FILL_NEAREST] = nearest, [DFT_FILL_WRAP] = wrap};

static vec load(const float *pixel) {
  vec x = {0};
  memcpy(&x, pixel, 3 * sizeof(float));
  return x;
}

static vec blend(vec a, vec b, float weight) {
  return a + (b - a) * weight;
}

typedef struct source {
  const float *pixels;
  int height, width;
  vec fill;
} source;

static vec between(const source *s, int x, int y, int dx, int dy, float across, float down) {
  const float *at = s->pixels + 3 * ((size_t)y * (size_t)s->width + (size_t)x);
  const float *below = at + 3 * (size_t)dy * (size_t)s->width;
  return blend(blend(load(at), load(at + 3 * dx), across), blend(load(below), load(below + 3 * dx), across),
               down);
}

/* A position that is not wholly inside: folded back, or surrounded by the fill value. */
static vec outside(const source *s, float x, float y, dft_fill fill) {
  if (fill != DFT_FILL_CONSTANT) {
    x = fminf(fmaxf(s->width > 1 ? folds[fill](x, s->width) : 0, 0), (float)(s->width - 1));
    y = fminf(fmaxf(s->height > 1 ? folds[fill](y, s->height) : 0, 0), (float)(s->height - 1));
    int left = (int)x, top = (int)y;
    return between(s, left, top, left + 1 < s->width, top + 1 < s->height, x - (float)left, y - (float)top);
  }
  if (!(x > -1 && y > -1 && x < (float)s->width && y < (float)s->height)) return s->fill;
  float left = floorf(x), top = floorf(y);
  vec corners[4];
  for (int k = 0; k < 4; k++) {
    int i = (int)left + (k & 1), j = (int)top + (k >> 1);
    bool inside = i >= 0 && j >= 0 && i < s->width && j < s->height;
    corners[k] = inside ? load(s->pixels + 3 * ((size_t)j * (size_t)s->width + (size_t)i)) : s->fill;
  }
  return blend(blend(corners[0], corners[1], x - left), blend(corners[2], corners[3], x - left), y - top);
}

void dft_resample(const float *from, int height, int width, dft_affine map, dft_fill fill, float fill_value,
                  float *to) {
  source s = {from, height, width, (vec){0} + fill_value};
  const double *m = map.m;
  float right = (float)(width - 1), bottom = (float)(height - 1);
  for (int row = 0; row < height; row++) {
    double x0 = m[1] * row + m[2], y0 = m[4] * row + m[5];
    for (int column = 0; column < width; column++, to += 3) {
      float x = (float)(m[0] * column + x0), y = (float)(m[3] * column + y0);
      vec value;
      if (x >= 0 && y >= 0 && x < right && y < bottom) {
        int left = (int)x, top = (int)y;
        value = between(&s, left, top, 1, 1, x - (float)left, y - (float)top);
      } else
        value = outside(&s, x, y, fill);
      memcpy(to, &value, 3 * sizeof(float));
    }
  }
}
