/* What a training step computes and what it exchanges, for scale.sh:
 *
 *     [mpirun -np N] bench_scale [images per rank] [steps]
 *
 * For each of the seed's two phases and for all layers, rank 0 prints, tab-separated,
 *
 *     exchange  PHASE  BYTES  blocking|overlapped        each reduction of a step, in order (np 1)
 *     compute   PHASE  SECONDS                           CPU time of forward, loss and backward, one thread
 *                                                        (np 1)
 *     measured  PHASE  RANKS  SECONDS  BYTES  MESSAGES   the exchange of a step alone, sent by the busiest
 *                                                        rank
 *
 * blocking: BatchNorm's sums, which the layer waits for; overlapped: gradients, which travel while backward
 * goes on. Seconds are the median of the steps. */
#include "dft/arena.h"
#include "dft/buckets.h"
#include "dft/clock.h"
#include "dft/comm.h"
#include "dft/loss.h"
#include "dft/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  CLASSES = 5,
  MOST = 256,             /* reductions, parameters and steps */
  BUCKET_BYTES = 1 << 20, /* as in src/train/phase.c */
  MOST_IMAGES = 1024,
  LATENCY_SUMS = 100,
  WARM = 10
};

typedef struct exchange {
  dft_dtype dtype;
  size_t count;
  bool blocking;
} exchange;

typedef struct bench {
  dft_comm *comm;
  dft_reducer *reducer;
  dft_model *model;
  const dft_ops *ops;
  dft_shard_map map;
  dft_buckets *buckets;
  int tensor_of[512];
  exchange list[MOST]; /* of one step */
  int listed;
  bool listing;
} bench;

static void list(bench *b, dft_dtype dtype, size_t count, bool blocking) {
  if (b->listing && b->listed < MOST) b->list[b->listed++] = (exchange){dtype, count, blocking};
}

static dft_status hook_sum(void *context, double *sums, size_t count) {
  bench *b = context;
  list(b, DFT_F64, count, true);
  return dft_reduce(b->reducer, DFT_F64, sums, count);
}

static float *hook_gradient(void *context, int param, size_t *stride) {
  bench *b = context;
  return dft_buckets_at(b->buckets, b->tensor_of[param], stride);
}

static dft_status hook_ready(void *context, int param) {
  bench *b = context;
  return dft_buckets_ready(b->buckets, b->tensor_of[param]);
}

/* The buckets as src/train/phase.c makes them; their sizes close the list of a step's reductions. */
static dft_status open_buckets(bench *b, const dft_tail *tail) {
  const int *params = NULL;
  int tensors = dft_tail_travelling(tail, &params);
  int64_t elements[MOST];
  for (int t = 0; t < tensors; t++) {
    b->tensor_of[params[t]] = t;
    elements[t] = b->model->params[params[t]].elements;
  }
  return dft_buckets_new(b->reducer, b->map.nodes, elements, tensors, BUCKET_BYTES, false, &b->buckets);
}

static void list_buckets(bench *b, const dft_tail *tail) {
  const int *params = NULL;
  int tensors = dft_tail_travelling(tail, &params);
  size_t stride = 0, counts[MOST];
  int buckets = 0;
  const float *end = NULL;
  for (int t = 0; t < tensors; t++) { /* a tensor at the end of its bucket's row 0 opens no new one */
    const float *at = dft_buckets_at(b->buckets, t, &stride);
    if (end == NULL || at < end - stride || at >= end) {
      counts[buckets++] = stride;
      end = at + stride;
    }
  }
  for (int i = 0; i < buckets; i++) list(b, DFT_F32, counts[i], false);
}

static int by_value(const void *a, const void *b) {
  double d = *(const double *)a - *(const double *)b;
  return d < 0 ? -1 : d > 0;
}

static double median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, by_value);
  return values[count / 2];
}

