/* Depthwise layers on images of 3x3 pixels (the last blocks at 96x96) in training: a vector of channels of a
 * whole image is nine registers, so that neither rings nor borders are needed. Taps that lie in the border
 * are left out; the others come in the order of the general kernels. */
#include "train_depthwise.h"

enum { EDGE = 3, PIXELS = EDGE * EDGE };

bool DFT_SIMD(dft_depthwise_is_3x3)(const dft_conv *g) {
  return g->in_h == EDGE && g->in_w == EDGE && g->out_h == EDGE && g->out_w == EDGE && g->stride == 1 &&
         g->pad_top == 1 && g->pad_left == 1;
}

/* The pixel that output o sees through a tap, or -1 in the border. */
INLINE int seen(int o, int tap) {
  const int row = o / EDGE + tap / EDGE - 1, column = o % EDGE + tap % EDGE - 1;
  return row < 0 || row >= EDGE || column < 0 || column >= EDGE ? -1 : row * EDGE + column;
}

/* The image through its norm. */
INLINE void load_image(const float *x, const dft_norm *n, int c, int ch, int lanes, vf image[PIXELS]) {
  const norm_vector norm = open_norm(n, ch, lanes);
#pragma GCC unroll 9
  for (int p = 0; p < PIXELS; p++) image[p] = norm_of(&norm, vf_get(x + (ptrdiff_t)p * c, lanes));
}

/* out[o] = the taps in order; `mirrored`: through the taps backwards, as the gradient goes. */
INLINE void convolve(const vf image[PIXELS], const float *w, bool mirrored, int c, int lanes,
                     vf out[PIXELS]) {
#pragma GCC unroll 9
  for (int o = 0; o < PIXELS; o++) out[o] = vf_zero();
#pragma GCC unroll 9
  for (int tap = 0; tap < PIXELS; tap++) {
    const vf weight = vf_get(w + (ptrdiff_t)(mirrored ? PIXELS - 1 - tap : tap) * c, lanes);
#pragma GCC unroll 9
    for (int o = 0; o < PIXELS; o++)
      if (seen(o, tap) >= 0) out[o] = vf_fma(image[seen(o, tap)], weight, out[o]);
  }
}

/* One vector of a sample's channels; x, z and part point at the first of them. */
INLINE void forward_lanes(const dft_train_conv *t, const float *x, int ch, int lanes, float *z,
                          double *part) {
  const int c = t->conv.channels;
  vf image[PIXELS], out[PIXELS], sum = vf_zero(), square = vf_zero();
  load_image(x, t->x_norm, c, ch, lanes, image);
  convolve(image, t->weight + ch, false, c, lanes, out);
#pragma GCC unroll 9
  for (int o = 0; o < PIXELS; o++) {
    vf_put(z + (ptrdiff_t)o * c, out[o], lanes);
    sum = vf_add(sum, out[o]);
    square = vf_fma(out[o], out[o], square);
  }
  vf_put_doubles(part, sum, lanes);
  vf_put_doubles(part + c, square, lanes);
}

void DFT_SIMD(dft_depthwise_3x3_group)(const dft_train_conv *t, int s, int ch, int width, float *z,
                                       double *part) {
  const ptrdiff_t at = (ptrdiff_t)s * PIXELS * t->conv.channels + ch;
  for (int i = 0; i < width; i += VF_LANES)
    WITH_LANES(width - i, forward_lanes(t, t->x + at + i, ch + i, lanes, z + at + i, part + ch + i));
}

INLINE void load_dz(const dft_train_gradient *g, ptrdiff_t at, int c, int ch, int lanes, vf dz[PIXELS]) {
  const gradient_vector gradient = open_gradient(g->norm, ch, lanes);
#pragma GCC unroll 9
  for (int p = 0; p < PIXELS; p++, at += c)
    dz[p] = gradient_of(&gradient, vf_get(g->dy + at, lanes), vf_get(g->z + at, lanes));
}

INLINE void backward_lanes(const dft_train_conv *t, const dft_train_gradient *g, ptrdiff_t at, int ch,
                           int lanes, float *taps, double *below) {
  const int c = t->conv.channels;
  vf dz[PIXELS], other[PIXELS]; /* x, then dx */
  load_dz(g, at, c, ch, lanes, dz);
  if (g->dw != NULL) {
    load_image(t->x + at, t->x_norm, c, ch, lanes, other);
#pragma GCC unroll 9
    for (int tap = 0; tap < PIXELS; tap++) {
      vf sum = vf_zero();
#pragma GCC unroll 9
      for (int o = 0; o < PIXELS; o++)
        if (seen(o, tap) >= 0) sum = vf_fma(other[seen(o, tap)], dz[o], sum);
      vf_put(taps + (ptrdiff_t)tap * c + ch, sum, lanes);
    }
  }
  if (g->dx == NULL) return;
  convolve(dz, t->weight + ch, true, c, lanes, other);
  dx_vector dx = open_dx(g, below != NULL, ch, lanes);
#pragma GCC unroll 9
  for (int p = 0; p < PIXELS; p++) put_dx(&dx, at + (ptrdiff_t)p * c, other[p], lanes);
  close_dx(&dx, c, lanes, below == NULL ? NULL : below + ch);
}

void DFT_SIMD(dft_depthwise_3x3_backward_group)(const dft_train_conv *t, const dft_train_gradient *g, int s,
                                                int ch, int width, float *taps, double *below) {
  const ptrdiff_t at = (ptrdiff_t)s * PIXELS * t->conv.channels + ch;
  for (int i = 0; i < width; i += VF_LANES)
    WITH_LANES(width - i, backward_lanes(t, g, at + i, ch + i, lanes, taps, below));
}
