/* A state as text for people. */
#include "dft/checkpoint.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void print_row(FILE *out, const char *key, const char *value) {
  fprintf(out, "%-14s%s\n", key, value != NULL && value[0] != 0 ? value : "-");
}

static void print_model(const dft_state *s, FILE *out) {
  fprintf(out, "%-14s%s, alpha %g, input %dx%dx3, pooling %s\n", "model", s->model_name, s->alpha, s->height,
          s->width, s->pooling);
  fprintf(out, "%-14spreprocessing %s, resize %s\n", "input", s->preprocessing, s->resize);
  fprintf(out, "%-14s%d", "classes", s->classes);
  for (int i = 0; s->weights.class_names != NULL && i < s->weights.classes; i++)
    fprintf(out, "%s %s", i == 0 ? ":" : ",", s->weights.class_names[i]);
  fputc('\n', out);
}

static void print_position(const dft_state *s, FILE *out) {
  const bool exported = dft_state_is_export(s);
  if (exported)
    fprintf(out, "%-14sexported after %d epochs, without optimizer and history", "position", s->at.epoch);
  else
    fprintf(out, "%-14s%s: %d epochs, %" PRId64 " steps done", "position",
            s->at.finished ? "finished" : "not finished", s->at.epoch, s->at.step);
  if (!s->at.finished && !exported)
    fprintf(out, "; phase %d, %d epochs and %" PRId64 " steps of it", s->at.phase + 1, s->at.phase_epoch,
            s->iterations);
  fputc('\n', out);
  if (s->at.position > 0)
    fprintf(out, "%-14sin the running epoch %" PRId64 " samples: accuracy %.4f, loss %.4f\n", "",
            s->at.position, s->at.count_sum > 0 ? s->at.correct_sum / s->at.count_sum : NAN,
            s->at.count_sum > 0 ? s->at.loss_sum / s->at.count_sum : NAN);
  if (s->at.skipped > 0)
    fprintf(out, "%-14sthe last %d steps were skipped as not finite\n", "", s->at.skipped);
  if (isnan(s->at.best))
    print_row(out, "best", "none yet");
  else
    fprintf(out, "%-14s%.6g in epoch %d\n", "best", s->at.best, s->at.best_epoch);
  fprintf(out, "%-14sseed %" PRId64 ", %d shards\n", "run", s->seed, s->shards);
  fprintf(out, "%-14s%" PRId64 " samples, fingerprint %016" PRIx64 "\n", "training data", s->train_count,
          s->data_fingerprint);
  if (s->validation_fingerprint != 0)
    fprintf(out, "%-14sfingerprint %016" PRIx64 "\n", "validation", s->validation_fingerprint);
}

static void print_number(FILE *out, double value, int digits) {
  if (isnan(value))
    fprintf(out, "  %12s", "-");
  else
    fprintf(out, "  %12.*f", digits, value);
}

static void print_history(const dft_state *s, FILE *out) {
  if (s->history_count == 0) return;
  fprintf(out, "\n%5s  %-12s  %12s  %12s  %12s  %12s  %12s\n", "epoch", "phase", "accuracy", "loss",
          "val_accuracy", "val_loss", "rate");
  for (int i = 0; i < s->history_count; i++) {
    const dft_epoch *e = &s->history[i];
    fprintf(out, "%5d  %-12s", e->epoch, e->phase);
    print_number(out, e->accuracy, 4);
    print_number(out, e->loss, 4);
    print_number(out, e->val_accuracy, 4);
    print_number(out, e->val_loss, 4);
    fprintf(out, "  %12g\n", e->learning_rate);
  }
}

static void print_tensor(FILE *out, const dft_tensor *t, bool first) {
  fprintf(out, "%s%s [", first ? "" : ", ", t->variable);
  for (int d = 0; d < t->rank; d++) fprintf(out, "%s%" PRId64, d == 0 ? "" : ",", t->shape[d]);
  fputc(']', out);
}

/* One line per layer: tensors of a layer stand together in a checkpoint. */
static void print_layers(const char *title, const dft_weights *w, FILE *out) {
  int64_t all = 0;
  for (int i = 0; i < w->count; i++) all += dft_tensor_elements(&w->tensors[i]);
  fprintf(out, "\n%s: %d tensors, %" PRId64 " numbers, %.1f MB\n", title, w->count, all,
          (double)all * sizeof(float) / 1e6);
  for (int i = 0; i < w->count;) {
    const char *layer = w->tensors[i].layer;
    int64_t numbers = 0;
    int end = i;
    for (; end < w->count && strcmp(w->tensors[end].layer, layer) == 0; end++)
      numbers += dft_tensor_elements(&w->tensors[end]);
    fprintf(out, "  %-28s%10" PRId64 "  ", layer, numbers);
    for (int t = i; t < end; t++) print_tensor(out, &w->tensors[t], t == i);
    fputc('\n', out);
    i = end;
  }
}

static void print_deciding(const char *lines, FILE *out) {
  if (lines == NULL || lines[0] == 0) return;
  fprintf(out, "\nconfig that decides the result:\n");
  for (const char *at = lines; *at != 0;) {
    size_t length = strcspn(at, "\n");
    fprintf(out, "  %.*s\n", (int)length, at);
    at += length + (at[length] == '\n');
  }
}

dft_status dft_inspect(const dft_state *s, FILE *out) {
  fprintf(out, "%-14sformat %d\n", "checkpoint", DFT_CHECKPOINT_VERSION);
  print_model(s, out);
  print_position(s, out);
  print_history(s, out);
  print_layers("weights", &s->weights, out);
  if (s->slots.count > 0) print_layers("optimizer", &s->slots, out);
  print_deciding(s->deciding, out);
  return fflush(out) == 0 && !ferror(out) ? DFT_OK
                                          : dft_fail(DFT_EIO, "cannot write the report: %s", strerror(errno));
}
