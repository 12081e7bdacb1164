/* Bilinear resize as tf.image.resize(method="bilinear", antialias=False) does it, which is what Keras' resize
 * calls: half-pixel centres, in float32, first along a row, then between two rows
 * (tensorflow/core/kernels/image/resize_bilinear_op.cc: compute_interpolation_weights, compute_lerp;
 * image_resizer_state.h: HalfPixelScaler). For output i of n over an input of m: x = (i + 0.5)(m / n) - 0.5,
 * first = max(floor(x), 0), second = min(ceil(x), m - 1), lerp = x - floor(x).
 * crop and pad (with zeros) follow crop_to_aspect_ratio and pad_to_aspect_ratio of keras.ops.image.resize. */
#include "source.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Elements are worked on in strips of a row, in vectors of four; a strip holds whole RGB pixels. */
enum { STRIP = 384, LANES = 4 };
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef union strip {
  float f[STRIP + LANES]; /* whole vectors may be written to the last element */
  vec v[STRIP / LANES + 1];
} strip;

/* ---- tables ---- */

/* The source axis [0, size) seen through a window of `extent` that starts at `start` (negative: border). */
typedef struct window {
  int start, extent;
} window;

static window axis_window(dft_resize mode, int size, int other, int out, int other_out) {
  if (mode == DFT_RESIZE_STRETCH) return (window){0, size};
  /* Keras rounds the int32 product to float32 before it divides. */
  int fitting = (int)((float)((int64_t)other * out) / (float)other_out);
  if (mode == DFT_RESIZE_CROP) {
    int extent = fitting < size ? fitting : size;
    if (extent < 1) extent = 1;
    return (window){(int)((float)(size - extent) / 2), extent};
  }
  int border = fitting > size ? (int)((float)(fitting - size) / 2) : 0;
  return (window){-border, size + 2 * border};
}

/* Taps over out positions, `channels` elements each. */
static dft_tap *make_taps(int size, window w, int out, int channels) {
  dft_tap *taps = calloc((size_t)out * (size_t)channels, sizeof *taps);
  if (taps == NULL) return NULL;
  float scale = (float)w.extent / (float)out;
  for (int i = 0; i < out; i++) {
    float x = ((float)i + 0.5f) * scale - 0.5f, below = floorf(x);
    int first = below > 0 ? (int)below : 0, second = (int)ceilf(x);
    if (second > w.extent - 1) second = w.extent - 1;
    if (first > second) first = second;
    first += w.start;
    second += w.start;
    uint32_t outside = (first < 0 || first >= size ? 1u : 0u) | (second < 0 || second >= size ? 2u : 0u);
    if (outside & 1) first = 0;
    if (outside & 2) second = 0;
    for (int c = 0; c < channels; c++)
      taps[i * channels + c] = (dft_tap){first * channels + c, second * channels + c, x - below, outside};
  }
  return taps;
}

dft_status dft_loader_init(dft_loader *l, dft_resize mode) {
  l->rows = l->line = NULL;
  if (l->height == l->out_height && l->width == l->out_width) return DFT_OK;
  window v = axis_window(mode, l->height, l->width, l->out_height, l->out_width);
  window h = axis_window(mode, l->width, l->height, l->out_width, l->out_height);
  l->rows = make_taps(l->height, v, l->out_height, 1);
  l->line = make_taps(l->width, h, l->out_width, l->channels);
  if (l->rows != NULL && l->line != NULL) return DFT_OK;
  dft_loader_free(l);
  return dft_fail_memory("resize tables", (unsigned long long)l->out_width * sizeof *l->line);
}

void dft_loader_free(dft_loader *l) {
  free(l->rows);
  free(l->line);
  l->rows = l->line = NULL;
}

/* ---- values ---- */

/* Divisions, not products with a reciprocal: these are Keras' bits. */
static vec preprocess(dft_preprocessing preprocessing, vec x) {
  if (preprocessing == DFT_PREPROCESS_MOBILENET_V2) return x / 127.5f - 1.0f;
  if (preprocessing == DFT_PREPROCESS_UNIT) return x / 255.0f;
  return x;
}

void dft_preprocess(dft_preprocessing preprocessing, float *values, size_t count) {
  if (preprocessing == DFT_PREPROCESS_NONE) return;
  size_t i = 0;
  for (; count - i >= LANES; i += LANES) { /* whole vectors: copies of a fixed size are no calls */
    vec x;
    memcpy(&x, values + i, sizeof x);
    x = preprocess(preprocessing, x);
    memcpy(values + i, &x, sizeof x);
  }
  vec rest = {0};
  memcpy(&rest, values + i, (count - i) * sizeof(float));
  rest = preprocess(preprocessing, rest);
  memcpy(values + i, &rest, (count - i) * sizeof(float));
}

static float load_f32(const uint8_t *row, int32_t i) {
  float value;
  memcpy(&value, row + 4 * (size_t)i, sizeof value);
  return value;
}

static void convert(dft_type type, const uint8_t *from, size_t n, strip *to) {
  if (type == DFT_TYPE_F32)
    memcpy(to->f, from, n * sizeof(float));
  else
    for (size_t i = 0; i < n; i++) to->f[i] = from[i];
}

