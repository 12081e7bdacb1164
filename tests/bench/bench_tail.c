/* Speed of the training passes, without data, exchange and optimizer: forward and backward of the tail on
 * this rank's share of a batch.
 *
 *     bench_tail [samples] [unfreeze_last, 0: all] [threads] [seconds] [layers] [shards]
 *
 * With "layers", each layer's best time too. Prints images per second of CPU time (all threads together), the
 * best step and the median one. Not a test.
 *
 * turns.py runs two builds of it in turn, step by step, which a busy machine's moods cannot tell apart: with
 * DFT_BENCH_SERIES=FILE a step waits for a byte on standard input and ends with one on standard output, and
 * every layer's time of every step is a line of FILE: step, direction and kind, shape, seconds.
 */
#include "dft/clock.h"
#include "dft/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static float *gradients[512];
static dft_shard_map map;

static dft_status sum(void *context, double *sums, size_t count) {
  (void)context, (void)sums, (void)count;
  return DFT_OK;
}
static float *gradient(void *context, int param, size_t *stride) {
  const dft_model *m = context;
  *stride = (size_t)m->params[param].elements;
  if (!gradients[param]) gradients[param] = dft_aligned_alloc((size_t)map.nodes * *stride * sizeof(float));
  return gradients[param];
}
static dft_status ready(void *context, int param) {
  (void)context, (void)param;
  return DFT_OK;
}

static double cpu_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best time of each layer's forward and backward: a table of operations that times another's. */
enum { LAYERS = 64 };
static dft_ops timed;
static const dft_ops *inner;
static struct layer {
  dft_conv_kind kind;
  dft_conv conv;
  double best_s[2];
} layers[LAYERS];
static int layer_count;
static FILE *series;
static int step;

static void took(const dft_train_conv *t, int direction, double s) {
  int i = 0;
  while (i < layer_count &&
         (layers[i].kind != t->kind || memcmp(&layers[i].conv, &t->conv, sizeof t->conv) != 0))
    i++;
  if (i == LAYERS) return;
  if (series != NULL)
    fprintf(series, "%d %s-%c %d-%d-%d %.9f\n", step, direction == 0 ? "forward" : "backward", "sdp"[t->kind],
            t -> conv.in_h, t->conv.in_channels, t->conv.channels, s);
  if (i == layer_count) layers[layer_count++] = (struct layer){t->kind, t->conv, {INFINITY, INFINITY}};
  layers[i].best_s[direction] = fmin(layers[i].best_s[direction], s);
}
static void timed_forward(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums) {
  double start = cpu_s();
  (void)ops, inner->train_forward(inner, t, z, sums);
  took(t, 0, cpu_s() - start);
}
static void timed_backward(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g) {
  double start = cpu_s();
  (void)ops, inner->train_backward(inner, t, g);
  took(t, 1, cpu_s() - start);
}

static void timed_pair_sums(const dft_train_conv *expand, double *sums) {
  double start = cpu_s();
  inner->train_pair_sums(expand, sums);
  took(expand, 0, cpu_s() - start);
}
static void timed_pair_forward(const dft_train_conv *expand, const dft_train_conv *t, float *z,
                               double *sums) {
  double start = cpu_s();
  inner->train_pair_forward(expand, t, z, sums);
  took(t, 0, cpu_s() - start);
}
static void timed_pair_backward(const dft_train_conv *expand, const dft_train_conv *t,
                                const dft_train_gradient *g, bool below) {
  double start = cpu_s();
  inner->train_pair_backward(expand, t, g, below);
  took(t, 1, cpu_s() - start);
}
static void timed_pair_finish(const dft_train_conv *expand, const dft_train_gradient *g) {
  double start = cpu_s();
  inner->train_pair_finish(expand, g);
  took(expand, 1, cpu_s() - start);
}

static void print_layers(const dft_model *m, int samples) {
  static const char *const kinds[] = {
      [DFT_STEM] = "stem", [DFT_DEPTHWISE] = "depthwise", [DFT_POINTWISE] = "pointwise"};
  double sum[2] = {0};
  printf("  %-9s side    k    n  x    fwd us GFLOP/s    bwd us GFLOP/s    fwd, bwd ms a step\n", "");
  for (int i = 0; i < layer_count; i++) {
    const struct layer *l = &layers[i];
    const dft_conv *g = &l->conv;
    int times = 0;
    for (int u = 0; u < m->unit_count; u++)
      times += m->units[u].kind == l->kind && memcmp(&m->units[u].conv, g, sizeof *g) == 0;
    const double taps = l->kind == DFT_POINTWISE ? g->in_channels : l->kind == DFT_STEM ? 27 : 9;
    const double work = 2e-9 * samples * g->out_h * g->out_w * taps * g->channels;
    const double *s = l->best_s, back = l->kind == DFT_STEM ? 1 : 2;
    printf("  %-9s %4d %4d %4d %2d %9.1f %7.1f %9.1f %7.1f %9.3f %7.3f\n", kinds[l->kind], g->in_h,
           g->in_channels, g->channels, times, 1e6 * s[0], work / s[0], 1e6 * s[1], back * work / s[1],
           1e3 * times * s[0], 1e3 * times * s[1]);
    sum[0] += times * s[0], sum[1] += times * s[1];
  }
  printf("  all: forward %.2f ms, backward %.2f ms\n", 1e3 * sum[0], 1e3 * sum[1]);
}

