/* A phase: freeze, plan, fit. */
#include "dft/clock.h"
#include "dft/log.h"
#include "dft/trace.h"
#include "train.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Gradients start to travel when this much is together: large enough for bandwidth, small enough to begin
 * early. */
enum { BUCKET_BYTES = 1 << 20 };

static dft_status hook_sum(void *context, double *sums, size_t count) {
  const double traced_s = dft_trace_begin();
  DFT_TRY(dft_reduce(((dft_run *)context)->reducer, DFT_F64, sums, count));
  dft_trace_end(DFT_TRACE_WORK, "wait for sums", -1, traced_s);
  return DFT_OK;
}

static float *hook_gradient(void *context, int param, size_t *stride) {
  dft_phase *ph = &((dft_run *)context)->phase;
  return dft_buckets_at(ph->buckets, ph->tensor_of[param], stride);
}

static dft_status hook_ready(void *context, int param) {
  dft_phase *ph = &((dft_run *)context)->phase;
  return dft_buckets_ready(ph->buckets, ph->tensor_of[param]);
}

/* The most samples and the nodes that this rank gets in a batch: of a full one or of the smaller last one. */
static dft_status batch_limits(dft_run *run) {
  dft_phase *ph = &run->phase;
  int64_t n = dft_dataset_count(run->data[DFT_SET_TRAIN]), b = run->config->data.batch_size;
  const int64_t sizes[] = {n % b, n < b ? n : b};
  dft_shard_map map = {0};
  dft_status status = DFT_OK;
  for (int i = 0; i < 2 && status == DFT_OK; i++) {
    status =
        dft_shard_map_set(&map, run->shards, dft_comm_size(run->comm), dft_comm_rank(run->comm), sizes[i]);
    if (map.samples > ph->max_samples) ph->max_samples = map.samples;
    ph->nodes = map.nodes;
  }
  dft_shard_map_free(&map);
  return status;
}

static dft_status allocate(dft_run *run) {
  dft_phase *ph = &run->phase;
  size_t n = (size_t)(ph->max_samples > 0 ? ph->max_samples : 1), classes = (size_t)run->model->classes;
  ph->loss = dft_aligned_alloc(n * sizeof(float));
  ph->dlogits = dft_aligned_alloc(n * classes * sizeof(float));
  ph->correct = calloc(n, 1);
  ph->sums = calloc((size_t)ph->nodes * DFT_STEP_SUMS, sizeof *ph->sums);
  ph->tensor_of = malloc((size_t)run->model->param_count * sizeof *ph->tensor_of);
  if (!ph->loss || !ph->dlogits || !ph->correct || !ph->sums || !ph->tensor_of)
    return dft_fail_memory("batch", n * classes * sizeof(float));
  return DFT_OK;
}

static dft_status open_buckets(dft_run *run) {
  dft_phase *ph = &run->phase;
  const int *params = NULL;
  int tensors = dft_tail_travelling(ph->tail, &params);
  int64_t elements[DFT_MAX_TRAVELLING];
  for (int p = 0; p < run->model->param_count; p++) ph->tensor_of[p] = -1;
  for (int t = 0; t < tensors; t++) {
    ph->tensor_of[params[t]] = t;
    elements[t] = run->model->params[params[t]].elements;
  }
  return dft_buckets_new(run->reducer, ph->nodes, elements, tensors, BUCKET_BYTES, dft_host_parts_all(run),
                         &ph->buckets);
}

