/* Depthwise layers on images of 6x6 and 7x7 pixels (blocks 7 to 12 at 96x96, the last ones at 192x192 and
 * 224x224) in training: a vector of channels of a whole bordered image is a few KB, so that taps and sums
 * stay in registers from its first pixel to its last. Every sum takes its terms in the order of the general
 * kernels. */
#include "train_depthwise.h"

enum { EDGES_MOST = 7, PIXELS_MOST = (EDGES_MOST + 2) * (EDGES_MOST + 2) };

bool DFT_SIMD(dft_depthwise_is_small)(const dft_conv *g) {
  return (g->in_w == 6 || g->in_w == 7) && g->in_h == g->in_w && g->out_h == g->in_h && g->out_w == g->in_w &&
         g->stride == 1 && g->pad_top == 1 && g->pad_left == 1;
}

/* A vector of an image's channels with a border of zeros. */
typedef struct image {
  _Alignas(64) float values[PIXELS_MOST][VF_LANES];
} image;

INLINE float *pixel_at(image *im, int edge, int row, int column) {
  return im->values[(row + 1) * (edge + 2) + column + 1];
}

INLINE void empty_border(image *im, int edge) {
  for (int i = -1; i <= edge; i++) {
    vf_store(pixel_at(im, edge, -1, i), vf_zero());
    vf_store(pixel_at(im, edge, edge, i), vf_zero());
    vf_store(pixel_at(im, edge, i, -1), vf_zero());
    vf_store(pixel_at(im, edge, i, edge), vf_zero());
  }
}

/* The image through its norm; the next vector of channels is fetched. */
INLINE void fill(const float *x, const dft_norm *n, int c, int ch, int edge, int lanes, image *im) {
  const norm_vector norm = open_norm(n, ch, lanes);
  for (int row = 0; row < edge; row++)
    for (int i = 0; i < edge; i++, x += c) {
      __builtin_prefetch(x + VF_LANES, 0, 2);
      vf_store(pixel_at(im, edge, row, i), norm_of(&norm, vf_get(x, lanes)));
    }
}

/* A row of outputs, the nine taps of each in order. */
INLINE void convolve_row(image *im, const vf w[9], int edge, int row, vf out[EDGES_MOST]) {
#pragma GCC unroll 7
  for (int o = 0; o < edge; o++) out[o] = vf_zero();
#pragma GCC unroll 3
  for (int r = 0; r < 3; r++)
#pragma GCC unroll 9
    for (int j = 0; j < edge + 2; j++) {
      const vf value = vf_load(pixel_at(im, edge, row + r - 1, j - 1));
#pragma GCC unroll 7
      for (int o = 0; o < edge; o++)
        if (j - o >= 0 && j - o < 3) out[o] = vf_fma(value, w[3 * r + j - o], out[o]);
    }
}

INLINE void forward_lanes(const dft_train_conv *t, const float *x, int ch, int edge, int lanes, float *z,
                          double *part) {
  const int c = t->conv.channels;
  image im;
  vf w[9], out[EDGES_MOST], sum = vf_zero(), square = vf_zero();
  empty_border(&im, edge);
  fill(x, t->x_norm, c, ch, edge, lanes, &im);
  for (int k = 0; k < 9; k++) w[k] = vf_get(t->weight + (ptrdiff_t)k * c + ch, lanes);
  for (int row = 0; row < edge; row++) {
    convolve_row(&im, w, edge, row, out);
#pragma GCC unroll 7
    for (int o = 0; o < edge; o++, z += c) {
      __builtin_prefetch(z + VF_LANES, 1);
      vf_put(z, out[o], lanes);
      sum = vf_add(sum, out[o]);
      square = vf_fma(out[o], out[o], square);
    }
  }
  vf_put_doubles(part, sum, lanes);
  vf_put_doubles(part + c, square, lanes);
}

/* `call` with `edge` constant. */
#define WITH_EDGE(columns, call)                                                                             \
  do {                                                                                                       \
    if ((columns) == 6) {                                                                                    \
      enum { edge = 6 };                                                                                     \
      call;                                                                                                  \
    } else {                                                                                                 \
      enum { edge = 7 };                                                                                     \
      call;                                                                                                  \
    }                                                                                                        \
  } while (0)

