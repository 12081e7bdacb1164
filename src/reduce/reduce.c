#include "dft/arena.h"
#include "dft/clock.h"
#include "dft/trace.h"
#include "reduction.h"
#include <stdlib.h>

enum { DFT_TAGS_OF_REDUCE = DFT_TAGS - DFT_TAG_REDUCE };
/* From here on the bytes cost more than the steps. Measured on shared memory with 2 to 8 ranks: the routes
 * cross between 16 and 64 KB; slower links favour the one with fewer bytes. */
static const size_t large_bytes = 32768;

static dft_way way_of(const dft_comm *comm, const dft_device *device) {
  if (device == NULL) return DFT_WAY_HOST;
  if (dft_comm_size(comm) == 1) return DFT_WAY_ALONE;
  return dft_comm_has_nccl(comm) ? DFT_WAY_NCCL : DFT_WAY_STAGED;
}

dft_status dft_reducer_new(dft_comm *comm, int shards, bool ordered, const dft_device *device,
                           dft_reducer **out) {
  *out = NULL;
  const int ranks = dft_comm_size(comm), rank = dft_comm_rank(comm);
  dft_reducer *r = calloc(1, sizeof *r);
  if (r == NULL) return dft_fail_memory("reducer", sizeof *r);
  r->comm = comm;
  r->ordered = ordered;
  r->device = device;
  r->ranks = ranks;
  r->last = &r->first;
  r->way = way_of(comm, device);
  dft_shard_map map = {0};
  dft_status status = dft_shard_map_set(&map, shards, ranks, rank, shards);
  r->nodes = map.nodes;
  dft_shard_map_free(&map);
  if (status == DFT_OK)
    status = dft_exchange_plan_make(&r->small, dft_route_for(ranks, false), ranks, shards, rank);
  if (status == DFT_OK)
    status = dft_exchange_plan_make(&r->large, dft_route_for(ranks, true), ranks, shards, rank);
  if (status == DFT_OK)
    *out = r;
  else
    dft_reducer_free(r);
  return status;
}

static void free_list(dft_reducer *r, dft_reduction_handle *h) {
  while (h != NULL) {
    dft_reduction_handle *next = h->next;
    dft_reduction_free_device(r, h);
    free(h->scratch);
    free(h->message);
    free(h);
    h = next;
  }
}

void dft_reducer_free(dft_reducer *r) {
  if (r == NULL) return;
  free_list(r, r->first);
  free_list(r, r->spare);
  dft_reducer_free_device(r);
  dft_exchange_plan_free(&r->small);
  dft_exchange_plan_free(&r->large);
  free(r);
}

/* Elementwise, so that cutting a vector into pieces or lanes changes no bit. */
static void add_f32(float *to, const float *left, const float *right, size_t count) {
#pragma omp simd
  for (size_t i = 0; i < count; ++i) to[i] = left[i] + right[i];
}

static void add_f64(double *to, const double *left, const double *right, size_t count) {
#pragma omp simd
  for (size_t i = 0; i < count; ++i) to[i] = left[i] + right[i];
}

static void add(dft_dtype dtype, void *to, const void *left, const void *right, size_t bytes) {
  if (dtype == DFT_F32)
    add_f32(to, left, right, bytes / sizeof(float));
  else
    add_f64(to, left, right, bytes / sizeof(double));
}

char *dft_reduction_place(const dft_reduction_handle *h, int row, int first) {
  if (row >= 0) return h->data + (size_t)row * h->bytes + dft_exchange_plan_offset(h->plan, h->bytes, first);
  return h->work + (size_t)(-1 - row) * dft_exchange_plan_piece_bytes(h->plan, h->bytes);
}

size_t dft_reduction_length(const dft_reduction_handle *h, int first, int last) {
  return dft_exchange_plan_offset(h->plan, h->bytes, last) -
         dft_exchange_plan_offset(h->plan, h->bytes, first);
}

