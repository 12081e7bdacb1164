/* `dft eval`: loss, accuracy, per-class table and confusion matrix on data.validation. */
#include "dft/file.h"
#include "dft/log.h"
#include "dft/text.h"
#include "train.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct class_scores {
  int64_t support, predicted, correct;
  double precision, recall, f1;
} class_scores;

static double ratio(int64_t part, int64_t whole) {
  return whole > 0 ? (double)part / (double)whole : 0.0;
}

static class_scores score(const dft_metrics *m, int classes, int c) {
  class_scores s = {.support = m->by_class[DFT_BY_TRUE * classes + c],
                    .predicted = m->by_class[DFT_BY_PREDICTED * classes + c],
                    .correct = m->by_class[DFT_BY_BOTH * classes + c]};
  s.precision = ratio(s.correct, s.predicted);
  s.recall = ratio(s.correct, s.support);
  s.f1 = s.precision + s.recall > 0 ? 2 * s.precision * s.recall / (s.precision + s.recall) : 0.0;
  return s;
}

/* The mean over the classes, each counting the same (macro) or by its samples (weighted). A class without
 * samples or predictions has zeros, which count. */
static class_scores average(const dft_metrics *m, int classes, bool weighted) {
  class_scores a = {0};
  for (int c = 0; c < classes; c++) {
    class_scores s = score(m, classes, c);
    double weight = weighted ? ratio(s.support, m->count) : 1.0 / classes;
    a.precision += weight * s.precision;
    a.recall += weight * s.recall;
    a.f1 += weight * s.f1;
  }
  a.support = m->count;
  return a;
}

static void print_scores(const char *name, class_scores s) {
  dft_text_columns(stdout, name, 0, -20);
  printf(" %9.4f %9.4f %9.4f %9lld\n", s.precision, s.recall, s.f1, (long long)s.support);
}

enum {
  MOST_COLUMNS = 100,  /* of a table that can still be read */
  MOST_CONFUSED = 4096 /* classes whose matrix fits in memory, and in a message, on every rank: 134 MB */
};

/* Samples of true_class that were predicted as the other: an entry of the confusion matrix. */
static int64_t taken_for(const dft_metrics *m, int classes, int true_class, int predicted) {
  return m->confusion[(int64_t)true_class * classes + predicted];
}

static void print_confusion(const dft_run *run, const dft_metrics *m) {
  const int classes = run->model->classes;
  if (classes > MOST_COLUMNS) {
    printf("\nconfusion matrix: %d classes are too many for a table%s\n", classes,
           m->confusion != NULL ? ", --json writes it" : "");
    return;
  }
  printf("\nconfusion matrix (rows: true class, columns: predicted)\n%-20s", "");
  for (int c = 0; c < classes; c++) {
    printf(" ");
    dft_text_columns(stdout, run->class_names[c], 8, 8);
  }
  printf("\n");
  for (int t = 0; t < classes; t++) {
    dft_text_columns(stdout, run->class_names[t], 0, -20);
    for (int p = 0; p < classes; p++) printf(" %8lld", (long long)taken_for(m, classes, t, p));
    printf("\n");
  }
}

static void print_table(const dft_run *run, const dft_metrics *m) {
  int classes = run->model->classes;
  printf("samples %lld  accuracy %.4f  loss %.4f\n", (long long)m->count, m->accuracy, m->loss);
  if (m->left_out > 0) printf("left out, as they cannot be read: %lld\n", (long long)m->left_out);
  printf("\n");
  printf("%-20s %9s %9s %9s %9s\n", "class", "precision", "recall", "f1", "support");
  for (int c = 0; c < classes; c++) print_scores(run->class_names[c], score(m, classes, c));
  print_scores("macro average", average(m, classes, false));
  print_scores("weighted average", average(m, classes, true));
  print_confusion(run, m);
  fflush(stdout);
}

static void json_scores(FILE *f, class_scores s) {
  fprintf(f, "\"precision\": %.17g, \"recall\": %.17g, \"f1\": %.17g, \"support\": %lld}", s.precision,
          s.recall, s.f1, (long long)s.support);
}

static void json_real(FILE *f, const char *key, double value) {
  fprintf(f, "\"%s\": ", key);
  dft_json_number(f, value, 17);
  fputs(", ", f);
}

