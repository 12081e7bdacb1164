/* The commands that need everything: training, evaluation, prediction, the plan. The only module that knows
 * all the others.
 *
 * Collective over the world of `comm`, unless a comment says otherwise. Each returns the status all ranks
 * agreed on, with the same message on all. One thread calls: the one that opened `comm`.
 */
#ifndef DFT_TRAIN_H
#define DFT_TRAIN_H

#include "dft/comm.h"
#include "dft/config.h"
#include "dft/status.h"
#include <stdbool.h>

/* Where a command's configuration comes from. */
typedef struct dft_config_source {
  const char *path;
  const char *const *overrides; /* key=value */
  int override_count;
} dft_config_source;

/* Rank 0 reads the file; all ranks parse the same text. Collective. */
dft_status dft_load_config(dft_comm *comm, const dft_config_source *source, dft_config **config);

dft_status dft_train(dft_comm *comm, const dft_config_source *source);
/* Asks a dft_train under way, or yet to come, to stop: the ranks finish the same step (an evaluation is left
 * and done again by the next start), save, and dft_train returns DFT_ESTOPPED everywhere. One rank's request
 * is enough. Safe in a signal handler. */
void dft_request_stop(void);

/* Prints the plan of a config: per phase the layers' states, bytes exchanged per step, memory. Not
 * collective. */
dft_status dft_plan(dft_comm *comm, const dft_config_source *source);

/* Reads every sample once and lists what is unreadable. Not collective. */
dft_status dft_check(dft_comm *comm, const dft_config_source *source);

/* Loss, accuracy, per-class table and confusion matrix on data.validation; json_path NULL or a file to write,
 * or "-": standard output gets it in the place of the table. */
dft_status dft_evaluate(dft_comm *comm, const char *checkpoint, const dft_config_source *source,
                        const char *json_path);

/* What dft predict is asked for. */
typedef struct dft_prediction_request {
  const char *checkpoint;
  const char *const *inputs; /* image files, folders, .npy or idx files of images, "-": paths on stdin */
  int input_count;
  const char *output; /* NULL (a table on stdout), *.csv or *.npy */
  int top;            /* 0: a column for each class, else the `top` most probable ones; a table only */
} dft_prediction_request;

/* Class probabilities. An image that cannot be read is named in a warning and has an empty row (NaN in .npy);
 * the others are predicted, and DFT_EDATA comes after the output was written. */
dft_status dft_predict(dft_comm *comm, const dft_prediction_request *request);

/* Writes a checkpoint's model as .onnx, .safetensors, .weights.h5, .h5 or .pb, by the file's name, with or
 * without its head. Not collective. */
dft_status dft_export(const char *checkpoint, const char *output, bool head);

#endif
