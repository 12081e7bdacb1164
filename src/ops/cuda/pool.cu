/* Pooling over pixels: activations in, float32 features out. */
#include "device.h"

/* The mean or the maximum; `clamp`: of what a ReLU6 makes of x. */
template <typename T, int V> struct pool_kernel {
  const T *x;
  float *y;
  int pixels, c;
  bool max, clamp;
  __device__ void operator()(int64_t i) const {
    int64_t sample;
    const int channel = dft_divide(i, c / V, &sample) * V;
    const T *p = x + sample * pixels * c + channel;
    float result[V] = {0};
    for (int pixel = 0; pixel < pixels; pixel++, p += c) {
      float value[V];
      dft_load<V>(p, value);
#pragma unroll
      for (int j = 0; j < V; j++) {
        if (clamp) value[j] = dft_relu6(value[j]);
        if (!max)
          result[j] += value[j];
        else if (pixel == 0 || !(value[j] <= result[j] || isnan(result[j])))
          result[j] = value[j];
      }
    }
#pragma unroll
    for (int j = 0; j < V; j++)
      if (!max) result[j] /= (float)pixels;
    dft_store_channels<V>(y + sample * c + channel, result);
  }
};

template <typename T>
static void pool(const void *x, float *y, int samples, int pixels, int c, bool max, bool clamp) {
  DFT_LAUNCH_CHANNELS("pool", pool_kernel, T, dft_aligned(x, (const void *)y), samples, c, (const T *)x, y,
                      pixels, c, max, clamp);
}

void dft_cuda_pool(const void *x, bool half, float *y, int samples, int pixels, int c, bool max, bool clamp) {
  (half ? pool<bf16> : pool<float>)(x, y, samples, pixels, c, max, clamp);
}

template <typename T> static void pool_avg(const float *x, float *y, int samples, int pixels, int c) {
  pool<T>(x, y, samples, pixels, c, false, false);
}

template <typename T> static void pool_max(const float *x, float *y, int samples, int pixels, int c) {
  pool<T>(x, y, samples, pixels, c, true, false);
}

template <typename T, int V> struct avg_dx_kernel {
  const float *dy;
  T *dx;
  int pixels, c;
  __device__ void operator()(int64_t i) const {
    int64_t row, sample;
    const int channel = dft_divide(i, c / V, &row) * V;
    dft_divide(row, pixels, &sample);
    float value[V];
    dft_load_channels<V>(dy + sample * c + channel, value);
#pragma unroll
    for (int j = 0; j < V; j++) value[j] /= (float)pixels;
    dft_store<V>(dx + row * c + channel, value);
  }
};

template <typename T> static void pool_avg_dx(const float *dy, float *dx, int samples, int pixels, int c) {
  DFT_LAUNCH_CHANNELS("pool_avg_dx", avg_dx_kernel, T, dft_aligned(dy, dx), (int64_t)samples * pixels, c, dy,
                      (T *)(void *)dx, pixels, c);
}

template <typename T, int V> struct max_dx_kernel {
  const T *x;
  const float *y, *dy;
  T *dx;
  int pixels, c;
  __device__ void operator()(int64_t i) const {
    int64_t sample;
    const int channel = dft_divide(i, c / V, &sample) * V;
    const int64_t at = sample * pixels * c + channel;
    float most[V], gradient[V];
    int equal[V] = {0};
    dft_load_channels<V>(y + sample * c + channel, most);
    dft_load_channels<V>(dy + sample * c + channel, gradient);
    for (int pixel = 0; pixel < pixels; pixel++) {
      float value[V];
      dft_load<V>(x + at + (int64_t)pixel * c, value);
#pragma unroll
      for (int j = 0; j < V; j++) equal[j] += value[j] == most[j];
    }
    for (int pixel = 0; pixel < pixels; pixel++) {
      float value[V];
      dft_load<V>(x + at + (int64_t)pixel * c, value);
#pragma unroll
      for (int j = 0; j < V; j++) value[j] = value[j] == most[j] ? gradient[j] / (float)equal[j] : 0;
      dft_store<V>(dx + at + (int64_t)pixel * c, value);
    }
  }
};

template <typename T>
static void pool_max_dx(const float *x, const float *y, const float *dy, float *dx, int samples, int pixels,
                        int c) {
  DFT_LAUNCH_CHANNELS("pool_max_dx", max_dx_kernel, T, dft_aligned(x, y, dy, dx), samples, c,
                      (const T *)(const void *)x, y, dy, (T *)(void *)dx, pixels, c);
}

void dft_cuda_table_pool(bool half) {
  dft_ops *o = &cuda.ops;
  o->pool_avg = half ? pool_avg<bf16> : pool_avg<float>;
  o->pool_avg_dx = half ? pool_avg_dx<bf16> : pool_avg_dx<float>;
  o->pool_max = half ? pool_max<bf16> : pool_max<float>;
  o->pool_max_dx = half ? pool_max_dx<bf16> : pool_max_dx<float>;
}
