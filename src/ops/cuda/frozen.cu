/* The frozen forward: host rows in and out, by tiles; while one is computed another is uploaded or
 * downloaded. */
#include "frozen.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_SAMPLES = 256 };
static const size_t most_bytes = (size_t)512 << 20; /* of one object's tiles */

static bool is_half(const dft_frozen *f, const dft_folded *layer) {
  return f->half && layer->kind == DFT_POINTWISE;
}

static size_t parameter_bytes(const dft_frozen *f, const dft_folded *layer) {
  const size_t one = is_half(f, layer) ? sizeof(bf16) : sizeof(float);
  return dft_cuda_round_up(dft_folded_weights(layer) * one) +
         dft_cuda_round_up((size_t)layer->conv.channels * one);
}

/* ---- parameters ---- */

/* From the host, through `staging` on the device where they become bfloat16. */
static const float *place(const float *from, size_t count, bool half, float *staging, char **at) {
  void *to = *at;
  float *first = half ? staging : (float *)to;
  *at += dft_cuda_round_up(count * (half ? sizeof(bf16) : sizeof(float)));
  dft_cuda_check(cudaMemcpyAsync(first, from, count * sizeof(float), cudaMemcpyHostToDevice, cuda.stream),
                 "uploading frozen weights");
  if (half) dft_cuda_to_half(staging, to, (int64_t)count);
  return (const float *)to;
}

/* `room`: for the values of all layers, which are read until the device has them. */
static dft_status upload_parameters(dft_frozen *f, const dft_folded *layers, float *room) {
  size_t bytes = 0;
  void *staging;
  for (int i = 0; i < f->count; i++) bytes += parameter_bytes(f, &layers[i]);
  DFT_TRY(dft_cuda_alloc(bytes, &f->parameters));
  DFT_TRY(dft_cuda_alloc(dft_folded_room(layers, f->count) * sizeof(float), &staging));
  char *at = (char *)f->parameters;
  for (int i = 0; i < f->count; i++) {
    dft_folded *layer = &f->layers[i];
    const bool half = is_half(f, layer);
    const size_t count = dft_folded_weights(layer);
    layer->weight = place(dft_folded_values(layer, room), count, half, (float *)staging, &at);
    room += count;
    layer->bias = place(layer->bias, (size_t)layer->conv.channels, half, (float *)staging, &at);
  }
  /* The caller's memory is read until here. */
  dft_cuda_wait(cuda.stream, "uploading frozen weights");
  dft_cuda_check(cudaFree(staging), "freeing memory");
  return dft_cuda_take();
}

/* ---- tiles ---- */

static dft_status new_slot(const dft_frozen *f, frozen_slot *s) {
  const size_t in = (size_t)f->tile * (size_t)f->in * sizeof(float);
  const size_t out = (size_t)f->tile * (size_t)f->out * sizeof(float);
  void *memory;
  DFT_TRY(dft_cuda_host_alloc(in, &memory));
  s->host_in = (float *)memory;
  DFT_TRY(dft_cuda_host_alloc(out, &memory));
  s->host_out = (float *)memory;
  DFT_TRY(dft_cuda_alloc(in, &memory));
  s->in = (float *)memory;
  DFT_TRY(dft_cuda_alloc(out, &memory));
  s->out = (float *)memory;
  const bool made = dft_cuda_event(&s->up) && dft_cuda_event(&s->computed) && dft_cuda_event(&s->down);
  return made ? DFT_OK : dft_cuda_take();
}

static dft_status new_tiles(dft_frozen *f) {
  size_t most = f->half ? (size_t)f->in : 0;
  for (int i = 0; i < f->count; i++)
    if (dft_folded_out_floats(&f->layers[i]) > most) most = dft_folded_out_floats(&f->layers[i]);
  const size_t one = f->half ? sizeof(bf16) : sizeof(float);
  const size_t sample = FROZEN_BUFFERS * most * one + FROZEN_SLOTS * (size_t)(f->in + f->out) * sizeof(float);
  const size_t some = cuda.device.free_bytes() / 4, bytes = some < most_bytes ? some : most_bytes;
  const size_t fitting = bytes / sample;
  f->tile = fitting < 1 ? 1 : fitting > MOST_SAMPLES ? MOST_SAMPLES : (int)fitting;
  for (int b = 0; b < FROZEN_BUFFERS; b++)
    DFT_TRY(dft_cuda_alloc((size_t)f->tile * most * one, &f->buffer[b]));
  for (int s = 0; s < FROZEN_SLOTS; s++) DFT_TRY(new_slot(f, &f->slot[s]));
  return DFT_OK;
}

/* ---- the object ---- */

