#include "dft/log.h"
#include <stdarg.h>
#include <stdio.h>

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

/* One write per line, so that the lines of several ranks do not mix. */
static void print(const char *kind, const char *format, va_list args) {
  char text[2304];
  vsnprintf(text, sizeof text, format, args);
  if (all_ranks > 1 && own_rank != 0)
    fprintf(stderr, "dft: rank %d: %s%s\n", own_rank, kind, text);
  else
    fprintf(stderr, "dft: %s%s\n", kind, text);
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

void dft_print_error(const char *format, ...) {
  va_list args;
  va_start(args, format);
  print("error: ", format, args);
  va_end(args);
}
