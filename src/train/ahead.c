/* Reading ahead: a cursor that runs before the steps and evaluations of a phase, over this rank's samples in
 * the order in which they will be needed. The order is the sampler's, so it is known for all epochs; what is
 * read is what the cache lacks. */
#include "train.h"

/* Memory of the images read ahead, their number beyond two batches, and how many samples are looked at before
 * the step goes on. */
enum { MOST_BYTES = 128 << 20, SPARE = 64, MOST_WALKED = 4096 };

dft_status dft_ahead_open(dft_run *run, int threads) {
  if (threads == 0) return DFT_OK;
  int64_t floats = (int64_t)run->config->model.height * run->config->model.width * 3;
  int64_t batch = run->config->data.batch_size / dft_comm_size(run->comm) + 1;
  int64_t most = MOST_BYTES / (floats * (int64_t)sizeof(float)), images = 2 * batch + SPARE;
  if (images > most) images = most > 2 ? most : 2;
  return dft_prefetch_open(threads, images, floats, &run->ahead.prefetch);
}

void dft_ahead_close(dft_run *run) {
  dft_prefetch_close(run->ahead.prefetch);
  dft_shard_map_free(&run->ahead.map);
  run->ahead = (dft_ahead){0};
}

/* Grows with every batch of training and every sample of evaluation. */
static int64_t turn_of(int64_t epoch, dft_set set, int64_t position) {
  return (2 * epoch + (set == DFT_SET_VALIDATION)) << 40 | position;
}

static int64_t own_turn(const dft_ahead *a) {
  return turn_of(a->epoch, a->set, a->set == DFT_SET_TRAIN ? a->position : a->index);
}

void dft_ahead_phase(dft_run *run, int64_t epochs_left) {
  dft_ahead *a = &run->ahead;
  a->end = run->at.epoch + epochs_left;
  a->mapped = false;
}

void dft_ahead_move_to(dft_run *run, dft_set set, int64_t position) {
  dft_ahead *a = &run->ahead;
  if (a->prefetch == NULL) return;
  a->now = run->at.epoch;
  int64_t turn = turn_of(a->now, set, position);
  dft_prefetch_turn(a->prefetch, turn);
  if (own_turn(a) >= turn) return;
  a->epoch = a->now;
  a->set = set;
  a->position = set == DFT_SET_TRAIN ? position : 0;
  a->index = set == DFT_SET_TRAIN ? 0 : (int)position;
  a->mapped = false;
}

/* To the next of: an epoch's steps, its evaluation. */
static void next_pass(const dft_run *run, dft_ahead *a) {
  bool evaluates = run->data[DFT_SET_VALIDATION] != NULL && a->set == DFT_SET_TRAIN;
  if (!evaluates) a->epoch++;
  a->set = evaluates ? DFT_SET_VALIDATION : DFT_SET_TRAIN;
  a->position = a->index = 0;
  a->mapped = false;
}

/* Whether the pass under way, over the same set, computes the rows that the cursor's will need. */
static bool is_later(const dft_run *run, const dft_ahead *a) {
  return a->epoch > a->now && dft_dataset_views(run->data[a->set]) == 1;
}

/* Places the cursor on a sample. False: there is none, or none yet. */
static bool settle(dft_run *run, dft_ahead *a) {
  while (a->epoch < a->end) {
    int64_t n = dft_dataset_count(run->data[a->set]);
    int64_t batch = a->set == DFT_SET_TRAIN ? run->config->data.batch_size : n;
    if (a->mapped && a->index < a->map.samples) return true;
    if (a->mapped) {
      a->position += batch;
      a->index = 0;
      a->mapped = false;
    }
    if (a->position == 0 && a->index == 0) {
      if (is_later(run, a) && dft_cache_keeps_all(run->cache, a->set)) return false; /* rows will be there */
      if (!is_later(run, a) && dft_cache_has_all(run->cache, a->set)) a->position = n;
    }
    if (a->position >= n) {
      next_pass(run, a);
      continue;
    }
    if (n - a->position < batch) batch = n - a->position;
    a->mapped = dft_shard_map_set(&a->map, run->shards, dft_comm_size(run->comm), dft_comm_rank(run->comm),
                                  batch) == DFT_OK;
    if (!a->mapped) return false; /* no memory: nothing is read ahead */
  }
  return false;
}

void dft_ahead_fill(dft_run *run) {
  dft_ahead *a = &run->ahead;
  if (a->prefetch == NULL) return;
  const dft_config *c = run->config;
  for (int walked = 0; walked < MOST_WALKED && !dft_prefetch_full(a->prefetch); walked++) {
    if (!settle(run, a)) return;
    const dft_dataset *data = run->data[a->set];
    int64_t position = a->position + a->map.begin + a->index, turn = own_turn(a);
    bool trains = a->set == DFT_SET_TRAIN, mixes = trains && dft_dataset_mixes(data);
    int64_t n = dft_dataset_count(data);
    int64_t sample =
        trains ? dft_sampler((uint64_t)c->seed, c->data.shuffle, a->epoch, n, position) : position;
    dft_mix mix;
    if (mixes) mix = dft_dataset_mix(data, a->epoch, position);
    int64_t view = dft_dataset_view_of(data, a->epoch);
    a->index++;
    if (dft_fetch_expects(run->fetch, a->set, sample, view)) continue;
    dft_cache_ahead(run->cache, a->set, sample, view, mixes ? &mix : NULL, turn, is_later(run, a));
  }
}
