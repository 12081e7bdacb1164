#include "dft/buckets.h"
#include "dft/arena.h"
#include "dft/hash.h"
#include <stdlib.h>

typedef struct bucket {
  float *data; /* [nodes][count] */
  int64_t count;
  int tensors; /* in it */
  int waiting; /* tensors not ready yet in this step */
  dft_reduction_handle *handle;
} bucket;

typedef struct place {
  int bucket;
  int64_t offset;
} place;

struct dft_buckets {
  dft_reducer *reducer;
  dft_arena *arena;
  bucket *buckets;
  place *places;
  int64_t *elements; /* of each tensor */
  int count, tensors;
  bool parted;
};

static size_t bytes_of(const bucket *b, int nodes) {
  return (size_t)nodes * (size_t)b->count * sizeof *b->data;
}

/* Buckets in the device's memory are blocks of their own. */
static dft_status allocate_on(const dft_device *device, dft_buckets *b, int nodes) {
  for (int i = 0; i < b->count; i++) {
    void *data = NULL;
    DFT_TRY(device->alloc(bytes_of(&b->buckets[i], nodes), &data));
    b->buckets[i].data = data;
  }
  return DFT_OK;
}

static dft_status allocate_here(dft_buckets *b, int nodes) {
  size_t bytes = 0;
  for (int i = 0; i < b->count; i++) bytes += dft_aligned_bytes(bytes_of(&b->buckets[i], nodes));
  bool failed = !dft_arena_reserve(b->arena, bytes);
  for (int i = 0; i < b->count && !failed; i++) {
    b->buckets[i].data = dft_arena_floats(b->arena, (size_t)nodes * (size_t)b->buckets[i].count);
    failed = b->buckets[i].data == NULL;
  }
  return failed ? dft_fail_memory("gradient buckets", bytes) : DFT_OK;
}

/* Fills buckets in order; a tensor never straddles two. */
static void assign(dft_buckets *b, const int64_t *elements, int64_t bucket_bytes) {
  int64_t limit = bucket_bytes / (int64_t)sizeof(float);
  for (int t = 0; t < b->tensors; t++) {
    bucket *last = b->count > 0 ? &b->buckets[b->count - 1] : NULL;
    if (last == NULL || last->count + elements[t] > limit) last = &b->buckets[b->count++];
    b->places[t] = (place){(int)(last - b->buckets), last->count};
    last->count += elements[t];
    last->tensors++;
  }
}

dft_status dft_buckets_new(dft_reducer *reducer, int nodes, const int64_t *elements, int tensors,
                           int64_t bucket_bytes, bool parted, dft_buckets **buckets) {
  *buckets = NULL;
  dft_buckets *b = calloc(1, sizeof *b);
  if (b == NULL) return dft_fail_memory("buckets", sizeof *b);
  *b = (dft_buckets){.reducer = reducer, .arena = dft_arena_new(), .tensors = tensors, .parted = parted};
  bool failed = b->arena == NULL;
  if (!failed) {
    b->buckets = dft_arena_alloc(b->arena, (size_t)tensors * sizeof *b->buckets);
    b->places = dft_arena_alloc(b->arena, (size_t)tensors * sizeof *b->places);
    b->elements = dft_arena_alloc(b->arena, (size_t)tensors * sizeof *b->elements);
    failed = b->buckets == NULL || b->places == NULL || b->elements == NULL;
  }
  dft_status status =
      failed ? dft_fail_memory("gradient buckets", (size_t)tensors * sizeof *b->buckets) : DFT_OK;
  if (!failed) {
    for (int t = 0; t < tensors; t++) b->elements[t] = elements[t];
    assign(b, elements, bucket_bytes);
    for (int i = 0; i < b->count; i++) b->buckets[i].waiting = b->buckets[i].tensors;
    const dft_device *device = dft_reducer_device(reducer);
    status = device != NULL ? allocate_on(device, b, nodes) : allocate_here(b, nodes);
  }
  if (status != DFT_OK) {
    dft_buckets_free(b);
    return status;
  }
  *buckets = b;
  return DFT_OK;
}

void dft_buckets_free(dft_buckets *b) {
  if (b == NULL) return;
  const dft_device *device = dft_reducer_device(b->reducer);
  for (int i = 0; i < b->count && device != NULL; i++) device->free(b->buckets[i].data);
  dft_arena_free(b->arena);
  free(b);
}

float *dft_buckets_at(const dft_buckets *b, int tensor, size_t *stride) {
  const bucket *in = &b->buckets[b->places[tensor].bucket];
  *stride = (size_t)in->count;
  return in->data + b->places[tensor].offset;
}

dft_status dft_buckets_ready(dft_buckets *b, int tensor) {
  bucket *in = &b->buckets[b->places[tensor].bucket];
  if (--in->waiting == 0)
    DFT_TRY((b->parted ? dft_reduce_start_part : dft_reduce_start)(b->reducer, DFT_F32, in->data,
                                                                   (size_t)in->count, &in->handle));
  return dft_reduce_poll(b->reducer);
}

int64_t dft_buckets_part(const dft_buckets *b, int tensor, int64_t *first) {
  const int64_t begin = b->places[tensor].offset, end = begin + b->elements[tensor];
  size_t at = 0;
  *first = 0;
  if (!b->parted) return b->elements[tensor];
  const size_t count = (size_t)b->buckets[b->places[tensor].bucket].count;
  const int64_t part = (int64_t)dft_reduce_part(b->reducer, DFT_F32, count, &at), from = (int64_t)at;
  const int64_t mine = from > begin ? from : begin, until = from + part < end ? from + part : end;
  if (until <= mine) return 0;
  *first = mine - begin;
  return until - mine;
}

dft_status dft_buckets_wait(dft_buckets *b) {
  for (int i = 0; i < b->count; i++) {
    bucket *in = &b->buckets[i];
    DFT_TRY(dft_reduce_wait(b->reducer, in->handle));
    in->handle = NULL;
    in->waiting = in->tensors;
  }
  return DFT_OK;
}

int64_t dft_buckets_bytes(const dft_buckets *b) {
  int64_t bytes = 0;
  for (int i = 0; i < b->count; i++) bytes += b->buckets[i].count * (int64_t)sizeof(float);
  return bytes;
}

uint64_t dft_buckets_hash(const dft_buckets *b) {
  uint64_t hash = DFT_HASH_START;
  for (int t = 0; t < b->tensors; t++) {
    const int64_t where[] = {b->places[t].bucket, b->places[t].offset, b->buckets[b->places[t].bucket].count};
    hash = dft_hash(hash, where, sizeof where);
  }
  return hash;
}
