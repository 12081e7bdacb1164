/* A step on a device: the host says what is in the batch, the device does the rest in one go, from the rows
 * to the update, and the host loads the next batch meanwhile. What a step enqueues is recorded the second
 * time a batch of its size comes, and replayed from then on. */
#include "device_run.h"
#include "dft/trace.h"
#include <stdlib.h>
#include <string.h>

static void swap(dft_local_batch *a, dft_local_batch *b) {
  const dft_local_batch c = *a;
  *a = *b;
  *b = c;
}

static int32_t *slot_of(const row_store *s, int64_t sample, int64_t view) {
  return &s->slot_of[view < 0 ? sample : sample * s->views + view];
}

bool dft_device_holds(const dft_run *run, const dft_local_batch *b, int64_t view) {
  const dft_device_run *d = run->phase.device;
  if (d == NULL || d->store.rows == NULL) return false;
  for (int i = 0; i < b->map.samples; i++)
    if (*slot_of(&d->store, b->samples[i], view) < 0) return false;
  return true;
}

/* How many samples the global batch has: known to all before the device starts. */
static dft_status count_batch(dft_run *run, bool may_leave_out, double *global) {
  *global = (double)dft_batch_samples_at(run, run->at.position);
  if (!may_leave_out) return DFT_OK;
  *global = run->phase.batch.map.samples;
  return dft_comm_sum_f64(run->comm, global, 1);
}

static void tell_inputs(dft_run *run, dft_device_run *d) {
  const dft_local_batch *b = &run->phase.batch;
  const size_t n = (size_t)b->map.samples;
  d->host.flags[0] = dft_stop_requested();
  d->host.flags[1] = run->pending != DFT_OK;
  *d->host.alpha_t = dft_optimizer_next_alpha(run->phase.optimizer);
  memcpy(d->host.samples, b->samples, n * sizeof *b->samples);
  memcpy(d->host.labels, b->labels, n * sizeof *b->labels);
  if (b->mixes == NULL) return;
  memcpy(d->host.others, b->others, n * sizeof *b->others);
  memcpy(d->host.weights, b->weights, n * sizeof *b->weights);
}

/* Slots of the batch's rows; false when not all have one. */
static bool take_slots(dft_run *run, dft_device_run *d, int64_t view) {
  const dft_local_batch *b = &run->phase.batch;
  row_store *s = &d->store;
  if (s->rows == NULL) return false;
  int missing = 0;
  for (int i = 0; i < b->map.samples; i++) missing += *slot_of(s, b->samples[i], view) < 0;
  if (s->used + missing > s->capacity) return false;
  for (int i = 0; i < b->map.samples; i++) {
    int32_t *slot = slot_of(s, b->samples[i], view);
    if (*slot < 0) *slot = (int32_t)s->used++;
    d->host.slots[i] = *slot;
  }
  return true;
}

/* Brings the inputs and the rows to the device. */
static void send_batch(dft_run *run, dft_device_run *d) {
  const dft_local_batch *b = &run->phase.batch;
  const int64_t row = dft_model_boundary(run->model, run->phase.first);
  const int64_t view = dft_dataset_view_of(run->data[DFT_SET_TRAIN], run->at.epoch);
  const bool kept = take_slots(run, d, view);
  tell_inputs(run, d);
  d->device->upload(d->inputs_device, d->inputs_host, d->inputs_bytes);
  d->device->use_map(&b->map);
  if (b->held) {
    d->device->gather(d->store.rows, d->on.slots, d->rows, b->map.samples, row);
    return;
  }
  const size_t bytes = (size_t)b->map.samples * (size_t)row * sizeof(float);
  if (d->came_ahead) {
    d->device->wait_beside();
    d->device->copy(d->rows, d->ahead[d->arriving], bytes); /* a recorded step reads from one place */
  } else {
    d->device->upload(d->rows, b->x, bytes);
  }
  if (kept) d->device->scatter(d->rows, d->on.slots, d->store.rows, b->map.samples, row);
}

/* Everything from the rows to the update. */
static dft_status enqueue(dft_run *run, dft_device_run *d, double global) {
  dft_phase *ph = &run->phase;
  const dft_local_batch *b = &ph->batch;
  const dft_update_rule rule = dft_optimizer_rule(ph->optimizer);
  dft_batch batch = {.map = &b->map,
                     .global = (int64_t)global,
                     .samples = d->on.samples,
                     .seed = (uint64_t)run->config->seed,
                     .epoch = (uint32_t)run->at.epoch};
  if (d->x != (void *)d->rows)
    d->device->to_activations(d->rows, d->x, b->map.samples * dft_model_boundary(run->model, ph->first));
  float *logits = NULL;
  DFT_TRY(dft_tail_forward(ph->tail, &batch, d->x, &logits));
  d->device->loss(logits, d->on.labels, b->mixes != NULL ? d->on.others : NULL, d->on.weights, b->map.samples,
                  run->model->classes, d->loss, d->dlogits, d->correct);
  d->device->step_sums(d->loss, d->correct, &b->map, d->on.flags, d->sums);
  dft_reduction_handle *sums = NULL;
  DFT_TRY(dft_reduce_start(run->reducer, DFT_F64, d->sums, DFT_STEP_SUMS, &sums));
  DFT_TRY(dft_tail_backward(ph->tail, &batch, d->x, d->dlogits));
  DFT_TRY(dft_reduce_wait(run->reducer, sums));
  DFT_TRY(dft_buckets_wait(ph->buckets));
  d->device->update(d->tensors, d->tensor_count, &rule, d->sums, d->on.alpha_t, d->done);
  dft_tail_commit_statistics(ph->tail, d->done);
  d->device->download(d->totals_host, d->sums, DFT_STEP_SUMS * sizeof *d->sums);
  d->device->download(d->done_host, d->done, sizeof *d->done);
  return DFT_OK;
}

