/* The whole program: open; for each phase: freeze, plan, fit; close. */
#include "dft/clock.h"
#include "dft/file.h"
#include "dft/log.h"
#include "dft/trace.h"
#include "dft/version.h"
#include "train.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static dft_status open_compute_and_data(dft_run *run) {
  const dft_config *c = run->config;
  dft_comm_set_timeout(run->comm, c->distributed.timeout_s);
  DFT_TRY(dft_setup_compute(run->comm, c, true, &run->compute));
  run->ops = run->compute.ops;
  run->host_ops = run->compute.host_ops;
  DFT_TRY(
      dft_comm_agree_hosts(run->comm, dft_data_open(c, dft_comm_share(run->comm), &run->data[DFT_SET_TRAIN],
                                                    &run->data[DFT_SET_VALIDATION])));
  static const char *const names[DFT_SETS] = {
      [DFT_SET_TRAIN] = "training", [DFT_SET_VALIDATION] = "validation"};
  for (int s = 0; s < DFT_SETS; s++) {
    if (run->data[s] == NULL) continue;
    DFT_TRY(dft_same_data(run->comm, run->data[s], names[s], &run->fingerprint[s]));
    const bool told = s > 0 && c->data.validation.split > 0; /* the same files */
    if (dft_comm_rank(run->comm) == 0 && !told)
      dft_tell_data(run->data[s], c->data.format == DFT_DATA_IMAGE_FOLDER);
  }
  DFT_TRY(dft_comm_agree(
      run->comm, dft_class_names(c, run->data[DFT_SET_TRAIN], &run->class_names, &run->own_class_names)));
  return dft_comm_agree(run->comm, dft_model_new(c->model.alpha, c->model.height, c->model.width,
                                                 c->model.pooling, c->model.classes, &run->model));
}

static dft_status choose_shards(dft_run *run) {
  int ranks = dft_comm_size(run->comm);
  if (run->shards == 0) run->shards = run->config->distributed.shards;
  if (run->shards == 0) run->shards = dft_shards_auto(ranks);
  if (ranks > run->shards)
    return dft_fail(DFT_EUSAGE,
                    "distributed.shards: %d is fewer than the %d ranks: raise it or start at most %d ranks",
                    run->shards, ranks, run->shards);
  if (run->shards % ranks != 0 && dft_comm_rank(run->comm) == 0)
    dft_warn("%d ranks share %d shards unequally: %d %% of them will be busy; a power of two fits", ranks,
             run->shards, 100 * run->shards / (((run->shards + ranks - 1) / ranks) * ranks));
  if (ranks > run->config->data.batch_size && dft_comm_rank(run->comm) == 0)
    dft_warn(
        "data.batch_size: %d images in all for %d ranks: some have nothing to do; raise it or start fewer",
        run->config->data.batch_size, ranks);
  const bool ordered = run->config->distributed.reduction == DFT_REDUCTION_ORDERED;
  dft_status status = dft_reducer_new(run->comm, run->shards, ordered, run->compute.device, &run->reducer);
  if (status == DFT_OK) status = dft_reducer_new(run->comm, run->shards, ordered, NULL, &run->host_reducer);
  return dft_comm_agree(run->comm, status);
}

static dft_status open_cache(dft_run *run) {
  const dft_config *c = run->config;
  int starts[DFT_CACHE_LEVELS];
  DFT_TRY(dft_phase_starts(c, run->model, starts));
  return dft_cache_open(c, run->model, run->ops, dft_comm_share(run->comm), starts, c->phase_count,
                        (const dft_dataset *const *)run->data, &run->cache);
}

/* Rank 0 writes the resolved config beside the results. */
static dft_status write_config(dft_run *run) {
  char *yaml = NULL;
  dft_status status = dft_config_write(run->config, &yaml);
  if (status == DFT_OK)
    status = dft_write_file(dft_store_path(run->store, "config.yaml").text, yaml, strlen(yaml));
  free(yaml);
  return status;
}