static dft_status open_parts(dft_run *run, const dft_config_phase *config) {
  dft_phase *ph = &run->phase;
  DFT_TRY(batch_limits(run));
  DFT_TRY(allocate(run));
  DFT_TRY(dft_batch_new(run, ph->max_samples, &ph->batch));
  DFT_TRY(dft_optimizer_new(&config->optimizer, run->model, run->ops, ph->slots, &ph->optimizer));
  if (run->ops->device != NULL) DFT_TRY(dft_device_run_new(run));
  dft_tail_hooks hooks = {.context = run, .sum = hook_sum, .gradient = hook_gradient, .ready = hook_ready};
  DFT_TRY(dft_tail_new(run->model, run->ops, ph->max_samples, ph->nodes, run->config->model.dropout, &hooks,
                       &ph->tail));
  DFT_TRY(open_buckets(run));
  return ph->device != NULL ? dft_device_run_open(run) : DFT_OK;
}

/* All ranks must plan the same exchange; a difference (two builds, two data sets) is found before the first
 * step. */
static dft_status compare_plans(dft_run *run) {
  int64_t n = dft_dataset_count(run->data[DFT_SET_TRAIN]);
  uint64_t plan = dft_buckets_hash(run->phase.buckets) ^ (uint64_t)run->phase.first << 48 ^ (uint64_t)n << 8 ^
                  run->fingerprint[DFT_SET_TRAIN] ^ (uint64_t)run->shards;
  int other;
  DFT_TRY(dft_first_other(run->comm, plan, &other));
  if (other == 0) return DFT_OK;
  return dft_fail(
      DFT_EDATA, "rank %d (host %s) plans another exchange than rank 0: its data or its build of dft differs",
      other, dft_comm_host(run->comm, other));
}

dft_status dft_phase_open(dft_run *run, int index) {
  const dft_config_phase *config = &run->config->phases[index];
  run->phase = (dft_phase){.index = index};
  DFT_TRY(dft_comm_agree(run->comm, dft_model_freeze(run->model, config, run->config->batch_norm)));
  run->phase.first = dft_model_tail_start(run->model);
  DFT_TRY(dft_comm_agree(run->comm, dft_host_open(run)));
  DFT_TRY(dft_comm_agree(run->comm, dft_cache_phase(run->cache, index))); /* first: it gives memory back */
  DFT_TRY(dft_comm_agree(run->comm, open_parts(run, config)));
  DFT_TRY(compare_plans(run));
  return dft_fetch_phase(run->fetch);
}

void dft_phase_close(dft_run *run) {
  dft_phase *ph = &run->phase;
  dft_save_take_back(run); /* before it is freed or written to here */
  dft_fetch_end(run->fetch);
  dft_device_run_free(run);
  dft_tail_free(ph->tail);
  dft_buckets_free(ph->buckets);
  dft_optimizer_free(ph->optimizer);
  dft_batch_free(run, &ph->batch);
  free(ph->loss);
  free(ph->dlogits);
  free(ph->correct);
  free(ph->sums);
  free(ph->tensor_of);
  dft_host_close(run);
  *ph = (dft_phase){0};
}

static void report_step(dft_run *run, const dft_step_result *s, int steps, double seconds) {
  if (run->report == NULL) return;
  const double traced_s = dft_trace_begin();
  const dft_position *at = &run->at;
  int64_t b = run->config->data.batch_size;
  dft_defer(run, dft_report_step(run->report,
                                 &(dft_step_report){
                                     .epoch = at->epoch + 1,
                                     .step = at->step,
                                     .step_in_epoch = (int)((at->position + b - 1) / b),
                                     .steps_per_epoch = steps,
                                     .loss = dft_mean(s->loss, s->count),
                                     .accuracy = dft_mean(s->correct, s->count),
                                     .running_loss = dft_mean(at->loss_sum, at->count_sum),
                                     .running_accuracy = dft_mean(at->correct_sum, at->count_sum),
                                     .learning_rate = run->config->phases[at->phase].optimizer.learning_rate,
                                     .images_per_s = s->count / seconds,
                                     .data_s = s->data_s,
                                     .compute_s = s->compute_s,
                                     .communication_s = s->communication_s}));
  dft_trace_end(DFT_TRACE_WORK, "log", -1, traced_s);
}

