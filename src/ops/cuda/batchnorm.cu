/* BatchNorm: its sums (and those of rows), its map, its gradient, its vectors of channels. */
#include "device.h"

enum { LEAST_ROWS = 32, MOST_ROWS = 1024, CHUNKS = 256 };

/* partials[chunk][2][c] = sum x, sum x^2; without squares [chunk][c] */
template <typename T, int V, bool with_squares> struct sums_kernel {
  dft_chunks chunks;
  const T *x;
  int c;
  float *partials;
  __device__ void operator()(int64_t i) const {
    int64_t index, from, to;
    const int channel = dft_divide(i, c / V, &index) * V;
    if (!dft_chunk(chunks, index, &from, &to)) return;
    float sum[V] = {0}, squares[V] = {0};
    const T *p = x + from * c + channel;
    for (int64_t row = from; row < to; row++, p += c) {
      float value[V];
      dft_load<V>(p, value);
#pragma unroll
      for (int j = 0; j < V; j++) {
        sum[j] += value[j];
        if (with_squares) squares[j] = fmaf(value[j], value[j], squares[j]);
      }
    }
    float *out = partials + index * (with_squares ? 2 : 1) * c + channel;
    dft_store_channels<V>(out, sum);
    if (with_squares) dft_store_channels<V>(out + c, squares);
  }
};

template <typename T, int V> using bn_sums_kernel = sums_kernel<T, V, true>;
template <typename T, int V> using row_sums_kernel = sums_kernel<T, V, false>;

static void row_sums(const float *x, int pixels, int c, const dft_shard_map *map, float *sums) {
  const dft_chunks chunks = dft_cuda_chunks(map, pixels, LEAST_ROWS, MOST_ROWS, CHUNKS);
  float *partials = dft_cuda_partials(chunks, c);
  if (partials == nullptr) return;
  DFT_LAUNCH_CHANNELS("row_sums", row_sums_kernel, float, dft_aligned(x), dft_chunk_count(chunks), c, chunks,
                      x, c, partials);
  dft_cuda_fold(chunks, map, partials, c, nullptr, sums);
}

template <typename T>
static void bn_sums(const float *z, int pixels, int c, const dft_shard_map *map, double *sums) {
  const dft_chunks chunks = dft_cuda_chunks(map, pixels, LEAST_ROWS, MOST_ROWS, CHUNKS);
  float *partials = dft_cuda_partials(chunks, 2 * c);
  if (partials == nullptr) return;
  DFT_LAUNCH_CHANNELS("bn_sums", bn_sums_kernel, T, dft_aligned(z), dft_chunk_count(chunks), c, chunks,
                      (const T *)z, c, partials);
  dft_cuda_fold(chunks, map, partials, 2 * c, sums, nullptr);
}

/* What a norm lets through of dy. */
template <int V>
__device__ __forceinline__ void gate(const float *z, const float *scale, const float *shift, float *dy) {
#pragma unroll
  for (int j = 0; j < V; j++) {
    const float y = z[j] * scale[j] + shift[j];
    if (!(y > 0 && y < 6)) dy[j] = 0;
  }
}

/* partials[chunk][2][c] = sum g, sum g*(z - mean) */
template <typename T, int V> struct backward_sums_kernel {
  dft_chunks chunks;
  const T *dy, *z;
  const float *scale, *shift, *mean;
  bool relu6;
  int c;
  float *partials;
  __device__ void operator()(int64_t i) const {
    int64_t index, from, to;
    const int channel = dft_divide(i, c / V, &index) * V;
    if (!dft_chunk(chunks, index, &from, &to)) return;
    float a[V], b[V], m[V], sum[V] = {0}, products[V] = {0};
    dft_load_channels<V>(scale + channel, a);
    dft_load_channels<V>(shift + channel, b);
    dft_load_channels<V>(mean + channel, m);
    int64_t at = from * c + channel;
    for (int64_t row = from; row < to; row++, at += c) {
      float g[V], x[V];
      dft_load<V>(dy + at, g);
      dft_load<V>(z + at, x);
      if (relu6) gate<V>(x, a, b, g);
#pragma unroll
      for (int j = 0; j < V; j++) sum[j] += g[j], products[j] = fmaf(g[j], x[j] - m[j], products[j]);
    }
    float *out = partials + index * 2 * c + channel;
    dft_store_channels<V>(out, sum);
    dft_store_channels<V>(out + c, products);
  }
};

