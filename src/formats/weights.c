#include "dft/weights.h"
#include "dft/arena.h"
#include <stdlib.h>
#include <string.h>

int64_t dft_tensor_elements(const dft_tensor *t) {
  int64_t elements = 1;
  for (int i = 0; i < t->rank; i++) elements *= t->shape[i];
  return elements;
}

/* Bytes of a float32 tensor; -1 when the shape is no shape or its size overflows. */
static int64_t tensor_bytes(int rank, const int64_t *shape) {
  if (rank < 0 || rank > DFT_MAX_RANK) return -1;
  int64_t bytes = sizeof(float);
  for (int i = 0; i < rank; i++) {
    if (shape[i] < 1 || __builtin_mul_overflow(bytes, shape[i], &bytes)) return -1;
  }
  return bytes;
}

/* Room for one more. The capacity is the power of two at or above the count, so it needs no field. */
static bool grow(dft_weights *w) {
  bool full = (w->count & (w->count - 1)) == 0;
  if (!full) return true;
  size_t capacity = w->count == 0 ? 1 : 2 * (size_t)w->count;
  dft_tensor *tensors = realloc(w->tensors, capacity * sizeof *tensors);
  if (tensors) w->tensors = tensors;
  return tensors != NULL;
}

dft_status dft_weights_reserve(dft_weights *w, size_t bytes) {
  if (w->arena == NULL && w->count == 0) w->arena = dft_arena_new();
  if (w->arena != NULL && dft_arena_reserve(w->arena, bytes)) return DFT_OK;
  return dft_fail_memory("tensors", bytes);
}

static void free_tensor(const dft_weights *w, const dft_tensor *t) {
  free(t->layer);
  free(t->variable);
  if (w->arena == NULL && !t->lent) free(t->data);
}

/* A place at the end, with its names and shape and, unless it is to be lent them, memory for the values. */
static dft_status append(dft_weights *w, const char *layer, const char *variable, int rank,
                         const int64_t *shape, bool lent) {
  int64_t bytes = tensor_bytes(rank, shape);
  if (bytes < 0)
    return dft_fail(DFT_EDATA, "%s/%s: not a shape: rank %d, a size below 1 or too large", layer, variable,
                    rank);
  dft_tensor t = {.layer = strdup(layer), .variable = strdup(variable), .rank = rank, .lent = lent};
  for (int i = 0; i < rank; i++) t.shape[i] = shape[i];
  if (!lent)
    t.data = w->arena != NULL ? dft_arena_alloc(w->arena, (size_t)bytes) : dft_aligned_alloc((size_t)bytes);
  if (!t.layer || !t.variable || (!t.data && !lent) || !grow(w)) {
    free_tensor(w, &t);
    return dft_fail_memory("a tensor", (unsigned long long)bytes);
  }
  w->tensors[w->count++] = t;
  return DFT_OK;
}

dft_status dft_weights_add(dft_weights *w, const char *layer, const char *variable, int rank,
                           const int64_t *shape, const float *data) {
  DFT_TRY(append(w, layer, variable, rank, shape, false));
  const dft_tensor *t = &w->tensors[w->count - 1];
  const size_t bytes = (size_t)dft_tensor_elements(t) * sizeof *data;
  if (data)
    memcpy(t->data, data, bytes);
  else
    memset(t->data, 0, bytes);
  return DFT_OK;
}

static dft_status check_same(const dft_tensor *t, int at, const char *layer, const char *variable, int rank,
                             const int64_t *shape, bool lent) {
  if (strcmp(t->layer, layer) == 0 && strcmp(t->variable, variable) == 0 && t->rank == rank &&
      memcmp(t->shape, shape, (size_t)rank * sizeof *shape) == 0 && t->lent == lent)
    return DFT_OK;
  return dft_fail(DFT_EINTERNAL, "%s/%s: not the tensor %d, which is %s/%s", layer, variable, at, t->layer,
                  t->variable);
}

dft_status dft_weights_put(dft_weights *w, int at, const char *layer, const char *variable, int rank,
                           const int64_t *shape, float *data, bool lent) {
  if (at >= w->count) {
    at = w->count;
    DFT_TRY(append(w, layer, variable, rank, shape, lent));
  }
  dft_tensor *t = &w->tensors[at];
  DFT_TRY(check_same(t, at, layer, variable, rank, shape, lent));
  if (lent)
    t->data = data;
  else
    memcpy(t->data, data, (size_t)dft_tensor_elements(t) * sizeof *data);
  return DFT_OK;
}

dft_tensor *dft_weights_find(const dft_weights *w, const char *layer, const char *variable) {
  for (int i = 0; i < w->count; i++) {
    dft_tensor *t = &w->tensors[i];
    if (strcmp(t->layer, layer) == 0 && strcmp(t->variable, variable) == 0) return t;
  }
  return NULL;
}

void dft_weights_remove(dft_weights *w, int at) {
  free_tensor(w, &w->tensors[at]);
  w->count--;
  memmove(w->tensors + at, w->tensors + at + 1, (size_t)(w->count - at) * sizeof *w->tensors);
}

void dft_weights_free(dft_weights *w) {
  if (!w) return;
  for (int i = 0; i < w->count; i++) free_tensor(w, &w->tensors[i]);
  for (int i = 0; w->class_names && i < w->classes; i++) free(w->class_names[i]);
  free(w->tensors);
  free(w->class_names);
  dft_arena_free(w->arena);
  *w = (dft_weights){0};
}
