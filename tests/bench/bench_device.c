/* Each training kernel of a device on MobileNetV2's layers (alpha 1.0, 96x96): microseconds, bytes that must
 * pass through memory, and the share of the bandwidth that a copy reaches on the same device beside it.
 *
 *     bench_device [samples] [float32|tf32|bfloat16]
 *
 * A layer's call is recorded REPEATS times as one graph, so that the host's part is left out. Prints a
 * Markdown table, best of ROUNDS. Says so and ends with 77 where there is no device. Not a test.
 */
#include "dft/clock.h"
#include "dft/model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 20, ROUNDS = 7, COPY_BYTES = 1 << 28 };

static const dft_ops *ops;
static const dft_device *device;

typedef struct layer_call {
  dft_train_conv t;
  dft_train_gradient g;
  float *z;
  double *sums;
  bool backward;
} layer_call;

static void call_layer(void *context) {
  layer_call *c = context;
  if (c->backward)
    ops->train_backward(ops, &c->t, &c->g);
  else
    ops->train_forward(ops, &c->t, c->z, c->sums);
}

typedef struct copy_call {
  void *from, *to;
} copy_call;

static void call_copy(void *context) {
  const copy_call *c = context;
  device->copy(c->to, c->from, COPY_BYTES);
}

/* Seconds of one call. */
static dft_status time_calls(void (*call)(void *), void *context, double *best_s) {
  dft_graph *graph = NULL;
  call(context); /* takes what memory it needs */
  DFT_TRY(device->finish());
  DFT_TRY(device->record());
  for (int i = 0; i < REPEATS; i++) call(context);
  DFT_TRY(device->recorded(&graph));
  *best_s = INFINITY;
  dft_status status = DFT_OK;
  for (int r = 0; r < ROUNDS && status == DFT_OK; r++) {
    const double start_s = dft_now_s();
    device->replay(graph);
    status = device->finish();
    const double took_s = (dft_now_s() - start_s) / REPEATS;
    if (took_s < *best_s) *best_s = took_s;
  }
  device->graph_free(graph);
  return status;
}

static dft_status block(size_t bytes, void *pointer) {
  return device->alloc(bytes, pointer);
}

/* Bytes of activations read and written, at least once each: forward x, z; backward dy, z, x, dx. */
static double activation_bytes(const dft_unit *u, int samples, bool backward) {
  const double in = (double)u->in_elements * samples, out = (double)u->out_elements * samples;
  return (backward ? 2 * out + 2 * in : in + out) * device->activation_bytes;
}

static dft_status bench_unit(const dft_model *m, const dft_unit *u, int samples, const dft_shard_map *map,
                             double copy_s) {
  const size_t in = (size_t)samples * (size_t)u->in_elements, out = (size_t)samples * (size_t)u->out_elements;
  const size_t c = (size_t)u->conv.channels, cin = (size_t)u->conv.in_channels;
  const size_t weights = (size_t)m->params[u->kernel].elements, size = (size_t)device->activation_bytes;
  void *x = NULL, *z = NULL, *dy = NULL, *dx = NULL, *w = NULL, *dw = NULL, *work = NULL, *sums = NULL,
       *v = NULL;
  const struct {
    size_t bytes;
    void **at;
  } blocks[] = {{in * size, &x},
                {out * size, &z},
                {out * size, &dy},
                {in * size, &dx},
                {weights * 4, &w},
                {weights * 4, &dw},
                {ops->train_work_floats(u->kind, &u->conv, samples) * 4, &work},
                {(2 * (c > cin ? c : cin) + 1) * 8, &sums},
                {8 * (c > cin ? c : cin) * 4, &v}};
  const size_t count = sizeof blocks / sizeof blocks[0];
  dft_status status = DFT_OK;
  for (size_t i = 0; i < count && status == DFT_OK; i++) status = block(blocks[i].bytes, blocks[i].at);
  const float *vector = v;
  const dft_norm norm = {vector, vector, u->relu6, vector, vector, vector, vector};
  const bool image = u->kind == DFT_STEM;
  layer_call call = {.t = {.kind = u->kind, .conv = u->conv, .map = map, .x = x, .weight = w, .work = work},
                     .z = z,
                     .sums = sums};
  call.t.x_norm = image || u->block_start ? NULL : &norm;
  call.g = (dft_train_gradient){
      .dy = dy, .dy_kept = true, .z = z, .norm = &norm, .dw = dw, .dx = image ? NULL : dx};
  static const char *const kinds[] = {
      [DFT_STEM] = "stem", [DFT_DEPTHWISE] = "depthwise", [DFT_POINTWISE] = "pointwise"};
  for (int backward = 0; backward < 2 && status == DFT_OK; backward++) {
    double took_s = 0;
    call.backward = backward;
    status = time_calls(call_layer, &call, &took_s);
    const double bytes = activation_bytes(u, samples, backward);
    if (status == DFT_OK)
      printf("| %s %s | %dx%d %d to %d | %.1f | %.1f | %.0f %% |\n", kinds[u->kind],
             backward ? "backward" : "forward", u->conv.in_h, u->conv.in_w, u->conv.in_channels,
             u->conv.channels, took_s * 1e6, bytes / 1e6, 100 * bytes / took_s / (2.0 * COPY_BYTES / copy_s));
  }
  for (size_t i = 0; i < count; i++) device->free(*blocks[i].at);
  return status;
}

static dft_status bench(int samples, dft_precision precision) {
  const char *why = NULL;
  const dft_cuda_interface *module = dft_device_module(&why);
  if (module == NULL) return dft_fail(DFT_EUSAGE, "no device: %s", why);
  DFT_TRY(module->open(0, precision, &ops));
  device = ops->device;
  copy_call copy = {0};
  double copy_s = 0;
  DFT_TRY(block(COPY_BYTES, &copy.from));
  DFT_TRY(block(COPY_BYTES, &copy.to));
  DFT_TRY(time_calls(call_copy, &copy, &copy_s));
  dft_model *m = NULL;
  DFT_TRY(dft_model_new(1.0, 96, 96, DFT_POOL_AVG, 5, &m));
  dft_shard_map map = {0};
  dft_status status = dft_shard_map_set(&map, 8, 1, 0, samples);
  if (status == DFT_OK) {
    device->use_map(&map);
    printf("%s, %d images, a copy moves %.0f GB/s\n\n| kernel | layer | us | MB | of the copy's bandwidth |\n"
           "|---|---|---|---|---|\n",
           device->name, samples, 2e-9 * COPY_BYTES / copy_s);
  }
  for (int u = 0; u < m->unit_count && status == DFT_OK; u++) {
    bool seen = false;
    for (int e = 0; e < u && !seen; e++)
      seen = m->units[e].kind == m->units[u].kind &&
             !memcmp(&m->units[e].conv, &m->units[u].conv, sizeof(dft_conv));
    if (!seen) status = bench_unit(m, &m->units[u], samples, &map, copy_s);
  }
  dft_shard_map_free(&map);
  dft_model_free(m);
  return status;
}

int main(int argc, char **argv) {
  static const char *const words[] = {"float32", "tf32", "bfloat16"};
  const int samples = argc > 1 ? atoi(argv[1]) : 256;
  int precision = DFT_PRECISION_BFLOAT16;
  for (int p = 0; p < 3; p++)
    if (argc > 2 && strcmp(argv[2], words[p]) == 0) precision = p;
  if (bench(samples, (dft_precision)precision) == DFT_OK) return 0;
  fprintf(stderr, "bench_device: %s\n", dft_error());
  return 77;
}