void DFT_SIMD(dft_depthwise_small_group)(const dft_train_conv *t, int s, int ch, int width, float *z,
                                         double *part) {
  const dft_conv *g = &t->conv;
  const ptrdiff_t at = (ptrdiff_t)s * g->in_h * g->in_w * g->channels + ch;
  for (int i = 0; i < width; i += VF_LANES)
    WITH_LANES(width - i, WITH_EDGE(g->in_w, forward_lanes(t, t->x + at + i, ch + i, edge, lanes, z + at + i,
                                                           part + ch + i)));
}

INLINE void fill_dz(const dft_train_gradient *g, ptrdiff_t at, int c, int ch, int edge, int lanes,
                    image *im) {
  const gradient_vector gradient = open_gradient(g->norm, ch, lanes);
  for (int row = 0; row < edge; row++)
    for (int i = 0; i < edge; i++, at += c) {
      __builtin_prefetch(g->z + at + VF_LANES, 0, 2);
      __builtin_prefetch(g->dy + at + VF_LANES, 0, 2);
      vf_store(pixel_at(im, edge, row, i),
               gradient_of(&gradient, vf_get(g->dy + at, lanes), vf_get(g->z + at, lanes)));
    }
}

/* taps[9] of a vector: an output after the other. */
INLINE void weight_sums(image *x, image *dz, int c, int edge, int lanes, float *taps) {
  vf sum[9];
#pragma GCC unroll 9
  for (int k = 0; k < 9; k++) sum[k] = vf_zero();
  for (int row = 0; row < edge; row++) {
    vf d[EDGES_MOST];
#pragma GCC unroll 7
    for (int o = 0; o < edge; o++) d[o] = vf_load(pixel_at(dz, edge, row, o));
#pragma GCC unroll 3
    for (int r = 0; r < 3; r++)
#pragma GCC unroll 9
      for (int j = 0; j < edge + 2; j++) {
        const vf value = vf_load(pixel_at(x, edge, row + r - 1, j - 1));
#pragma GCC unroll 7
        for (int o = 0; o < edge; o++)
          if (j - o >= 0 && j - o < 3) sum[3 * r + j - o] = vf_fma(value, d[o], sum[3 * r + j - o]);
      }
  }
#pragma GCC unroll 9
  for (int k = 0; k < 9; k++) vf_put(taps + (ptrdiff_t)k * c, sum[k], lanes);
}

/* dx through the mirrored taps. */
INLINE void fill_dx(const dft_train_conv *t, const dft_train_gradient *g, image *dz, ptrdiff_t at, int ch,
                    int edge, int lanes, double *below) {
  const int c = t->conv.channels;
  vf w[9], out[EDGES_MOST];
  for (int k = 0; k < 9; k++) w[k] = vf_get(t->weight + (ptrdiff_t)(8 - k) * c + ch, lanes);
  dx_vector dx = open_dx(g, below != NULL, ch, lanes);
  for (int row = 0; row < edge; row++) {
    convolve_row(dz, w, edge, row, out);
#pragma GCC unroll 7
    for (int o = 0; o < edge; o++, at += c) {
      __builtin_prefetch(g->dx + at + VF_LANES, 1);
      put_dx(&dx, at, out[o], lanes);
    }
  }
  close_dx(&dx, c, lanes, below == NULL ? NULL : below + ch);
}

INLINE void backward_lanes(const dft_train_conv *t, const dft_train_gradient *g, ptrdiff_t at, int ch,
                           int edge, int lanes, float *taps, double *below) {
  const int c = t->conv.channels;
  image dz, x;
  empty_border(&dz, edge);
  fill_dz(g, at, c, ch, edge, lanes, &dz);
  if (g->dw != NULL) {
    empty_border(&x, edge);
    fill(t->x + at, t->x_norm, c, ch, edge, lanes, &x);
    weight_sums(&x, &dz, c, edge, lanes, taps + ch);
  }
  if (g->dx != NULL) fill_dx(t, g, &dz, at, ch, edge, lanes, below);
}

void DFT_SIMD(dft_depthwise_small_backward_group)(const dft_train_conv *t, const dft_train_gradient *g, int s,
                                                  int ch, int width, float *taps, double *below) {
  const dft_conv *conv = &t->conv;
  const ptrdiff_t at = (ptrdiff_t)s * conv->in_h * conv->in_w * conv->channels + ch;
  for (int i = 0; i < width; i += VF_LANES)
    WITH_LANES(width - i,
               WITH_EDGE(conv->in_w, backward_lanes(t, g, at + i, ch + i, edge, lanes, taps, below)));
}
