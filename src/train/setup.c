/* What all ranks agree on before anything else: the config's text, the kernel set, threads; and class names.
 */
#include "dft/hash.h"
#include "dft/log.h"
#include "dft/nccl.h"
#include "train.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

dft_status dft_first_other(dft_comm *comm, uint64_t value, int *other) {
  void *all;
  DFT_TRY(dft_comm_allgather_new(comm, &value, sizeof value, &all));
  const uint64_t *values = all;
  *other = 0;
  for (int r = dft_comm_size(comm) - 1; r > 0; r--)
    if (values[r] != values[0]) *other = r;
  free(all);
  return DFT_OK;
}

/* Overrides are each rank's own. Paths may differ between hosts, what is done at which step may not. */
static dft_status same_config(dft_comm *comm, const dft_config *c) {
  char *deciding = NULL;
  DFT_TRY(dft_comm_agree(comm, dft_config_deciding(c, &deciding)));
  const int64_t rest[] = {c->checkpoint.every_epochs, c->checkpoint.every_steps,
                          c->log.trace_steps,         c->cache.mode,
                          c->distributed.backend,     c->distributed.shards};
  const uint64_t mine = dft_hash(dft_hash(DFT_HASH_START, deciding, strlen(deciding)), rest, sizeof rest);
  free(deciding);
  int other;
  DFT_TRY(dft_first_other(comm, mine, &other));
  if (other == 0) return DFT_OK;
  return dft_fail(DFT_EUSAGE, "rank %d (host %s) was started with other key=value than rank 0", other,
                  dft_comm_host(comm, other));
}

dft_status dft_load_config(dft_comm *comm, const dft_config_source *source, dft_config **config) {
  *config = NULL;
  char *text = NULL;
  bool reads = dft_comm_rank(comm) == 0;
  dft_status status = reads ? dft_config_read(source->path, &text) : DFT_OK;
  DFT_TRY(dft_comm_agree(comm, status));
  int64_t bytes = reads ? (int64_t)strlen(text) + 1 : 0;
  DFT_TRY_TO(status, dft_comm_bcast(comm, 0, &bytes, sizeof bytes), done);
  if (!reads) text = malloc((size_t)bytes);
  DFT_TRY_TO(status, dft_comm_agree(comm, text == NULL ? dft_fail_memory("config", 0) : DFT_OK), done);
  DFT_TRY_TO(status, dft_comm_bcast(comm, 0, text, (size_t)bytes), done);
  status = dft_comm_agree(
      comm, dft_config_parse(source->path, text, source->overrides, source->override_count, config));
  if (status == DFT_OK) status = same_config(comm, *config);
done:
  free(text);
  if (status != DFT_OK) dft_config_free(*config);
  if (status != DFT_OK) *config = NULL;
  return status;
}

/* Cores of this rank's affinity mask divided by the ranks of its host that share the mask. */
static dft_status cores_per_rank(dft_comm *comm, int *cores) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int available = sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : 1;
  const char *host = dft_comm_host(comm, dft_comm_rank(comm));
  uint64_t mine = dft_hash(dft_hash(DFT_HASH_START, host, strlen(host)), &mask, sizeof mask);
  void *all;
  int sharing = 1;
  DFT_TRY(dft_comm_allgather_new(comm, &mine, sizeof mine, &all));
  for (int r = 0; r < dft_comm_size(comm); r++)
    sharing += r != dft_comm_rank(comm) && ((const uint64_t *)all)[r] == mine;
  free(all);
  *cores = available > sharing ? available / sharing : 1;
  return DFT_OK;
}

static dft_status choose_threads(dft_comm *comm, const dft_config *config, int *threads) {
  int cores = 1;
  DFT_TRY(cores_per_rank(comm, &cores));
  const char *openmp = getenv("OMP_NUM_THREADS");
  const long wanted = openmp != NULL ? strtol(openmp, NULL, 10) : 0;
  *threads = config->compute.threads > 0 ? config->compute.threads : wanted > 0 ? (int)wanted : cores;
  const bool many = config->compute.threads == 0 && wanted > DFT_MOST_THREADS;
  DFT_TRY(dft_comm_agree(comm, many ? dft_fail(DFT_EUSAGE, "OMP_NUM_THREADS: must be at most %d, got %.40s",
                                               DFT_MOST_THREADS, openmp)
                                    : DFT_OK));
  if (*threads > cores && dft_comm_rank(comm) == 0)
    dft_warn("%d threads per rank, but only %d core%s for each: expect this to be slow", *threads, cores,
             cores == 1 ? "" : "s");
  return DFT_OK;
}

