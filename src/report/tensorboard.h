/* TensorBoard events of a run, in the layout of Keras' TensorBoard callback: train/ and validation/ under the
 * run's directory, each with one file of scalars by epoch (from 0). Errors: DFT_EIO by file. */
#ifndef DFT_REPORT_TENSORBOARD_H
#define DFT_REPORT_TENSORBOARD_H

#include "dft/report.h"

/* The file in train/ and in validation/; TensorBoard reads what has "tfevents" in its name. */
#define DFT_EVENTS_FILE "events.out.tfevents.dft"

typedef struct dft_events dft_events;

/* Writes the files anew, in place, from the epochs of a state, which keep the times that they had there.
 * validation/ is made when the first epoch has been validated. */
dft_status dft_events_open(const char *directory, const dft_epoch *history, int count, dft_events **events);
dft_status dft_events_epoch(dft_events *events, const dft_epoch *epoch);
void dft_events_close(dft_events *events); /* NULL is fine */

#endif
