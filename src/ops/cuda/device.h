/* What the files of the CUDA backend share: the open device, errors, launches, scratch, and loads of vectors.
 *
 * A kernel is a struct of its arguments with operator()(i): thread i's work, one output element or a vector
 * of channels, or one partial sum. No shared memory, no barriers, no atomics: the order of every sum is in
 * the source, and g++ can compile it (DFT_CUDA_ON_HOST, with tests/cuda/host for CUDA's headers) to be tested
 * where there is no GPU. Consecutive threads take consecutive channels, so that a warp reads whole lines.
 * Products and sums are rounded apart (--fmad=false, -ffp-contract=off) but where fmaf is written.
 */
#ifndef DFT_OPS_CUDA_DEVICE_H
#define DFT_OPS_CUDA_DEVICE_H

extern "C" {
#include "dft/device.h"
#include "dft/ops.h"
}
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <type_traits>

typedef __nv_bfloat16 bf16;

/* The device of this process. */
struct dft_cuda {
  bool open;
  dft_ops ops;
  dft_device device;
  cudaStream_t stream, exchange, up, down; /* compute; NCCL; the frozen forward's copies */
  cudaEvent_t mark;                        /* for waits between streams */
  cublasLtHandle_t lt;
  void *workspace; /* cuBLASLt's */
  int *flag;       /* on the device: something was not finite */
  int processors;
  bool recording;
  void (*look)(void *context, bool first); /* while waiting; or NULL */
  void *look_context;
  dft_status error; /* the first since the last finish or poll */
  char message[DFT_MESSAGE_BYTES];
};
extern dft_cuda cuda;

enum { DFT_CUDA_WORKSPACE_BYTES = 32 << 20 };

/* ---- errors ---- */

/* Keeps the first. True when the call went well. */
bool dft_cuda_check(cudaError_t error, const char *what);
bool dft_cuda_check_blas(cublasStatus_t error, const char *what);
void dft_cuda_keep(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What has been kept, and forgets it. */
dft_status dft_cuda_take(void);
/* Wait, looking after the peers (while_waiting); nothing else here may block for long. */
bool dft_cuda_wait(cudaStream_t stream, const char *what);
bool dft_cuda_wait_event(cudaEvent_t event, const char *what);
dft_status dft_cuda_alloc(size_t bytes, void **memory);
dft_status dft_cuda_host_alloc(size_t bytes, void **memory);
bool dft_cuda_event(cudaEvent_t *event); /* for order, without times */
/* Blocks that lie one after the other begin at multiples of 256 bytes, as cudaMalloc's do. */
static inline size_t dft_cuda_round_up(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

/* ---- launches ---- */

#ifdef DFT_CUDA_ON_HOST
template <typename K>
void dft_launch_on(cudaStream_t stream, const char *name, int64_t count, const K &kernel) {
  static_assert(std::is_trivially_copyable<K>::value && sizeof(K) + sizeof count <= 4096,
                "what a launch takes along");
#if defined __GNUC__ && !defined __clang__
  K clean = kernel;
  __builtin_clear_padding(&clean); /* what is left there could look like a pointer */
  if (!dft_host_cuda_arguments(&clean, sizeof clean, name)) return;
#endif
  if (count <= 0) return;
  dft_host_cuda_run(stream, true, [kernel, count] {
    for (int64_t i = 0; i < count; i++) kernel(i);
  });
  dft_cuda_check(cudaGetLastError(), name);
}
#else
template <typename K> __global__ void __launch_bounds__(256) dft_kernel(const K kernel, const int64_t count) {
  const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) kernel(i);
}

template <typename K>
void dft_launch_on(cudaStream_t stream, const char *name, int64_t count, const K &kernel) {
  if (count <= 0) return;
  /* Few threads in small blocks, so that no processor is left out. */
  const int threads = count < (int64_t)cuda.processors * 1024 ? 64 : 256;
  dft_kernel<<<(unsigned)((count + threads - 1) / threads), threads, 0, stream>>>(kernel, count);
  dft_cuda_check(cudaGetLastError(), name);
}
#endif

template <typename K> void dft_launch(const char *name, int64_t count, const K &kernel) {
  dft_launch_on(cuda.stream, name, count, kernel);
}

/* ---- vectors of channels: 16 bytes at once ---- */

template <typename T> constexpr int dft_width = 16 / (int)sizeof(T);

template <typename... P> bool dft_aligned(const P *...pointers) {
  uintptr_t bits = 0;
  ((bits |= (uintptr_t)pointers), ...);
  return bits % 16 == 0;
}

/* Runs kernel<T, V> over `groups` of c channels, V at a time where c and the pointers allow. */
#define DFT_LAUNCH_CHANNELS(name, kernel, T, wide, groups, c, ...)                                           \
  do {                                                                                                       \
    if ((wide) && (c) % dft_width<T> == 0)                                                                   \
      dft_launch(name, (int64_t)(groups) * ((c) / dft_width<T>), kernel<T, dft_width<T>>{__VA_ARGS__});      \
    else                                                                                                     \
      dft_launch(name, (int64_t)(groups) * (c), kernel<T, 1>{__VA_ARGS__});                                  \
  } while (0)

__device__ __forceinline__ float dft_to_float(float x) {
  return x;
}
__device__ __forceinline__ float dft_to_float(bf16 x) {
  return __bfloat162float(x);
}
template <typename T> __device__ __forceinline__ T dft_from_float(float x);
template <> __device__ __forceinline__ float dft_from_float<float>(float x) {
  return x;
}
template <> __device__ __forceinline__ bf16 dft_from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}