static dft_status post_one(dft_reducer *r, dft_reduction_handle *h, const dft_exchange_plan_message *p) {
  const size_t bytes = dft_reduction_length(h, p->first, p->last);
  if (bytes == 0) return DFT_OK; /* the other side sees the same */
  char *at = dft_reduction_place(h, p->row, p->first);
  dft_message *m = &h->message[h->pending++];
  if (p->receiving) return dft_comm_irecv(r->comm, p->peer, h->tag, at, bytes, m);
  r->stats.bytes_sent += bytes;
  r->stats.messages_sent++;
  return dft_comm_isend(r->comm, p->peer, h->tag, at, bytes, m);
}

/* Posts the messages of the current stage: all receives before the sends. */
static dft_status post(dft_reducer *r, dft_reduction_handle *h) {
  const dft_exchange_plan *plan = h->plan;
  const int from = h->stage == 0 ? 0 : plan->stage[h->stage - 1].messages_end;
  const int to = plan->stage[h->stage].messages_end;
  h->pending = 0;
  for (int sending = 0; sending < 2; ++sending)
    for (int i = from; i < to; ++i)
      if (plan->message[i].receiving != (sending != 0)) DFT_TRY(post_one(r, h, &plan->message[i]));
  return DFT_OK;
}

static void sum_stage(dft_reduction_handle *h) {
  const dft_exchange_plan *plan = h->plan;
  const int from = h->stage == 0 ? 0 : plan->stage[h->stage - 1].sums_end;
  for (int i = from; i < plan->stage[h->stage].sums_end; ++i) {
    const dft_exchange_plan_sum *s = &plan->sum[i];
    add(h->dtype, dft_reduction_place(h, s->to, s->first), dft_reduction_place(h, s->left, s->first),
        dft_reduction_place(h, s->right, s->first), dft_reduction_length(h, s->first, s->last));
  }
}

/* Tests what is pending; the completed ones leave the array. */
static dft_status test(dft_reducer *r, dft_reduction_handle *h, bool *progressed) {
  for (int i = h->pending; i-- > 0;) {
    bool done = false;
    DFT_TRY(dft_comm_test(r->comm, &h->message[i], &done));
    if (!done) continue;
    h->message[i] = h->message[--h->pending];
    *progressed = true;
  }
  return DFT_OK;
}

/* A reduction on the host that is over: back to the device, if it came from there. */
static void complete(dft_reducer *r, dft_reduction_handle *h) {
  h->done = true;
  if (h->on_device != NULL) r->device->upload(h->on_device, h->data, h->bytes);
}

static dft_status advance(dft_reducer *r, dft_reduction_handle *h, bool *progressed) {
  if (h->downloading) return DFT_OK;
  while (!h->done) {
    DFT_TRY(test(r, h, progressed));
    if (h->pending > 0) return DFT_OK;
    if (r->ordered && h->stage < h->stages) sum_stage(h);
    h->stage++;
    if (!r->ordered || h->stage >= h->stages)
      complete(r, h);
    else
      DFT_TRY(post(r, h));
  }
  return DFT_OK;
}

/* The trace gets to know of it once. */
static void tell(dft_reduction_handle *h) {
  dft_trace_end(DFT_TRACE_EXCHANGE, h->dtype == DFT_F32 ? "gradients" : "sums", (int64_t)h->bytes,
                h->traced_s);
  h->traced_s = -1;
}

static dft_status advance_all(dft_reducer *r, bool *progressed) {
  for (dft_reduction_handle *h = r->first; h != NULL; h = h->next) {
    DFT_TRY(advance(r, h, progressed));
    if (h->done) tell(h);
  }
  return DFT_OK;
}

static int longest_stage(const dft_exchange_plan *plan) {
  int longest = 1, from = 0; /* 1: the one message of `fast` */
  for (int i = 0; i < plan->stages; ++i) {
    const int count = plan->stage[i].messages_end - from;
    if (count > longest) longest = count;
    from = plan->stage[i].messages_end;
  }
  return longest;
}

size_t dft_reduction_scratch(const dft_exchange_plan *plan, size_t bytes) {
  return (size_t)plan->scratch_pieces * dft_exchange_plan_piece_bytes(plan, bytes);
}

