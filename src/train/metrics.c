/* Evaluation: every sample once, over the ranks by shards, summed in the tree's order. */
#include "dft/clock.h"
#include "dft/log.h"
#include "dft/loss.h"
#include "train.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 64, TILES_PER_QUESTION = 8 };

/* What evaluation needs beside the run: the network after the boundary, and results per local sample. */
typedef struct evaluation {
  dft_folded_net *net; /* boundary -> features; NULL when the boundary is the features */
  dft_shard_map map;
  float *x, *features, *packed, *logits, *dlogits, *loss;
  int *labels, *predicted;
  int64_t *samples;
  unsigned char *correct, *bad; /* bad: could not be read, left out */
  int measured;                 /* local samples so far, without those */
  double *sums;
  dft_arena *arena;
} evaluation;

/* What dft_measure sums, of each node: loss, correct, count; then metrics->by_class; then the confusion
 * matrix. All but the loss are integers, exact in float64. */
typedef struct columns {
  size_t classes, by_class, confusion, width; /* where they begin; the end */
} columns;

static columns columns_of(const dft_metrics *metrics, int classes) {
  columns k = {.classes = (size_t)classes, .by_class = DFT_STEP_SUMS};
  k.confusion = k.by_class + (metrics->by_class != NULL ? DFT_BY_CLASS * k.classes : 0);
  k.width = k.confusion + (metrics->confusion != NULL ? k.classes * k.classes : 0);
  return k;
}

static dft_status open_evaluation(const dft_run *run, int64_t count, const columns *k, evaluation *e) {
  const dft_model *m = run->model;
  e->arena = dft_arena_new();
  if (e->arena == NULL) return dft_fail_memory("evaluation", 0);
  DFT_TRY(dft_shard_map_set(&e->map, run->shards, dft_comm_size(run->comm), dft_comm_rank(run->comm), count));
  size_t local = (size_t)e->map.samples, classes = (size_t)m->classes;
  e->x = dft_arena_floats(e->arena, TILE * (size_t)dft_model_boundary(m, run->phase.first));
  e->features = dft_arena_floats(e->arena, TILE * (size_t)m->features);
  e->packed = dft_arena_floats(e->arena, dft_model_head_packed_floats(m, run->host_ops));
  e->logits = dft_arena_floats(e->arena, TILE * classes);
  e->dlogits = dft_arena_floats(e->arena, TILE * classes);
  e->loss = dft_arena_floats(e->arena, local);
  e->labels = dft_arena_alloc(e->arena, local * sizeof(int));
  e->predicted = dft_arena_alloc(e->arena, local * sizeof(int));
  e->samples = dft_arena_alloc(e->arena, TILE * sizeof(int64_t));
  e->correct = dft_arena_alloc(e->arena, local);
  e->bad = dft_arena_alloc(e->arena, local);
  e->sums = dft_arena_alloc(e->arena, (size_t)e->map.nodes * k->width * sizeof(double));
  if (!e->x || !e->features || !e->packed || !e->logits || !e->dlogits || !e->loss || !e->labels ||
      !e->predicted || !e->samples || !e->correct || !e->bad || !e->sums)
    return dft_fail_memory("evaluation", dft_arena_bytes(e->arena));
  if (run->phase.first == m->unit_count) return DFT_OK;
  return dft_folded_new(m, run->ops, run->phase.first, m->unit_count, DFT_PREFIX_FLOAT32, &e->net);
}

static void close_evaluation(evaluation *e) {
  dft_folded_free(e->net);
  dft_shard_map_free(&e->map);
  dft_arena_free(e->arena);
}

/* Samples [first, first+n) of this rank's; those that cannot be read leave no result. */
static dft_status measure_tile(dft_run *run, dft_set set, evaluation *e, int first, int n) {
  const dft_model *m = run->model;
  size_t row = (size_t)dft_model_boundary(m, run->phase.first);
  int asked = n, at = e->measured;
  unsigned char *bad = e->bad + first;
  for (int i = 0; i < n; i++) e->samples[i] = e->map.begin + first + i;
  DFT_TRY(dft_cache_rows(run->cache, set, e->samples, n, DFT_VIEW_PLAIN, NULL, e->x, bad));
  n = 0;
  for (int i = 0; i < asked; i++) {
    if (bad[i]) continue;
    if (n < i) memcpy(e->x + (size_t)n * row, e->x + (size_t)i * row, row * sizeof *e->x);
    e->labels[at + n++] = dft_dataset_label(run->data[set], e->samples[i]);
  }
  e->measured += n;
  if (n == 0) return DFT_OK;
  const float *features = e->x;
  if (e->net != NULL) {
    DFT_TRY(dft_folded_run(e->net, e->x, e->features, n));
    features = e->features;
  }
  dft_model_head(m, run->host_ops, features, e->packed, e->logits, n);
  dft_cross_entropy(e->logits, e->labels + at, n, m->classes, e->loss + at, e->dlogits, e->correct + at);
  for (int i = 0; i < n; i++)
    e->predicted[at + i] = dft_argmax(e->logits + (size_t)i * (size_t)m->classes, m->classes);
  return DFT_OK;
}