static void json(FILE *f, const dft_run *run, const char *checkpoint, const dft_metrics *m) {
  int classes = run->model->classes;
  fprintf(f, "{\"checkpoint\": ");
  dft_json_text(f, checkpoint);
  fprintf(f, ", \"samples\": %lld, \"left_out\": %lld, ", (long long)m->count, (long long)m->left_out);
  json_real(f, "loss", m->loss);
  json_real(f, "accuracy", m->accuracy);
  fprintf(f, "\"classes\": [");
  for (int c = 0; c < classes; c++) {
    fprintf(f, "%s{\"name\": ", c ? ", " : "");
    dft_json_text(f, run->class_names[c]);
    fprintf(f, ", ");
    json_scores(f, score(m, classes, c));
  }
  fprintf(f, "], \"macro\": {");
  json_scores(f, average(m, classes, false));
  fprintf(f, ", \"weighted\": {");
  json_scores(f, average(m, classes, true));
  fprintf(f, ", \"confusion\": %s", m->confusion != NULL ? "[" : "null}\n");
  if (m->confusion == NULL) return;
  for (int t = 0; t < classes; t++)
    for (int p = 0; p < classes; p++)
      fprintf(f, "%s%s%lld%s", p == 0 && t ? ", " : "", p == 0 ? "[" : ", ",
              (long long)taken_for(m, classes, t, p), p == classes - 1 ? "]" : "");
  fprintf(f, "]}\n");
}

static bool is_stdout(const char *path) {
  return strcmp(path, "-") == 0;
}

static dft_status write_json(const dft_run *run, const char *checkpoint, const dft_metrics *m,
                             const char *path) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *f = open_memstream(&text, &bytes);
  if (f == NULL) return dft_fail_memory("json", 0);
  json(f, run, checkpoint, m);
  dft_status status = fclose(f) == 0 ? DFT_OK : dft_fail_memory("json", 0);
  if (status == DFT_OK && is_stdout(path))
    (void)fwrite(text, 1, bytes, stdout); /* the command's end looks whether that went well */
  else if (status == DFT_OK)
    status = dft_write_result(path, text, bytes);
  free(text);
  return status;
}

/* The checkpoint's model must be what the config's data is for. */
static dft_status check_fit(const dft_config *c, const dft_state *s, const char *checkpoint) {
  if (c->model.classes != s->classes)
    return dft_fail(DFT_EUSAGE, "model.classes: %d, but %s has %d classes", c->model.classes, checkpoint,
                    s->classes);
  if (c->model.alpha != s->alpha)
    return dft_fail(DFT_EUSAGE, "model.alpha: %g, but %s was trained with %g", c->model.alpha, checkpoint,
                    s->alpha);
  if (c->model.height != s->height || c->model.width != s->width)
    return dft_fail(DFT_EUSAGE, "model.input_shape: %dx%d, but %s was trained with %dx%d", c->model.height,
                    c->model.width, checkpoint, s->height, s->width);
  if (!c->data.validation.present)
    return dft_fail(DFT_EUSAGE, "data.validation: missing, dft eval measures on it");
  const struct {
    const char *key;
    int here;
    const char *there;
  } words[] = {{"model.pooling", (int)c->model.pooling, s->pooling},
               {"data.preprocessing", (int)c->data.preprocessing, s->preprocessing},
               {"data.resize", (int)c->data.resize, s->resize}};
  for (int i = 0; i < 3; i++) {
    char here[DFT_WORD_BYTES];
    dft_config_word(words[i].key, words[i].here, here);
    if (words[i].there != NULL && strcmp(here, words[i].there) != 0)
      return dft_fail(DFT_EUSAGE, "%s: %s, but %s was trained with %s", words[i].key, here, checkpoint,
                      words[i].there);
  }
  return DFT_OK;
}

static bool is_number(const char *name, int number) {
  char text[16];
  snprintf(text, sizeof text, "%d", number);
  return strcmp(name, text) == 0;
}

/* The checkpoint has no name for a class but its number, as where the training data had none. */
static bool is_numbered(const dft_state *s, int class) {
  return s->weights.class_names == NULL || is_number(s->weights.class_names[class], class);
}