template <typename T>
static void bn_backward_sums(const float *dy, const float *z, const dft_norm *norm, int pixels, int c,
                             const dft_shard_map *map, double *sums) {
  const dft_chunks chunks = dft_cuda_chunks(map, pixels, LEAST_ROWS, MOST_ROWS, CHUNKS);
  float *partials = dft_cuda_partials(chunks, 2 * c);
  if (partials == nullptr) return;
  const bool wide = dft_aligned(dy, z, norm->scale, norm->shift, norm->mean);
  DFT_LAUNCH_CHANNELS("bn_backward_sums", backward_sums_kernel, T, wide, dft_chunk_count(chunks), c, chunks,
                      (const T *)dy, (const T *)z, norm->scale, norm->shift, norm->mean, norm->relu6, c,
                      partials);
  dft_cuda_fold(chunks, map, partials, 2 * c, sums, nullptr);
}

template <typename T, int V> struct scale_shift_kernel {
  const T *z;
  const float *scale, *shift;
  const T *residual;
  bool relu6;
  T *y;
  int c;
  __device__ void operator()(int64_t i) const {
    int64_t row;
    const int channel = dft_divide(i, c / V, &row) * V;
    const int64_t at = row * c + channel;
    float x[V], a[V], b[V], added[V] = {0};
    dft_load<V>(z + at, x);
    dft_load_channels<V>(scale + channel, a);
    dft_load_channels<V>(shift + channel, b);
    if (residual != nullptr) dft_load<V>(residual + at, added);
#pragma unroll
    for (int j = 0; j < V; j++) {
      const float v = x[j] * a[j] + b[j], clamped = relu6 ? dft_relu6(v) : v;
      x[j] = residual != nullptr ? clamped + added[j] : clamped;
    }
    dft_store<V>(y + at, x);
  }
};

template <typename T>
static void scale_shift(const float *z, const float *scale, const float *shift, const float *residual,
                        bool relu6, float *y, int64_t rows, int c) {
  DFT_LAUNCH_CHANNELS("scale_shift", scale_shift_kernel, T, dft_aligned(z, scale, shift, residual, y), rows,
                      c, (const T *)z, scale, shift, (const T *)residual, relu6, (T *)y, c);
}

template <typename T, int V> struct backward_kernel {
  const T *dy, *z;
  const float *scale, *shift, *a, *b, *d;
  bool relu6;
  T *dz;
  int c;
  __device__ void operator()(int64_t i) const {
    int64_t row;
    const int channel = dft_divide(i, c / V, &row) * V;
    const int64_t at = row * c + channel;
    float g[V], x[V], p[V], q[V];
    dft_load<V>(dy + at, g);
    if (relu6 || b != nullptr) dft_load<V>(z + at, x);
    if (relu6) {
      dft_load_channels<V>(scale + channel, p);
      dft_load_channels<V>(shift + channel, q);
      gate<V>(x, p, q, g);
    }
    dft_load_channels<V>(a + channel, p);
#pragma unroll
    for (int j = 0; j < V; j++) g[j] = p[j] * g[j];
    if (b != nullptr) {
      dft_load_channels<V>(b + channel, p);
      dft_load_channels<V>(d + channel, q);
#pragma unroll
      for (int j = 0; j < V; j++) g[j] = g[j] + (p[j] * x[j] + q[j]);
    }
    dft_store<V>(dz + at, g);
  }
};

template <typename T>
static void bn_backward(const float *dy, const float *z, const dft_norm *norm, float *dz, int64_t rows,
                        int c) {
  const bool wide = dft_aligned(dy, z, norm->scale, norm->shift, norm->a, norm->b, norm->d, dz);
  DFT_LAUNCH_CHANNELS("bn_backward", backward_kernel, T, wide, rows, c, (const T *)dy, (const T *)z,
                      norm->scale, norm->shift, norm->a, norm->b, norm->d, norm->relu6, (T *)dz, c);
}