/* The record of batches like this one; a new one takes the oldest's place. */
static step_record *find_record(const dft_run *run, dft_device_run *d, double global) {
  const dft_shard_map *map = &run->phase.batch.map;
  const size_t bytes = ((size_t)map->shards + 1) * sizeof *map->first;
  const int64_t epoch = run->config->model.dropout > 0 ? run->at.epoch : 0;
  for (int i = 0; i < MOST_RECORDS; i++) {
    step_record *r = &d->records[i];
    if (r->first != NULL && r->shards == map->shards && r->nodes == map->nodes &&
        r->global == (int64_t)global && r->epoch == epoch && memcmp(r->first, map->first, bytes) == 0)
      return r;
  }
  step_record *r = &d->records[d->oldest];
  d->oldest = (d->oldest + 1) % MOST_RECORDS;
  dft_record_clear(d, r);
  r->first = malloc(bytes);
  if (r->first == NULL) return NULL; /* then it is not recorded */
  memcpy(r->first, map->first, bytes);
  r->shards = map->shards;
  r->nodes = map->nodes;
  r->global = (int64_t)global;
  r->epoch = epoch;
  return NULL;
}

/* Runs a step, the first of its kind directly: only then may kernels take memory. An exchange through the
 * host cannot be recorded. NCCL wants all ranks to record a step or none: a batch from which nobody left out
 * a sample is cut the same way by all, and that it is one they all know. */
static dft_status launch(dft_run *run, dft_device_run *d, double global) {
  const bool whole = (int64_t)global == dft_batch_samples_at(run, run->at.position);
  const bool recordable = dft_comm_size(run->comm) == 1 || (whole && dft_comm_has_nccl(run->comm));
  step_record *r = recordable ? find_record(run, d, global) : NULL;
  if (r == NULL) return enqueue(run, d, global);
  if (r->graph == NULL) {
    DFT_TRY(d->device->record());
    dft_status status = enqueue(run, d, global), ended = d->device->recorded(&r->graph);
    DFT_TRY(status);
    DFT_TRY(ended);
  }
  d->device->replay(r->graph);
  return DFT_OK;
}

/* The next batch of the epoch, loaded and sent beside the device's work. What was waited for counts as the
 * step's only when the device had nothing left to do. */
static dft_status load_next(dft_run *run, dft_device_run *d, dft_waited *waited) {
  const int64_t next = run->at.position + dft_batch_samples_at(run, run->at.position);
  if (dft_batch_samples_at(run, next) <= 0) return DFT_OK;
  dft_batch_load(run, &d->next, next);
  const size_t row = (size_t)dft_model_boundary(run->model, run->phase.first) * sizeof(float);
  d->arriving = !d->arriving;
  if (!d->next.held)
    d->device->upload_beside(d->ahead[d->arriving], d->next.x, (size_t)d->next.map.samples * row);
  const dft_waited beside = dft_take_work(run);
  bool finished = false;
  DFT_TRY(d->device->poll(&finished));
  if (!finished) return DFT_OK;
  waited->images_s += beside.images_s;
  waited->rows_s += beside.rows_s;
  return DFT_OK;
}

static dft_status step(dft_run *run, dft_device_run *d, bool may_leave_out, dft_waited *waited) {
  dft_phase *ph = &run->phase;
  double global = 0;
  d->came_ahead = d->next.position == run->at.position && d->next.epoch == run->at.epoch;
  if (d->came_ahead) {
    swap(&ph->batch, &d->next);
  } else {
    dft_batch_load(run, &ph->batch, run->at.position);
    *waited = dft_take_work(run);
  }
  d->next.position = -1;
  DFT_TRY(count_batch(run, may_leave_out, &global));
  double traced_s = dft_trace_begin();
  send_batch(run, d);
  DFT_TRY(launch(run, d, global));
  DFT_TRY(d->device->failed()); /* before the next batch's frozen work takes it for its own */
  dft_trace_end(DFT_TRACE_WORK, "launch", -1, traced_s);
  DFT_TRY(load_next(run, d, waited));
  traced_s = dft_trace_begin();
  DFT_TRY(dft_reducer_finish(run->reducer));
  dft_trace_end(DFT_TRACE_WORK, "wait for the GPU", -1, traced_s);
  memcpy(ph->sums, d->totals_host, DFT_STEP_SUMS * sizeof *ph->sums);
  if (!dft_device_updated(d)) return DFT_OK;
  dft_optimizer_begin(ph->optimizer);
  dft_mirror_moved(d->mirror);
  return DFT_OK;
}

/* What goes wrong on one device is known to its rank alone, while the others wait for it in the exchange. */
dft_status dft_device_step(dft_run *run, bool may_leave_out, dft_waited *waited) {
  return dft_comm_give_up(run->comm, step(run, run->phase.device, may_leave_out, waited));
}

bool dft_device_updated(const dft_device_run *d) {
  return *d->done_host == DFT_UPDATE_DONE;
}
