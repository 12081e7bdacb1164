#include "logs.h"
#include "dft/checkpoint.h"
#include "dft/file.h"
#include "dft/text.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Nine digits give a float32 back exactly. */
static void csv_number(FILE *out, double value) {
  if (!isnan(value)) fprintf(out, ",%.9g", value);
  if (isnan(value)) fputc(',', out);
}

void dft_history_line(FILE *out, const dft_epoch *e) {
  fprintf(out, "%d,", e->epoch);
  dft_csv_text(out, e->phase);
  csv_number(out, e->accuracy);
  csv_number(out, e->loss);
  csv_number(out, e->val_accuracy);
  csv_number(out, e->val_loss);
  csv_number(out, e->learning_rate);
  fputc('\n', out);
}

dft_status dft_history_rewrite(const char *path, const dft_epoch *history, int count) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *out = open_memstream(&text, &bytes);
  if (out == NULL) return dft_fail_memory(path, 0);
  fputs("epoch,phase,accuracy,loss,val_accuracy,val_loss,learning_rate\n", out);
  for (int i = 0; i < count; i++) dft_history_line(out, &history[i]);
  dft_status status = fclose(out) == 0 ? dft_write_file(path, text, bytes) : dft_fail_memory(path, bytes);
  free(text);
  return status;
}

static void json_number(FILE *out, const char *key, double value) {
  fprintf(out, ",\"%s\":", key);
  dft_json_number(out, value, 9);
}

void dft_log_start(FILE *out, const dft_fact *facts, int count) {
  fputs("{\"type\":\"start\"", out);
  for (int i = 0; i < count; i++) {
    fputc(',', out);
    dft_json_text(out, facts[i].key);
    fputc(':', out);
    if (facts[i].raw)
      fputs(facts[i].value, out);
    else
      dft_json_text(out, facts[i].value);
  }
  fputs("}\n", out);
}

void dft_log_step(FILE *out, const dft_step_report *s) {
  fprintf(out, "{\"type\":\"step\",\"epoch\":%d,\"step\":%lld", s->epoch, (long long)s->step);
  json_number(out, "loss", s->loss);
  json_number(out, "accuracy", s->accuracy);
  json_number(out, "learning_rate", s->learning_rate);
  json_number(out, "images_per_s", s->images_per_s);
  json_number(out, "data_s", s->data_s);
  json_number(out, "compute_s", s->compute_s);
  json_number(out, "communication_s", s->communication_s);
  fputs("}\n", out);
}

void dft_log_epoch(FILE *out, const dft_epoch *e, double seconds, dft_epoch_work work) {
  fprintf(out, "{\"type\":\"epoch\",\"epoch\":%d,\"phase\":", e->epoch);
  dft_json_text(out, e->phase);
  json_number(out, "accuracy", e->accuracy);
  json_number(out, "loss", e->loss);
  json_number(out, "val_accuracy", e->val_accuracy);
  json_number(out, "val_loss", e->val_loss);
  json_number(out, "learning_rate", e->learning_rate);
  json_number(out, "seconds", seconds);
  fprintf(out, ",\"images_decoded\":%lld,\"fetched_bytes\":%lld}\n", (long long)work.images_decoded,
          (long long)work.fetched_bytes);
}

/* Whether a whole line of log.jsonl belongs to a run that has come as far as the state. */
static bool is_kept(const char *line, ssize_t bytes, int epochs, int64_t step) {
  int line_epoch = 0;
  long long line_step = 0;
  if (bytes < 3 || line[bytes - 1] != '\n' || line[bytes - 2] != '}') return false;
  if (sscanf(line, "{\"type\":\"step\",\"epoch\":%d,\"step\":%lld,", &line_epoch, &line_step) == 2)
    return line_step <= step;
  if (sscanf(line, "{\"type\":\"epoch\",\"epoch\":%d,", &line_epoch) == 1) return line_epoch <= epochs;
  return strncmp(line, "{\"type\":\"start\"", 15) == 0;
}

dft_status dft_log_cut(const char *path, int epochs, int64_t step) {
  FILE *in = fopen(path, "re");
  if (in == NULL && errno == ENOENT) return DFT_OK;
  if (in == NULL) return dft_fail(DFT_EIO, "%s: cannot read: %s", path, strerror(errno));
  char *text = NULL, *line = NULL;
  size_t bytes = 0, room = 0;
  ssize_t n = 0;
  FILE *out = open_memstream(&text, &bytes);
  if (out == NULL) {
    fclose(in);
    return dft_fail_memory(path, 0);
  }
  while ((n = getline(&line, &room, in)) > 0)
    if (is_kept(line, n, epochs, step)) fwrite(line, 1, (size_t)n, out);
  dft_status status = DFT_OK;
  if (ferror(in)) status = dft_fail(DFT_EIO, "%s: cannot read: %s", path, strerror(errno));
  if (fclose(out) != 0 && status == DFT_OK) status = dft_fail_memory(path, bytes);
  fclose(in);
  if (status == DFT_OK) status = dft_write_file(path, text, bytes);
  free(line);
  free(text);
  return status;
}
