/* Depthwise 3x3 convolutions, the BatchNorm and ReLU6 of their input taken as it is read. */
#include "device.h"

enum { LEAST_PIXELS = 64, MOST_PIXELS = 1024, CHUNKS = 256 };

/* What a line of inputs adds to the sums of COLUMNS outputs: input `first`, the next by STEP, takes part in
 * the first output, and in the next one STRIDE inputs later; with STEP -1 the outputs go backwards too. */
template <int V, int COLUMNS, int STRIDE, int STEP, typename T>
__device__ __forceinline__ void add_line(const T *line, int first, int width, int c,
                                         const dft_reading &reading, const float *scale, const float *shift,
                                         const float *weights, float sum[COLUMNS][V]) {
  float weight[3][V];
#pragma unroll
  for (int kw = 0; kw < 3; kw++) dft_load_channels<V>(weights + kw * c, weight[kw]);
#pragma unroll
  for (int at = 0; at < (COLUMNS - 1) * STRIDE + 3; at++) {
    const int iw = first + STEP * at;
    if (iw < 0 || iw >= width) continue;
    float value[V];
    dft_load<V>(line + (int64_t)iw * c, value);
    dft_read<V>(reading, scale, shift, value);
#pragma unroll
    for (int n = 0; n < COLUMNS; n++) {
      const int kw = at - n * STRIDE, o = STEP > 0 ? n : COLUMNS - 1 - n;
      if (kw < 0 || kw > 2) continue;
#pragma unroll
      for (int j = 0; j < V; j++) sum[o][j] = fmaf(value[j], weight[kw][j], sum[o][j]);
    }
  }
}

/* COLUMNS outputs beside each other by one thread, which then reads an input, takes its BatchNorm and reads a
 * weight once for them all; each output's taps still in their order. STRIDE is the convolution's, where
 * COLUMNS is more than one. */
template <typename T, int V, int COLUMNS, int STRIDE> struct depthwise_kernel {
  const T *x;
  dft_reading reading;
  const float *w, *bias;
  const T *residual;
  bool relu6;
  T *y;
  dft_conv conv;
  __device__ void operator()(int64_t i) const {
    int64_t strip;
    const int c = conv.channels, channel = dft_divide(i, c / V, &strip) * V;
    const dft_place p = dft_place_of(strip, conv.out_h, conv.out_w / COLUMNS);
    const T *image = x + p.sample * conv.in_h * conv.in_w * c + channel;
    float sum[COLUMNS][V] = {{0}}, scale[V], shift[V];
    if (bias != nullptr)
#pragma unroll
      for (int o = 0; o < COLUMNS; o++) dft_load_channels<V>(bias + channel, sum[o]);
    dft_load_reading<V>(reading, channel, scale, shift);
#pragma unroll
    for (int kh = 0; kh < 3; kh++) {
      const int ih = p.row * conv.stride - conv.pad_top + kh;
      if (ih < 0 || ih >= conv.in_h) continue;
      add_line<V, COLUMNS, STRIDE, 1>(image + (int64_t)ih * conv.in_w * c,
                                      p.column * COLUMNS * conv.stride - conv.pad_left, conv.in_w, c, reading,
                                      scale, shift, w + kh * 3 * c + channel, sum);
    }
#pragma unroll
    for (int o = 0; o < COLUMNS; o++)
      dft_finish<V>(y, (strip * COLUMNS + o) * c + channel, sum[o], residual, relu6);
  }
};

/* How many outputs a thread takes; not so many that the GPU idles. */
enum { STRIP = 4 };

static bool in_strips(int64_t pixels, int width, int channels) {
  const int64_t threads = pixels * channels / (STRIP * dft_width<bf16>);
  return width % STRIP == 0 && threads >= (int64_t)cuda.processors * 256;
}

template <typename T, int V> using depthwise_one = depthwise_kernel<T, V, 1, 1>;
template <typename T, int V> using depthwise_strip_1 = depthwise_kernel<T, V, STRIP, 1>;
template <typename T, int V> using depthwise_strip_2 = depthwise_kernel<T, V, STRIP, 2>;

template <typename T> static void forward(const dft_cuda_depthwise *d) {
  const dft_conv *g = &d->conv;
  const int64_t pixels = (int64_t)d->samples * g->out_h * g->out_w;
  const bool wide = dft_aligned(d->x, d->reading.scale, d->reading.shift, d->w, d->bias, d->residual, d->y);
#define LAUNCH(kernel, count)                                                                                \
  DFT_LAUNCH_CHANNELS("depthwise", kernel, T, wide, count, g->channels, (const T *)d->x, d->reading, d->w,   \
                      d->bias, (const T *)d->residual, d->relu6, (T *)d->y, *g)
  if (g->stride > 2 || !in_strips(pixels, g->out_w, g->channels))
    LAUNCH(depthwise_one, pixels);
  else if (g->stride == 1)
    LAUNCH(depthwise_strip_1, pixels / STRIP);
  else
    LAUNCH(depthwise_strip_2, pixels / STRIP);
#undef LAUNCH
}

void dft_cuda_depthwise_run(const dft_cuda_depthwise *d, bool half) {
  (half ? forward<bf16> : forward<float>)(d);
}

