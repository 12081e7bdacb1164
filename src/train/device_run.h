/* What is open on a device during a phase (device_run.c), for the steps (device_step.c). */
#ifndef DFT_TRAIN_DEVICE_RUN_H
#define DFT_TRAIN_DEVICE_RUN_H

#include "train.h"

/* What a step is told: one page-locked block on the host, its copy on the device, and pointers into both. */
typedef struct step_inputs {
  double *flags;    /* [2] stop, failed */
  float *alpha_t;   /* [1] */
  int64_t *samples; /* [n] dataset numbers */
  int64_t *slots;   /* [n] in the store of rows */
  int *labels, *others;
  float *weights;
} step_inputs;

/* Rows of frozen work that this rank's device keeps: what was here once is not sent again. */
typedef struct row_store {
  float *rows;      /* device [capacity][boundary]; NULL: nothing is kept */
  int32_t *slot_of; /* [samples * views]; -1: not here */
  int64_t capacity, used;
  int views;
} row_store;

/* A step as it was recorded, and what it stands for. Only equal batches may be replayed: numbers of samples
 * are part of it. */
typedef struct step_record {
  dft_graph *graph; /* NULL: seen once, not yet recorded */
  int *first;       /* [shards+1] copy of the map's */
  int shards, nodes;
  int64_t global, epoch; /* epoch: with dropout, whose masks are keyed by it; else 0 */
} step_record;

enum { MOST_RECORDS = 4 };

struct dft_device_run {
  const dft_device *device;
  dft_mirror *mirror;
  dft_local_batch next; /* loaded ahead */
  void *inputs_host, *inputs_device;
  size_t inputs_bytes;
  step_inputs host, on; /* pointers into the two */
  float *rows;          /* device [n][boundary] float32, of this step */
  float *ahead[2];      /* the same as they come in beside a step, in turn: one is still read by that step */
  int arriving;         /* which of them the next batch is in */
  bool came_ahead;      /* this step's rows are there */
  void *x;              /* the same as activations; rows itself where those are float32 */
  float *loss, *dlogits;
  unsigned char *correct;
  double *sums; /* device [nodes][DFT_STEP_SUMS] */
  int *done;    /* device: DFT_UPDATE_* */
  double *totals_host;
  int *done_host; /* page-locked: what a step leaves */
  dft_update_tensor *tensors;
  int tensor_count;
  row_store store;
  step_record records[MOST_RECORDS];
  int oldest;
  void *blocks[16]; /* all of alloc */
  int block_count;
};

void dft_record_clear(dft_device_run *d, step_record *r);

#endif