static void frozen_free(dft_frozen *f) {
  if (f == nullptr) return;
  const dft_device *d = &cuda.device;
  for (int s = 0; s < FROZEN_SLOTS; s++) {
    frozen_slot *slot = &f->slot[s];
    d->host_free(slot->host_in);
    d->host_free(slot->host_out);
    d->free(slot->in);
    d->free(slot->out);
    d->event_free(slot->up);
    d->event_free(slot->computed);
    d->event_free(slot->down);
  }
  for (int b = 0; b < FROZEN_BUFFERS; b++) d->free(f->buffer[b]);
  d->free(f->parameters);
  free(f->layers);
  free(f);
}

static dft_status frozen_new(const dft_folded *layers, int count, dft_frozen **frozen) {
  DFT_TRY(dft_frozen_check(layers, count));
  const size_t bytes = (size_t)count * sizeof *layers;
  dft_frozen *f = (dft_frozen *)calloc(1, sizeof *f);
  if (f != nullptr) f->layers = (dft_folded *)malloc(bytes);
  if (f == nullptr || f->layers == nullptr) {
    free(f);
    return dft_fail_memory("frozen forward", bytes);
  }
  memcpy(f->layers, layers, bytes);
  f->count = count;
  for (int i = 0; i < count; i++) f->half = f->half || layers[i].bfloat16;
  f->in = (int64_t)dft_folded_in_floats(&layers[0]);
  f->out = (int64_t)dft_folded_out_floats(&layers[count - 1]);
  size_t floats = 0;
  for (int i = 0; i < count; i++) floats += dft_folded_weights(&layers[i]);
  float *room = (float *)malloc(floats * sizeof *room);
  dft_status status = room != nullptr ? upload_parameters(f, layers, room)
                                      : dft_fail_memory("folded weights", floats * sizeof *room);
  free(room);
  if (status == DFT_OK) status = new_tiles(f);
  if (status != DFT_OK)
    frozen_free(f);
  else
    *frozen = f;
  return status;
}

static dft_status frozen_pool(void *frozen, bool max) {
  dft_frozen *f = (dft_frozen *)frozen;
  f->pooled = true;
  f->pool_max = max;
  f->out = f->layers[f->count - 1].conv.channels;
  return DFT_OK;
}

/* ---- a run ---- */

static bool start(dft_frozen *f, frozen_slot *s, const float *x, int first, int samples) {
  const size_t bytes = (size_t)samples * (size_t)f->in * sizeof(float);
  s->first = first;
  s->samples = samples;
  memcpy(s->host_in, x + first * f->in, bytes);
  if (!dft_cuda_check(cudaMemcpyAsync(s->in, s->host_in, bytes, cudaMemcpyHostToDevice, cuda.up), "upload") ||
      !dft_cuda_check(cudaEventRecord(s->up, cuda.up), "upload") ||
      !dft_cuda_check(cudaStreamWaitEvent(cuda.stream, s->up, 0), "upload"))
    return false;
  dft_cuda_frozen_layers(f, s->in, s->out, samples);
  return cuda.error == DFT_OK &&
         dft_cuda_check(cudaEventRecord(s->computed, cuda.stream), "frozen forward") &&
         dft_cuda_check(cudaStreamWaitEvent(cuda.down, s->computed, 0), "download") &&
         dft_cuda_check(cudaMemcpyAsync(s->host_out, s->out, (size_t)samples * (size_t)f->out * sizeof(float),
                                        cudaMemcpyDeviceToHost, cuda.down),
                        "download") &&
         dft_cuda_check(cudaEventRecord(s->down, cuda.down), "download");
}

static bool complete(const dft_frozen *f, frozen_slot *s, float *y) {
  if (s->samples == 0) return true;
  const int samples = s->samples;
  s->samples = 0;
  if (!dft_cuda_wait_event(s->down, "frozen forward")) return false;
  memcpy(y + s->first * f->out, s->host_out, (size_t)samples * (size_t)f->out * sizeof(float));
  return true;
}

/* What fails is kept for `finish`. */
static void frozen_run(dft_frozen *f, const float *x, float *y, int samples) {
  int turn = 0;
  bool good = cuda.error == DFT_OK;
  for (int first = 0; first < samples && good; first += f->tile, turn ^= 1) {
    frozen_slot *s = &f->slot[turn];
    const int tile = samples - first < f->tile ? samples - first : f->tile;
    good = complete(f, s, y) && start(f, s, x, first, tile);
  }
  for (int i = 0; i < FROZEN_SLOTS; i++, turn ^= 1) {
    if (good) good = complete(f, &f->slot[turn], y);
    f->slot[turn].samples = 0;
  }
  if (good) return;
  /* Nothing may still move when the caller's memory goes. */
  for (cudaStream_t stream : {cuda.up, cuda.stream, cuda.down}) dft_cuda_wait(stream, "frozen forward");
}

void dft_cuda_table_frozen(void) {
  cuda.ops.frozen_new = frozen_new;
  cuda.ops.frozen_run = frozen_run;
  cuda.ops.frozen_free = frozen_free;
  cuda.device.frozen_pool = frozen_pool;
}
