/* The batch of a step as this rank has it: which samples, their labels, and the rows of frozen work that the
 * phase goes on from. */
#include "dft/arena.h"
#include "dft/log.h"
#include "dft/trace.h"
#include "train.h"
#include <stdlib.h>
#include <string.h>

/* Samples whose rows are asked for at a time; a device's frozen forward wants more of them. */
enum { TILE = 64, DEVICE_TILE = 512 };

void dft_tell_left_out(dft_run *run, dft_set set, int64_t left_out) {
  if (left_out <= run->told_left_out[set]) return;
  run->told_left_out[set] = left_out;
  if (dft_comm_rank(run->comm) == 0)
    dft_warn("%lld of %lld %s samples cannot be read and are left out; dft check lists them",
             (long long)left_out, (long long)dft_dataset_count(run->data[set]),
             set == DFT_SET_TRAIN ? "training" : "validation");
}

/* What could not be read leaves the batch: it is in no sum and no statistic, as if the batch were smaller. */
static void leave_out_bad(dft_local_batch *b, int64_t row) {
  int left = 0;
  for (int i = 0; i < b->map.samples; i++) {
    if (b->bad[i]) continue;
    if (left < i) {
      b->samples[left] = b->samples[i];
      b->labels[left] = b->labels[i];
      if (b->mixes != NULL) b->mixes[left] = b->mixes[i];
      memcpy(b->x + left * row, b->x + i * row, (size_t)row * sizeof *b->x);
    }
    left++;
  }
  if (left < b->map.samples) dft_shard_map_leave_out(&b->map, b->bad);
}

int64_t dft_batch_samples_at(const dft_run *run, int64_t position) {
  int64_t left = dft_dataset_count(run->data[DFT_SET_TRAIN]) - position;
  return left < run->config->data.batch_size ? left : run->config->data.batch_size;
}

dft_waited dft_take_work(dft_run *run) {
  dft_cache_stats c = dft_cache_take_stats(run->cache);
  dft_fetch_stats f = dft_fetch_take_stats(run->fetch);
  run->work.images_decoded += c.decoded;
  run->work.fetched_bytes += f.bytes;
  return (dft_waited){.images_s = c.waited_s, .rows_s = f.waited_s};
}

/* Which samples of the batch are this rank's. */
static void name_samples(dft_run *run, dft_local_batch *b, int64_t position, int64_t count) {
  const dft_config *c = run->config;
  const dft_dataset *data = run->data[DFT_SET_TRAIN];
  dft_defer(run, dft_shard_map_set(&b->map, run->shards, dft_comm_size(run->comm), dft_comm_rank(run->comm),
                                   count));
  for (int i = 0; i < b->map.samples; i++) {
    int64_t at = position + b->map.begin + i;
    b->samples[i] =
        dft_sampler((uint64_t)c->seed, c->data.shuffle, run->at.epoch, dft_dataset_count(data), at);
    b->labels[i] = dft_dataset_label(data, b->samples[i]);
    if (b->mixes != NULL) b->mixes[i] = dft_dataset_mix(data, run->at.epoch, at);
  }
}

void dft_batch_load(dft_run *run, dft_local_batch *b, int64_t position) {
  const double traced_s = dft_trace_begin();
  const int64_t count = dft_batch_samples_at(run, position);
  name_samples(run, b, position, count);
  int64_t view = dft_dataset_view_of(run->data[DFT_SET_TRAIN], run->at.epoch);
  int64_t row = dft_model_boundary(run->model, run->phase.first);
  const int tile = run->ops->device != NULL ? DEVICE_TILE : TILE;
  dft_ahead_move_to(run, DFT_SET_TRAIN, position);
  dft_defer(run, dft_fetch_batch(run->fetch, run->at.epoch, position, count));
  b->held = dft_device_holds(run, b, view);
  for (int done = 0; done < b->map.samples && !b->held; done += tile) {
    dft_ahead_fill(run);
    int some = b->map.samples - done < tile ? b->map.samples - done : tile;
    dft_mix *mixes = b->mixes != NULL ? b->mixes + done : NULL;
    dft_defer(run, dft_cache_rows(run->cache, DFT_SET_TRAIN, b->samples + done, some, view, mixes,
                                  b->x + done * row, b->bad + done));
    dft_comm_tick(run->comm); /* slow files are no lost rank */
  }
  dft_ahead_fill(run);
  dft_defer(run, dft_fetch_next(run->fetch, dft_batch_samples_at(run, position + count)));
  if (!b->held) leave_out_bad(b, row);
  for (int i = 0; i < b->map.samples && b->mixes != NULL; i++) {
    const dft_mix *mix = &b->mixes[i];
    b->others[i] =
        mix->partner >= 0 ? dft_dataset_label(run->data[DFT_SET_TRAIN], mix->partner) : b->labels[i];
    b->weights[i] = mix->weight;
  }
  b->epoch = run->at.epoch;
  b->position = position;
  dft_trace_end(DFT_TRACE_WORK, "rows", -1, traced_s);
}

static void *rows(const dft_run *run, size_t bytes, dft_status *status) {
  void *x = NULL;
  if (run->ops->device != NULL)
    *status = run->ops->device->host_alloc(bytes, &x);
  else if ((x = dft_aligned_alloc(bytes)) == NULL)
    *status = dft_fail_memory("batch", bytes);
  return x;
}

dft_status dft_batch_new(const dft_run *run, int max_samples, dft_local_batch *b) {
  const size_t n = (size_t)(max_samples > 0 ? max_samples : 1);
  dft_status status = DFT_OK;
  *b = (dft_local_batch){.position = -1};
  b->samples = calloc(n, sizeof *b->samples);
  b->labels = calloc(n, sizeof *b->labels);
  b->bad = calloc(n, 1);
  bool failed = !b->samples || !b->labels || !b->bad;
  if (dft_dataset_mixes(run->data[DFT_SET_TRAIN])) {
    b->mixes = calloc(n, sizeof *b->mixes);
    b->others = calloc(n, sizeof *b->others);
    b->weights = calloc(n, sizeof *b->weights);
    failed = failed || !b->mixes || !b->others || !b->weights;
  }
  if (failed) return dft_fail_memory("batch", n * sizeof *b->samples);
  b->x = rows(run, n * (size_t)dft_model_boundary(run->model, run->phase.first) * sizeof(float), &status);
  return status;
}

void dft_batch_free(const dft_run *run, dft_local_batch *b) {
  dft_shard_map_free(&b->map);
  free(b->samples);
  free(b->labels);
  free(b->mixes);
  free(b->others);
  free(b->weights);
  free(b->bad);
  if (run->ops != NULL && run->ops->device != NULL)
    run->ops->device->host_free(b->x);
  else
    free(b->x);
  *b = (dft_local_batch){0};
}
