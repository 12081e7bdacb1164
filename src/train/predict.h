/* What the files of dft predict share. */
#ifndef DFT_TRAIN_PREDICT_H
#define DFT_TRAIN_PREDICT_H

#include "dft/status.h"
#include <stdint.h>

/* What rank 0 collects, a row per image. */
typedef struct dft_predictions {
  int64_t count;
  int classes;
  char **names;             /* [count], owned */
  float *probabilities;     /* [count][classes], owned; a row that begins with DFT_UNREADABLE has none */
  char *const *class_names; /* [classes] or NULL: numbers */
} dft_predictions;

#define DFT_UNREADABLE (-1.0f)

/* predict_output.c: a table (to stdout if output is NULL) or, by its name, an .npy file. */
dft_status dft_predictions_write(const dft_predictions *p, int top, const char *output);

#endif