static int by_value(const void *a, const void *b) {
  double d = *(const double *)a - *(const double *)b;
  return d < 0 ? -1 : d > 0;
}

/* This build's turn: a byte on standard input; false at its end. */
static bool my_turn(void) {
  char byte;
  return series == NULL || read(STDIN_FILENO, &byte, 1) == 1;
}

static void end_turn(double s) {
  if (series == NULL) return;
  fprintf(series, "%d whole all %.9f\n", step, s);
  if (fflush(series) != 0 || write(STDOUT_FILENO, "x", 1) != 1) exit(1);
}

#define DO(call)                                                                                             \
  if ((call) != DFT_OK) {                                                                                    \
    fprintf(stderr, "%s\n", dft_error());                                                                    \
    return 1;                                                                                                \
  }

int main(int argc, char **argv) {
  int samples = argc > 1 ? atoi(argv[1]) : 16, last = argc > 2 ? atoi(argv[2]) : 0;
  int threads = argc > 3 ? atoi(argv[3]) : 1;
  double limit_s = argc > 4 ? atof(argv[4]) : 3;
  if (getenv("DFT_BENCH_SERIES") != NULL) series = fopen(getenv("DFT_BENCH_SERIES"), "w");
  dft_kernels kernels;
  dft_model *model;
  dft_tail *tail;
  DO(dft_ops_best(&kernels));
  const dft_ops *ops = dft_ops_get(kernels);
  dft_ops_set_threads(threads);
  const bool each = argc > 5 && strcmp(argv[5], "layers") == 0;
  if (each) {
    inner = ops;
    timed = *ops;
    timed.train_forward = timed_forward;
    timed.train_backward = timed_backward;
    timed.train_pair_sums = timed_pair_sums;
    timed.train_pair_forward = timed_pair_forward;
    timed.train_pair_backward = timed_pair_backward;
    timed.train_pair_finish = timed_pair_finish;
    ops = &timed;
  }
  DO(dft_model_new(1.0, 96, 96, DFT_POOL_AVG, 5, &model));
  dft_model_init(model, 1);
  char name[] = "bench";
  dft_config_phase phase = {.name = name, .unfreeze_last = last > 0 ? last : 155};
  DO(dft_model_freeze(model, &phase, DFT_BN_SYNC));
  int first = dft_model_tail_start(model);
  /* a rank's share at np 2: four of eight shards; or so many shards, all of them */
  const int shards = argc > 6 ? atoi(argv[6]) : 0;
  DO(dft_shard_map_set(&map, shards > 0 ? shards : 8, shards > 0 ? 1 : 2, 0,
                       shards > 0 ? samples : 2 * (int64_t)samples));
  dft_tail_hooks hooks = {model, sum, gradient, ready};
  DO(dft_tail_new(model, ops, samples, map.nodes, 0, &hooks, &tail));
  size_t row = (size_t)dft_model_boundary(model, first);
  float *x = dft_aligned_alloc((size_t)samples * row * sizeof *x), dlogits[5 * 1024] = {0};
  int64_t numbers[1024] = {0};
  for (size_t i = 0; i < (size_t)samples * row; i++)
    x[i] = (float)((i * 2654435761u >> 8) & 0xffff) / 65536.0F;
  for (int i = 0; i < 5 * samples; i++) dlogits[i] = (float)(i % 7 - 3) * 0.1F;
  dft_batch batch = {.map = &map, .global = samples, .samples = numbers, .seed = 1};
  double forward[1000], backward[1000], whole[1000], start = dft_now_s();
  int steps = 0;
  float *logits;
  for (; steps < 1000 && (steps < 5 || dft_now_s() - start < limit_s) && my_turn(); steps++) {
    step = steps;
    double t0 = cpu_s();
    DO(dft_tail_forward(tail, &batch, x, &logits));
    double t1 = cpu_s();
    DO(dft_tail_backward(tail, &batch, x, dlogits));
    double t2 = cpu_s();
    forward[steps] = t1 - t0;
    backward[steps] = t2 - t1;
    whole[steps] = t2 - t0;
    end_turn(t2 - t0);
  }
  double check = 0;
  for (int i = 0; i < 5 * samples; i++) check += fabs(logits[i]);
  for (int p = 0; p < model->param_count; p++)
    if (gradients[p])
      for (int64_t i = 0; i < model->params[p].elements; i++) check += fabs(gradients[p][i]);
  double *times[] = {forward, backward, whole};
  const char *names[] = {"forward", "backward", "both"};
  printf("%s, %d samples, %d threads, %d steps, check %.6g\n", ops->name, samples, threads, steps, check);
  for (int i = 0; i < 3; i++) {
    qsort(times[i], (size_t)steps, sizeof(double), by_value);
    printf("  %-8s best %7.1f  median %7.1f images per CPU second\n", names[i], samples / times[i][0],
           samples / times[i][steps / 2]);
  }
  if (each) print_layers(model, samples);
  return 0;
}