/* A checkpoint from which the same command goes on. */
static dft_status save_to_go_on(dft_run *run) {
  DFT_TRY(dft_save(run, DFT_SAVE_NUMBERED));
  DFT_TRY(dft_save_wait(run));
  DFT_TRY(dft_agree_pending(run)); /* of a save that ended during an evaluation, perhaps */
  return dft_trace_finish(run);
}

static dft_status stop(dft_run *run) {
  DFT_TRY(save_to_go_on(run));
  return dft_fail(DFT_ESTOPPED,
                  "stopped by a signal after step %" PRId64
                  ", checkpoint written to %s: run the same command again to go on",
                  run->at.step, run->config->run_dir);
}

static dft_status one_step(dft_run *run, int steps) {
  const double start_s = dft_now_s(), traced_s = dft_trace_begin();
  dft_step_result s;
  DFT_TRY(dft_train_step(run, &s));
  dft_position *at = &run->at;
  at->step++;
  at->position += dft_batch_samples_at(run, at->position);
  at->loss_sum += s.loss;
  at->correct_sum += s.correct;
  at->count_sum += s.count;
  at->left_out += s.left_out;
  report_step(run, &s, steps, dft_now_s() - start_s);
  dft_trace_end(DFT_TRACE_WORK, "step", at->step, traced_s);
  DFT_TRY(dft_trace_step(run));
  if (s.stop) return stop(run);
  int every = run->config->checkpoint.every_steps;
  return every > 0 && at->step % every == 0 ? dft_save(run, DFT_SAVE_NUMBERED) : DFT_OK;
}

/* Whether this epoch's score is the best so far; the first of equals stays. Only where nothing is validated
 * is it training's: a val_loss that is not finite is worse than all others. */
static bool improves(dft_run *run, const dft_epoch *e) {
  const bool validated = run->data[DFT_SET_VALIDATION] != NULL;
  bool accuracy = run->config->checkpoint.monitor == DFT_MONITOR_VAL_ACCURACY;
  double score = accuracy ? (validated ? e->val_accuracy : e->accuracy) : (validated ? e->val_loss : e->loss);
  if (validated && !isfinite(score) && dft_comm_rank(run->comm) == 0)
    dft_warn("epoch %d: val_loss is not finite: it cannot become best.pb", e->epoch);
  if (!isfinite(score)) return false; /* or all its steps were skipped */
  double best = run->at.best;
  if (!isnan(best) && (accuracy ? score <= best : score >= best)) return false;
  run->at.best = score;
  run->at.best_epoch = e->epoch;
  return true;
}

static dft_status remember(dft_run *run, const dft_epoch *e) {
  if (dft_comm_rank(run->comm) != 0) return DFT_OK;
  dft_epoch *longer = realloc(run->history, ((size_t)run->history_count + 1) * sizeof *longer);
  if (longer == NULL) return dft_fail_memory("history", 0);
  run->history = longer;
  longer[run->history_count] = *e;
  longer[run->history_count].phase = strdup(e->phase);
  if (longer[run->history_count].phase == NULL) return dft_fail_memory("history", 0);
  run->history_count++;
  return DFT_OK;
}

/* One state under all its names. */
static dft_status save_epoch(dft_run *run, bool best) {
  dft_position *at = &run->at;
  const int every = run->config->checkpoint.every_epochs, last = run->config->phase_count - 1;
  at->finished = at->phase == last && at->phase_epoch == run->config->phases[last].epochs;
  unsigned names = best ? DFT_SAVE_BEST : 0;
  if (every > 0 && (at->epoch % every == 0 || at->finished)) names |= DFT_SAVE_NUMBERED;
  if (at->finished) names |= DFT_SAVE_FINAL;
  return names == 0 ? DFT_OK : dft_save(run, names);
}

