#include "dft/report.h"
#include "dft/clock.h"
#include "dft/log.h"
#include "lines.h"
#include "logs.h"
#include "page.h"
#include "tensorboard.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As often as Keras redraws its bar. */
static const double REDRAW_S = 0.05;

struct dft_report {
  int verbose;
  bool terminal;
  char *history_path, *log_path; /* NULL: console only */
  FILE *history, *log;
  dft_page *page;
  dft_events *events; /* NULL also without TensorBoard */
  /* the epoch that is running */
  int width;           /* of the bar on the terminal */
  int64_t seen;        /* steps reported since it began */
  double begin_s;      /* when it began */
  double first_step_s; /* seconds until its first step was done */
  double redrawn_s;    /* when the bar was last drawn */
  dft_epoch_work work; /* of the next epoch line */
};

static dft_status join_path(const char *directory, const char *name, char **path) {
  size_t bytes = strlen(directory) + strlen(name) + 2;
  *path = malloc(bytes);
  if (*path == NULL) return dft_fail_memory(name, bytes);
  snprintf(*path, bytes, "%s/%s", directory, name);
  return DFT_OK;
}

static dft_status open_append(const char *path, FILE **file) {
  *file = fopen(path, "ae");
  return *file ? DFT_OK : dft_fail(DFT_EIO, "%s: cannot write: %s", path, strerror(errno));
}

static dft_status open_files(dft_report *r, const char *directory, bool tensorboard, const dft_epoch *history,
                             int count, int64_t step) {
  DFT_TRY(join_path(directory, "history.csv", &r->history_path));
  DFT_TRY(join_path(directory, "log.jsonl", &r->log_path));
  DFT_TRY(dft_history_rewrite(r->history_path, history, count));
  DFT_TRY(dft_log_cut(r->log_path, count, step));
  DFT_TRY(open_append(r->history_path, &r->history));
  DFT_TRY(open_append(r->log_path, &r->log));
  DFT_TRY(dft_page_open(directory, history, count, &r->page));
  return tensorboard ? dft_events_open(directory, history, count, &r->events) : DFT_OK;
}

dft_status dft_report_open(const char *directory, int verbose, bool tensorboard, const dft_epoch *history,
                           int history_count, int64_t step, dft_report **report) {
  *report = NULL;
  dft_report *r = calloc(1, sizeof *r);
  if (r == NULL) return dft_fail_memory("report", sizeof *r);
  r->terminal = dft_stdout_is_terminal();
  r->verbose = verbose >= 0 ? verbose : r->terminal ? 1 : 2;
  dft_status status = DFT_OK;
  if (directory != NULL) status = open_files(r, directory, tensorboard, history, history_count, step);
  if (status != DFT_OK) {
    dft_report_close(r);
    return status;
  }
  *report = r;
  return DFT_OK;
}

void dft_report_close(dft_report *r) {
  if (r == NULL) return;
  if (r->width > 0) printf("\n"); /* a bar that was cut short */
  fflush(stdout);
  dft_log_over_bar(false);
  if (r->history != NULL) fclose(r->history);
  if (r->log != NULL) fclose(r->log);
  dft_page_close(r->page);
  dft_events_close(r->events);
  free(r->history_path);
  free(r->log_path);
  free(r);
}

int dft_report_verbose(const dft_report *r) {
  return r->verbose;
}

/* What was written must have arrived: a full disk is noticed at the line that did not fit. */
static dft_status flush(FILE *file, const char *path) {
  if (fflush(file) == 0 && !ferror(file)) return DFT_OK;
  return dft_fail(DFT_EIO, "%s: cannot write: %s", path, strerror(errno));
}

dft_status dft_report_start(dft_report *r, const dft_fact *facts, int count) {
  int widest = 0;
  for (int i = 0; i < count; i++)
    if ((int)strlen(facts[i].key) > widest) widest = (int)strlen(facts[i].key);
  for (int i = 0; i < count && r->verbose > 0; i++)
    printf("%-*s  %s\n", widest, facts[i].key, facts[i].value);
  fflush(stdout);
  if (r->log == NULL) return DFT_OK;
  dft_log_start(r->log, facts, count);
  DFT_TRY(flush(r->log, r->log_path));
  return dft_page_start(r->page, facts, count);
}

