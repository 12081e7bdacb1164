/* Speed of the products and of the frozen forward, one thread, on MobileNetV2's shapes at 96x96:
 *
 *     bench_ops [amx|avx512bf16|avx512|avx2|portable|reference] [batch]
 *
 * GFLOP/s (two per multiply-add) by the thread's CPU time, the best of some runs, and the fraction of what
 * independent FMAs in registers reach: of the best rate seen, for the frozen forward also of the rate just
 * before and after. Not a test: run it on an idle machine. */
#include "dft/arena.h"
#include "dft/ops.h"
#include "kernels/mobilenet.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static double cpu_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#ifdef __x86_64__
#include <immintrin.h>

enum { CHAINS = 24 };

__attribute__((target("avx512f"))) static float chains_avx512(int steps) {
  __m512 sum[CHAINS], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps((float)i);
  for (int step = 0; step < steps; step++)
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(sum[i], a, b);
  for (int i = 1; i < CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  return _mm512_cvtss_f32(sum[0]);
}

__attribute__((target("avx2,fma"))) static float chains_avx2(int steps) {
  __m256 sum[CHAINS / 2], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int i = 0; i < CHAINS / 2; i++) sum[i] = _mm256_set1_ps((float)i);
  for (int step = 0; step < steps; step++)
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS / 2; i++) sum[i] = _mm256_fmadd_ps(sum[i], a, b);
  for (int i = 1; i < CHAINS / 2; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
  return _mm256_cvtss_f32(sum[0]);
}

/* The rate of the instruction set's FMAs; of AVX2 for the sets that have none of their own. 0: unknown. */
static double fma_gflops(dft_kernels kernels, int steps) {
  static volatile float sink;
  const bool wide = kernels >= DFT_KERNELS_AVX512;
  if (!wide && !dft_ops_get(DFT_KERNELS_AVX2)) return 0;
  const double start = cpu_s();
  sink += wide ? chains_avx512(steps) : chains_avx2(steps);
  return (wide ? CHAINS * 32.0 : CHAINS / 2 * 16.0) * steps / (cpu_s() - start) / 1e9;
}
#else
static double fma_gflops(dft_kernels kernels, int steps) {
  (void)kernels, (void)steps;
  return 0;
}
#endif

static double peak_gflops(dft_kernels kernels) {
  double best = 0;
  for (int run = 0; run < 100; run++) best = fmax(best, fma_gflops(kernels, 20000));
  return best;
}

static float *buffer(size_t count) {
  float *values = dft_aligned_alloc(count * sizeof *values);
  if (!values) abort();
  for (size_t i = 0; i < count; i++) values[i] = draw();
  return values;
}

/* The best time of at least 5 runs and 0.1 s. */
#define BEST(best, call)                                                                                     \
  do {                                                                                                       \
    double begun = cpu_s();                                                                                  \
    best = INFINITY;                                                                                         \
    for (int run_ = 0; run_ < 5 || cpu_s() - begun < 0.1; run_++) {                                          \
      double start_ = cpu_s();                                                                               \
      call;                                                                                                  \
      best = fmin(best, cpu_s() - start_);                                                                   \
    }                                                                                                        \
  } while (0)

static void bench_product(const dft_ops *ops, double peak, int batch, int pixels, int k, int n) {
  size_t rows = (size_t)batch * pixels;
  float *x = buffer(rows * k), *y = buffer(rows * n), *w = buffer((size_t)k * n), *dx = buffer(rows * k);
  float *packed = buffer(ops->gemm_packed_floats(k, n)), *back = buffer(ops->gemm_packed_floats(n, k));
  float *bias = buffer(n);
  dft_epilogue epilogue = {bias, NULL, true}, none = {0};
  dft_shard_map map = {0};
  double forward, gradient, weights, work = 2e-9 * (double)rows * k * n;
  if (dft_shard_map_set(&map, 8, 1, 0, batch) != DFT_OK) abort();
  ops->gemm_pack(w, k, n, false, packed);
  ops->gemm_pack(w, n, k, true, back);
  BEST(forward, ops->gemm(x, packed, y, batch, pixels, k, n, &epilogue));
  BEST(gradient, ops->gemm(y, back, dx, batch, pixels, n, k, &none));
  BEST(weights, ops->gemm_dw(x, y, pixels, k, n, &map, w));
  printf("%6d %5d %5d %9.1f %3.0f%% %9.1f %3.0f%% %9.1f %3.0f%%\n", pixels, k, n, work / forward,
         100 * work / forward / peak, work / gradient, 100 * work / gradient / peak, work / weights,
         100 * work / weights / peak);
  dft_shard_map_free(&map);
  free(x), free(y), free(w), free(dx), free(packed), free(back), free(bias);
}