/* Node-major. */
static void sum_up(evaluation *e, const columns *k) {
  dft_node_sums(&e->map, e->loss, e->sums + DFT_STEP_LOSS, k->width);
  dft_node_sums_u8(&e->map, e->correct, e->sums + DFT_STEP_CORRECT, k->width);
  for (int n = 0; n < e->map.nodes; n++) {
    double *node = e->sums + (size_t)n * k->width, *by_class = node + k->by_class;
    int begin = e->map.first[e->map.node_first[n]], end = e->map.first[e->map.node_first[n + 1]];
    node[DFT_STEP_COUNT] = end - begin;
    for (int i = begin; i < end && k->confusion > k->by_class; i++) {
      const size_t label = (size_t)e->labels[i], predicted = (size_t)e->predicted[i];
      by_class[DFT_BY_TRUE * k->classes + label] += 1.0;
      by_class[DFT_BY_PREDICTED * k->classes + predicted] += 1.0;
      if (label == predicted) by_class[DFT_BY_BOTH * k->classes + label] += 1.0;
    }
    for (int i = begin; i < end && k->width > k->confusion; i++)
      node[k->confusion + (size_t)e->labels[i] * k->classes + (size_t)e->predicted[i]] += 1.0;
  }
}

/* Of this rank's samples so many are done: the other ranks have come as far with theirs, more or less. */
static void show_progress(const dft_run *run, dft_set set, const evaluation *e, int done, double start_s) {
  const int64_t all = dft_dataset_count(run->data[set]), mine = e->map.samples;
  if (run->report != NULL) return; /* training, whose bar is on the terminal */
  dft_progress("validation: %lld of %lld samples, %.0f s left", (long long)(all * done / mine),
               (long long)all, dft_left_s(start_s, done, mine));
}

/* This rank's samples. Now and then all ranks ask whether one of them failed or was told to stop: then all
 * leave together. */
static dft_status measure_all(dft_run *run, dft_set set, evaluation *e) {
  int64_t most = e->map.samples, leave = 0;
  DFT_TRY(dft_comm_max(run->comm, &most));
  dft_status status = DFT_OK;
  const double start_s = dft_now_s();
  for (int64_t first = 0; first < most && !leave; first += TILE) {
    dft_ahead_move_to(run, set, first);
    dft_ahead_fill(run);
    dft_save_poll(run);
    const int left = e->map.samples - (int)first, n = left < TILE ? left : TILE;
    if (first % (TILE * TILES_PER_QUESTION) == 0) {
      leave = status != DFT_OK || dft_stop_requested();
      DFT_TRY(dft_comm_max(run->comm, &leave));
    }
    if (!leave && left > 0 && status == DFT_OK) {
      status = measure_tile(run, set, e, (int)first, n);
      show_progress(run, set, e, (int)first + n, start_s);
    }
    dft_comm_tick(run->comm);
  }
  dft_progress_end();
  DFT_TRY(dft_comm_agree_hosts(run->comm, status));
  return leave ? dft_fail(DFT_ESTOPPED, "stopped by a signal while evaluating") : DFT_OK;
}

double dft_mean(double sum, double count) {
  const double mean = count > 0 ? sum / count : NAN;
  return isnan(mean) ? NAN : mean;
}

dft_status dft_measure(dft_run *run, dft_set set, dft_metrics *metrics) {
  evaluation e = {0};
  const columns k = columns_of(metrics, run->model->classes);
  dft_set_activity(run, "the evaluation after step", 0);
  dft_status status =
      dft_comm_agree(run->comm, open_evaluation(run, dft_dataset_count(run->data[set]), &k, &e));
  if (status == DFT_OK) status = measure_all(run, set, &e);
  if (status == DFT_OK) {
    dft_shard_map_leave_out(&e.map, e.bad);
    sum_up(&e, &k);
    status = dft_reduce(run->host_reducer, DFT_F64, e.sums, k.width);
  }
  if (status == DFT_OK) {
    double count = e.sums[DFT_STEP_COUNT];
    metrics->count = (int64_t)count;
    metrics->left_out = dft_dataset_count(run->data[set]) - metrics->count;
    metrics->loss = dft_mean(e.sums[DFT_STEP_LOSS], count);
    metrics->accuracy = dft_mean(e.sums[DFT_STEP_CORRECT], count);
    for (size_t i = k.by_class; i < k.confusion; i++) metrics->by_class[i - k.by_class] = (int64_t)e.sums[i];
    for (size_t i = k.confusion; i < k.width; i++) metrics->confusion[i - k.confusion] = (int64_t)e.sums[i];
  }
  close_evaluation(&e);
  return status;
}