/* ---- vectors of channels; formulas: batchnorm_vectors.h ---- */

struct statistics_kernel {
  const double *totals;
  double count, epsilon;
  const float *gamma, *beta;
  int c;
  dft_batch_norm_vectors v;
  __device__ void operator()(int64_t i) const {
    const double mean = totals[i] / count;
    double variance = totals[c + i] / count - mean * mean;
    if (variance < 0.0) variance = 0.0; /* rounding of a constant channel */
    const double invstd = 1.0 / sqrt(variance + epsilon);
    v.mean[i] = (float)mean;
    v.variance[i] = (float)variance;
    v.invstd[i] = (float)invstd;
    v.scale[i] = (float)((double)gamma[i] * invstd);
    v.shift[i] = (float)((double)beta[i] - mean * (double)gamma[i] * invstd);
  }
};

static void bn_statistics(const double *totals, double count, const float *gamma, const float *beta,
                          double epsilon, int c, const dft_batch_norm_vectors *v) {
  dft_launch("bn_statistics", c, statistics_kernel{totals, count, epsilon, gamma, beta, c, *v});
}

struct gradients_kernel {
  const double *totals;
  double count;
  const float *gamma;
  int c;
  dft_batch_norm_vectors v;
  __device__ void operator()(int64_t i) const {
    const double dbeta = totals[i], dgamma = totals[c + i] * (double)v.invstd[i];
    const double a = (double)gamma[i] * (double)v.invstd[i];
    const double b = -a * (double)v.invstd[i] * dgamma / count;
    v.dbeta[i] = (float)dbeta;
    v.dgamma[i] = (float)dgamma;
    v.a[i] = (float)a;
    v.b[i] = (float)b;
    v.d[i] = (float)(-a * dbeta / count - b * (double)v.mean[i]);
  }
};

static void bn_gradients(const double *totals, double count, const float *gamma, int c,
                         const dft_batch_norm_vectors *v) {
  dft_launch("bn_gradients", c, gradients_kernel{totals, count, gamma, c, *v});
}

struct frozen_kernel {
  const float *gamma, *beta, *mean, *variance;
  float epsilon;
  float *scale, *shift;
  __device__ void operator()(int64_t i) const {
    const float factor = gamma[i] / sqrtf(variance[i] + epsilon);
    scale[i] = factor;
    shift[i] = beta[i] - mean[i] * factor;
  }
};

static void bn_frozen(const float *gamma, const float *beta, const float *mean, const float *variance,
                      float epsilon, int c, float *scale, float *shift) {
  dft_launch("bn_frozen", c, frozen_kernel{gamma, beta, mean, variance, epsilon, scale, shift});
}

struct commit_kernel {
  float *mean, *variance;
  dft_batch_norm_vectors v;
  float kept, rate;
  const int *done;
  __device__ void operator()(int64_t i) const {
    if (done != nullptr && *done != DFT_UPDATE_DONE) return;
    mean[i] = mean[i] * kept + v.mean[i] * rate;
    variance[i] = variance[i] * kept + v.variance[i] * rate;
  }
};

static void bn_commit(float *mean, float *variance, const dft_batch_norm_vectors *v, double momentum, int c,
                      const int *done) {
  dft_launch("bn_commit", c,
             commit_kernel{mean, variance, *v, (float)momentum, (float)(1.0 - momentum), done});
}

void dft_cuda_table_batchnorm(bool half) {
  dft_ops *o = &cuda.ops;
  o->bn_sums = half ? bn_sums<bf16> : bn_sums<float>;
  o->bn_backward_sums = half ? bn_backward_sums<bf16> : bn_backward_sums<float>;
  o->scale_shift = half ? scale_shift<bf16> : scale_shift<float>;
  o->bn_backward = half ? bn_backward<bf16> : bn_backward<float>;
  o->bn_statistics = bn_statistics;
  o->bn_gradients = bn_gradients;
  o->bn_frozen = bn_frozen;
  o->bn_commit = bn_commit;
  o->row_sums = row_sums;
}
