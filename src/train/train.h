/* What the files of src/train share: everything that is open during a run. */
#ifndef DFT_TRAIN_PRIVATE_H
#define DFT_TRAIN_PRIVATE_H

#include "choose.h"
#include "dft/buckets.h"
#include "dft/cache.h"
#include "dft/checkpoint.h"
#include "dft/comm.h"
#include "dft/config.h"
#include "dft/data.h"
#include "dft/fetch.h"
#include "dft/model.h"
#include "dft/ops.h"
#include "dft/optim.h"
#include "dft/reduce.h"
#include "dft/report.h"
#include "dft/train.h"

typedef struct dft_writer dft_writer;

/* A batch as this rank has it (batch.c). What could not be read is not in it any more. */
typedef struct dft_local_batch {
  dft_shard_map map;
  int64_t *samples; /* [map.samples] dataset numbers */
  int *labels;
  dft_mix *mixes; /* NULL: nothing is mixed; then others and weights are unused */
  int *others;    /* labels of the partners */
  float *weights; /* of the samples' own labels */
  float *x;       /* [map.samples][boundary]; page-locked where a device reads it */
  unsigned char *bad;
  bool held;               /* a device has all its rows: x is not filled */
  int64_t epoch, position; /* of its first sample; -1: nothing is loaded */
} dft_local_batch;

typedef struct dft_mirror dft_mirror;
typedef struct dft_device_run dft_device_run;

/* What is open during a phase. */
typedef struct dft_phase {
  int index; /* in config->phases */
  int first; /* first unit of the tail */
  dft_tail *tail;
  dft_buckets *buckets;
  dft_optimizer *optimizer;
  int *tensor_of;        /* [param] index among the travelling tensors, or -1 */
  int max_samples;       /* local samples of the largest batch */
  int nodes;             /* of the shard tree that are this rank's */
  dft_local_batch batch; /* the current one */
  float *loss, *dlogits;
  unsigned char *correct;
  double *sums;           /* [nodes][DFT_STEP_SUMS] */
  float *on_host, *slots; /* weights and slots that the host's ranks have together; NULL: each its own */
  float *values;          /* where these weights lie between such phases */
  dft_device_run *device; /* NULL: the host computes */
} dft_phase;

/* Where reading ahead has come to (ahead.c). */
typedef struct dft_ahead {
  dft_prefetch *prefetch; /* NULL: nothing is read ahead */
  int64_t now, end;       /* the epoch under way, and the first after the phase */
  int64_t epoch, position;
  dft_set set;
  dft_shard_map map; /* of the batch at `position`, or of the whole set in evaluation, when `mapped` */
  bool mapped;
  int index; /* in map */
} dft_ahead;

/* What all ranks agreed to compute with. */
typedef struct dft_compute {
  dft_kernels kernels, host_kernels; /* host: the set of the CPU */
  const dft_ops *ops, *host_ops;     /* the same where kernels are the CPU's */
  const dft_device *device;          /* ops->device; NULL: the CPU computes */
  dft_choice choice;
  int threads;
} dft_compute;

/* Seconds without what was needed. */
typedef struct dft_waited {
  double images_s, rows_s;
} dft_waited;

typedef struct dft_run {
  dft_comm *comm;
  dft_config *config;
  dft_compute compute;
  const dft_ops *ops;      /* compute's: what trains, on the GPU if there is one */
  const dft_ops *host_ops; /* on the CPU in any case; = ops without a GPU */
  int decode_threads, shards;
  dft_dataset *data[DFT_SETS];    /* validation may be NULL */
  uint64_t fingerprint[DFT_SETS]; /* 0: no such data */
  const char *const *class_names; /* from the config, the data or numbers */
  char **own_class_names;
  dft_model *model;
  dft_reducer *reducer;      /* of what training has, on the GPU if there is one */
  dft_reducer *host_reducer; /* of what is on the host in any case */
  dft_cache *cache;
  dft_fetch *fetch; /* NULL on one host */
  dft_ahead ahead;
  dft_position at;
  bool has_final;                  /* a good final.pb was there when the run started */
  int64_t told_left_out[DFT_SETS]; /* samples; told again when there are more */
  dft_epoch_work work;             /* of this rank, of this epoch since the start */
  dft_phase phase;
  int trace_left;     /* steps still to be traced; 0: nothing is */
  dft_status pending; /* this rank's error, not yet known to the others; its words are in pending_text */
  char pending_text[DFT_MESSAGE_BYTES];
  /* rank 0 only */
  dft_store *store;
  dft_writer *writer;
  dft_report *report;
  dft_epoch *history;
  int history_count;
} dft_run;