/* The output that reads input i through tap k, or -1. */
__device__ __forceinline__ int output_of(int i, int pad, int k, int stride, int outputs) {
  const int at = i + pad - k;
  return at >= 0 && at % stride == 0 && at / stride < outputs ? at / stride : -1;
}

template <typename T, int V> struct depthwise_dx_kernel {
  const T *dy;
  const float *w;
  const T *skip;
  T *dx;
  dft_conv conv;
  __device__ void operator()(int64_t i) const {
    int64_t pixel;
    const int c = conv.channels, channel = dft_divide(i, c / V, &pixel) * V;
    const dft_place p = dft_place_of(pixel, conv.in_h, conv.in_w);
    const T *image = dy + p.sample * conv.out_h * conv.out_w * c + channel;
    float sum[V] = {0};
#pragma unroll
    for (int kh = 0; kh < 3; kh++) {
      const int oh = output_of(p.row, conv.pad_top, kh, conv.stride, conv.out_h);
      if (oh < 0) continue;
#pragma unroll
      for (int kw = 0; kw < 3; kw++) {
        const int ow = output_of(p.column, conv.pad_left, kw, conv.stride, conv.out_w);
        if (ow < 0) continue;
        float value[V], weight[V];
        dft_load<V>(image + ((int64_t)oh * conv.out_w + ow) * c, value);
        dft_load_channels<V>(w + (kh * 3 + kw) * c + channel, weight);
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] = fmaf(value[j], weight[j], sum[j]);
      }
    }
    dft_finish<V>(dx, pixel * c + channel, sum, skip, false);
  }
};

/* With stride 1, STRIP inputs beside each other: as the forward strips, from right to left, for that is the
 * order of the taps. */
template <typename T, int V> struct depthwise_dx_strip {
  const T *dy;
  const float *w;
  const T *skip;
  T *dx;
  dft_conv conv;
  __device__ void operator()(int64_t i) const {
    int64_t strip;
    const int c = conv.channels, channel = dft_divide(i, c / V, &strip) * V;
    const dft_place p = dft_place_of(strip, conv.in_h, conv.in_w / STRIP);
    const T *image = dy + p.sample * conv.out_h * conv.out_w * c + channel;
    const int right = p.column * STRIP + STRIP - 1 + conv.pad_left;
    const dft_reading as_it_is = {nullptr, nullptr, false};
    const float unread[V] = {0};
    float sum[STRIP][V] = {{0}};
#pragma unroll
    for (int kh = 0; kh < 3; kh++) {
      const int oh = p.row + conv.pad_top - kh;
      if (oh < 0 || oh >= conv.out_h) continue;
      add_line<V, STRIP, 1, -1>(image + (int64_t)oh * conv.out_w * c, right, conv.out_w, c, as_it_is, unread,
                                unread, w + kh * 3 * c + channel, sum);
    }
#pragma unroll
    for (int o = 0; o < STRIP; o++) dft_finish<V>(dx, (strip * STRIP + o) * c + channel, sum[o], skip, false);
  }
};

template <typename T>
static void backward_x(const void *dy, const float *w, const void *skip, void *dx, int samples,
                       const dft_conv *conv) {
  const int64_t pixels = (int64_t)samples * conv->in_h * conv->in_w;
  const bool wide = dft_aligned(dy, w, skip, dx);
#define LAUNCH(kernel, count)                                                                                \
  DFT_LAUNCH_CHANNELS("depthwise_dx", kernel, T, wide, count, conv->channels, (const T *)dy, w,              \
                      (const T *)skip, (T *)dx, *conv)
  if (conv->stride == 1 && in_strips(pixels, conv->in_w, conv->channels))
    LAUNCH(depthwise_dx_strip, pixels / STRIP);
  else
    LAUNCH(depthwise_dx_kernel, pixels);
#undef LAUNCH
}

void dft_cuda_depthwise_dx(const void *dy, const float *w, const void *skip, void *dx, int samples,
                           const dft_conv *conv, bool half) {
  (half ? backward_x<bf16> : backward_x<float>)(dy, w, skip, dx, samples, conv);
}

/* partials[chunk][9][c] over the chunk's output pixels, in strips where a line has room: each tap's sum goes
 * from pixel to pixel all the same. STRIDE: the convolution's, or 0: no strips. */
