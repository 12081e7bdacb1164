/* One optimizer step: rows -> forward -> loss -> backward, the exchange beside it -> update. */
#include "dft/clock.h"
#include "dft/log.h"
#include "dft/loss.h"
#include "dft/trace.h"
#include "train.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_SKIPPED = 10 /* steps in a row under on_nonfinite: skip */ };

void dft_defer(dft_run *run, dft_status status) {
  if (status == DFT_OK || run->pending != DFT_OK) return;
  run->pending = status;
  snprintf(run->pending_text, sizeof run->pending_text, "%s", dft_error());
}

dft_status dft_agree_pending(dft_run *run) {
  if (run->pending != DFT_OK) dft_fail(run->pending, "%s", run->pending_text);
  return dft_comm_agree_hosts(run->comm, run->pending);
}

void dft_set_activity(dft_run *run, const char *what, int ahead) {
  char where[64];
  snprintf(where, sizeof where, "%s %lld", what, (long long)run->at.step + ahead);
  dft_comm_set_activity(run->comm, where);
}

static void measure_loss(dft_run *run, const float *logits) {
  dft_phase *ph = &run->phase;
  const dft_local_batch *b = &ph->batch;
  int n = b->map.samples, classes = run->model->classes;
  if (b->mixes == NULL)
    dft_cross_entropy(logits, b->labels, n, classes, ph->loss, ph->dlogits, ph->correct);
  else
    dft_cross_entropy_mixed(logits, b->labels, b->others, b->weights, n, classes, ph->loss, ph->dlogits,
                            ph->correct);
}

static void batch_sums(dft_run *run) {
  dft_phase *ph = &run->phase;
  const dft_shard_map *map = &ph->batch.map;
  memset(ph->sums, 0, (size_t)map->nodes * DFT_STEP_SUMS * sizeof *ph->sums);
  dft_node_sums(map, ph->loss, ph->sums + DFT_STEP_LOSS, DFT_STEP_SUMS);
  dft_node_sums_u8(map, ph->correct, ph->sums + DFT_STEP_CORRECT, DFT_STEP_SUMS);
  for (int n = 0; n < map->nodes; n++)
    ph->sums[n * DFT_STEP_SUMS + DFT_STEP_COUNT] =
        map->first[map->node_first[n + 1]] - map->first[map->node_first[n]];
  ph->sums[DFT_STEP_STOP] = dft_stop_requested();
  ph->sums[DFT_STEP_FAILED] = run->pending != DFT_OK;
}

static dft_status not_finite(dft_run *run, const char *what) {
  char names[512] = "";
  int64_t n = dft_dataset_count(run->data[DFT_SET_TRAIN]);
  const dft_config *c = run->config;
  size_t used = 0;
  for (int64_t i = 0; i < c->data.batch_size && run->at.position + i < n && used < sizeof names - 80; i++) {
    int64_t sample = dft_sampler((uint64_t)c->seed, c->data.shuffle, run->at.epoch, n, run->at.position + i);
    char name[64];
    dft_dataset_name(run->data[DFT_SET_TRAIN], sample, name, sizeof name);
    used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", name);
  }
  return dft_fail(
      DFT_ENONFINITE,
      "step %lld (epoch %d): the %s is not finite; lower the learning rate, or look at the batch (dft check "
      "finds images that are not finite): %s",
      (long long)run->at.step + 1, run->at.epoch + 1, what, names);
}

/* Whether a step that is not finite may be passed over: it leaves no trace but its place in the epoch. */
static bool may_skip(dft_run *run, dft_status status) {
  if (status != DFT_ENONFINITE || run->config->on_nonfinite != DFT_NONFINITE_SKIP) return false;
  if (++run->at.skipped > MOST_SKIPPED) {
    dft_context(status, "after %d skipped steps in a row", MOST_SKIPPED);
    return false;
  }
  if (dft_comm_rank(run->comm) == 0) dft_warn("skipped: %s", dft_error());
  return true;
}

const float *dft_gradient_of(const dft_phase *ph, int param) {
  size_t stride = 0;
  return ph->tensor_of[param] >= 0 ? dft_buckets_at(ph->buckets, ph->tensor_of[param], &stride)
                                   : dft_tail_bn_gradient(ph->tail, param);
}

static dft_status check_gradients(dft_run *run) {
  const dft_model *m = run->model;
  for (int p = 0; p < m->param_count; p++) {
    int64_t first, count;
    if (!m->params[p].trainable) continue;
    count = dft_host_part(run, p, &first);
    if (!run->ops->all_finite(dft_gradient_of(&run->phase, p) + first, count))
      return not_finite(run, "gradient");
  }
  return DFT_OK;
}

