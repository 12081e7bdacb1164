#include "device_run.h"
#include <stdlib.h>

/* Device memory that ends with the phase. Remembers the first failure, so that the plan reads as a list. */
static void *block(dft_device_run *d, size_t bytes, dft_status *status) {
  void *memory = NULL;
  if (*status != DFT_OK) return NULL;
  *status = d->device->alloc(bytes > 0 ? bytes : 1, &memory);
  if (*status == DFT_OK) d->blocks[d->block_count++] = memory;
  return memory;
}

/* Lays the inputs of a step of up to n samples out from `at`; returns their bytes. */
static size_t lay_out(step_inputs *in, char *at, size_t n) {
  const size_t sizes[] = {2 * sizeof(double), sizeof(float),   n * sizeof(int64_t), n * sizeof(int64_t),
                          n * sizeof(int),    n * sizeof(int), n * sizeof(float)};
  char *parts[7];
  size_t used = 0;
  for (int i = 0; i < 7; i++) {
    parts[i] = at == NULL ? NULL : at + used;
    used += dft_aligned_bytes(sizes[i]);
  }
  *in = (step_inputs){(double *)(void *)parts[0],  (float *)(void *)parts[1], (int64_t *)(void *)parts[2],
                      (int64_t *)(void *)parts[3], (int *)(void *)parts[4],   (int *)(void *)parts[5],
                      (float *)(void *)parts[6]};
  return used;
}

static dft_status open_buffers(const dft_run *run, dft_device_run *d) {
  const dft_phase *ph = &run->phase;
  const size_t n = (size_t)(ph->max_samples > 0 ? ph->max_samples : 1), classes = (size_t)run->model->classes;
  const size_t row = (size_t)dft_model_boundary(run->model, ph->first);
  dft_status status = DFT_OK;
  d->inputs_bytes = lay_out(&d->host, NULL, n);
  d->inputs_device = block(d, d->inputs_bytes, &status);
  d->rows = block(d, n * row * sizeof(float), &status);
  for (int i = 0; i < 2; i++) d->ahead[i] = block(d, n * row * sizeof(float), &status);
  d->x = d->rows; /* pooled features stay float32 */
  if (d->device->activation_bytes != sizeof(float) && ph->first < run->model->unit_count)
    d->x = block(d, n * row * (size_t)d->device->activation_bytes, &status);
  d->loss = block(d, n * sizeof(float), &status);
  d->dlogits = block(d, n * classes * sizeof(float), &status);
  d->correct = block(d, n, &status);
  d->sums = block(d, (size_t)ph->nodes * DFT_STEP_SUMS * sizeof(double), &status);
  d->done = block(d, sizeof(int), &status);
  DFT_TRY(status);
  DFT_TRY(d->device->host_alloc(d->inputs_bytes, &d->inputs_host));
  lay_out(&d->host, d->inputs_host, n);
  lay_out(&d->on, d->inputs_device, n);
  void *results = NULL;
  DFT_TRY(d->device->host_alloc(DFT_STEP_SUMS * sizeof(double) + sizeof(int), &results));
  d->totals_host = results;
  d->done_host = (int *)(void *)(d->totals_host + DFT_STEP_SUMS);
  return DFT_OK;
}

/* What the optimizer moves, and by what. */
static dft_status open_tensors(const dft_run *run, dft_device_run *d) {
  const dft_phase *ph = &run->phase;
  const dft_model *m = run->model;
  dft_update_tensor *list = calloc((size_t)m->param_count, sizeof *list);
  if (list == NULL) return dft_fail_memory("device tensors", (size_t)m->param_count * sizeof *list);
  for (int p = 0; p < m->param_count; p++) {
    if (!m->params[p].trainable) continue;
    list[d->tensor_count++] =
        (dft_update_tensor){.w = m->params[p].live,
                            .slots = {dft_mirror_slot(d->mirror, p, 0), dft_mirror_slot(d->mirror, p, 1)},
                            .gradient = dft_gradient_of(ph, p),
                            .count = m->params[p].elements};
  }
  const size_t bytes = (size_t)d->tensor_count * sizeof *list;
  dft_status status = DFT_OK;
  d->tensors = block(d, bytes, &status);
  if (status == DFT_OK) {
    d->device->upload(d->tensors, list, bytes);
    status = d->device->finish();
  }
  free(list);
  return status;
}

