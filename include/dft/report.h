/* What a run tells: the console in Keras' own words, history.csv, log.jsonl, TensorBoard events, report.html.
 *
 * Only rank 0 reports. Console lines are Keras 3's:
 *   verbose 1: "Epoch 1/3", then a bar redrawn in place:
 *              "10/10 ━━━━ 0s 21ms/step - accuracy: 0.2000 - loss: 1.7041 - val_..."
 *   verbose 2: "Epoch 1/3" / "10/10 - 0s - 21ms/step - accuracy: 0.2000 - loss: 1.7041 - val_accuracy: ..."
 *   verbose auto: 1 on a terminal, else 2. Under mpirun a rank's stdout is always a pty: the parent
 *              mpirun's stdout is looked at.
 *
 * TensorBoard events are Keras': train/ with epoch_accuracy, epoch_loss and epoch_learning_rate, validation/
 * with epoch_accuracy and epoch_loss, by epoch from 0. report.html is one page without scripts or other
 * files.
 *
 * After a resume the logs hold every epoch and step once: dft_report_open truncates what lies past the state.
 * Events of the epochs before it are written again, with the times that they had. Not collective. One thread.
 * Errors: DFT_EIO naming the file.
 */
#ifndef DFT_REPORT_H
#define DFT_REPORT_H

#include "dft/checkpoint.h"
#include "dft/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct dft_report dft_report;

/* One optimizer step, as in log.jsonl. Seconds are of this rank 0. */
typedef struct dft_step_report {
  int epoch;    /* 1-based over all phases */
  int64_t step; /* 1-based over all phases */
  int step_in_epoch, steps_per_epoch;
  double loss, accuracy;                 /* of this batch */
  double running_loss, running_accuracy; /* of the epoch so far */
  double learning_rate, images_per_s, data_s, compute_s, communication_s;
} dft_step_report;

/* key/value pairs of the start line in log.jsonl and rows of the start table; value is printed as JSON string
 * unless raw. */
typedef struct dft_fact {
  const char *key, *value;
  bool raw;
} dft_fact;

/* directory NULL: console only (dft eval). `history` epochs and steps up to `step` are kept in the files;
 * `tensorboard` false: events are neither written nor touched. */
dft_status dft_report_open(const char *directory, int verbose, bool tensorboard, const dft_epoch *history,
                           int history_count, int64_t step, dft_report **report);
void dft_report_close(dft_report *r);
int dft_report_verbose(const dft_report *r); /* 0, 1 or 2: auto resolved */

/* The start table on the console (verbose > 0) and in report.html, and one "start" line in log.jsonl (a
 * restart appends a further one). */
dft_status dft_report_start(dft_report *r, const dft_fact *facts, int count);
void dft_report_phase(dft_report *r, const char *text); /* a line between phases */
void dft_report_epoch_begin(dft_report *r, int epoch_in_phase, int epochs);
dft_status dft_report_step(dft_report *r, const dft_step_report *step);
/* For the next epoch's line in log.jsonl, over all ranks: images read and decoded, and bytes of rows that
 * came from other hosts (fetch.h). */
typedef struct dft_epoch_work {
  int64_t images_decoded, fetched_bytes;
} dft_epoch_work;
void dft_report_epoch_work(dft_report *r, dft_epoch_work work);
/* Ends the epoch's line and appends to the files, report.html written anew. `seconds` of the epoch. */
dft_status dft_report_epoch_end(dft_report *r, const dft_epoch *epoch, int steps, double seconds);

/* True when people will see this process' stdout on a terminal (see above). */
bool dft_stdout_is_terminal(void);

#endif