static void describe_augment(const dft_dataset *train, char *text, size_t bytes) {
  char images[64] = "none";
  if (dft_dataset_augments(train))
    snprintf(images, sizeof images,
             dft_dataset_views(train) > 0 ? "%d views of each image" : "new views in each epoch",
             dft_dataset_views(train));
  snprintf(text, bytes, "%s%s", images, dft_dataset_mixes(train) ? ", images mixed" : "");
}

static void describe_kernels(const dft_compute *compute, char *text, size_t bytes) {
  const char *why = compute->choice.kernels;
  snprintf(text, bytes, "%s%s%s%s", compute->ops->name, why[0] ? " (" : "", why, why[0] ? ")" : "");
}

/* Of rank 0. */
static void describe_device(const dft_run *run, char *text, size_t bytes) {
  const dft_device *device = run->compute.device;
  char precision[DFT_WORD_BYTES];
  if (device == NULL)
    snprintf(text, bytes, "cpu");
  else
    snprintf(text, bytes, "%s, %s; GPU %d of %s", device->name,
             dft_config_word("compute.precision", (int)device->precision, precision), device->index,
             dft_comm_host(run->comm, 0));
}

/* The start table: what a log must tell about how this run was made. */
static dft_status report_start(dft_run *run) {
  char ranks[128], decoding[32], shards[32], data[128], augment[128], parameters[64];
  char kernels[320], device[256];
  const dft_config *c = run->config;
  snprintf(ranks, sizeof ranks, "%d on %d host%s, %d thread%s each", dft_comm_size(run->comm),
           dft_comm_hosts(run->comm), dft_comm_hosts(run->comm) == 1 ? "" : "s", run->compute.threads,
           run->compute.threads == 1 ? "" : "s");
  snprintf(decoding, sizeof decoding, "%d", run->decode_threads);
  snprintf(shards, sizeof shards, "%d", run->shards);
  describe_kernels(&run->compute, kernels, sizeof kernels);
  describe_device(run, device, sizeof device);
  snprintf(data, sizeof data, "%lld training, %lld validation, batch %d",
           (long long)dft_dataset_count(run->data[DFT_SET_TRAIN]),
           run->data[DFT_SET_VALIDATION] ? (long long)dft_dataset_count(run->data[DFT_SET_VALIDATION]) : 0LL,
           c->data.batch_size);
  describe_augment(run->data[DFT_SET_TRAIN], augment, sizeof augment);
  snprintf(parameters, sizeof parameters, "%lld", (long long)dft_model_count(run->model, false));
  const dft_fact facts[] = {{"dft", DFT_VERSION " " DFT_GIT, false},
                            {"mpi", dft_comm_version(), false},
                            {"ranks", ranks, false},
                            {"kernels", kernels, false},
                            {"device", device, false},
                            {"exchange", run->compute.choice.exchange, false},
                            {"decode_threads", decoding, true},
                            {"shards", shards, true},
                            {"samples", data, false},
                            {"augment", augment, false},
                            {"parameters", parameters, true},
                            {"run_dir", c->run_dir, false}};
  return dft_report_start(run->report, facts, sizeof facts / sizeof facts[0]);
}

/* A finished run started again: nothing to do when no epoch and no phase was added. */
static bool nothing_left(const dft_run *run) {
  return run->at.finished && run->has_final && run->at.phase == run->config->phase_count - 1 &&
         run->at.phase_epoch >= run->config->phases[run->at.phase].epochs;
}

static dft_status open_outputs(dft_run *run) {
  DFT_TRY(write_config(run));
  DFT_TRY(dft_report_open(run->config->run_dir, run->config->log.verbose, run->config->log.tensorboard,
                          run->history, run->history_count, run->at.step, &run->report));
  /* what the files say of a finished run was another start's, unless they are gone */
  const bool told = access(dft_store_path(run->store, "report.html").text, F_OK) == 0;
  return nothing_left(run) && told ? DFT_OK : report_start(run);
}