/* Rows are kept where an epoch meets the same ones again, in at most half of the memory that is left. Without
 * NCCL the ranks of a host may share a device, and all ask at the same time what is left. */
static dft_status open_store(const dft_run *run, dft_device_run *d) {
  const dft_dataset *train = run->data[DFT_SET_TRAIN];
  const int views = dft_dataset_views(train);
  if (views == 0) return DFT_OK;
  const size_t row = (size_t)dft_model_boundary(run->model, run->phase.first) * sizeof(float);
  const int64_t keys = dft_dataset_count(train) * views;
  const size_t sharing = dft_comm_has_nccl(run->comm) ? 1 : (size_t)dft_comm_local_size(run->comm);
  const int64_t room = (int64_t)(d->device->free_bytes() / 2 / sharing / row);
  const int64_t capacity = keys < room ? keys : room;
  if (capacity < run->phase.max_samples || keys > INT32_MAX) return DFT_OK;
  d->store.slot_of = malloc((size_t)keys * sizeof *d->store.slot_of);
  if (d->store.slot_of == NULL) return dft_fail_memory("rows on the device", (size_t)keys * sizeof(int32_t));
  for (int64_t i = 0; i < keys; i++) d->store.slot_of[i] = -1;
  dft_status status = DFT_OK; /* other ranks on this device may have taken what was free: then without */
  d->store.rows = block(d, (size_t)capacity * row, &status);
  d->store.capacity = capacity;
  d->store.views = views;
  return DFT_OK;
}

dft_status dft_device_run_new(dft_run *run) {
  dft_device_run *d = calloc(1, sizeof *d);
  if (d == NULL) return dft_fail_memory("device", sizeof *d);
  run->phase.device = d;
  d->device = run->ops->device;
  d->next.position = -1;
  DFT_TRY(dft_mirror_new(run->model, run->phase.optimizer, d->device, &d->mirror));
  return dft_mirror_send(d->mirror); /* the tail reads frozen statistics when it is made */
}

dft_status dft_device_run_open(dft_run *run) {
  dft_device_run *d = run->phase.device;
  DFT_TRY(open_buffers(run, d));
  DFT_TRY(open_tensors(run, d));
  DFT_TRY(dft_batch_new(run, run->phase.max_samples, &d->next));
  return open_store(run, d); /* last: it takes of what is left */
}

dft_status dft_device_run_start(dft_run *run) {
  dft_device_run *d = run->phase.device;
  return d == NULL ? DFT_OK : dft_mirror_send(d->mirror); /* slots may have been restored since */
}

void dft_record_clear(dft_device_run *d, step_record *r) {
  if (r->graph != NULL) d->device->graph_free(r->graph);
  free(r->first);
  *r = (step_record){0};
}

void dft_device_run_free(dft_run *run) {
  dft_device_run *d = run->phase.device;
  if (d == NULL) return;
  for (int i = 0; i < MOST_RECORDS; i++) dft_record_clear(d, &d->records[i]);
  dft_batch_free(run, &d->next);
  for (int i = 0; i < d->block_count; i++) d->device->free(d->blocks[i]);
  d->device->host_free(d->inputs_host);
  d->device->host_free(d->totals_host);
  dft_mirror_free(d->mirror);
  free(d->store.slot_of);
  free(d);
  run->phase.device = NULL;
}

dft_status dft_device_fetch(dft_run *run) {
  return run->phase.device == NULL ? DFT_OK : dft_mirror_fetch(run->phase.device->mirror);
}