/* Where both know names, class i must be the same class: folders sort otherwise when one is added. */
static dft_status check_names(const dft_state *s, const dft_dataset *data, const char *checkpoint) {
  const char *const *names = dft_dataset_class_names(data);
  char *const *trained = s->weights.class_names;
  for (int i = 0; i < s->classes && names != NULL; i++) {
    if (!is_numbered(s, i) && strcmp(trained[i], names[i]) != 0)
      return dft_fail(DFT_EDATA, "data.validation: class %d is '%s', but '%s' in %s", i, names[i], trained[i],
                      checkpoint);
  }
  return DFT_OK;
}

/* The names that the data's classes must have; NULL where the checkpoint does not know them all. */
static const char *const *names_of_all(const dft_config *c, const dft_state *s) {
  for (int i = 0; i < s->classes; i++)
    if (is_numbered(s, i)) return NULL;
  return c->data.classes_subset_count == 0 ? (const char *const *)s->weights.class_names : NULL;
}

/* Whether the data name a class for which the checkpoint has a number: which it is, the training data say. */
static bool is_unknown(const dft_state *s, const dft_dataset *data) {
  const char *const *names = dft_dataset_class_names(data);
  for (int i = 0; i < s->classes && names != NULL; i++)
    if (is_numbered(s, i) && !is_number(names[i], i)) return true;
  return false;
}

/* A machine may have the test set alone: the training data are opened only where data.validation is split off
 * from them, or to compare classes whose names the checkpoint does not know. */
static dft_status open_data(dft_run *run, const dft_state *state, const char *checkpoint) {
  const dft_share *share = dft_comm_share(run->comm);
  dft_dataset **train = &run->data[DFT_SET_TRAIN], **validation = &run->data[DFT_SET_VALIDATION];
  bool alone = run->config->data.validation.split <= 0;
  if (alone) {
    DFT_TRY(dft_comm_agree_hosts(run->comm,
                                 dft_data_open_validation(run->config, names_of_all(run->config, state),
                                                          checkpoint, share, validation)));
    alone = !is_unknown(state, *validation);
    DFT_TRY(dft_comm_bcast(run->comm, 0, &alone, sizeof alone)); /* files may be others on other hosts */
    if (!alone) dft_dataset_free(*validation);
  }
  if (!alone) DFT_TRY(dft_comm_agree_hosts(run->comm, dft_data_open(run->config, share, train, validation)));
  return dft_same_data(run->comm, *validation, "validation", &run->fingerprint[DFT_SET_VALIDATION]);
}

/* Evaluation starts at the image: a cache without levels. */
static dft_status open_images(dft_run *run) {
  DFT_TRY(dft_cache_open(run->config, run->model, run->ops, dft_comm_share(run->comm), (const int[]){0}, 1,
                         (const dft_dataset *const *)run->data, &run->cache));
  return dft_cache_phase(run->cache, 0);
}

/* A validation part that was split off is the checkpoint's only if the training part is. */
static dft_status warn_of_split(dft_run *run, const dft_state *state, const char *checkpoint) {
  uint64_t training = 0;
  if (run->config->data.validation.split <= 0 || state->train_count == 0) return DFT_OK;
  DFT_TRY(dft_same_data(run->comm, run->data[DFT_SET_TRAIN], "training", &training));
  if (training != state->data_fingerprint && dft_comm_rank(run->comm) == 0)
    dft_warn(
        "%s was trained on another part of the data (other files, seed, split or limit): samples of this "
        "validation set may have been among them",
        checkpoint);
  return DFT_OK;
}

static dft_status try_json(const char *path, const char *checkpoint, const dft_config_source *source,
                           const dft_config *config) {
  DFT_TRY(dft_no_overwrite_input(path, checkpoint));
  DFT_TRY(dft_no_overwrite_input(path, source->path));
  DFT_TRY(dft_no_overwrite_config(path, config));
  DFT_TRY(dft_no_overwrite_checkpoint(path));
  return dft_try_result(path);
}