static dft_status fit(dft_reduction_handle *h) {
  const size_t scratch_bytes = dft_reduction_scratch(h->plan, h->bytes);
  if (scratch_bytes > h->scratch_bytes) {
    free(h->scratch);
    h->scratch_bytes = 0;
    h->scratch = dft_aligned_alloc(scratch_bytes);
    if (h->scratch == NULL) return dft_fail_memory("exchange", scratch_bytes);
    h->scratch_bytes = scratch_bytes;
  }
  h->work = h->scratch;
  const int room = longest_stage(h->plan);
  if (room > h->message_room) {
    dft_message *more = realloc(h->message, (size_t)room * sizeof *more);
    if (more == NULL) return dft_fail_memory("exchange", (size_t)room * sizeof *more);
    h->message = more;
    h->message_room = room;
  }
  return DFT_OK;
}

/* A spare handle whose memory is large enough, else any, else a new one. */
static dft_reduction_handle *take(dft_reducer *r, size_t scratch_bytes, size_t locked_bytes) {
  dft_reduction_handle **link = &r->spare;
  while (*link != NULL && ((*link)->scratch_bytes < scratch_bytes || (*link)->locked_bytes < locked_bytes))
    link = &(*link)->next;
  if (*link == NULL) link = &r->spare;
  dft_reduction_handle *h = *link;
  if (h == NULL) return calloc(1, sizeof *h);
  *link = h->next;
  return h;
}

static dft_status begin_fast(dft_reducer *r, dft_reduction_handle *h) {
  for (int node = 1; node < r->nodes; ++node)
    add(h->dtype, h->data, h->data, h->data + (size_t)node * h->bytes, h->bytes);
  h->pending = 1;
  return h->dtype == DFT_F32
             ? dft_comm_isum_f32(r->comm, (float *)h->data, h->bytes / sizeof(float), &h->message[0])
             : dft_comm_isum_f64(r->comm, (double *)h->data, h->bytes / sizeof(double), &h->message[0]);
}

dft_status dft_reduction_begin(dft_reducer *r, dft_reduction_handle *h) {
  DFT_TRY(fit(h));
  if (!r->ordered) return begin_fast(r, h);
  if (h->stages > 0) return post(r, h);
  h->done = true;
  return DFT_OK;
}

static dft_status begin(dft_reducer *r, dft_reduction_handle *h, void *data) {
  switch (r->way) {
  case DFT_WAY_HOST:
    return dft_reduction_begin(r, h);
  case DFT_WAY_NCCL:
    return dft_reduction_enqueue(r, h);
  case DFT_WAY_STAGED:
    return dft_reduction_download(r, h, data);
  case DFT_WAY_ALONE:
    break;
  }
  h->done = true;
  return DFT_OK;
}

static size_t width(dft_dtype dtype) {
  return dtype == DFT_F32 ? sizeof(float) : sizeof(double);
}

static dft_status start(dft_reducer *r, dft_dtype dtype, void *data, size_t count, bool part,
                        dft_reduction_handle **out) {
  *out = NULL;
  const size_t bytes = count * width(dtype);
  const dft_exchange_plan *plan = bytes >= large_bytes ? &r->large : &r->small;
  const bool here = r->way == DFT_WAY_HOST || r->way == DFT_WAY_STAGED;
  dft_reduction_handle *h = take(r, here ? dft_reduction_scratch(plan, bytes) : 0,
                                 r->way == DFT_WAY_STAGED ? (size_t)r->nodes * bytes : 0);
  if (h == NULL) {
    const dft_status status = dft_comm_give_up(r->comm, dft_fail_memory("exchange", sizeof *h));
    /* said to the static analyzer: DFT_OK comes with a handle */
    return status != DFT_OK ? status : DFT_EINTERNAL;
  }
  h->next = NULL;
  h->plan = plan;
  h->dtype = dtype;
  h->bytes = bytes;
  h->data = data;
  h->stages = part ? plan->part_stages : plan->stages;
  h->stage = h->pending = 0;
  h->done = false;
  h->traced_s = r->ranks > 1 && here ? dft_trace_begin() : -1; /* what a device does is not seen from here */
  h->tag = DFT_TAG_REDUCE + (int)(r->started++ % DFT_TAGS_OF_REDUCE);
  *r->last = h; /* from here on the reducer owns it */
  r->last = &h->next;
  DFT_TRY(dft_comm_give_up(r->comm, begin(r, h, data))); /* the others are in the midst of it */
  *out = h;
  return DFT_OK;
}

