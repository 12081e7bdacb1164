/* The first convolution: 3x3 over 3 channels. */
#include "device.h"

enum { LEAST_PIXELS = 64, MOST_PIXELS = 1024, CHUNKS = 256 };

/* The pixel of its image that an output takes through tap 3*row + column; false: it is outside. */
__device__ __forceinline__ bool tap_input(const dft_conv &conv, const dft_place &output, int tap,
                                          int64_t *input) {
  const int ih = output.row * conv.stride - conv.pad_top + tap / 3;
  const int iw = output.column * conv.stride - conv.pad_left + tap % 3;
  *input = (int64_t)ih * conv.in_w + iw;
  return ih >= 0 && ih < conv.in_h && iw >= 0 && iw < conv.in_w;
}

template <typename X, typename T, int V> struct stem_kernel {
  const X *x;
  const float *w, *bias;
  const T *residual;
  bool relu6;
  T *y;
  dft_conv conv;
  __device__ void operator()(int64_t i) const {
    int64_t pixel;
    const int c = conv.channels, channel = dft_divide(i, c / V, &pixel) * V;
    const dft_place output = dft_place_of(pixel, conv.out_h, conv.out_w);
    const X *image = x + output.sample * conv.in_h * conv.in_w * 3;
    float sum[V] = {0};
    if (bias != nullptr) dft_load_channels<V>(bias + channel, sum);
#pragma unroll
    for (int tap = 0; tap < 9; tap++) {
      int64_t input;
      if (!tap_input(conv, output, tap, &input)) continue;
      const X *p = image + input * 3;
#pragma unroll
      for (int in = 0; in < 3; in++) {
        const float value = dft_to_float(p[in]);
        float weight[V];
        dft_load_channels<V>(w + (tap * 3 + in) * c + channel, weight);
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] = fmaf(value, weight[j], sum[j]);
      }
    }
    dft_finish<V>(y, pixel * c + channel, sum, residual, relu6);
  }
};

template <typename T, int V> using stem_same = stem_kernel<T, T, V>;
template <typename T, int V> using stem_images = stem_kernel<float, T, V>;

template <typename T>
static void forward(const void *x, bool half_in, const float *w, const dft_epilogue *e, void *y, int samples,
                    const dft_conv *conv) {
  const int64_t pixels = (int64_t)samples * conv->out_h * conv->out_w;
  const bool wide = dft_aligned(w, e->bias, e->residual, (const float *)y);
  const T *residual = (const T *)(const void *)e->residual;
  if (half_in)
    DFT_LAUNCH_CHANNELS("stem", stem_same, T, wide, pixels, conv->channels, (const T *)x, w, e->bias,
                        residual, e->relu6, (T *)y, *conv);
  else
    DFT_LAUNCH_CHANNELS("stem", stem_images, T, wide, pixels, conv->channels, (const float *)x, w, e->bias,
                        residual, e->relu6, (T *)y, *conv);
}

void dft_cuda_stem_run(const void *x, bool half_in, const float *w, const dft_epilogue *epilogue, void *y,
                       bool half, int samples, const dft_conv *conv) {
  if (half)
    forward<bf16>(x, half_in, w, epilogue, y, samples, conv);
  else
    forward<float>(x, false, w, epilogue, y, samples, conv);
}

/* partials[chunk][27][c]: a thread has one of the 9 taps, and its 3 inputs */
template <typename T, int V> struct stem_dw_kernel {
  dft_chunks chunks;
  const T *x, *dy;
  dft_conv conv;
  float *partials;
  __device__ void operator()(int64_t i) const {
    int64_t part, index, from, to;
    const int c = conv.channels, channel = dft_divide(i, c / V, &part) * V, tap = dft_divide(part, 9, &index);
    if (!dft_chunk(chunks, index, &from, &to)) return;
    float sum[3][V] = {{0}};
    for (int64_t pixel = from; pixel < to; pixel++) {
      const dft_place output = dft_place_of(pixel, conv.out_h, conv.out_w);
      int64_t input;
      if (!tap_input(conv, output, tap, &input)) continue;
      const T *p = x + (output.sample * conv.in_h * conv.in_w + input) * 3;
      float g[V];
      dft_load<V>(dy + pixel * c + channel, g);
#pragma unroll
      for (int in = 0; in < 3; in++) {
        const float value = dft_to_float(p[in]);
#pragma unroll
        for (int j = 0; j < V; j++) sum[in][j] = fmaf(value, g[j], sum[in][j]);
      }
    }
#pragma unroll
    for (int in = 0; in < 3; in++)
      dft_store_channels<V>(partials + ((index * 9 + tap) * 3 + in) * c + channel, sum[in]);
  }
};

template <typename T>
static void stem_dw(const float *x, const float *dy, const dft_conv *conv, const dft_shard_map *map,
                    float *dw) {
  const dft_chunks chunks =
      dft_cuda_chunks(map, conv->out_h * conv->out_w, LEAST_PIXELS, MOST_PIXELS, CHUNKS);
  const int width = 27 * conv->channels;
  float *partials = dft_cuda_partials(chunks, width);
  if (partials == nullptr) return;
  DFT_LAUNCH_CHANNELS("stem_dw", stem_dw_kernel, T, dft_aligned(dy), 9 * dft_chunk_count(chunks),
                      conv->channels, chunks, (const T *)(const void *)x, (const T *)(const void *)dy, *conv,
                      partials);
  dft_cuda_fold(chunks, map, partials, width, nullptr, dw);
}

template <typename T>
static void stem(const float *x, const float *w, float *y, int samples, const dft_conv *conv,
                 const dft_epilogue *epilogue) {
  const dft_epilogue nothing = {nullptr, nullptr, false};
  forward<T>(x, sizeof(T) == sizeof(bf16), w, epilogue != nullptr ? epilogue : &nothing, y, samples, conv);
}

void dft_cuda_table_stem(bool half) {
  cuda.ops.stem = half ? stem<bf16> : stem<float>;
  cuda.ops.stem_dw = half ? stem_dw<bf16> : stem_dw<float>;
}