template <typename T, int V> struct alignas(V * sizeof(T)) dft_vector { T v[V]; };

template <int V, typename T> __device__ __forceinline__ void dft_load(const T *p, float *out) {
  const dft_vector<T, V> loaded = *reinterpret_cast<const dft_vector<T, V> *>(p);
#pragma unroll
  for (int i = 0; i < V; i++) out[i] = dft_to_float(loaded.v[i]);
}

/* V parameters of channels: float32 whatever the activations are. */
template <int V> __device__ __forceinline__ void dft_load_channels(const float *p, float *out) {
  constexpr int part = V % 4 == 0 ? 4 : 1;
#pragma unroll
  for (int i = 0; i < V; i += part) dft_load<part>(p + i, out + i);
}

template <int V, typename T> __device__ __forceinline__ void dft_store(T *p, const float *values) {
  dft_vector<T, V> stored;
#pragma unroll
  for (int i = 0; i < V; i++) stored.v[i] = dft_from_float<T>(values[i]);
  *reinterpret_cast<dft_vector<T, V> *>(p) = stored;
}

/* V float32 partial sums. */
template <int V> __device__ __forceinline__ void dft_store_channels(float *p, const float *values) {
  constexpr int part = V % 4 == 0 ? 4 : 1;
#pragma unroll
  for (int i = 0; i < V; i += part) dft_store<part>(p + i, values + i);
}

/* ---- arithmetic ---- */

/* A NaN stays one. */
__device__ __forceinline__ float dft_relu6(float x) {
  return x < 0 ? 0 : x > 6 ? 6 : x;
}

/* y[at...] = values, plus what is at the same place of `residual` (or NULL), clamped where asked for. */
template <int V, typename T>
__device__ __forceinline__ void dft_finish(T *y, int64_t at, float *values, const T *residual, bool relu6) {
  if (residual != nullptr) {
    float added[V];
    dft_load<V>(residual + at, added);
#pragma unroll
    for (int i = 0; i < V; i++) values[i] += added[i];
  }
  if (relu6) {
#pragma unroll
    for (int i = 0; i < V; i++) values[i] = dft_relu6(values[i]);
  }
  dft_store<V>(y + at, values);
}

/* i = *quotient*by + remainder; 64-bit division is slow on a GPU, and seldom needed. */
__device__ __forceinline__ int dft_divide(int64_t i, int by, int64_t *quotient) {
  if ((uint64_t)i >> 32 == 0) {
    const uint32_t q = (uint32_t)i / (uint32_t)by;
    *quotient = q;
    return (int)((uint32_t)i - q * (uint32_t)by);
  }
  *quotient = i / by;
  return (int)(i % by);
}

/* Which pixel of a batch of images. */
struct dft_place {
  int64_t sample;
  int row, column;
};

__device__ __forceinline__ dft_place dft_place_of(int64_t pixel, int height, int width) {
  dft_place p;
  int64_t line;
  p.column = dft_divide(pixel, width, &line);
  p.row = dft_divide(line, height, &p.sample);
  return p;
}

/* How a stored value is read: as it is, clamped, or through a BatchNorm (dft_norm). */
struct dft_reading {
  const float *scale, *shift; /* or NULL */
  bool relu6;
};

template <int V>
__device__ __forceinline__ void dft_read(const dft_reading &reading, const float *scale, const float *shift,
                                         float *x) {
#pragma unroll
  for (int i = 0; i < V; i++) {
    if (reading.scale != nullptr) x[i] = x[i] * scale[i] + shift[i];
    if (reading.relu6) x[i] = dft_relu6(x[i]);
  }
}

/* The vectors that dft_read wants; without a BatchNorm they stay as they are. */
template <int V>
__device__ __forceinline__ void dft_load_reading(const dft_reading &reading, int channel, float *scale,
                                                 float *shift) {
  if (reading.scale == nullptr) return;
  dft_load_channels<V>(reading.scale + channel, scale);
  dft_load_channels<V>(reading.shift + channel, shift);
}

static inline dft_reading dft_reading_of(const dft_norm *norm) {
  return norm != nullptr ? dft_reading{norm->scale, norm->shift, norm->relu6}
                         : dft_reading{nullptr, nullptr, false};
}

/* ---- sums over samples (reduce.cu) ---- */