/* The lines before a phase: what trains, what travels, what is kept. */
static void announce(const dft_run *run) {
  if (run->report == NULL) return;
  const dft_config *c = run->config;
  const dft_config_phase *phase = &c->phases[run->phase.index];
  int layers = 0;
  for (int i = 0; i < run->model->base_layers; i++) layers += run->model->layers[i].trainable;
  char text[256];
  snprintf(text, sizeof text,
           "Phase %d/%d %s: head and %d of %d base layers, %lld trainable parameters, %.1f KB per step",
           run->phase.index + 1, run->config->phase_count, phase->name, layers, run->model->base_layers,
           (long long)dft_model_count(run->model, true),
           (double)dft_buckets_bytes(run->phase.buckets) / 1000.0);
  dft_report_phase(run->report, text);
  const dft_dataset *train = run->data[DFT_SET_TRAIN];
  if (run->phase.first > 0 && c->cache.mode != DFT_CACHE_OFF && dft_dataset_views(train) == 0)
    dft_report_phase(run->report,
                     dft_dataset_mixes(train)
                         ? "Cache: not for training images, which mixup and cutmix make anew in every epoch"
                         : "Cache: not for training images, which data.augment makes anew in every epoch; "
                           "cache.views: K keeps K views of each");
  dft_cache_report kept = dft_cache_describe(run->cache);
  if (kept.fitting == 0) return;
  int length = snprintf(text, sizeof text,
                        "Cache: frozen work of %lld of %lld images is done once, %.1f KB each, %.1f MB",
                        (long long)kept.fitting, (long long)kept.images, (double)kept.bytes_per_image / 1e3,
                        (double)kept.bytes_per_image * (double)kept.fitting / 1e6);
  if (kept.files)
    snprintf(text + length, sizeof text - (size_t)length, "; in files, %lld of them there already, in %s",
             (long long)kept.there, run->config->cache.directory);
  dft_report_phase(run->report, text);
}

/* Runs phase `index` from where run->at says; slots are those of a resumed optimizer, or NULL. */
static dft_status run_phase(dft_run *run, int index, const dft_weights *slots, int64_t iterations) {
  run->at.phase = index;
  const bool last = index == run->config->phase_count - 1;
  const bool done =
      run->at.phase_epoch >= run->config->phases[index].epochs; /* killed just before its final.pb */
  dft_status status = dft_phase_open(run, index);
  if (status == DFT_OK && slots != NULL) status = dft_restore_optimizer(run, slots, iterations);
  if (status == DFT_OK) {
    announce(run);
    status = dft_phase_fit(run);
  }
  if (status == DFT_OK && last && done) {
    run->at.finished = 1;
    status = dft_save(run, DFT_SAVE_FINAL);
  }
  if (status == DFT_OK && last) status = dft_save_wait(run);
  dft_phase_close(run);
  return status;
}

/* From where run->at says; slots are those of a resumed optimizer, or NULL. */
static dft_status run_phases(dft_run *run, const dft_weights *slots, int64_t iterations) {
  const dft_config *c = run->config;
  for (int p = run->at.phase; p < c->phase_count; p++, run->at.phase_epoch = 0, slots = NULL) {
    const bool over = run->at.phase_epoch >= c->phases[p].epochs; /* stopped between two phases */
    if (!over || p == c->phase_count - 1) DFT_TRY(run_phase(run, p, slots, iterations));
  }
  return DFT_OK;
}

static void print_result(const dft_run *run) {
  if (dft_comm_rank(run->comm) != 0 || run->history_count == 0 || dft_report_verbose(run->report) == 0)
    return;
  const dft_epoch *e = &run->history[run->history_count - 1];
  printf("Finished after %d epoch%s: accuracy %.4f, loss %.4f", e->epoch, e->epoch == 1 ? "" : "s",
         e->accuracy, e->loss);
  if (!isnan(e->val_accuracy)) printf(", val_accuracy %.4f, val_loss %.4f", e->val_accuracy, e->val_loss);
  if (run->at.best_epoch > 0) printf(" (best epoch %d)", run->at.best_epoch);
  printf("\nResults in %s\n", run->config->run_dir);
  fflush(stdout);
}

/* dft-run starts a run again while the old rank 0 may still live, on a host that is cut off or hung: until it
 * has missed the others for timeout_s too, it keeps the lock. */
