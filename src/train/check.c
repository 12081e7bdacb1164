/* `dft check`: what training refuses at once; then reads every sample once, and the weights. */
#include "dft/clock.h"
#include "dft/log.h"
#include "dft/text.h"
#include "train.h"
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

/* Samples are read by several threads, a block at a time, and told in their order. */
enum { BLOCK = 256 };

typedef struct finding {
  dft_status status;
  char error[DFT_MESSAGE_BYTES], warning[DFT_MESSAGE_BYTES];
} finding;

typedef struct checking {
  const dft_dataset *data;
  const char *what; /* "training" */
  bool told;        /* what was passed over: said already, or of the other part of a split */
  int threads, classes, width;
  const char *const *names;
  int64_t samples, unreadable, suspicious;
  int64_t *seen, *bad; /* [classes] */
  float *images;       /* one per thread */
  size_t image;        /* values of one */
  finding *findings;   /* [BLOCK] */
  double start_s;
} checking;

static void show_progress(const checking *k, int64_t done) {
  dft_progress("%s: %lld of %lld samples, %lld unreadable, %.0f s left", k->what, (long long)done,
               (long long)k->samples, (long long)k->unreadable, dft_left_s(k->start_s, done, k->samples));
}

/* ---- reading ---- */

/* Arrays may hold such values, which training takes as they are, and ends at. */
static dft_status check_finite(const checking *k, int64_t sample, const float *image) {
  size_t at = 0;
  while (at < k->image && isfinite(image[at])) at++;
  if (at == k->image) return DFT_OK;
  char name[DFT_MESSAGE_BYTES / 2];
  dft_dataset_name(k->data, sample, name, sizeof name);
  const size_t row = (size_t)k->width * 3;
  return dft_fail(DFT_EDATA, "%s: not finite at row %zu, column %zu, channel %zu of the model's input", name,
                  at / row, at % row / 3, at % 3);
}

static void read_block(checking *k, int64_t first, int count) {
#pragma omp parallel for num_threads(k->threads) schedule(dynamic)
  for (int i = 0; i < count; i++) {
    finding *f = &k->findings[i];
    float *image = k->images + (size_t)omp_get_thread_num() * k->image;
    f->status = dft_dataset_check(k->data, first + i, image, f->warning, sizeof f->warning);
    if (f->status == DFT_OK) f->status = check_finite(k, first + i, image);
    f->error[0] = '\0';
    if (f->status != DFT_OK) snprintf(f->error, sizeof f->error, "%s", dft_error());
  }
}

/* DFT_EDATA and DFT_EIO are findings; anything else ends the check. */
static dft_status tell_block(checking *k, int64_t first, int count) {
  for (int i = 0; i < count; i++) {
    const finding *f = &k->findings[i];
    int label = dft_dataset_label(k->data, first + i);
    k->seen[label]++;
    if (f->status == DFT_OK && f->warning[0] == '\0') continue;
    dft_progress_end();
    if (f->warning[0] != '\0') {
      printf("warning: %s\n", f->warning);
      k->suspicious++;
    }
    if (f->status == DFT_OK) continue;
    if (f->status != DFT_EDATA && f->status != DFT_EIO) return dft_fail(f->status, "%s", f->error);
    printf("unreadable: %s\n", f->error);
    k->unreadable++;
    k->bad[label]++;
  }
  return DFT_OK;
}

static void print_totals(const checking *k) {
  char line[DFT_LINE_BYTES];
  dft_passed_over_line(k->data, line, sizeof line);
  if (line[0] != '\0' && !k->told) printf("note: %s\n", line);
  printf("%s: %lld samples, %lld unreadable, %lld suspicious\n", k->what, (long long)k->samples,
         (long long)k->unreadable, (long long)k->suspicious);
  printf("  %-30s %9s %11s\n", "class", "samples", "unreadable");
  for (int c = 0; c < k->classes; c++) {
    printf("  ");
    dft_text_columns(stdout, k->names[c], 0, -30);
    printf(" %9lld %11lld\n", (long long)k->seen[c], (long long)k->bad[c]);
  }
}