/* The three values at p, and a fourth. */
static vec load_rgb(const uint8_t *p) {
  typedef uint8_t octets __attribute__((vector_size(16)));
  typedef uint16_t shorts __attribute__((vector_size(16)));
  typedef int32_t ints __attribute__((vector_size(16)));
  uint16_t rg;
  memcpy(&rg, p, sizeof rg);
  ints word = {(int32_t)(rg | (uint32_t)p[2] << 16)};
  octets b = (octets)word;
  shorts w =
      (shorts)__builtin_shufflevector(b, (octets){0}, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  ints i = (ints)__builtin_shufflevector(w, (shorts){0}, 0, 8, 1, 9, 2, 10, 3, 11);
  return __builtin_convertvector(i, vec);
}

/* across() for pixels of 3 bytes, whose channels have the same tap: the same operations. */
static void across_rgb(const uint8_t *row, const dft_tap *taps, int n, strip *to) {
  for (int i = 0; i < n; i += 3) {
    vec first = load_rgb(row + taps[i].first), second = load_rgb(row + taps[i].second);
    if (taps[i].outside & 1) first = (vec){0};
    if (taps[i].outside & 2) second = (vec){0};
    vec value = first + (second - first) * ((vec){0} + taps[i].lerp);
    memcpy(to->f + i, &value, sizeof value);
  }
}

/* A strip of a source row, interpolated along the row. */
static void across(dft_type type, const uint8_t *row, const dft_tap *taps, int n, strip *to) {
  if (type == DFT_TYPE_F32)
    for (int i = 0; i < n; i++) {
      float first = load_f32(row, taps[i].first), second = load_f32(row, taps[i].second);
      if (taps[i].outside & 1) first = 0;
      if (taps[i].outside & 2) second = 0;
      to->f[i] = first + (second - first) * taps[i].lerp;
    }
  else
    for (int i = 0; i < n; i++) {
      float first = row[taps[i].first], second = row[taps[i].second];
      if (taps[i].outside & 1) first = 0;
      if (taps[i].outside & 2) second = 0;
      to->f[i] = first + (second - first) * taps[i].lerp;
    }
}

/* Grey to RGB: each value three times. */
static void triple(const strip *from, int n, float *out) {
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    vec x = from->v[i / LANES];
    vec a = __builtin_shufflevector(x, x, 0, 0, 0, 1), b = __builtin_shufflevector(x, x, 1, 1, 2, 2),
        c = __builtin_shufflevector(x, x, 2, 3, 3, 3);
    memcpy(out + 3 * i, &a, sizeof a);
    memcpy(out + 3 * i + 4, &b, sizeof b);
    memcpy(out + 3 * i + 8, &c, sizeof c);
  }
  for (; i < n; i++) out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = from->f[i];
}

/* Preprocesses n elements and writes them as RGB. */
static void emit(const dft_loader *l, strip *values, int n, float *out) {
  for (int i = 0; i < (n + LANES - 1) / LANES; i++) values->v[i] = preprocess(l->preprocessing, values->v[i]);
  if (l->channels == 1)
    triple(values, n, out);
  else
    memcpy(out, values->f, (size_t)n * sizeof(float));
}

static const uint8_t *source_row(const dft_loader *l, const void *pixels, int y) {
  return (const uint8_t *)pixels +
         (size_t)y * (size_t)l->width * (size_t)l->channels * dft_type_bytes(l->type);
}

/* ---- images ---- */

static void copy_image(const dft_loader *l, const void *pixels, float *out) {
  size_t total = (size_t)l->height * (size_t)l->width * (size_t)l->channels;
  size_t element = dft_type_bytes(l->type);
  strip values = {0};
  for (size_t i = 0; i < total; i += STRIP) {
    size_t n = total - i < STRIP ? total - i : STRIP;
    convert(l->type, (const uint8_t *)pixels + i * element, n, &values);
    emit(l, &values, (int)n, out + (l->channels == 1 ? 3 * i : i));
  }
}

/* The two source rows that an output row lies between; most output rows reuse at least one. */
typedef struct row_pair {
  strip rows[2];
  int have[2]; /* which source row each holds; -1: none, -2: the zero border */
} row_pair;

static const strip *find_row(const dft_loader *l, const void *pixels, int y, int at, int n, int other,
                             row_pair *pair) {
  for (int k = 0; k < 2; k++)
    if (pair->have[k] == y) return &pair->rows[k];
  int k = pair->have[0] == other ? 1 : 0; /* not the one that the caller needs beside it */
  pair->have[k] = y;
  if (y == -2)
    memset(&pair->rows[k], 0, sizeof pair->rows[k]);
  else if (l->type == DFT_TYPE_U8 && l->channels == 3)
    across_rgb(source_row(l, pixels, y), l->line + at, n, &pair->rows[k]);
  else
    across(l->type, source_row(l, pixels, y), l->line + at, n, &pair->rows[k]);
  return &pair->rows[k];
}

static void resize_strip(const dft_loader *l, const void *pixels, int at, int n, float *out) {
  row_pair pair;
  strip values;
  memset(&pair, 0, sizeof pair);
  pair.have[0] = pair.have[1] = -1;
  int out_row = 3 * l->out_width, out_at = l->channels == 1 ? 3 * at : at;
  for (int y = 0; y < l->out_height; y++) {
    const dft_tap *t = &l->rows[y];
    int first = t->outside & 1 ? -2 : t->first, second = t->outside & 2 ? -2 : t->second;
    const strip *a = find_row(l, pixels, first, at, n, second, &pair);
    const strip *b = find_row(l, pixels, second, at, n, first, &pair);
    vec lerp = (vec){0} + t->lerp;
    for (int i = 0; i < (n + LANES - 1) / LANES; i++) values.v[i] = a->v[i] + (b->v[i] - a->v[i]) * lerp;
    emit(l, &values, n, out + (size_t)y * (size_t)out_row + out_at);
  }
}

void dft_loader_image(const dft_loader *l, const void *pixels, float *out) {
  if (l->rows == NULL) {
    copy_image(l, pixels, out);
    return;
  }
  int line = l->out_width * l->channels;
  for (int at = 0; at < line; at += STRIP)
    resize_strip(l, pixels, at, line - at < STRIP ? line - at : STRIP, out);
}