static dft_status open_store(dft_run *run) {
  enum { LOOK_EVERY = 50 }; /* naps: signs of life are due more often than a look at a shared disk */
  const double patience_s = getenv("DFT_RESTARTED") != NULL ? run->config->distributed.timeout_s + 30 : 0;
  const char *const directory = run->config->run_dir;
  char owner[256];
  const double begin_s = dft_now_s();
  for (int nap = 0; dft_now_s() - begin_s < patience_s; nap++) {
    if (nap % LOOK_EVERY == 0 && !dft_store_in_use(directory, owner, sizeof owner)) break;
    if (dft_stop_requested())
      return dft_fail(DFT_ESTOPPED, "stopped by a signal while waiting for the end of the run before in %s",
                      directory);
    if (nap == 0) dft_note("waiting for the end of the run before in %s (%s)", directory, owner);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    dft_comm_tick(run->comm);
  }
  return dft_store_open(directory, &run->store);
}

/* Random weights are the same wherever they are made. */
static dft_status fill_model(dft_run *run, bool resumed) {
  const bool reads = dft_comm_rank(run->comm) == 0, random = !resumed && run->config->model.weights == NULL;
  if (!resumed)
    DFT_TRY(dft_comm_agree(
        run->comm, reads || random ? dft_load_weights(run->config, run->model, run->class_names) : DFT_OK));
  return random ? DFT_OK : dft_broadcast_model(run->comm, run->model);
}

/* Everything up to the first phase. *resumed, slots and iterations describe a resumed optimizer. */
static dft_status open_run(dft_run *run, const dft_config_source *source, bool *resumed, dft_weights *slots,
                           int64_t *iterations) {
  bool reports = dft_comm_rank(run->comm) == 0;
  DFT_TRY(dft_load_config(run->comm, source, &run->config));
  dft_log_verbose(run->config->log.verbose);
  DFT_TRY(open_compute_and_data(run));
  DFT_TRY(dft_comm_agree(run->comm, open_cache(run)));
  DFT_TRY(dft_comm_agree(run->comm, reports ? open_store(run) : DFT_OK));
  DFT_TRY(dft_resume(run, resumed, slots, iterations));
  DFT_TRY(choose_shards(run));
  DFT_TRY(dft_setup_decoding(run->comm, run->config, run->data[DFT_SET_TRAIN], &run->decode_threads));
  DFT_TRY(dft_comm_agree(run->comm, dft_ahead_open(run, run->decode_threads)));
  dft_cache_use(run->cache, run->ahead.prefetch);
  DFT_TRY(dft_fetch_open(run->comm, run->cache, run->config, run->shards, &run->fetch));
  DFT_TRY(fill_model(run, *resumed));
  return dft_comm_agree(run->comm, reports ? open_outputs(run) : DFT_OK);
}

static void close_run(dft_run *run) {
  dft_trace_close();
  dft_save_close(run);
  dft_report_close(run->report);
  dft_store_close(run->store);
  dft_fetch_close(run->fetch);
  dft_cache_close(run->cache);
  dft_ahead_close(run);
  dft_reducer_free(run->reducer);
  dft_reducer_free(run->host_reducer);
  dft_model_free(run->model);
  for (int i = 0; i < run->history_count; i++) free(run->history[i].phase);
  free(run->history);
  if (run->config != NULL) dft_class_names_free(run->own_class_names, run->config->model.classes);
  dft_dataset_free(run->data[DFT_SET_VALIDATION]);
  dft_dataset_free(run->data[DFT_SET_TRAIN]);
  dft_config_free(run->config);
}

dft_status dft_train(dft_comm *comm, const dft_config_source *source) {
  dft_run run = {.comm = comm};
  dft_weights slots = {0};
  bool resumed = false;
  int64_t iterations = 0;
  dft_status status = open_run(&run, source, &resumed, &slots, &iterations);
  if (status == DFT_OK && !nothing_left(&run)) {
    run.at.finished = 0;
    status = dft_trace_start(&run);
    if (status == DFT_OK) status = run_phases(&run, resumed ? &slots : NULL, iterations);
    if (status == DFT_OK) status = dft_trace_finish(&run);
  }
  if (status == DFT_OK) print_result(&run);
  dft_weights_free(&slots);
  close_run(&run);
  return status;
}