template <typename T, int V, int STRIDE> struct depthwise_dw_kernel {
  dft_chunks chunks;
  const T *x;
  dft_reading reading;
  const T *dy;
  dft_conv conv;
  float *partials;
  __device__ void operator()(int64_t i) const {
    int64_t index, from, to;
    const int c = conv.channels, channel = dft_divide(i, c / V, &index) * V;
    if (!dft_chunk(chunks, index, &from, &to)) return;
    float sum[9][V] = {{0}}, scale[V], shift[V];
    dft_load_reading<V>(reading, channel, scale, shift);
    dft_place p = dft_place_of(from, conv.out_h, conv.out_w);
    while (from < to) {
      const bool strip = STRIDE > 0 && p.column + STRIP <= conv.out_w && from + STRIP <= to;
      if (strip)
        add_pixels<STRIP>(p, from, channel, scale, shift, sum);
      else
        add_pixels<1>(p, from, channel, scale, shift, sum);
      from += strip ? STRIP : 1;
      p.column += strip ? STRIP : 1;
      if (p.column < conv.out_w) continue;
      p.column = 0;
      if (++p.row < conv.out_h) continue;
      p.row = 0;
      p.sample++;
    }
#pragma unroll
    for (int k = 0; k < 9; k++) dft_store_channels<V>(partials + (index * 9 + k) * c + channel, sum[k]);
  }
  template <int COLUMNS>
  __device__ __forceinline__ void add_pixels(const dft_place &p, int64_t pixel, int channel,
                                             const float *scale, const float *shift, float sum[9][V]) const {
    const int c = conv.channels, left = p.column * conv.stride - conv.pad_left;
    const T *image = x + p.sample * conv.in_h * conv.in_w * c + channel;
    float g[COLUMNS][V];
#pragma unroll
    for (int o = 0; o < COLUMNS; o++) dft_load<V>(dy + (pixel + o) * c + channel, g[o]);
#pragma unroll
    for (int kh = 0; kh < 3; kh++) {
      const int ih = p.row * conv.stride - conv.pad_top + kh;
      if (ih < 0 || ih >= conv.in_h) continue;
#pragma unroll
      for (int at = 0; at < (COLUMNS - 1) * STRIDE + 3; at++) {
        if (left + at < 0 || left + at >= conv.in_w) continue;
        float value[V];
        dft_load<V>(image + ((int64_t)ih * conv.in_w + left + at) * c, value);
        dft_read<V>(reading, scale, shift, value);
#pragma unroll
        for (int o = 0; o < COLUMNS; o++) {
          const int kw = at - o * STRIDE;
          if (kw < 0 || kw > 2) continue;
#pragma unroll
          for (int j = 0; j < V; j++) sum[kh * 3 + kw][j] = fmaf(value[j], g[o][j], sum[kh * 3 + kw][j]);
        }
      }
    }
  }
};

template <typename T, int V> using depthwise_dw_any = depthwise_dw_kernel<T, V, 0>;
template <typename T, int V> using depthwise_dw_1 = depthwise_dw_kernel<T, V, 1>;
template <typename T, int V> using depthwise_dw_2 = depthwise_dw_kernel<T, V, 2>;

template <typename T>
static void backward_w(const void *x, dft_reading reading, const void *dy, const dft_conv *conv,
                       const dft_shard_map *map, float *dw) {
  const dft_chunks chunks =
      dft_cuda_chunks(map, conv->out_h * conv->out_w, LEAST_PIXELS, MOST_PIXELS, CHUNKS);
  const int width = 9 * conv->channels;
  float *partials = dft_cuda_partials(chunks, width);
  if (partials == nullptr) return;
  const bool wide = dft_aligned(x, reading.scale, reading.shift, dy);
#define LAUNCH(kernel)                                                                                       \
  DFT_LAUNCH_CHANNELS("depthwise_dw", kernel, T, wide, dft_chunk_count(chunks), conv->channels, chunks,      \
                      (const T *)x, reading, (const T *)dy, *conv, partials)
  if (conv->stride == 1)
    LAUNCH(depthwise_dw_1);
  else if (conv->stride == 2)
    LAUNCH(depthwise_dw_2);
  else
    LAUNCH(depthwise_dw_any);
#undef LAUNCH
  dft_cuda_fold(chunks, map, partials, width, nullptr, dw);
}

void dft_cuda_depthwise_dw(const void *x, dft_reading reading, const void *dy, const dft_conv *conv,
                           const dft_shard_map *map, float *dw, bool half) {
  (half ? backward_w<bf16> : backward_w<float>)(x, reading, dy, conv, map, dw);
}

/* ---- the table ---- */

template <typename T>
static void depthwise(const float *x, const float *w, float *y, int samples, const dft_conv *conv,
                      const dft_epilogue *epilogue) {
  const dft_epilogue nothing = {nullptr, nullptr, false}, *e = epilogue != nullptr ? epilogue : &nothing;
  const dft_cuda_depthwise d = {x,    dft_reading_of(nullptr), w, e->bias, e->residual, e->relu6, y, samples,
                                *conv};
  forward<T>(&d);
}

template <typename T>
static void depthwise_dx(const float *dy, const float *w, float *dx, int samples, const dft_conv *conv) {
  backward_x<T>(dy, w, nullptr, dx, samples, conv);
}

template <typename T>
static void depthwise_dw(const float *x, const float *dy, const dft_conv *conv, const dft_shard_map *map,
                         float *dw) {
  backward_w<T>(x, dft_reading_of(nullptr), dy, conv, map, dw);
}

void dft_cuda_table_depthwise(bool half) {
  cuda.ops.depthwise = half ? depthwise<bf16> : depthwise<float>;
  cuda.ops.depthwise_dx = half ? depthwise_dx<bf16> : depthwise_dx<float>;
  cuda.ops.depthwise_dw = half ? depthwise_dw<bf16> : depthwise_dw<float>;
}