/* What the epoch took, of all ranks. */
static dft_status sum_work(dft_run *run) {
  (void)dft_take_work(run);
  double sums[] = {(double)run->work.images_decoded, (double)run->work.fetched_bytes};
  DFT_TRY(dft_comm_sum_f64(run->comm, sums, 2));
  run->work = (dft_epoch_work){0};
  if (run->report != NULL)
    dft_report_epoch_work(
        run->report, (dft_epoch_work){.images_decoded = (int64_t)sums[0], .fetched_bytes = (int64_t)sums[1]});
  return DFT_OK;
}

/* The epoch's steps are done: the next start measures again. */
static dft_status fail_validation(dft_run *run, int64_t samples) {
  DFT_TRY(save_to_go_on(run));
  return dft_fail(
      DFT_EDATA,
      "none of the %lld validation samples can be read; a checkpoint is in %s: make them readable "
      "and run the same command again",
      (long long)samples, run->config->run_dir);
}

/* Validation, history, the epoch's line and checkpoint. */
static dft_status end_epoch(dft_run *run, int steps, double start_s) {
  dft_position *at = &run->at;
  const dft_config_phase *phase = &run->config->phases[at->phase];
  dft_tell_left_out(run, DFT_SET_TRAIN, at->left_out);
  if (at->left_out == dft_dataset_count(run->data[DFT_SET_TRAIN]))
    return dft_fail(DFT_EDATA, "none of the %lld training samples can be read: nothing was learnt",
                    (long long)at->left_out);
  dft_epoch e = {.epoch = at->epoch + 1,
                 .phase = phase->name,
                 .accuracy = dft_mean(at->correct_sum, at->count_sum),
                 .loss = dft_mean(at->loss_sum, at->count_sum),
                 .val_accuracy = NAN,
                 .val_loss = NAN,
                 .learning_rate = phase->optimizer.learning_rate};
  DFT_TRY(dft_comm_agree(run->comm, dft_device_fetch(run)));
  dft_metrics metrics = {0};
  if (run->data[DFT_SET_VALIDATION] != NULL) {
    const double traced_s = dft_trace_begin();
    dft_status status = dft_measure(run, DFT_SET_VALIDATION, &metrics);
    dft_trace_end(DFT_TRACE_WORK, "validation", -1, traced_s);
    if (status == DFT_ESTOPPED) return stop(run); /* the epoch's steps are done: the next start evaluates */
    DFT_TRY(status);
    if (metrics.count == 0) return fail_validation(run, metrics.left_out);
    dft_tell_left_out(run, DFT_SET_VALIDATION, metrics.left_out);
    e.val_accuracy = metrics.accuracy;
    e.val_loss = metrics.loss;
  }
  at->epoch++;
  at->phase_epoch++;
  at->position = 0;
  at->loss_sum = at->correct_sum = at->count_sum = 0;
  at->left_out = 0;
  bool best = improves(run, &e);
  dft_defer(run, remember(run, &e));
  DFT_TRY(sum_work(run));
  if (run->report != NULL)
    dft_defer(run, dft_report_epoch_end(run->report, &e, steps, dft_now_s() - start_s));
  DFT_TRY(dft_agree_pending(run));
  return save_epoch(run, best);
}

dft_status dft_phase_fit(dft_run *run) {
  dft_position *at = &run->at;
  int epochs = run->config->phases[at->phase].epochs;
  int64_t n = dft_dataset_count(run->data[DFT_SET_TRAIN]), b = run->config->data.batch_size;
  int steps = (int)((n + b - 1) / b);
  DFT_TRY(dft_comm_agree(run->comm, dft_device_run_start(run)));
  dft_ahead_phase(run, epochs - at->phase_epoch);
  while (at->phase_epoch < epochs) {
    double start_s = dft_now_s();
    if (run->report != NULL) dft_report_epoch_begin(run->report, at->phase_epoch + 1, epochs);
    while (at->position < n) DFT_TRY(one_step(run, steps));
    DFT_TRY(end_epoch(run, steps, start_s));
  }
  return DFT_OK;
}
