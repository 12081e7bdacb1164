/* Keras 3's console lines (keras.utils.Progbar as model.fit uses it), as text. Times are given, so that lines
 * can be compared with Keras' own. */
#ifndef DFT_REPORT_LINES_H
#define DFT_REPORT_LINES_H

#include <stdbool.h>
#include <stdio.h>

typedef struct dft_metric {
  const char *name;
  double value;
} dft_metric;

typedef struct dft_bar {
  long long current, target;
  double elapsed_s;  /* since the epoch began */
  double per_step_s; /* estimate of one step */
  const dft_metric *metrics;
  int metric_count;
  bool final; /* elapsed time instead of time left, and a newline */
} dft_bar;

/* verbose 1: redraws over a line of *width columns and sets *width to the new one's. */
void dft_print_bar(FILE *out, const dft_bar *bar, int *width);

/* verbose 2: the line that ends an epoch. */
void dft_print_line(FILE *out, const dft_bar *bar);

#endif