static dft_status evaluate(dft_run *run, dft_state *state, const char *checkpoint, const char *json_path) {
  dft_comm_set_timeout(run->comm, run->config->distributed.timeout_s);
  /* nothing is written there, wherever it is (the config's strings are its arena's) */
  run->config->run_dir = NULL;
  DFT_TRY(dft_setup_compute(run->comm, run->config, false, &run->compute));
  run->ops = run->compute.ops;
  run->host_ops = run->compute.host_ops;
  DFT_TRY(open_data(run, state, checkpoint));
  if (dft_comm_rank(run->comm) == 0) dft_tell_data(run->data[DFT_SET_VALIDATION], false);
  DFT_TRY(dft_comm_agree(run->comm, check_names(state, run->data[DFT_SET_VALIDATION], checkpoint)));
  DFT_TRY(warn_of_split(run, state, checkpoint));
  DFT_TRY(dft_comm_agree(run->comm, dft_model_of_state(state, checkpoint, true, &run->model)));
  run->class_names = (const char *const *)state->weights.class_names;
  if (run->class_names == NULL)
    DFT_TRY(dft_comm_agree(run->comm, dft_class_names(run->config, run->data[DFT_SET_VALIDATION],
                                                      &run->class_names, &run->own_class_names)));
  int ranks = dft_comm_size(run->comm);
  run->shards = ranks > state->shards ? dft_shards_auto(ranks) : state->shards;
  DFT_TRY(dft_comm_agree(run->comm, dft_reducer_new(run->comm, run->shards, true, NULL, &run->host_reducer)));
  DFT_TRY(dft_comm_agree(run->comm, open_images(run)));
  DFT_TRY(dft_setup_decoding(run->comm, run->config, run->data[DFT_SET_VALIDATION], &run->decode_threads));
  DFT_TRY(dft_comm_agree(run->comm, dft_ahead_open(run, run->decode_threads)));
  dft_cache_use(run->cache, run->ahead.prefetch);
  dft_ahead_phase(run, 1);
  const size_t classes = (size_t)state->classes;
  const bool matrix = classes <= MOST_CONFUSED;
  dft_metrics metrics = {.by_class = calloc(DFT_BY_CLASS * classes, sizeof(int64_t)),
                         .confusion = matrix ? calloc(classes * classes, sizeof(int64_t)) : NULL};
  const bool there = metrics.by_class != NULL && (metrics.confusion != NULL || !matrix);
  dft_status status = dft_comm_agree(run->comm, there ? DFT_OK : dft_fail_memory("confusion matrix", 0));
  if (status == DFT_OK) status = dft_measure(run, DFT_SET_VALIDATION, &metrics);
  if (status == DFT_OK && metrics.count == 0)
    status =
        dft_fail(DFT_EDATA, "none of the %lld validation samples can be read", (long long)metrics.left_out);
  if (status == DFT_OK && dft_comm_rank(run->comm) == 0) {
    if (json_path == NULL || !is_stdout(json_path)) print_table(run, &metrics);
    if (json_path != NULL) status = write_json(run, checkpoint, &metrics, json_path);
  }
  free(metrics.by_class);
  free(metrics.confusion);
  return dft_comm_agree(run->comm, status);
}

dft_status dft_evaluate(dft_comm *comm, const char *checkpoint, const dft_config_source *source,
                        const char *json_path) {
  dft_run run = {.comm = comm};
  dft_state state = {0};
  dft_status status = dft_load_config(comm, source, &run.config);
  if (status == DFT_OK) status = dft_read_checkpoint(comm, checkpoint, &state);
  if (status == DFT_OK) status = check_fit(run.config, &state, checkpoint);
  const bool writes = json_path != NULL && !is_stdout(json_path) && dft_comm_rank(comm) == 0;
  if (status == DFT_OK)
    status = dft_comm_agree(comm, writes ? try_json(json_path, checkpoint, source, run.config) : DFT_OK);
  if (status == DFT_OK) status = evaluate(&run, &state, checkpoint, json_path);
  dft_cache_close(run.cache);
  dft_ahead_close(&run);
  dft_reducer_free(run.host_reducer);
  if (run.config != NULL) dft_class_names_free(run.own_class_names, run.config->model.classes);
  dft_model_free(run.model);
  dft_dataset_free(run.data[DFT_SET_VALIDATION]);
  dft_dataset_free(run.data[DFT_SET_TRAIN]);
  dft_config_free(run.config);
  dft_state_free(&state);
  return status;
}