enum { DFT_CUDA_LEVELS = 14 }; /* room for the partial sums of DFT_MAX_SHARDS shards in a tree */

/* How a shard's rows fall into chunks, each summed by one thread per channel: a rule of the shard's rows
 * alone, so that no other thing changes a bit. About `target` of them, of `least` to `most` rows. */
struct dft_chunks {
  int pixels; /* rows of a sample */
  int least, most, target;
  int shards, slots; /* of the map; chunks of its largest shard: partials lie at [shard][slot] */
  const int *first;  /* the map's, on the device */
};

__host__ __device__ inline int64_t dft_chunk_rows(const dft_chunks &c, int64_t rows) {
  const int64_t even = (rows + c.target - 1) / c.target;
  return even < c.least ? c.least : even > c.most ? c.most : even;
}

/* The rows of chunk `index` = shard*slots + slot; false where the shard has none. */
__device__ __forceinline__ bool dft_chunk(const dft_chunks &c, int64_t index, int64_t *from, int64_t *to) {
  int64_t shard;
  const int slot = dft_divide(index, c.slots, &shard);
  const int64_t begin = (int64_t)c.first[shard] * c.pixels, end = (int64_t)c.first[shard + 1] * c.pixels;
  const int64_t size = dft_chunk_rows(c, end - begin);
  *from = begin + slot * size;
  *to = *from + size < end ? *from + size : end;
  return *from < *to;
}

/* Also brings the map's bounds to the device when they are not those there. */
dft_chunks dft_cuda_chunks(const dft_shard_map *map, int pixels, int least, int most, int target);
static inline int64_t dft_chunk_count(const dft_chunks &c) {
  return (int64_t)c.shards * c.slots;
}
/* Room for partials[shard][slot][width] and what their folding needs; NULL when there is none (kept). */
float *dft_cuda_partials(const dft_chunks &c, int64_t width);
/* Chunks in order, in float64, then shards in the tree: to out64[node][width], or with float32 rounded after
 * each shard and addition to out32. */
void dft_cuda_fold(const dft_chunks &c, const dft_shard_map *map, const float *partials, int width,
                   double *out64, float *out32);

/* ---- the files' parts ---- */

/* y[rows][n] = x[rows][k] . w, or with transposed x . w^T of a [n][k] matrix; in and weights of one type. */
typedef struct dft_cuda_product {
  const void *x, *w;
  void *y;
  int64_t rows;
  int k, n, pixels;
  bool transposed;
  bool half, half_out;  /* bfloat16 x and w; y (and residual) */
  const void *bias;     /* of y's type, or NULL */
  const void *residual; /* the same; may be y */
} dft_cuda_product;
void dft_cuda_multiply(const dft_cuda_product *p);
/* dw[node][k][n]; x and dy both bfloat16 or both float32 */
void dft_cuda_multiply_dw(const void *x, const void *dy, bool half, int pixels, int k, int n,
                          const dft_shard_map *map, float *dw);

/* A depthwise convolution with everything that may be fused into it. */
typedef struct dft_cuda_depthwise {
  const void *x;
  dft_reading reading;
  const float *w, *bias;
  const void *residual;
  bool relu6;
  void *y;
  int samples;
  dft_conv conv;
} dft_cuda_depthwise;
void dft_cuda_depthwise_run(const dft_cuda_depthwise *d, bool half);
void dft_cuda_depthwise_dx(const void *dy, const float *w, const void *skip, void *dx, int samples,
                           const dft_conv *conv, bool half);
void dft_cuda_depthwise_dw(const void *x, dft_reading reading, const void *dy, const dft_conv *conv,
                           const dft_shard_map *map, float *dw, bool half);
/* x of bfloat16 when half_in, else float32 whatever the output is. */
void dft_cuda_stem_run(const void *x, bool half_in, const float *w, const dft_epilogue *epilogue, void *y,
                       bool half, int samples, const dft_conv *conv);
/* to[count] = from[count] in the other type. */
void dft_cuda_to_half(const float *from, void *to, int64_t count);
/* Clamped, where asked for, on the way. */
void dft_cuda_to_float(const void *from, bool half, float *to, int64_t count, bool relu6);
void dft_cuda_pool(const void *x, bool half, float *y, int samples, int pixels, int c, bool max, bool clamp);
void dft_cuda_clamp(void *x, int64_t count, bool half);

/* Each fills in its part of cuda.ops and cuda.device. */
void dft_cuda_table_batchnorm(bool half);
void dft_cuda_table_depthwise(bool half);
void dft_cuda_table_stem(bool half);
void dft_cuda_table_pool(bool half);
void dft_cuda_table_vectors(bool half);
void dft_cuda_table_loss(void);
void dft_cuda_table_update(void);
void dft_cuda_table_product(void);
void dft_cuda_table_train(void);
void dft_cuda_table_frozen(void);
void dft_cuda_table_memory(void);
void dft_cuda_table_reduce(void);
void dft_cuda_table_order(void);

#endif