/* Of this process: others on a shared machine do not count. */
static double cpu_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Steps of the tail on `images` local images; the first one fills the list. */
static dft_status train(bench *b, dft_tail *tail, int images, int steps, double *compute_s) {
  static const int64_t numbers[MOST_IMAGES];
  static int labels[MOST_IMAGES];
  static float loss[MOST_IMAGES], dlogits[MOST_IMAGES * CLASSES];
  static unsigned char correct[MOST_IMAGES];
  size_t row = (size_t)dft_model_boundary(b->model, dft_model_tail_start(b->model));
  float *x = dft_aligned_alloc((size_t)images * row * sizeof *x);
  if (x == NULL) return dft_fail_memory("images", (size_t)images * row * sizeof *x);
  for (size_t i = 0; i < (size_t)images * row; i++)
    x[i] = (float)((i * 2654435761U >> 8) & 0xffff) / 65536.0F;
  dft_batch batch = {.map = &b->map, .global = (int64_t)images * dft_comm_size(b->comm), .samples = numbers};
  double seconds[MOST];
  dft_status status = DFT_OK;
  for (int s = 0; s < steps && status == DFT_OK; s++) {
    double sums[DFT_MAX_NODES * DFT_STEP_SUMS] = {0}, start_s = cpu_s();
    float *logits = NULL;
    b->listing = s == 0;
    status = dft_tail_forward(tail, &batch, x, &logits);
    if (status != DFT_OK) break;
    dft_cross_entropy(logits, labels, images, CLASSES, loss, dlogits, correct);
    list(b, DFT_F64, DFT_STEP_SUMS, false);
    status = dft_reduce(b->reducer, DFT_F64, sums, DFT_STEP_SUMS);
    if (status == DFT_OK) status = dft_tail_backward(tail, &batch, x, dlogits);
    if (status == DFT_OK) status = dft_buckets_wait(b->buckets);
    if (b->listing) list_buckets(b, tail);
    seconds[s] = cpu_s() - start_s;
  }
  b->listing = false;
  *compute_s = median(seconds, steps);
  free(x);
  return status;
}

/* The listed reductions alone: the blocking ones one by one, then the others together; step after step, so
 * that ranks keep together by themselves, and links have no rest in which they gather credit. */
static dft_status replay(bench *b, char *const *data, int steps, double *step_s, dft_reduce_stats *stats) {
  double seconds[MOST];
  DFT_TRY(dft_comm_barrier(b->comm));
  for (int s = 0; s < steps; s++) {
    dft_reduction_handle *under_way[MOST];
    int count = 0;
    double start_s = dft_now_s();
    dft_reducer_reset(b->reducer);
    for (int i = 0; i < b->listed; i++) {
      if (b->list[i].blocking)
        DFT_TRY(dft_reduce(b->reducer, b->list[i].dtype, data[i], b->list[i].count));
      else
        DFT_TRY(
            dft_reduce_start(b->reducer, b->list[i].dtype, data[i], b->list[i].count, &under_way[count++]));
    }
    for (int i = 0; i < count; i++) DFT_TRY(dft_reduce_wait(b->reducer, under_way[i]));
    seconds[s] = dft_now_s() - start_s;
  }
  *stats = dft_reducer_stats(b->reducer);
  *step_s = median(seconds, steps);
  return DFT_OK;
}

/* One stage of a sum of next to nothing: what a message costs on this machine, as busy as it is now. */
static dft_status latency(bench *b) {
  double sums[DFT_MAX_NODES] = {0}, start_s = 0;
  int stages = 0;
  for (int r = b->map.nodes; r < dft_comm_size(b->comm); r *= 2) stages++;
  for (int s = -WARM; s < LATENCY_SUMS; s++) {
    if (s == 0) start_s = dft_now_s();
    DFT_TRY(dft_reduce(b->reducer, DFT_F64, sums, 1));
  }
  if (dft_comm_rank(b->comm) == 0)
    printf("latency\t%d\t%.9f\n", dft_comm_size(b->comm),
           (dft_now_s() - start_s) / LATENCY_SUMS / (stages > 0 ? stages : 1));
  return DFT_OK;
}

static size_t bytes_of(const exchange *e) {
  return e->count * (e->dtype == DFT_F32 ? sizeof(float) : sizeof(double));
}

