/* The run's state to and from checkpoints. Rank 0 reads and writes; what the others need is broadcast. */
#include "dft/log.h"
#include "train.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static dft_status copy_names(const dft_run *run, dft_weights *w) {
  int classes = run->model->classes;
  w->class_names = calloc((size_t)classes, sizeof *w->class_names);
  if (w->class_names == NULL) return dft_fail_memory("class names", 0);
  w->classes = classes;
  for (int i = 0; i < classes; i++)
    if ((w->class_names[i] = strdup(run->class_names[i])) == NULL) return dft_fail_memory("class names", 0);
  return DFT_OK;
}

static dft_status copy_history(const dft_run *run, dft_state *s) {
  s->history = calloc((size_t)run->history_count + 1, sizeof *s->history);
  if (s->history == NULL) return dft_fail_memory("history", 0);
  for (int i = 0; i < run->history_count; i++) {
    s->history[i] = run->history[i];
    s->history[i].phase = strdup(run->history[i].phase);
    s->history_count++;
    if (s->history[i].phase == NULL) return dft_fail_memory("history", 0);
  }
  return DFT_OK;
}

/* What of an earlier state of this phase can be written over: its tensors, whose memory is there already. */
static void keep_tensors(const dft_run *run, dft_state *s) {
  dft_weights weights = s->weights, slots = s->slots;
  if (s->at.phase != run->at.phase || run->at.finished) {
    dft_weights_free(&weights);
    dft_weights_free(&slots);
  }
  s->weights = s->slots = (dft_weights){0};
  dft_state_free(s);
  s->weights = weights;
  s->slots = slots;
}

dft_status dft_state_of(const dft_run *run, dft_state *s) {
  const dft_config *c = run->config;
  const dft_position *at = &run->at;
  keep_tensors(run, s);
  *s = (dft_state){.weights = s->weights,
                   .slots = s->slots,
                   .alpha = c->model.alpha,
                   .height = c->model.height,
                   .width = c->model.width,
                   .classes = c->model.classes,
                   .shards = run->shards,
                   .at = *at,
                   .seed = c->seed,
                   .data_fingerprint = run->fingerprint[DFT_SET_TRAIN],
                   .validation_fingerprint = run->fingerprint[DFT_SET_VALIDATION],
                   .train_count = dft_dataset_count(run->data[DFT_SET_TRAIN])};
  s->model_name = strdup(c->model.name);
  char word[DFT_WORD_BYTES];
  s->pooling = strdup(dft_config_word("model.pooling", (int)c->model.pooling, word));
  s->preprocessing = strdup(dft_config_word("data.preprocessing", (int)c->data.preprocessing, word));
  s->resize = strdup(dft_config_word("data.resize", (int)c->data.resize, word));
  if (!s->model_name || !s->pooling || !s->preprocessing || !s->resize) return dft_fail_memory("state", 0);
  const int learning = dft_model_first_param(run->model, run->phase.first);
  DFT_TRY(dft_model_export(run->model, at->finished ? run->model->param_count : learning, &s->weights));
  if (s->weights.class_names == NULL) DFT_TRY(copy_names(run, &s->weights));
  if (run->phase.optimizer != NULL) {
    DFT_TRY(dft_optimizer_export(run->phase.optimizer, at->finished, &s->slots));
    s->iterations = dft_optimizer_iterations(run->phase.optimizer);
  }
  DFT_TRY(copy_history(run, s));
  return dft_config_deciding(c, &s->deciding);
}

/* A run can go on only from a state that this config, this data and these ranks would have reached. */
static dft_status fits(const dft_run *run, const dft_state *s, const char *path) {
  const dft_config *c = run->config;
  DFT_TRY(dft_context(dft_config_compatible(c, s->deciding, s->at.phase), "%s cannot go on with this config",
                      path));
  if (s->data_fingerprint != run->fingerprint[DFT_SET_TRAIN])
    return dft_fail(
        DFT_EUSAGE,
        "%s was trained on other data (%lld samples then, %lld now, or other contents): use another run_dir",
        path, (long long)s->train_count, (long long)dft_dataset_count(run->data[DFT_SET_TRAIN]));
  const bool measured = s->at.epoch > 0 && s->validation_fingerprint != 0;
  if (measured && s->validation_fingerprint != run->fingerprint[DFT_SET_VALIDATION])
    return dft_fail(DFT_EUSAGE,
                    "%s was measured on another data.validation (other samples or contents), its best epoch "
                    "too: use another run_dir",
                    path);
  if (c->distributed.shards != 0 && c->distributed.shards != s->shards)
    return dft_fail(DFT_EUSAGE, "%s was trained with distributed.shards %d, the config says %d: set it back",
                    path, s->shards, c->distributed.shards);
  if (dft_state_is_export(s))
    return dft_fail(
        DFT_EDATA,
        "%s was exported, without its optimizer: no run can go on from it; give it as model.weights", path);
  if (dft_comm_size(run->comm) > s->shards)
    return dft_fail(DFT_EUSAGE, "%s has %d shards, fewer than the %d ranks: start with at most %d ranks",
                    path, s->shards, dft_comm_size(run->comm), s->shards);
  return DFT_OK;
}

