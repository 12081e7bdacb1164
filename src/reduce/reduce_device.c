#include "reduction.h"
#include <stdlib.h>

/* ---- NCCL: everything on the exchange's stream ---- */

static void add(const dft_reducer *r, const dft_reduction_handle *h, void *to, const void *left,
                const void *right, size_t bytes) {
  if (bytes == 0) return;
  if (h->dtype == DFT_F32)
    r->device->exchange_add_f32(to, left, right, (int64_t)(bytes / sizeof(float)));
  else
    r->device->exchange_add_f64(to, left, right, (int64_t)(bytes / sizeof(double)));
}

static dft_status exchange_one(dft_reducer *r, const dft_reduction_handle *h,
                               const dft_exchange_plan_message *m) {
  const size_t bytes = dft_reduction_length(h, m->first, m->last);
  if (bytes == 0) return DFT_OK; /* the other side sees the same */
  char *at = dft_reduction_place(h, m->row, m->first);
  void *stream = r->device->exchange_stream;
  if (m->receiving) return dft_comm_device_receive(r->comm, m->peer, at, bytes, stream);
  r->stats.bytes_sent += bytes;
  r->stats.messages_sent++;
  return dft_comm_device_send(r->comm, m->peer, at, bytes, stream);
}

static dft_status exchange_stage(dft_reducer *r, const dft_reduction_handle *h, int from, int to) {
  if (from == to) return DFT_OK;
  DFT_TRY(dft_comm_device_begin(r->comm));
  for (int i = from; i < to; ++i) DFT_TRY(exchange_one(r, h, &h->plan->message[i]));
  return dft_comm_device_end(r->comm);
}

static dft_status enqueue_plan(dft_reducer *r, const dft_reduction_handle *h) {
  const dft_exchange_plan *plan = h->plan;
  int message = 0, sum = 0;
  for (int s = 0; s < plan->stages; ++s) {
    DFT_TRY(exchange_stage(r, h, message, plan->stage[s].messages_end));
    message = plan->stage[s].messages_end;
    for (; sum < plan->stage[s].sums_end; ++sum) {
      const dft_exchange_plan_sum *p = &plan->sum[sum];
      add(r, h, dft_reduction_place(h, p->to, p->first), dft_reduction_place(h, p->left, p->first),
          dft_reduction_place(h, p->right, p->first), dft_reduction_length(h, p->first, p->last));
    }
  }
  return DFT_OK;
}

static dft_status enqueue_fast(dft_reducer *r, const dft_reduction_handle *h) {
  void *stream = r->device->exchange_stream;
  for (int node = 1; node < r->nodes; ++node)
    add(r, h, h->data, h->data, h->data + (size_t)node * h->bytes, h->bytes);
  DFT_TRY(dft_comm_device_begin(r->comm));
  if (h->dtype == DFT_F32)
    DFT_TRY(dft_comm_device_sum_f32(r->comm, (float *)h->data, h->bytes / sizeof(float), stream));
  else
    DFT_TRY(dft_comm_device_sum_f64(r->comm, (double *)h->data, h->bytes / sizeof(double), stream));
  return dft_comm_device_end(r->comm);
}

static dft_status fit_scratch(dft_reducer *r, size_t bytes) {
  if (bytes == 0 || (r->scratch != NULL && r->scratch->bytes >= bytes)) return DFT_OK;
  dft_device_scratch *s = calloc(1, sizeof *s);
  if (s == NULL) return dft_fail_memory("exchange", sizeof *s);
  dft_status status = r->device->alloc(bytes, &s->memory);
  if (status != DFT_OK) {
    free(s);
    return status;
  }
  s->bytes = bytes;
  s->smaller = r->scratch;
  r->scratch = s;
  return DFT_OK;
}

dft_status dft_reduction_enqueue(dft_reducer *r, dft_reduction_handle *h) {
  DFT_TRY(r->device->failed()); /* what was to be sent has not been made: nobody may get it */
  if (h->event == NULL) DFT_TRY(r->device->event_new(&h->event));
  if (r->ordered) DFT_TRY(fit_scratch(r, dft_reduction_scratch(h->plan, h->bytes)));
  h->work = r->scratch != NULL ? r->scratch->memory : NULL;
  r->device->exchange_begin();
  DFT_TRY(r->ordered ? enqueue_plan(r, h) : enqueue_fast(r, h));
  r->device->exchange_mark(h->event);
  h->done = true;
  return DFT_OK;
}

/* ---- MPI: over the host ---- */

dft_status dft_reduction_download(dft_reducer *r, dft_reduction_handle *h, void *on_device) {
  const size_t bytes = (size_t)r->nodes * h->bytes;
  if (bytes > h->locked_bytes) {
    r->device->host_free(h->locked);
    h->locked = NULL;
    h->locked_bytes = 0;
    DFT_TRY(r->device->host_alloc(bytes, &h->locked));
    h->locked_bytes = bytes;
  }
  h->on_device = on_device;
  h->data = h->locked;
  h->downloading = true;
  r->device->download(h->data, on_device, bytes);
  return DFT_OK;
}

dft_status dft_reduction_settle(dft_reducer *r, bool wait) {
  bool waiting = false, finished = true;
  for (const dft_reduction_handle *h = r->first; h != NULL; h = h->next) waiting |= h->downloading;
  if (!waiting) return DFT_OK;
  DFT_TRY(dft_comm_give_up(r->comm, wait ? r->device->finish() : r->device->poll(&finished)));
  if (!finished) return DFT_OK;
  for (dft_reduction_handle *h = r->first; h != NULL; h = h->next) {
    if (!h->downloading) continue;
    h->downloading = false;
    DFT_TRY(dft_reduction_begin(r, h));
  }
  return DFT_OK;
}

/* ---- both ---- */

dft_status dft_reducer_finish(dft_reducer *r) {
  if (r->device == NULL) return DFT_OK;
  if (r->way != DFT_WAY_NCCL) return dft_comm_give_up(r->comm, r->device->finish());
  dft_pause pause = {0};
  for (;;) {
    bool finished = false;
    DFT_TRY(dft_comm_give_up(r->comm, r->device->poll(&finished)));
    if (finished) break;
    DFT_TRY(dft_comm_pause(r->comm, &pause, false, -1));
  }
  dft_comm_tick(r->comm);
  return dft_comm_alive(r->comm); /* what an abort has let go is finished too */
}

void dft_reduction_free_device(const dft_reducer *r, dft_reduction_handle *h) {
  if (r->device == NULL) return;
  r->device->event_free(h->event);
  r->device->host_free(h->locked);
}

void dft_reducer_free_device(dft_reducer *r) {
  while (r->scratch != NULL) {
    dft_device_scratch *s = r->scratch;
    r->scratch = s->smaller;
    r->device->free(s->memory);
    free(s);
  }
}
