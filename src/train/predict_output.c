/* Predictions as CSV (RFC 4180) and npy. */
#include "dft/file.h"
#include "dft/loss.h"
#include "dft/text.h"
#include "predict.h"
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void csv_class(FILE *f, const dft_predictions *p, int c) {
  if (p->class_names != NULL)
    dft_csv_text(f, p->class_names[c]);
  else
    fprintf(f, "%d", c);
}

/* The most probable class that is not chosen yet; the first of equals. */
static int next_best(const float *row, const bool *chosen, int classes) {
  int best = -1;
  for (int c = 0; c < classes; c++)
    if (!chosen[c] && (best < 0 || row[c] > row[best])) best = c;
  return best;
}

/* name,probability pairs after the first. */
static void csv_others(FILE *f, const dft_predictions *p, const float *row, int first, int top,
                       bool *chosen) {
  memset(chosen, 0, (size_t)p->classes * sizeof *chosen);
  chosen[first] = true;
  for (int k = 1; k < top; k++) {
    int c = next_best(row, chosen, p->classes);
    chosen[c] = true;
    fputc(',', f);
    csv_class(f, p, c);
    fprintf(f, ",%.9g", row[c]);
  }
}

static void csv_header(FILE *f, const dft_predictions *p, int top) {
  fprintf(f, "input,predicted,probability");
  for (int k = 2; k <= top; k++) fprintf(f, ",predicted_%d,probability_%d", k, k);
  for (int c = 0; c < p->classes && top == 0; c++) {
    fputc(',', f);
    csv_class(f, p, c);
  }
  fputc('\n', f);
}

static void write_csv(const dft_predictions *p, int top, bool *chosen, FILE *f) {
  int columns = top > 0 ? 2 * top : p->classes + 2;
  csv_header(f, p, top);
  for (int64_t i = 0; i < p->count; i++) {
    const float *row = p->probabilities + i * p->classes;
    dft_csv_text(f, p->names[i]);
    if (row[0] == DFT_UNREADABLE) {
      for (int k = 0; k < columns; k++) fputc(',', f);
    } else {
      int best = dft_argmax(row, p->classes);
      fputc(',', f);
      csv_class(f, p, best);
      fprintf(f, ",%.9g", row[best]);
      if (top > 0) csv_others(f, p, row, best, top, chosen);
      for (int c = 0; c < p->classes && top == 0; c++) fprintf(f, ",%.9g", row[c]);
    }
    fputc('\n', f);
  }
}

/* NumPy's format 1.0: magic, header padded to a multiple of 64, values. */
static void write_npy(const dft_predictions *p, FILE *f) {
  char header[128];
  int used =
      snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %d), }",
               (long long)p->count, p->classes);
  int padded = (10 + used + 1 + 63) / 64 * 64 - 10;
  fwrite("\x93NUMPY\x01\x00", 1, 8, f);
  fputc(padded & 0xff, f);
  fputc(padded >> 8, f);
  fprintf(f, "%s%*s\n", header, padded - used - 1, "");
  const float none = NAN;
  for (int64_t i = 0; i < p->count; i++) {
    const float *row = p->probabilities + i * p->classes;
    for (int c = 0; c < p->classes; c++)
      fwrite(row[0] == DFT_UNREADABLE ? &none : &row[c], sizeof none, 1, f);
  }
}

dft_status dft_predictions_write(const dft_predictions *p, int top, const char *output) {
  size_t bytes = 0;
  const bool npy = output != NULL && dft_ends_in(output, ".npy");
  char *text = NULL;
  bool *chosen = malloc((size_t)p->classes * sizeof *chosen);
  FILE *f = output == NULL ? stdout : open_memstream(&text, &bytes);
  if (f == NULL || chosen == NULL) {
    if (f != NULL && f != stdout) (void)fclose(f);
    free(text);
    free(chosen);
    return dft_fail_memory("predictions", 0);
  }
  if (npy)
    write_npy(p, f);
  else
    write_csv(p, top, chosen, f);
  free(chosen);
  if (output == NULL)
    return fflush(stdout) == 0 ? DFT_OK
                               : dft_fail(DFT_EIO, "cannot write to standard output: %s", strerror(errno));
  dft_status status =
      fclose(f) == 0 ? dft_write_result(output, text, bytes) : dft_fail_memory("predictions", 0);
  free(text);
  return status;
}
