/* The weights and slots of the part of the model that a phase trains, once per host: its ranks see the same
 * ones, and each updates a part of them.
 *
 * An update is bound by memory: ranks that each update everything stream the weights and slots as often as
 * there are ranks on the host. No weights travel, and a value comes out the same whichever rank updates it.
 * With one host a rank needs only its part of the summed gradients. */
#include "train.h"
#include <string.h>

/* Trainable weights of a phase, at least: with fewer, waiting for each other costs more than updating. */
enum { LEAST_BYTES = 256 << 10 };

static size_t slots_floats(const dft_run *run) {
  return dft_optimizer_slots_floats(&run->config->phases[run->phase.index].optimizer, run->model);
}

dft_status dft_host_open(dft_run *run) {
  dft_phase *ph = &run->phase;
  const dft_share *share = dft_comm_share(run->comm);
  const int64_t trainable = dft_model_count(run->model, true) * (int64_t)sizeof(float);
  const int first = dft_model_first_param(run->model, ph->first);
  size_t values;
  void *block;
  if (run->ops->device != NULL || dft_comm_local_size(run->comm) == 1 || trainable < LEAST_BYTES)
    return DFT_OK;
  float *from = dft_model_values(run->model, first, &values);
  const size_t room = (values + 15) / 16 * 16;
  DFT_TRY(share->alloc(share->context, (room + slots_floats(run)) * sizeof(float), &block));
  if (share->writer) memcpy(block, from, values * sizeof(float));
  ph->values = from;
  ph->on_host = block;
  ph->slots = ph->on_host + room;
  dft_model_place(run->model, first, ph->on_host);
  return share->fence(share->context, DFT_OK);
}

void dft_host_close(dft_run *run) {
  dft_phase *ph = &run->phase;
  const dft_share *share = dft_comm_share(run->comm);
  const int first = dft_model_first_param(run->model, ph->first);
  size_t values;
  if (ph->on_host == NULL) return;
  (void)dft_model_values(run->model, first, &values);
  memcpy(ph->values, ph->on_host, values * sizeof(float));
  dft_model_place(run->model, first, ph->values);
  share->free(share->context, ph->on_host);
  ph->on_host = ph->slots = NULL;
}

dft_status dft_host_fence(dft_run *run, dft_status status) {
  const dft_share *share = dft_comm_share(run->comm);
  return run->phase.on_host != NULL ? share->fence(share->context, status) : status;
}

bool dft_host_writes(const dft_run *run) {
  return run->phase.on_host == NULL || dft_comm_share(run->comm)->writer;
}

bool dft_host_parts_all(const dft_run *run) {
  return run->phase.on_host != NULL && dft_comm_local_size(run->comm) == dft_comm_size(run->comm);
}

/* Of a gradient that travels, what the exchange completes here; of the others whole vectors, so that no two
 * ranks write to one line of the cache. */
int64_t dft_host_part(const dft_run *run, int param, int64_t *first) {
  const int64_t elements = run->model->params[param].elements;
  if (dft_host_parts_all(run) && run->phase.tensor_of[param] >= 0)
    return dft_buckets_part(run->phase.buckets, run->phase.tensor_of[param], first);
  const bool parted = run->phase.on_host != NULL;
  const int64_t part = parted ? dft_comm_local_rank(run->comm) : 0;
  const int64_t parts = parted ? dft_comm_local_size(run->comm) : 1;
  const int64_t line = 16, lines = (elements + line - 1) / line;
  const int64_t begin = lines * part / parts * line, end = lines * (part + 1) / parts * line;
  *first = begin < elements ? begin : elements;
  return (end < elements ? end : elements) - *first;
}
