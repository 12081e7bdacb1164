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

static vec blend(vec a, vec b, float weight) {
  return a + (b - a) * weight;
}

typedef struct source {
  const vec *pixels; /* [height][width], of four values: three are used */
  int height, width;
  vec fill;
} source;

static vec between(const source *s, int x, int y, int dx, int dy, float across, float down) {
  const vec *at = s->pixels + (size_t)y * (size_t)s->width + x, *below = at + (size_t)dy * (size_t)s->width;
  return blend(blend(at[0], at[dx], across), blend(below[0], below[dx], across), down);
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
    corners[k] = inside ? s->pixels[(size_t)j * (size_t)s->width + (size_t)i] : s->fill;
  }
  return blend(blend(corners[0], corners[1], x - left), blend(corners[2], corners[3], x - left), y - top);
}

/* Copies the image with room for a fourth value in each pixel. */
static void pack(const float *image, size_t pixels, float *packed) {
  for (size_t i = 0; i + 1 < pixels; i++) memcpy(packed + 4 * i, image + 3 * i, sizeof(vec));
  memcpy(packed + 4 * (pixels - 1), image + 3 * (pixels - 1), 3 * sizeof(float));
  packed[4 * pixels - 1] = 0;
}

void dft_resample(float *image, int height, int width, dft_affine map, dft_fill fill, float fill_value,
                  float *spare) {
  const size_t pixels = (size_t)height * (size_t)width;
  const source s = {(const vec *)(void *)spare, height, width, (vec){0} + fill_value};
  const double *m = map.m;
  const float right = (float)(width - 1), bottom = (float)(height - 1);
  vec value = {0};
  float *to = image;
  pack(image, pixels, spare);
  for (int row = 0; row < height; row++) {
    const double x0 = m[1] * row + m[2], y0 = m[4] * row + m[5];
    for (int column = 0; column < width; column++, to += 3) {
      float x = (float)(m[0] * column + x0), y = (float)(m[3] * column + y0);
      if (x >= 0 && y >= 0 && x < right && y < bottom) {
        int left = (int)x, top = (int)y;
        value = between(&s, left, top, 1, 1, x - (float)left, y - (float)top);
      } else
        value = outside(&s, x, y, fill);
      if (to < image + 3 * (pixels - 1))
        memcpy(to, &value, sizeof value); /* the next one covers the fourth */
    }
  }
  memcpy(image + 3 * (pixels - 1), &value, 3 * sizeof(float));
}