static dft_status adopt(dft_run *run, dft_state *s, const char *path) {
  DFT_TRY(fits(run, s, path));
  dft_bind_result bound = {0};
  DFT_TRY(dft_model_bind(run->model, &s->weights, path, NULL, &bound));
  if (!bound.head) return dft_fail(DFT_EDATA, "%s: %s", path, bound.head_why);
  run->at = s->at;
  run->shards = s->shards;
  run->history = s->history;
  run->history_count = s->history_count;
  s->history = NULL;
  s->history_count = 0;
  return DFT_OK;
}

/* Rank 0: finds the state that `checkpoint.resume` names. */
static dft_status find_state(const dft_run *run, dft_state *state, char **path, bool *found) {
  const char *resume = run->config->checkpoint.resume;
  *found = false;
  if (strcmp(resume, "none") == 0) {
    bool has;
    DFT_TRY(dft_store_has_checkpoints(run->store, &has));
    if (has)
      return dft_fail(DFT_EUSAGE,
                      "checkpoint.resume: none, but %s has checkpoints: remove them or use another run_dir",
                      run->config->run_dir);
    return DFT_OK;
  }
  DFT_TRY(dft_store_latest(run->store, state, path, found));
  const bool named = strcmp(resume, "auto") != 0;
  if (*found && named) /* so that the same command goes on after a stop */
    dft_note("checkpoint.resume: %s is left alone, for %s has checkpoints of its own; another run_dir begins "
             "from it",
             resume, run->config->run_dir);
  if (*found || !named) return DFT_OK;
  *path = strdup(resume);
  if (*path == NULL) return dft_fail_memory("path", 0);
  *found = true;
  return dft_context(dft_state_read(resume, state), "checkpoint.resume");
}

static dft_status resume_here(dft_run *run, bool *resumed, dft_weights *slots, int64_t *iterations) {
  dft_state state = {0};
  char *path = NULL;
  dft_status status = find_state(run, &state, &path, resumed);
  run->has_final = dft_store_has_final(run->store);
  if (status == DFT_OK && *resumed) status = adopt(run, &state, path);
  if (status == DFT_OK && *resumed) {
    *iterations = state.iterations;
    *slots = state.slots;
    state.slots = (dft_weights){0};
    dft_note("resuming from %s: %d epochs and %lld steps done", path, run->at.epoch, (long long)run->at.step);
    if (run->at.best_epoch > 0 && access(dft_store_path(run->store, "best.pb").text, F_OK) != 0)
      dft_note("no best.pb in %s: epoch %d is the best so far, and is kept only where it was trained",
               run->config->run_dir, run->at.best_epoch);
  }
  dft_state_free(&state);
  free(path);
  return status;
}

dft_status dft_resume(dft_run *run, bool *resumed, dft_weights *slots, int64_t *iterations) {
  *resumed = false;
  *iterations = 0;
  run->at.best = NAN;
  dft_status status = dft_comm_rank(run->comm) == 0 ? resume_here(run, resumed, slots, iterations) : DFT_OK;
  DFT_TRY(dft_comm_agree(run->comm, status));
  struct {
    dft_position at;
    int64_t iterations;
    int32_t shards, resumed, has_final;
  } told = {run->at, *iterations, run->shards, *resumed, run->has_final};
  DFT_TRY(dft_comm_bcast(run->comm, 0, &told, sizeof told));
  run->at = told.at;
  run->shards = told.shards;
  *iterations = told.iterations;
  *resumed = told.resumed != 0;
  run->has_final = told.has_final != 0;
  return DFT_OK;
}

dft_status dft_restore_optimizer(dft_run *run, const dft_weights *slots, int64_t iterations) {
  dft_optimizer *o = run->phase.optimizer;
  bool reads = dft_comm_rank(run->comm) == 0;
  DFT_TRY(dft_comm_agree(run->comm, reads ? dft_optimizer_import(o, slots, iterations) : DFT_OK));
  if (!reads) dft_optimizer_set_iterations(o, iterations);
  for (int p = 0; p < run->model->param_count; p++)
    for (int s = 0; s < 2; s++) {
      float *slot = dft_optimizer_slot(o, p, s);
      if (slot != NULL)
        DFT_TRY(dft_comm_bcast(run->comm, 0, slot, (size_t)run->model->params[p].elements * sizeof(float)));
    }
  return DFT_OK;
}