/* host.c: the weights of a phase once per host. open is collective over the ranks of a host, after the
 * phase's layers are frozen and before anything else of it is made, and close the last. */
dft_status dft_host_open(dft_run *run);
void dft_host_close(dft_run *run);
/* Collective over the ranks that have weights together: all leave with the same status, and see what the
 * others have written. */
dft_status dft_host_fence(dft_run *run, dft_status status);
/* Whether each weight has one rank in the whole world that updates it. */
bool dft_host_parts_all(const dft_run *run);
/* This rank's part of a trainable parameter: so many elements from *first on. What is not parted is the
 * writer's. */
int64_t dft_host_part(const dft_run *run, int param, int64_t *first);
bool dft_host_writes(const dft_run *run);

/* trace.c: the first log.trace_steps steps of a start. All are collective. `step` after each step, `finish`
 * when no other follows: writes what there is. A file that cannot be written ends a run before its first step
 * only; later it is a warning. */
dft_status dft_trace_start(dft_run *run);
dft_status dft_trace_step(dft_run *run);
dft_status dft_trace_finish(dft_run *run);

/* setup.c: threads, kernels, devices and, where the run trains, what carries the exchange, as all ranks
 * agree. Opens the device; where nothing trains distributed.backend and compute.precision have no say.
 * Collective. */
dft_status dft_setup_compute(dft_comm *comm, const dft_config *config, bool trains, dft_compute *compute);
enum { DFT_LINE_BYTES = 4608 }; /* with a path in it */
/* "3 files were passed over for their names or places, as a.heic", or "". */
void dft_passed_over_line(const dft_dataset *data, char *text, size_t bytes);
/* For rank 0: what is odd about data that can be used: values that data.preprocessing is not for and, with
 * `files`, what was passed over. */
void dft_tell_data(const dft_dataset *data, bool files);
/* The first rank whose value is not rank 0's; 0: there is none. Collective. */
dft_status dft_first_other(dft_comm *comm, uint64_t value, int *other);
/* The fingerprint of a dataset, which must be the same on all ranks: each host has listed its own files.
 * Collective. */
dft_status dft_same_data(dft_comm *comm, const dft_dataset *data, const char *what, uint64_t *fingerprint);
/* Threads per rank that read images ahead; 0: none, since reading `data` is next to no work. Collective. */
dft_status dft_setup_decoding(dft_comm *comm, const dft_config *config, const dft_dataset *data,
                              int *threads);
/* Freezes for every phase in turn: a wrong layer name must not end a run in its last phase.
 * starts[DFT_CACHE_LEVELS]: each phase's dft_model_tail_start. DFT_EUSAGE naming what is wrong. */
dft_status dft_phase_starts(const dft_config *config, dft_model *model, int *starts);
/* Class names of a run: config, else data, else "0", "1", ...; `own` is to be freed by dft_class_names_free.
 */
dft_status dft_class_names(const dft_config *config, const dft_dataset *data, const char *const **names,
                           char ***own);
void dft_class_names_free(char **names, int count);

/* weights.c: initial weights into the model, read from a file on rank 0, which dft_broadcast_model hands out,
 * or random ones, the same wherever they are made. */
