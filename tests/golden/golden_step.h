/* One training step of a golden model's tail in one process, for the tests of activations and gradients. */
#ifndef GOLDEN_STEP_H
#define GOLDEN_STEP_H

#include "../../src/model/tail.h" /* the units' z and y */
#include "golden.h"

enum { GOLDEN_SHARDS = 8 };

typedef struct golden_step {
  dft_model *model;
  const dft_ops *ops;
  dft_tail *tail;
  dft_shard_map map;
  int labels[GOLDEN_BATCH];
  int64_t samples[GOLDEN_BATCH];
  float *gradients[512]; /* by param: what travels; BatchNorm's are the tail's */
  double loss;           /* mean over the batch, after golden_step_run */
} golden_step;

/* Freezes the golden model as base.layers[-last:] (-1: all) and prepares its tail. Fails the test otherwise.
 */
void golden_step_new(golden_step *s, dft_model *model, const dft_ops *ops, int last, dft_batch_norm mode);
/* Forward (and, with backward, the gradients) of `count` pictures from picture `first` on. */
void golden_step_run(golden_step *s, int first, int count, bool backward);
/* Gradient of a trainable parameter, of the mean loss; into out[elements]. */
void golden_step_gradient(const golden_step *s, int param, float *out);
void golden_step_free(golden_step *s);

#endif