/* Multiply-adds of a layer, the border's included. */
static double multiply_adds(const dft_folded *l) {
  double pixels = (double)l->conv.out_h * l->conv.out_w;
  int taps = l->kind == DFT_POINTWISE ? l->conv.in_channels : l->kind == DFT_STEM ? 27 : 9;
  return pixels * taps * l->conv.channels;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Clocks change with what a machine does: beside the best time, the median share of the FMA rate measured
 * just before and after each run, long enough that asking for the time weighs nothing. */
static void bench_frozen(const dft_ops *ops, dft_kernels kernels, const network *net, int from, int to,
                         int samples) {
  enum { RUNS = 1000, FMA_STEPS = 40000 };
  static double share[RUNS];
  const dft_conv *first = &net->layers[from].conv, *last = &net->layers[to - 1].conv;
  double work = 0, best = INFINITY, before = fma_gflops(kernels, FMA_STEPS), begun = cpu_s();
  for (int i = from; i < to; i++) work += 2e-9 * samples * multiply_adds(&net->layers[i]);
  float *x = buffer((size_t)samples * first->in_h * first->in_w * first->in_channels);
  float *y = buffer((size_t)samples * last->out_h * last->out_w * last->channels);
  dft_frozen *frozen;
  if (ops->frozen_new(net->layers + from, to - from, &frozen) != DFT_OK) abort();
  int runs = 0;
  for (; runs < RUNS && (runs < 5 || cpu_s() - begun < 0.2); runs++) {
    const double start = cpu_s();
    ops->frozen_run(frozen, x, y, samples);
    const double seconds = cpu_s() - start, after = fma_gflops(kernels, FMA_STEPS);
    best = fmin(best, seconds);
    share[runs] = work / seconds / ((before + after) / 2);
    before = after;
  }
  qsort(share, (size_t)runs, sizeof *share, ascending);
  printf("layers %2d-%2d, %2d samples: %8.1f us each, %7.0f/s, %6.1f GFLOP/s, %3.0f%% of FMA beside it\n",
         from, to - 1, samples, 1e6 * best / samples, samples / best, work / best, 100 * share[runs / 2]);
  ops->frozen_free(frozen);
  free(x), free(y);
}

static void bench_network(const dft_ops *ops, dft_kernels kernels, const network *net, int batch) {
  for (int from = 0, to; from < net->count; from = to) {
    for (to = from + 1; to < net->count && !net->layers[to].block_start;) to++;
    bench_frozen(ops, kernels, net, from, to, batch);
  }
  bench_frozen(ops, kernels, net, 0, net->count, batch);
  bench_frozen(ops, kernels, net, 0, net->count, 1);
}

/* How far bfloat16 moves the features of a few random images, averaged over their pixels. */
static double distance(const dft_ops *ops, const network *net) {
  enum { SAMPLES = 16 };
  const dft_conv *first = &net->layers[0].conv, *last = &net->layers[net->count - 1].conv;
  int pixels = last->out_h * last->out_w, channels = last->channels;
  size_t out = (size_t)SAMPLES * pixels * channels;
  float *x = buffer((size_t)SAMPLES * first->in_h * first->in_w * first->in_channels), *y[2];
  double square = 0, error = 0;
  for (int b = 0; b < 2; b++) {
    network other = *net;
    dft_frozen *frozen;
    for (int i = 0; i < net->count; i++) other.layers[i].bfloat16 = b == 1 && net->layers[i].bfloat16;
    if (ops->frozen_new(other.layers, net->count, &frozen) != DFT_OK) abort();
    float *values = buffer(out);
    ops->frozen_run(frozen, x, values, SAMPLES);
    ops->frozen_free(frozen);
    y[b] = buffer((size_t)SAMPLES * channels);
    ops->pool_avg(values, y[b], SAMPLES, pixels, channels);
    free(values);
  }
  for (int i = 0; i < SAMPLES * channels; i++) {
    square += (double)y[0][i] * y[0][i];
    error += ((double)y[1][i] - y[0][i]) * ((double)y[1][i] - y[0][i]);
  }
  free(x), free(y[0]), free(y[1]);
  return sqrt(error / square);
}

int main(int argc, char **argv) {
  static const int shapes[][3] = {{2304, 32, 16}, {2304, 16, 96}, {576, 96, 24},  {576, 24, 144},
                                  {576, 144, 24}, {144, 144, 32}, {144, 32, 192}, {144, 192, 32},
                                  {36, 192, 64},  {36, 64, 384},  {36, 384, 64},  {36, 384, 96},
                                  {36, 96, 576},  {36, 576, 96},  {9, 576, 160},  {9, 160, 960},
                                  {9, 960, 160},  {9, 960, 320},  {9, 320, 1280}, {1, 1280, 5}};
  dft_kernels kernels;
  if (argc > 1) setenv("DFT_KERNELS", argv[1], 1);
  if (dft_ops_best(&kernels) != DFT_OK) {
    fprintf(stderr, "%s\n", dft_error());
    return DFT_EUSAGE;
  }
  int batch = argc > 2 ? atoi(argv[2]) : 8;
  const dft_ops *ops = dft_ops_get(kernels);
  dft_ops_set_threads(1);
  double peak = peak_gflops(kernels);
  printf("%s, 1 thread, peak %.1f GFLOP/s, batch %d\n", ops->name, peak, batch);
  printf("pixels     k     n     x.W GFLOP/s     dy.W^T         x^T.dy (8 shards)\n");
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    bench_product(ops, peak, batch, shapes[s][0], shapes[s][1], shapes[s][2]);
  network net;
  network_build(&net, 1.0, 96, 96);
  bench_network(ops, kernels, &net, batch);
  for (int i = 0; i < net.count; i++) net.layers[i].bfloat16 = net.layers[i].kind == DFT_POINTWISE;
  printf("bfloat16 products, features off by %.2f %% in relative L2:\n", 100 * distance(ops, &net));
  bench_network(ops, kernels, &net, batch);
  network_clear(&net);
  return 0;
}