dft_status dft_load_weights(const dft_config *config, dft_model *model, const char *const *class_names);
dft_status dft_broadcast_model(dft_comm *comm, dft_model *model);

/* resume.c: state <-> run. dft_state_of fills a zeroed state, or an earlier one of this run. What training in
 * this phase changes is copied, nothing when the run is finished; the rest is lent by the model and the
 * optimizer. */
dft_status dft_state_of(const dft_run *run, dft_state *state);
dft_status dft_resume(dft_run *run, bool *resumed, dft_weights *slots, int64_t *iterations);
dft_status dft_restore_optimizer(dft_run *run, const dft_weights *slots, int64_t iterations);

/* save.c: writes beside training, under a set of names (dft_save_as). Collective; an error may be that of the
 * save before. */
dft_status dft_save(dft_run *run, unsigned names);
dft_status dft_save_wait(dft_run *run); /* until everything is on disk. Collective */
void dft_save_poll(dft_run *run);       /* defers the error of a save that has ended meanwhile */
/* Waits for a checkpoint's write that still reads tensors which this phase will change or free. Its error is
 * told by the next dft_save. */
void dft_save_take_back(dft_run *run);
void dft_save_close(dft_run *run); /* after an error: waits, and keeps that error */

/* restore.c: what a checkpoint's word for a key of the config stands for; DFT_EDATA naming the file. */
dft_status dft_state_word(const char *path, const char *key, const char *word, int *value);
/* A model out of a checkpoint. Rank 0 reads the file; all ranks get the state. */
dft_status dft_model_of_state(const dft_state *state, const char *path, bool head, dft_model **model);
dft_status dft_read_checkpoint(dft_comm *comm, const char *path, dft_state *state);

/* ahead.c: images of later steps and evaluations are decoded beside this one. Results do not depend on it. */
dft_status dft_ahead_open(dft_run *run, int threads); /* threads 0: nothing is read ahead */
void dft_ahead_close(dft_run *run);                   /* before the datasets are */
/* A phase of this many epochs from run->at on begins: the cache now keeps other rows. */
void dft_ahead_phase(dft_run *run, int64_t epochs_left);
/* The batch at `position`, or the evaluation of this rank's samples from `position` on, comes now. */
void dft_ahead_move_to(dft_run *run, dft_set set, int64_t position);
/* Asks for as many images as there is room for. */
void dft_ahead_fill(dft_run *run);

/* phase.c */
dft_status dft_phase_open(dft_run *run, int index);
void dft_phase_close(dft_run *run);
dft_status dft_phase_fit(dft_run *run);

/* batch.c. Loading cannot fail for one rank alone: errors are deferred, or others would wait in the exchange.
 */
dft_status dft_batch_new(const dft_run *run, int max_samples, dft_local_batch *b);
void dft_batch_free(const dft_run *run, dft_local_batch *b);
void dft_batch_load(dft_run *run, dft_local_batch *b, int64_t position);
/* Samples of the global batch at a position of the epoch; 0 at its end. */
int64_t dft_batch_samples_at(const dft_run *run, int64_t position);
/* Adds what the cache and fetching have done since the last call to run->work; returns the seconds without
 * images and rows that were needed. */
dft_waited dft_take_work(dft_run *run);
/* Says once per run and set on rank 0 how many samples could not be read. */
void dft_tell_left_out(dft_run *run, dft_set set, int64_t left_out);

/* mirror.c: parameters and slots on a device during a phase. While it lives, params[].live are there. */
dft_status dft_mirror_new(dft_model *model, const dft_optimizer *optimizer, const dft_device *device,
                          dft_mirror **mirror);
void dft_mirror_free(dft_mirror *m); /* without fetching; NULL is fine */
float *dft_mirror_slot(const dft_mirror *m, int param, int slot);
dft_status dft_mirror_send(dft_mirror *m);  /* host to device; waits */
void dft_mirror_moved(dft_mirror *m);       /* the device made a step */
dft_status dft_mirror_fetch(dft_mirror *m); /* device to host, if it made one since; waits. NULL is fine */

