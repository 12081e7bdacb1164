/* Depthwise 3x3 convolutions, the BatchNorm and ReLU6 of their input taken as it is read. */
#include "device.h"

enum { LEAST_PIXELS = 64, MOST_PIXELS = 1024, CHUNKS = 256 };

/* Calls take(tap, input pixel) for the taps of an output that are in the image, in order. */
template <typename F>
__device__ __forceinline__ void each_tap(const dft_conv &conv, const dft_place &output, const F &take) {
#pragma unroll
  for (int kh = 0; kh < 3; kh++) {
    const int ih = output.row * conv.stride - conv.pad_top + kh;
    if (ih < 0 || ih >= conv.in_h) continue;
#pragma unroll
    for (int kw = 0; kw < 3; kw++) {
      const int iw = output.column * conv.stride - conv.pad_left + kw;
      if (iw < 0 || iw >= conv.in_w) continue;
      take(kh * 3 + kw, (int64_t)ih * conv.in_w + iw);
    }
  }
}

template <typename T, int V> struct depthwise_kernel {
  const T *x;
  dft_reading reading;
  const float *w, *bias;
  const T *residual;
  bool relu6;
  T *y;
  dft_conv conv;
  __device__ void operator()(int64_t i) const {
    int64_t pixel;
    const int c = conv.channels, channel = dft_divide(i, c / V, &pixel) * V;
    const dft_place p = dft_place_of(pixel, conv.out_h, conv.out_w);
    const T *image = x + p.sample * conv.in_h * conv.in_w * c + channel;
    float sum[V] = {0}, scale[V], shift[V];
    if (bias != nullptr) dft_load_channels<V>(bias + channel, sum);
    dft_load_reading<V>(reading, channel, scale, shift);
    each_tap(conv, p, [&](int tap, int64_t input) {
      float value[V], weight[V];
      dft_load<V>(image + input * c, value);
      dft_load_channels<V>(w + tap * c + channel, weight);
      dft_read<V>(reading, scale, shift, value);
#pragma unroll
      for (int j = 0; j < V; j++) sum[j] = fmaf(value[j], weight[j], sum[j]);
    });
    dft_finish<V>(y, pixel * c + channel, sum, residual, relu6);
  }
};

template <typename T> static void forward(const dft_cuda_depthwise *d) {
  const int64_t pixels = (int64_t)d->samples * d->conv.out_h * d->conv.out_w;
  const bool wide = dft_aligned(d->x, d->reading.scale, d->reading.shift, d->w, d->bias, d->residual, d->y);
  DFT_LAUNCH_CHANNELS("depthwise", depthwise_kernel, T, wide, pixels, d->conv.channels, (const T *)d->x,
                      d->reading, d->w, d->bias, (const T *)d->residual, d->relu6, (T *)d->y, d->conv);
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

template <typename T>
static void backward_x(const void *dy, const float *w, const void *skip, void *dx, int samples,
                       const dft_conv *conv) {
  const int64_t pixels = (int64_t)samples * conv->in_h * conv->in_w;
  DFT_LAUNCH_CHANNELS("depthwise_dx", depthwise_dx_kernel, T, dft_aligned(dy, w, skip, dx), pixels,
                      conv->channels, (const T *)dy, w, (const T *)skip, (T *)dx, *conv);
}

void dft_cuda_depthwise_dx(const void *dy, const float *w, const void *skip, void *dx, int samples,
                           const dft_conv *conv, bool half) {
  (half ? backward_x<bf16> : backward_x<float>)(dy, w, skip, dx, samples, conv);
}

/* partials[chunk][9][c] over the chunk's output pixels */
template <typename T, int V> struct depthwise_dw_kernel {
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
    for (int64_t pixel = from; pixel < to; pixel++) {
      add_pixel(p, pixel, channel, scale, shift, sum);
      if (++p.column < conv.out_w) continue;
      p.column = 0;
      if (++p.row < conv.out_h) continue;
      p.row = 0;
      p.sample++;
    }
#pragma unroll
    for (int k = 0; k < 9; k++) dft_store_channels<V>(partials + (index * 9 + k) * c + channel, sum[k]);
  }
  __device__ __forceinline__ void add_pixel(const dft_place &p, int64_t pixel, int channel,
                                            const float *scale, const float *shift, float sum[9][V]) const {
    const int c = conv.channels;
    const T *image = x + p.sample * conv.in_h * conv.in_w * c + channel;
    float g[V];
    dft_load<V>(dy + pixel * c + channel, g);
    each_tap(conv, p, [&](int tap, int64_t input) {
      float value[V];
      dft_load<V>(image + input * c, value);
      dft_read<V>(reading, scale, shift, value);
#pragma unroll
      for (int j = 0; j < V; j++) sum[tap][j] = fmaf(value[j], g[j], sum[tap][j]);
    });
  }
};

template <typename T>
static void backward_w(const void *x, dft_reading reading, const void *dy, const dft_conv *conv,
                       const dft_shard_map *map, float *dw) {
  const dft_chunks chunks =
      dft_cuda_chunks(map, conv->out_h * conv->out_w, LEAST_PIXELS, MOST_PIXELS, CHUNKS);
  const int width = 9 * conv->channels;
  float *partials = dft_cuda_partials(chunks, width);
  if (partials == nullptr) return;
  DFT_LAUNCH_CHANNELS("depthwise_dw", depthwise_dw_kernel, T,
                      dft_aligned(x, reading.scale, reading.shift, dy), dft_chunk_count(chunks),
                      conv->channels, chunks, (const T *)x, reading, (const T *)dy, *conv, partials);
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