static dft_status read_all(checking *k) {
  size_t classes = (size_t)k->classes;
  k->images = malloc((size_t)k->threads * k->image * sizeof *k->images);
  k->findings = calloc(BLOCK, sizeof *k->findings);
  k->seen = calloc(classes, sizeof *k->seen);
  k->bad = calloc(classes, sizeof *k->bad);
  if (k->images == NULL || k->findings == NULL || k->seen == NULL || k->bad == NULL)
    return dft_fail_memory("images", (size_t)k->threads * k->image * sizeof *k->images);
  for (int64_t first = 0; first < k->samples; first += BLOCK) {
    int count = k->samples - first < BLOCK ? (int)(k->samples - first) : BLOCK;
    read_block(k, first, count);
    DFT_TRY(tell_block(k, first, count));
    show_progress(k, first + count);
  }
  dft_progress_end();
  char doubt[DFT_LINE_BYTES];
  dft_dataset_doubt(k->data, doubt, sizeof doubt);
  if (doubt[0] != '\0' && !k->told) printf("warning: %s\n", doubt);
  print_totals(k);
  return DFT_OK;
}

static dft_status check_dataset(const dft_config *c, const dft_dataset *data, bool validation,
                                const char *const *names, int64_t *unreadable) {
  checking k = {.data = data,
                .what = validation ? "validation" : "training",
                .told = c->data.format == DFT_DATA_TAR || (validation && c->data.validation.split > 0),
                .threads = c->data.threads > 0 ? c->data.threads : omp_get_max_threads(),
                .classes = c->model.classes,
                .width = c->model.width,
                .names = names,
                .samples = dft_dataset_count(data),
                .image = (size_t)c->model.height * (size_t)c->model.width * 3,
                .start_s = dft_now_s()};
  dft_status status = read_all(&k);
  *unreadable += k.unreadable;
  free(k.images);
  free(k.findings);
  free(k.seen);
  free(k.bad);
  return status;
}

/* The model, as its phases freeze it: a config that training refuses is refused before any data is read. */
static dft_status check_phases(const dft_config *c, dft_model **model) {
  int starts[DFT_CACHE_LEVELS];
  DFT_TRY(dft_model_new(c->model.alpha, c->model.height, c->model.width, c->model.pooling, c->model.classes,
                        model));
  return dft_phase_starts(c, *model, starts);
}

/* Whether the weights are there and fit the model. What is wrong with the file is a finding. */
static dft_status check_weights(const dft_config *c, dft_model *model, const char *const *names, bool *good) {
  *good = true;
  if (c->model.weights == NULL) return DFT_OK;
  dft_status status = dft_load_weights(c, model, names);
  if (status != DFT_EDATA && status != DFT_EIO) return status;
  printf("unusable: %s\n", dft_error());
  *good = false;
  return DFT_OK;
}

dft_status dft_check(dft_comm *comm, const dft_config_source *source) {
  dft_config *c = NULL;
  dft_model *model = NULL;
  dft_dataset *train = NULL, *validation = NULL;
  const char *const *names = NULL;
  char **own = NULL;
  int64_t bad = 0;
  bool weights_good = true;
  DFT_TRY(dft_load_config(comm, source, &c));
  c->data.on_corrupt = DFT_CORRUPT_SKIP; /* all are listed, not the first one only */
  dft_status status = check_phases(c, &model);
  if (status == DFT_OK) status = dft_data_open(c, dft_share_alone(), &train, &validation);
  if (status == DFT_OK) status = dft_class_names(c, train, &names, &own);
  if (status == DFT_OK) status = check_weights(c, model, names, &weights_good);
  if (status == DFT_OK) status = check_dataset(c, train, false, names, &bad);
  if (status == DFT_OK && validation != NULL) status = check_dataset(c, validation, true, names, &bad);
  if (status == DFT_OK && (bad > 0 || !weights_good))
    status = bad == 0 ? dft_fail(DFT_EDATA, "model.weights cannot be used, as said above")
                      : dft_fail(DFT_EDATA, "%lld sample%s unreadable, listed above%s", (long long)bad,
                                 bad == 1 ? " is" : "s are",
                                 weights_good ? "" : ", and model.weights cannot be used");
  dft_class_names_free(own, c->model.classes);
  dft_dataset_free(validation);
  dft_dataset_free(train);
  dft_model_free(model);
  dft_config_free(c);
  return status;
}