dft_status dft_reduce_start(dft_reducer *r, dft_dtype dtype, void *data, size_t count,
                            dft_reduction_handle **handle) {
  return start(r, dtype, data, count, false, handle);
}

dft_status dft_reduce_start_part(dft_reducer *r, dft_dtype dtype, void *data, size_t count,
                                 dft_reduction_handle **handle) {
  return start(r, dtype, data, count, true, handle);
}

/* As the large plan parts it: with the small one every rank has everything. */
size_t dft_reduce_part(const dft_reducer *r, dft_dtype dtype, size_t count, size_t *first) {
  const dft_exchange_plan *plan = &r->large;
  const size_t bytes = count * width(dtype);
  const size_t begin = dft_exchange_plan_offset(plan, bytes, plan->part_first);
  *first = begin / width(dtype);
  return (dft_exchange_plan_offset(plan, bytes, plan->part_last) - begin) / width(dtype);
}

dft_status dft_reduce_poll(dft_reducer *r) {
  bool progressed = false;
  dft_comm_tick(r->comm);
  if (r->way == DFT_WAY_STAGED) DFT_TRY(dft_reduction_settle(r, false));
  return advance_all(r, &progressed);
}

/* Whom this reduction waits for: who has not sent, else who has not taken. */
static int awaited_peer(const dft_reduction_handle *h) {
  for (int i = 0; i < h->pending; ++i)
    if (h->message[i].receiving) return h->message[i].peer;
  return h->pending > 0 ? h->message[0].peer : -1;
}

static void release(dft_reducer *r, dft_reduction_handle *handle) {
  for (dft_reduction_handle **link = &r->first; *link != NULL; link = &(*link)->next) {
    if (*link != handle) continue;
    *link = handle->next;
    if (r->last == &handle->next) r->last = link;
    break;
  }
  handle->next = r->spare;
  r->spare = handle;
}

dft_status dft_reduce_wait(dft_reducer *r, dft_reduction_handle *handle) {
  if (handle->downloading) DFT_TRY(dft_reduction_settle(r, true));
  if (r->way == DFT_WAY_NCCL) r->device->exchange_wait(handle->event);
  const double begin_s = dft_now_s();
  dft_pause pause = {0};
  dft_status status = DFT_OK;
  for (;;) {
    bool progressed = false;
    status = advance_all(r, &progressed);
    if (status != DFT_OK || handle->done) break;
    status = dft_comm_pause(r->comm, &pause, progressed, awaited_peer(handle));
    if (status != DFT_OK) break;
  }
  r->stats.wait_s += dft_now_s() - begin_s;
  if (status == DFT_OK) release(r, handle);
  return status;
}

dft_status dft_reduce(dft_reducer *r, dft_dtype dtype, void *data, size_t count) {
  dft_reduction_handle *handle = NULL;
  DFT_TRY(dft_reduce_start(r, dtype, data, count, &handle));
  return dft_reduce_wait(r, handle);
}

const dft_device *dft_reducer_device(const dft_reducer *r) {
  return r->device;
}

dft_reduce_stats dft_reducer_stats(const dft_reducer *r) {
  return r->stats;
}

void dft_reducer_reset(dft_reducer *r) {
  r->stats = (dft_reduce_stats){0};
}

uint64_t dft_reduce_bytes(int ranks, int shards, uint64_t bytes) {
  uint64_t most = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    dft_exchange_plan plan;
    if (dft_exchange_plan_make(&plan, dft_route_for(ranks, bytes >= large_bytes), ranks, shards, rank) !=
        DFT_OK)
      return 0;
    const uint64_t sent = dft_exchange_plan_sent(&plan, (size_t)bytes);
    if (sent > most) most = sent;
    dft_exchange_plan_free(&plan);
  }
  return most;
}
