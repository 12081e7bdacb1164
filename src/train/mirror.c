/* The model's parameters and the optimizer's slots in a device's memory while a phase is trained there. The
 * host's tensors stay what everything else reads (evaluation, checkpoints): dft_mirror_fetch brings them up
 * to date when steps have been made since. */
#include "train.h"
#include <stdlib.h>

typedef struct mirrored {
  float *host, *device;
  size_t bytes;
  bool learns; /* changes in this phase */
} mirrored;

struct dft_mirror {
  const dft_device *device;
  dft_model *model;
  mirrored *tensors; /* all parameters, then slot 0 and slot 1 of each parameter */
  int count;
  char *block;
  bool stale; /* the device has newer ones than the host */
};

/* Lays all tensors out in one block. */
static dft_status place(dft_mirror *m, const dft_optimizer *optimizer) {
  const int params = m->model->param_count;
  size_t bytes = 0;
  for (int i = 0; i < m->count; i++) {
    const dft_param *p = &m->model->params[i % params];
    mirrored *t = &m->tensors[i];
    t->host = i < params ? p->data : dft_optimizer_slot(optimizer, i % params, i / params - 1);
    t->learns = i >= params || m->model->layers[p->layer].trainable;
    t->bytes = t->host != NULL ? (size_t)p->elements * sizeof(float) : 0;
    bytes += dft_aligned_bytes(t->bytes);
  }
  void *block = NULL;
  DFT_TRY(m->device->alloc(bytes, &block));
  m->block = block;
  size_t at = 0;
  for (int i = 0; i < m->count; i++) {
    mirrored *t = &m->tensors[i];
    if (t->host == NULL) continue;
    t->device = (float *)(m->block + at);
    at += dft_aligned_bytes(t->bytes);
    if (i < params) m->model->params[i].live = t->device;
  }
  return DFT_OK;
}

dft_status dft_mirror_new(dft_model *model, const dft_optimizer *optimizer, const dft_device *device,
                          dft_mirror **mirror) {
  *mirror = NULL;
  dft_mirror *m = calloc(1, sizeof *m);
  if (m == NULL) return dft_fail_memory("device tensors", sizeof *m);
  *m = (dft_mirror){.device = device, .model = model, .count = 3 * model->param_count};
  m->tensors = calloc((size_t)m->count, sizeof *m->tensors);
  dft_status status =
      m->tensors == NULL ? dft_fail_memory("device tensors", sizeof *m->tensors) : place(m, optimizer);
  if (status != DFT_OK) {
    dft_mirror_free(m);
    return status;
  }
  *mirror = m;
  return DFT_OK;
}

void dft_mirror_free(dft_mirror *m) {
  if (m == NULL) return;
  for (int p = 0; p < m->model->param_count; p++) m->model->params[p].live = m->model->params[p].data;
  m->device->free(m->block);
  free(m->tensors);
  free(m);
}

float *dft_mirror_slot(const dft_mirror *m, int param, int slot) {
  return m->tensors[m->model->param_count * (1 + slot) + param].device;
}

dft_status dft_mirror_send(dft_mirror *m) {
  for (int i = 0; i < m->count; i++)
    if (m->tensors[i].host != NULL)
      m->device->upload(m->tensors[i].device, m->tensors[i].host, m->tensors[i].bytes);
  m->stale = false;
  return m->device->finish();
}

void dft_mirror_moved(dft_mirror *m) {
  m->stale = true;
}

dft_status dft_mirror_fetch(dft_mirror *m) {
  if (m == NULL || !m->stale) return DFT_OK;
  for (int i = 0; i < m->count; i++)
    if (m->tensors[i].host != NULL && m->tensors[i].learns)
      m->device->download(m->tensors[i].host, m->tensors[i].device, m->tensors[i].bytes);
  m->stale = false;
  return m->device->finish();
}
