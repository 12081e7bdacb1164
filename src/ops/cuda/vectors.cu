/* Elementwise work without channels: conversions, rows, dropout. */
#include "device.h"

#include "dft/rng.h"

template <typename X, typename Y, int V> struct convert_kernel {
  const X *x;
  Y *y;
  bool relu6;
  __device__ void operator()(int64_t i) const {
    float value[V];
    dft_load<V>(x + V * i, value);
#pragma unroll
    for (int j = 0; j < V; j++)
      if (relu6) value[j] = dft_relu6(value[j]);
    dft_store<V>(y + V * i, value);
  }
};

/* Four at a time where that is possible. */
template <typename X, typename Y> static void convert(const void *x, void *y, int64_t count, bool relu6) {
  if (count % 4 == 0 && dft_aligned((const void *)x, (const void *)y))
    dft_launch("convert", count / 4, convert_kernel<X, Y, 4>{(const X *)x, (Y *)y, relu6});
  else
    dft_launch("convert", count, convert_kernel<X, Y, 1>{(const X *)x, (Y *)y, relu6});
}

void dft_cuda_to_half(const float *from, void *to, int64_t count) {
  convert<float, bf16>(from, to, count, false);
}

void dft_cuda_to_float(const void *from, bool half, float *to, int64_t count, bool relu6) {
  (half ? convert<bf16, float> : convert<float, float>)(from, to, count, relu6);
}

void dft_cuda_clamp(void *x, int64_t count, bool half) {
  (half ? convert<bf16, bf16> : convert<float, float>)(x, x, count, true);
}

template <typename T> static void to_activations(const float *x, void *y, int64_t count) {
  convert<float, T>(x, y, count, false);
}

template <typename T> struct add_kernel {
  const T *x;
  T *y;
  __device__ void operator()(int64_t i) const {
    y[i] = dft_from_float<T>(dft_to_float(y[i]) + dft_to_float(x[i]));
  }
};

template <typename T> static void add(const float *x, float *y, int64_t count) {
  dft_launch("add", count, add_kernel<T>{(const T *)(const void *)x, (T *)(void *)y});
}

/* A row's floats by consecutive threads. */
struct gather_kernel {
  const float *store;
  const int64_t *index;
  float *x;
  int floats;
  __device__ void operator()(int64_t i) const {
    int64_t row;
    const int at = dft_divide(i, floats, &row);
    x[i] = store[index[row] * floats + at];
  }
};

static void gather(const float *store, const int64_t *index, float *x, int count, int64_t floats) {
  dft_launch("gather", count * floats, gather_kernel{store, index, x, (int)floats});
}

struct scatter_kernel {
  const float *x;
  const int64_t *index;
  float *store;
  int floats;
  __device__ void operator()(int64_t i) const {
    int64_t row;
    const int at = dft_divide(i, floats, &row);
    store[index[row] * floats + at] = x[i];
  }
};

static void scatter(const float *x, const int64_t *index, float *store, int count, int64_t floats) {
  dft_launch("scatter", count * floats, scatter_kernel{x, index, store, (int)floats});
}

struct copy_nodes_kernel {
  const float *from;
  float *to;
  int64_t stride;
  int count;
  __device__ void operator()(int64_t i) const {
    int64_t node;
    const int at = dft_divide(i, count, &node);
    to[node * stride + at] = from[i];
  }
};

static void copy_nodes(const float *from, float *to, size_t stride, int64_t count, int nodes) {
  dft_launch("copy_nodes", count * nodes, copy_nodes_kernel{from, to, (int64_t)stride, (int)count});
}

/* One number of dft_rng_block(seed, DFT_STREAM_DROPOUT, sub, index): rng.c. */
__device__ __forceinline__ uint32_t philox(uint64_t seed, uint32_t sub, uint64_t index, int number) {
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  uint32_t v[4] = {(uint32_t)index, (uint32_t)(index >> 32), sub, (uint32_t)DFT_STREAM_DROPOUT};
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = (uint64_t)0xD2511F53u * v[0], p1 = (uint64_t)0xCD9E8D57u * v[2];
    v[0] = (uint32_t)(p1 >> 32) ^ v[1] ^ k0;
    v[1] = (uint32_t)p1;
    v[2] = (uint32_t)(p0 >> 32) ^ v[3] ^ k1;
    v[3] = (uint32_t)p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return number == 0 ? v[0] : number == 1 ? v[1] : number == 2 ? v[2] : v[3];
}

struct dropout_kernel {
  const float *in;
  float *out;
  const int64_t *samples;
  uint64_t seed;
  uint32_t epoch;
  float keep, scale;
  int features;
  __device__ void operator()(int64_t i) const {
    int64_t sample;
    const int feature = dft_divide(i, features, &sample);
    const uint64_t index = (uint64_t)samples[sample] * (uint64_t)features + (uint64_t)feature;
    const uint32_t bits = philox(seed, epoch, index / 4, (int)(index % 4));
    out[i] = (float)(bits >> 8) * 0x1p-24f < keep ? in[i] * scale : 0.0f;
  }
};

static void dropout(const float *in, float *out, const int64_t *samples, uint64_t seed, uint32_t epoch,
                    double rate, int count, int features) {
  const float keep = (float)(1.0 - rate);
  dft_launch("dropout", (int64_t)count * features,
             dropout_kernel{in, out, samples, seed, epoch, keep, 1.0f / keep, features});
}

void dft_cuda_table_vectors(bool half) {
  cuda.device.to_activations = half ? to_activations<bf16> : to_activations<float>;
  cuda.device.gather = gather;
  cuda.device.scatter = scatter;
  cuda.ops.add = half ? add<bf16> : add<float>;
  cuda.ops.copy_nodes = copy_nodes;
  cuda.ops.dropout = dropout;
}
