#include "dft/log.h"
#include "dft/clock.h"
#include "dft/status.h"
#include "dft/text.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static int own_rank = 0;
static int all_ranks = 1;
static int verbosity = 1;

void dft_log_identity(int rank, int ranks) {
  own_rank = rank;
  all_ranks = ranks;
}

void dft_log_verbose(int verbose) {
  verbosity = verbose;
}

static const double progress_pause_s = 0.2;
static double progress_s; /* when the last line was shown */
static bool progress_shown;
static bool bar_drawn; /* on standard output */

void dft_progress_end(void) {
  if (__atomic_exchange_n(&progress_shown, false, __ATOMIC_RELAXED)) fprintf(stderr, "\r\033[K");
}

void dft_log_over_bar(bool drawn) {
  __atomic_store_n(&bar_drawn, drawn, __ATOMIC_RELAXED);
}

/* The flag stays: the bar may be drawn again at any moment, and clearing an empty line does nothing. */
static const char *bar_cleared(void) {
  return __atomic_load_n(&bar_drawn, __ATOMIC_RELAXED) && isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "";
}

/* One write per line, so that the lines of several ranks do not mix. */
static void print(const char *kind, const char *format, va_list args) {
  char text[DFT_MESSAGE_BYTES + 256]; /* a message and what is said around it */
  vsnprintf(text, sizeof text, format, args);
  dft_no_controls(text); /* of a file's name */
  dft_progress_end();
  if (all_ranks > 1 && own_rank != 0)
    fprintf(stderr, "dft: rank %d: %s%s\n", own_rank, kind, text); /* no bar is a further rank's */
  else
    fprintf(stderr, "%sdft: %s%s\n", bar_cleared(), kind, text);
}

void dft_note(const char *format, ...) {
  if (own_rank != 0 || verbosity == 0) return;
  va_list args;
  va_start(args, format);
  print("", format, args);
  va_end(args);
}

void dft_warn(const char *format, ...) {
  va_list args;
  va_start(args, format);
  print("warning: ", format, args);
  va_end(args);
}

void dft_progress(const char *format, ...) {
  char text[256];
  double now_s = dft_now_s();
  if (own_rank != 0 || verbosity == 0 || now_s - progress_s < progress_pause_s || isatty(STDERR_FILENO) != 1)
    return;
  progress_s = now_s;
  __atomic_store_n(&progress_shown, true, __ATOMIC_RELAXED);
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  fprintf(stderr, "\r%s\033[K", text);
}

void dft_print_error(const char *format, ...) {
  fflush(stdout); /* what it speaks of may have been printed there */
  va_list args;
  va_start(args, format);
  print("error: ", format, args);
  va_end(args);
}