static void apply_gradients(dft_run *run, float scale) {
  dft_phase *ph = &run->phase;
  const dft_model *m = run->model;
  dft_optimizer_begin(ph->optimizer);
  for (int p = 0; p < m->param_count; p++) {
    int64_t first, count;
    if (!m->params[p].trainable) continue;
    count = dft_host_part(run, p, &first);
    dft_optimizer_apply(ph->optimizer, p, dft_gradient_of(ph, p), scale, first, count);
  }
  if (dft_host_writes(run)) dft_tail_commit_statistics(ph->tail, NULL);
}

/* The update, the same on all hosts because the totals are. Nothing is touched unless everything is finite.
 */
static dft_status update(dft_run *run, double count) {
  double traced_s = dft_trace_begin();
  DFT_TRY(dft_host_fence(run, check_gradients(run)));
  dft_trace_end(DFT_TRACE_WORK, "finite check", -1, traced_s);
  traced_s = dft_trace_begin();
  apply_gradients(run, (float)(1.0 / count));
  DFT_TRY(dft_host_fence(run, DFT_OK));
  dft_trace_end(DFT_TRACE_WORK, "update", -1, traced_s);
  return DFT_OK;
}

/* Whether the number of samples in a batch is known only after an exchange. */
static bool may_leave_out(const dft_run *run) {
  return run->config->data.on_corrupt == DFT_CORRUPT_SKIP && dft_dataset_can_fail(run->data[DFT_SET_TRAIN]);
}

/* The step's work on the host, up to the totals of its sums and gradients. */
static dft_status compute(dft_run *run, int64_t global) {
  dft_phase *ph = &run->phase;
  const dft_local_batch *b = &ph->batch;
  dft_batch batch = {.map = &b->map,
                     .global = may_leave_out(run) ? -1 : global,
                     .samples = b->samples,
                     .seed = (uint64_t)run->config->seed,
                     .epoch = (uint32_t)run->at.epoch};
  float *logits = NULL;
  double traced_s = dft_trace_begin();
  DFT_TRY(dft_tail_forward(ph->tail, &batch, b->x, &logits));
  dft_trace_end(DFT_TRACE_WORK, "forward", -1, traced_s);
  traced_s = dft_trace_begin();
  measure_loss(run, logits);
  batch_sums(run);
  dft_reduction_handle *sums = NULL;
  DFT_TRY(dft_reduce_start(run->reducer, DFT_F64, ph->sums, DFT_STEP_SUMS, &sums));
  dft_trace_end(DFT_TRACE_WORK, "loss", -1, traced_s);
  traced_s = dft_trace_begin();
  DFT_TRY(dft_tail_backward(ph->tail, &batch, b->x, ph->dlogits));
  dft_trace_end(DFT_TRACE_WORK, "backward", -1, traced_s);
  traced_s = dft_trace_begin();
  DFT_TRY(dft_reduce_wait(run->reducer, sums));
  DFT_TRY(dft_buckets_wait(ph->buckets));
  dft_trace_end(DFT_TRACE_WORK, "wait for gradients", -1, traced_s);
  return DFT_OK;
}

dft_status dft_train_step(dft_run *run, dft_step_result *result) {
  dft_phase *ph = &run->phase;
  double start_s = dft_now_s();
  dft_set_activity(run, "step", 1);
  int64_t global = dft_batch_samples_at(run, run->at.position);
  dft_save_poll(run);
  dft_save_take_back(run);
  dft_reducer_reset(run->reducer);
  (void)dft_take_work(run); /* what evaluation waited for is not the step's */
  dft_waited waited = {0};
  if (ph->device != NULL) {
    DFT_TRY(dft_device_step(run, may_leave_out(run), &waited));
  } else {
    dft_batch_load(run, &ph->batch, run->at.position);
    waited = dft_take_work(run);
    DFT_TRY(compute(run, global));
  }
  if (ph->sums[DFT_STEP_FAILED] > 0) return dft_agree_pending(run);
  double count = ph->sums[DFT_STEP_COUNT];
  dft_status status = DFT_OK;
  if (!isfinite(ph->sums[DFT_STEP_LOSS]))
    status = not_finite(run, "loss");
  else if (count > 0 && ph->device != NULL)
    status = dft_device_updated(ph->device) ? DFT_OK : not_finite(run, "gradient");
  else if (count > 0) /* else no sample of the batch can be read: nothing to learn */
    status = update(run, count);
  bool skipped = may_skip(run, status);
  if (!skipped) DFT_TRY(status);
  if (!skipped) run->at.skipped = 0;
  double wait_s = dft_reducer_stats(run->reducer).wait_s + waited.rows_s;
  *result = (dft_step_result){.loss = skipped ? 0 : ph->sums[DFT_STEP_LOSS],
                              .correct = skipped ? 0 : ph->sums[DFT_STEP_CORRECT],
                              .count = skipped ? 0 : count,
                              .left_out = global - (int64_t)count,
                              .stop = ph->sums[DFT_STEP_STOP] > 0,
                              .data_s = waited.images_s,
                              .compute_s = dft_now_s() - start_s - waited.images_s - wait_s,
                              .communication_s = wait_s};
  return DFT_OK;
}