/* device_run.c: what is open on a device during a phase. `new` after the optimizer, before the tail: the
 * parameters are there from then on; `open` after the buckets; `start` before the first step. */
dft_status dft_device_run_new(dft_run *run);
dft_status dft_device_run_open(dft_run *run);
dft_status dft_device_run_start(dft_run *run);
void dft_device_run_free(dft_run *run);
/* The model's parameters and the slots as the last step left them, in the host's tensors. */
dft_status dft_device_fetch(dft_run *run);

/* device_step.c: loads the batch at run->at.position into phase.batch, computes and updates; the totals of
 * the sums are in phase.sums then. While the device works, the next batch is loaded. */
dft_status dft_device_step(dft_run *run, bool may_leave_out, dft_waited *waited);
/* Whether the last step updated anything; else a loss or gradient was not finite. */
bool dft_device_updated(const dft_device_run *d);
/* Whether the device has all rows of a batch. */
bool dft_device_holds(const dft_run *run, const dft_local_batch *b, int64_t view);

/* step.c: one optimizer step on the batch at run->at.position; phase.sums are DFT_STEP_SUMS a node
 * (device.h). */
typedef struct dft_step_result {
  double loss, correct, count; /* sums over the global batch; 0 when it was skipped as not finite */
  int64_t left_out;            /* samples of the batch that could not be read */
  bool stop;                   /* some rank was told to stop */
  double data_s, compute_s, communication_s;
} dft_step_result;
dft_status dft_train_step(dft_run *run, dft_step_result *result);
/* Where the summed gradient of a trainable parameter is after backward. */
const float *dft_gradient_of(const dft_phase *phase, int param);
/* Tells the communicator what is being done, for the words about a lost rank: "what N", N counted in steps.
 */
void dft_set_activity(dft_run *run, const char *what, int ahead);
/* Remembers an error that only this rank knows: the next exchange tells the others, and all leave together.
 */
void dft_defer(dft_run *run, dft_status status);
/* Collective: what was remembered, of any rank. */
dft_status dft_agree_pending(dft_run *run);

/* sums.c: per-sample values -> per-node sums in the tree's order. out[node*stride] */
void dft_node_sums(const dft_shard_map *map, const float *values, double *out, size_t stride);
void dft_node_sums_u8(const dft_shard_map *map, const unsigned char *values, double *out, size_t stride);

/* Of a class: its samples, predictions of it, those that are both. */
enum { DFT_BY_TRUE, DFT_BY_PREDICTED, DFT_BY_BOTH, DFT_BY_CLASS };
/* metrics.c: evaluation of a dataset with the model's current weights (moving statistics). Collective.
 * DFT_ESTOPPED when some rank was told to stop before it was done. */
typedef struct dft_metrics {
  double loss, accuracy;
  int64_t count, left_out; /* samples measured, and those that could not be read */
  int64_t *by_class;       /* [DFT_BY_CLASS][classes]; NULL: not wanted */
  int64_t *confusion;      /* [classes][classes] true x predicted; NULL: not wanted */
} dft_metrics;
dft_status dft_measure(dft_run *run, dft_set set, dft_metrics *metrics);
/* sum/count. Without samples, and where the sum is no number, NaN without a sign: as a checkpoint gives it
 * back. */
double dft_mean(double sum, double count);

/* overwrite.c: DFT_EUSAGE if a command that writes `output` would write over what it reads, or over a
 * checkpoint from which a run can go on. Asked before the work. */
dft_status dft_no_overwrite_input(const char *output, const char *input);
dft_status dft_no_overwrite_config(const char *output, const dft_config *config); /* its data and weights */
dft_status dft_no_overwrite_checkpoint(const char *output);

/* stop.c: whether dft_request_stop was called in this process; the next exchange tells the others. */
bool dft_stop_requested(void);

#endif