void dft_report_phase(dft_report *r, const char *text) {
  if (r->verbose == 0) return;
  printf("%s\n", text);
  fflush(stdout);
}

void dft_report_epoch_begin(dft_report *r, int epoch_in_phase, int epochs) {
  r->seen = 0;
  r->width = 0;
  r->first_step_s = 0;
  r->redrawn_s = -REDRAW_S;
  r->begin_s = dft_now_s();
  if (r->verbose > 0 && epochs > 1)
    printf("Epoch %d/%d\n", epoch_in_phase, epochs); /* as Keras: not for 1/1 */
  fflush(stdout);
}

/* Keras' estimate leaves the first step out, which is not like the others. */
static double per_step(const dft_report *r, double elapsed_s) {
  if (r->seen > 1) return (elapsed_s - r->first_step_s) / (double)(r->seen - 1);
  return r->seen == 1 ? elapsed_s : 0;
}

static void draw(dft_report *r, const dft_bar *bar) {
  if (r->terminal) dft_log_over_bar(true);
  dft_print_bar(stdout, bar, &r->width);
  fflush(stdout);
  if (bar->final) dft_log_over_bar(false);
}

dft_status dft_report_step(dft_report *r, const dft_step_report *s) {
  double elapsed = dft_now_s() - r->begin_s;
  if (++r->seen == 1) r->first_step_s = elapsed;
  if (r->verbose == 1 && elapsed - r->redrawn_s >= REDRAW_S) {
    const dft_metric metrics[] = {{"accuracy", s->running_accuracy}, {"loss", s->running_loss}};
    const dft_bar bar = {.current = s->step_in_epoch,
                         .target = s->steps_per_epoch,
                         .elapsed_s = elapsed,
                         .per_step_s = per_step(r, elapsed),
                         .metrics = metrics,
                         .metric_count = 2};
    draw(r, &bar);
    r->redrawn_s = elapsed;
  }
  if (r->log == NULL) return DFT_OK;
  dft_log_step(r->log, s);
  return flush(r->log, r->log_path);
}

/* verbose 2 divides the whole time by the steps, verbose 1 leaves the first step out: so does Keras. */
static void print_epoch(dft_report *r, const dft_epoch *e, int steps, double seconds) {
  const dft_metric metrics[] = {{"accuracy", e->accuracy},
                                {"loss", e->loss},
                                {"val_accuracy", e->val_accuracy},
                                {"val_loss", e->val_loss}};
  bool validated = !isnan(e->val_loss) || !isnan(e->val_accuracy);
  dft_bar bar = {.current = steps,
                 .target = steps,
                 .elapsed_s = seconds,
                 .metrics = metrics,
                 .metric_count = validated ? 4 : 2,
                 .final = true};
  if (r->verbose == 1) {
    bar.per_step_s = per_step(r, seconds);
    draw(r, &bar);
  } else {
    bar.per_step_s =
        seconds / (double)(r->seen > 0 ? r->seen : steps); /* after a resume: the steps it took */
    dft_print_line(stdout, &bar);
    fflush(stdout);
  }
}

void dft_report_epoch_work(dft_report *r, dft_epoch_work work) {
  r->work = work;
}

dft_status dft_report_epoch_end(dft_report *r, const dft_epoch *epoch, int steps, double seconds) {
  if (r->verbose > 0) print_epoch(r, epoch, steps, seconds);
  if (r->log == NULL) return DFT_OK;
  dft_history_line(r->history, epoch);
  DFT_TRY(flush(r->history, r->history_path));
  dft_log_epoch(r->log, epoch, seconds, r->work);
  DFT_TRY(flush(r->log, r->log_path));
  if (r->events != NULL) DFT_TRY(dft_events_epoch(r->events, epoch));
  return dft_page_epoch(r->page, epoch);
}