static dft_status measure(bench *b, const char *phase, int steps) {
  char *data[MOST] = {0};
  dft_status status = DFT_OK;
  double step_s = 0;
  dft_reduce_stats stats = {0};
  for (int i = 0; i < b->listed; i++) {
    size_t bytes = bytes_of(&b->list[i]) * (size_t)b->map.nodes;
    data[i] = dft_aligned_alloc(bytes);
    if (data[i] == NULL) status = dft_fail_memory("exchange", bytes);
    if (data[i] != NULL) memset(data[i], 0, bytes);
  }
  status = dft_comm_agree(b->comm, status);
  if (status == DFT_OK) status = replay(b, data, steps, &step_s, &stats);
  int64_t bytes = (int64_t)stats.bytes_sent, messages = (int64_t)stats.messages_sent;
  if (status == DFT_OK) status = dft_comm_max(b->comm, &bytes);
  if (status == DFT_OK) status = dft_comm_max(b->comm, &messages);
  if (status == DFT_OK && dft_comm_rank(b->comm) == 0)
    printf("measured\t%s\t%d\t%.9f\t%lld\t%lld\n", phase, dft_comm_size(b->comm), step_s, (long long)bytes,
           (long long)messages);
  for (int i = 0; i < b->listed; i++) free(data[i]);
  return status;
}

static dft_status one_phase(bench *b, char *phase, int unfreeze_last, int images, int steps) {
  dft_config_phase config = {.name = phase, .unfreeze_last = unfreeze_last};
  dft_tail_hooks hooks = {b, hook_sum, hook_gradient, hook_ready};
  dft_tail *tail = NULL;
  int ranks = dft_comm_size(b->comm);
  double compute_s = 0;
  DFT_TRY(dft_model_freeze(b->model, &config, DFT_BN_SYNC));
  DFT_TRY(dft_shard_map_set(&b->map, dft_shards_auto(ranks), ranks, dft_comm_rank(b->comm),
                            (int64_t)images * ranks));
  if (b->map.samples != images)
    return dft_fail(DFT_EUSAGE, "%d ranks get unequal shares: use a power of two", ranks);
  DFT_TRY(dft_tail_new(b->model, b->ops, images, b->map.nodes, 0, &hooks, &tail));
  b->listed = 0;
  dft_status status = open_buckets(b, tail);
  if (status == DFT_OK) status = train(b, tail, images, ranks == 1 ? steps : 1, &compute_s);
  for (int i = 0; i < b->listed && ranks == 1; i++)
    printf("exchange\t%s\t%zu\t%s\n", phase, bytes_of(&b->list[i]),
           b->list[i].blocking ? "blocking" : "overlapped");
  if (status == DFT_OK && ranks == 1) printf("compute\t%s\t%.9f\n", phase, compute_s);
  if (status == DFT_OK && ranks > 1) status = latency(b);
  if (status == DFT_OK && ranks > 1) status = measure(b, phase, steps);
  dft_buckets_free(b->buckets);
  dft_tail_free(tail);
  return status;
}

static dft_status run(bench *b, int images, int steps) {
  static char head[] = "head", tail[] = "tail", all[] = "all";
  dft_kernels kernels = DFT_KERNELS_REFERENCE;
  int ranks = dft_comm_size(b->comm);
  DFT_TRY(dft_ops_best(&kernels));
  b->ops = dft_ops_get(kernels);
  dft_ops_set_threads(1);
  DFT_TRY(dft_reducer_new(b->comm, dft_shards_auto(ranks), true, NULL, &b->reducer));
  DFT_TRY(dft_model_new(1.0, 96, 96, DFT_POOL_AVG, CLASSES, &b->model));
  dft_model_init(b->model, 1);
  DFT_TRY(one_phase(b, head, 0, images, steps));
  DFT_TRY(one_phase(b, tail, 20, images, steps));
  return one_phase(b, all, b->model->base_layers, images, steps);
}

int main(int argc, char **argv) {
  static bench b;
  int images = argc > 1 ? atoi(argv[1]) : 32, steps = argc > 2 ? atoi(argv[2]) : 7;
  if (images < 8 || images > MOST_IMAGES || steps < 1 || steps > MOST) {
    fprintf(stderr, "bench_scale: 8 to %d images, 1 to %d steps\n", MOST_IMAGES, MOST);
    return 2;
  }
  dft_status status = dft_comm_open(&b.comm);
  if (status == DFT_OK) status = run(&b, images, steps);
  if (status != DFT_OK) fprintf(stderr, "bench_scale: %s\n", dft_error());
  dft_reducer_free(b.reducer);
  dft_model_free(b.model);
  dft_shard_map_free(&b.map);
  const int code = status == DFT_OK ? 0 : 1;
  dft_comm_close(b.comm, code);
  return code;
}