/* The set of the CPU that all ranks have. */
static dft_status choose_host_kernels(dft_comm *comm, dft_compute *compute) {
  dft_kernels best = DFT_KERNELS_PORTABLE;
  DFT_TRY(dft_comm_agree(comm, dft_ops_best(&best)));
  int64_t lowest = (int64_t)best;
  DFT_TRY(dft_comm_min(comm, &lowest));
  compute->host_kernels = (dft_kernels)lowest;
  compute->host_ops = dft_ops_get(compute->host_kernels);
  return dft_comm_agree(comm,
                        compute->host_ops == NULL
                            ? dft_fail(DFT_EINTERNAL, "kernel set %lld is missing here", (long long)lowest)
                            : DFT_OK);
}

static dft_rank_facts facts_of(const dft_comm *comm, const dft_cuda_interface **module) {
  dft_rank_facts mine;
  const char *why = "";
  memset(&mine, 0, sizeof mine); /* padding too: it travels */
  snprintf(mine.host, sizeof mine.host, "%s", dft_comm_host(comm, dft_comm_rank(comm)));
  mine.wish = dft_wish_of(getenv("DFT_KERNELS"));
  *module = mine.wish == DFT_WISH_CPU ? NULL : dft_device_module(&why);
  snprintf(mine.why, sizeof mine.why, "%s", why);
  if (*module == NULL) return mine;
  mine.devices = (*module)->devices();
  if (mine.devices > 0) {
    mine.device = dft_comm_local_rank(comm) % mine.devices;
    (*module)->identity(mine.device, mine.uuid);
  }
  mine.nccl = (*module)->nccl != NULL ? (*module)->nccl->version() : 0;
  return mine;
}

/* Different GPUs may round differently: not per rank count then, but for each way to hand out the ranks. */
static dft_status compare_names(dft_comm *comm, const dft_device *device) {
  char first[sizeof device->name];
  memcpy(first, device->name, sizeof first);
  DFT_TRY(dft_comm_bcast(comm, 0, first, sizeof first));
  int64_t differs = strcmp(first, device->name) != 0 ? dft_comm_rank(comm) : 0;
  DFT_TRY(dft_comm_max(comm, &differs));
  if (differs != 0 && dft_comm_rank(comm) == 0)
    dft_warn(
        "the GPUs differ (rank %lld has another than %s): results may then depend on which rank has which",
        (long long)differs, first);
  return DFT_OK;
}

static dft_status open_device(dft_comm *comm, const dft_cuda_interface *module, int device,
                              dft_precision precision, dft_compute *compute) {
  compute->kernels = DFT_KERNELS_CUDA;
  DFT_TRY(dft_comm_agree(comm, module->open(device, precision, &compute->ops)));
  compute->device = compute->ops->device;
  DFT_TRY(compare_names(comm, compute->device));
  if (!compute->choice.nccl) return DFT_OK;
  compute->device->while_waiting(dft_comm_watch, comm);
  return dft_comm_use_nccl(comm, module->nccl);
}

static dft_status choose_kernels(dft_comm *comm, dft_backend backend, dft_precision precision,
                                 dft_compute *compute) {
  DFT_TRY(choose_host_kernels(comm, compute));
  compute->kernels = compute->host_kernels;
  compute->ops = compute->host_ops;
  const dft_cuda_interface *module = NULL;
  const dft_rank_facts mine = facts_of(comm, &module);
  void *all;
  DFT_TRY(dft_comm_allgather_new(comm, &mine, sizeof mine, &all));
  const dft_status status = dft_choose(all, dft_comm_size(comm), backend, precision, &compute->choice);
  free(all);
  if (status != DFT_OK || !compute->choice.cuda) return status;
  return open_device(comm, module, mine.device, precision, compute);
}

dft_status dft_setup_compute(dft_comm *comm, const dft_config *config, bool trains, dft_compute *compute) {
  *compute = (dft_compute){0};
  DFT_TRY(choose_kernels(comm, trains ? config->distributed.backend : DFT_BACKEND_MPI,
                         trains ? config->compute.precision : DFT_PRECISION_FLOAT32, compute));
  if (config->compute.prefix == DFT_PREFIX_BFLOAT16 && !dft_ops_bfloat16_pays(compute->kernels) &&
      dft_comm_rank(comm) == 0)
    dft_warn("compute.prefix: bfloat16 is no faster than float32 with kernels %s; it pays with amx",
             compute->ops->name);
  DFT_TRY(choose_threads(comm, config, &compute->threads));
  dft_ops_set_threads(compute->threads);
  return dft_comm_agree_hosts(comm, dft_ops_check_stacks());
}

dft_status dft_setup_decoding(dft_comm *comm, const dft_config *config, const dft_dataset *data,
                              int *threads) {
  int cores = 1;
  DFT_TRY(cores_per_rank(comm, &cores));
  *threads = config->data.threads;
  if (*threads == 0 && data != NULL && dft_dataset_can_fail(data)) *threads = cores; /* files to decode */
  return DFT_OK;
}

static bool unfreezes_in_vain(const dft_model *m, const dft_config_phase *phase) {
  const bool asks = phase->unfreeze_last > 0 || phase->unfreeze_from != NULL || phase->unfreeze_count > 0;
  const int64_t head = m->params[m->head_kernel].elements + m->params[m->head_bias].elements;
  return asks && dft_model_count(m, true) == head;
}

/* Refused before any work is done that no checkpoint could keep. The model is frozen as in the phase. */
static dft_status check_state_size(const dft_model *m, const dft_config_phase *phase) {
  enum { NAME_BYTES = 256 }; /* of a parameter, a slot, a class: more than any takes */
  const size_t floats = (size_t)dft_model_count(m, false) + dft_optimizer_slots_floats(&phase->optimizer, m);
  const size_t bytes =
      floats * sizeof(float) + NAME_BYTES * (3 * (size_t)m->param_count + (size_t)m->classes);
  if (bytes <= INT32_MAX) return DFT_OK;
  return dft_fail(
      DFT_EUSAGE,
      "phase '%s': a checkpoint of it would be of some %zu MB, more than protobuf's 2 GiB; use fewer "
      "classes, or an optimizer that keeps less",
      phase->name, bytes / 1000000);
}

dft_status dft_phase_starts(const dft_config *config, dft_model *model, int *starts) {
  for (int p = 0; p < config->phase_count; p++) {
    DFT_TRY(dft_model_freeze(model, &config->phases[p], config->batch_norm));
    DFT_TRY(check_state_size(model, &config->phases[p]));
    starts[p] = dft_model_tail_start(model);
    if (unfreezes_in_vain(model, &config->phases[p]))
      dft_note("phase '%s' unfreezes no layer with weights%s: only the head trains", config->phases[p].name,
               config->batch_norm == DFT_BN_FROZEN ? ", but for those that batch_norm: frozen keeps out"
                                                   : "");
  }
  return DFT_OK;
}

dft_status dft_class_names(const dft_config *config, const dft_dataset *data, const char *const **names,
                           char ***own) {
  *own = NULL;
  *names = (const char *const *)config->model.class_names;
  if (*names == NULL && data != NULL) *names = dft_dataset_class_names(data);
  if (*names != NULL) return DFT_OK;
  int classes = config->model.classes;
  char **numbers = calloc((size_t)classes, sizeof *numbers);
  bool failed = numbers == NULL;
  for (int i = 0; i < classes && !failed; i++) failed = asprintf(&numbers[i], "%d", i) < 0;
  if (failed) {
    dft_class_names_free(numbers, classes);
    return dft_fail_memory("class names", 0);
  }
  *own = numbers;
  *names = (const char *const *)numbers;
  if (config->data.classes_subset_count > 0)
    dft_note(
        "data.classes_subset: classes 0, 1, … are the data's %lld, %lld, …; model.class_names names them",
        (long long)config->data.classes_subset[0], (long long)config->data.classes_subset[1]);
  return DFT_OK;
}

void dft_class_names_free(char **names, int count) {
  if (names == NULL) return;
  for (int i = 0; i < count; i++) free(names[i]);
  free(names);
}

void dft_passed_over_line(const dft_dataset *data, char *text, size_t bytes) {
  const char *example;
  const int64_t files = dft_dataset_passed_over(data, &example);
  text[0] = '\0';
  if (files > 0)
    snprintf(text, bytes, "%lld file%s passed over for %s, as %s", (long long)files,
             files == 1 ? " was" : "s were", files == 1 ? "its name or place" : "their names or places",
             example);
}

void dft_tell_data(const dft_dataset *data, bool files) {
  char line[DFT_LINE_BYTES];
  dft_dataset_doubt(data, line, sizeof line);
  if (line[0] != '\0') dft_warn("%s", line);
  if (files) dft_passed_over_line(data, line, sizeof line);
  if (files && line[0] != '\0') dft_note("%s", line);
}

dft_status dft_same_data(dft_comm *comm, const dft_dataset *data, const char *what, uint64_t *fingerprint) {
  int other;
  *fingerprint = dft_dataset_fingerprint(data);
  DFT_TRY(dft_first_other(comm, *fingerprint, &other));
  if (other == 0) return DFT_OK;
  return dft_fail(
      DFT_EDATA,
      "the %s data differ between host %s and host %s (rank %d): other names, labels or sizes; all "
      "hosts need the same files",
      what, dft_comm_host(comm, 0), dft_comm_host(comm, other), other);
}
