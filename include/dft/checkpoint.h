/* The state of a run, its protobuf file, and the directory of such files.
 *
 * dft_state is everything that decides what comes next and nothing else (design section 4): no rank count,
 * host, path or time, so equal runs write equal bytes. proto/dft.proto documents every field. The last field
 * is a fixed32 CRC32C (ISA-L crc32_iscsi, initial value and final xor 0xffffffff) over all bytes before its
 * tag.
 *
 * Writing: temporary name in the same directory, fsync, rename, fsync of the directory; a write that fails is
 * DFT_EIO and leaves the old file and no temporary one. Reading trusts no size: a missing, truncated, damaged
 * or foreign file, or one of a newer format, is DFT_EDATA by name, and memory stays within a small multiple
 * of the file's size. Only rank 0 calls the store's functions. Not collective. One thread at a time.
 * Ownership: dft_state_free releases what a read allocated; strings that a state has as NULL are read back as
 * "".
 */
#ifndef DFT_CHECKPOINT_H
#define DFT_CHECKPOINT_H

#include "dft/status.h"
#include "dft/weights.h"
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What a file starts with: field 1 of dft.Checkpoint. */
#define DFT_CHECKPOINT_MAGIC       "\012\016dft.Checkpoint"
#define DFT_CHECKPOINT_MAGIC_BYTES 16
#define DFT_CHECKPOINT_VERSION     1

/* One finished epoch, as in history.csv; NAN where there is no validation. */
typedef struct dft_epoch {
  int epoch; /* 1-based over all phases */
  char *phase;
  double accuracy, loss, val_accuracy, val_loss, learning_rate;
} dft_epoch;

/* Where a run is. The same on all ranks. */
typedef struct dft_position {
  int phase;                               /* 0-based; the last one when the run is finished */
  int phase_epoch;                         /* finished epochs in this phase */
  int epoch;                               /* finished epochs over all phases */
  int64_t step;                            /* optimizer steps over all phases */
  int64_t position;                        /* samples done in the running epoch, of which */
  int64_t left_out;                        /* so many could not be read */
  double loss_sum, correct_sum, count_sum; /* running sums of the running epoch */
  int skipped;                             /* the last steps in a row that were skipped as not finite */
  double best;                             /* best monitored value; NAN: none yet */
  int best_epoch;                          /* its epoch, 1-based over all phases */
  bool finished;
} dft_position;

typedef struct dft_state {
  /* model */
  char *model_name;
  double alpha;
  int height, width, classes;
  char *pooling;       /* config word */
  char *preprocessing; /* config word */
  char *resize;        /* config word */
  dft_weights weights; /* every tensor of the model by Keras name, with class names */
  /* optimizer of the current phase: slots are tensors whose `variable` is "kernel/momentum",
   * "kernel/velocity", ... */
  dft_weights slots;
  int64_t iterations; /* optimizer steps taken in this phase */
  int shards;
  dft_position at;
  int64_t seed;
  dft_epoch *history;
  int history_count;
  char *deciding; /* dft_config_deciding */
  uint64_t data_fingerprint;
  uint64_t validation_fingerprint; /* 0: no validation data, or from before this was kept */
  int64_t train_count;
} dft_state;

/* Whether this is a model that was exported, which no run can go on from: a run's own state has steps. */
static inline bool dft_state_is_export(const dft_state *s) {
  return s->at.step == 0;
}

void dft_state_free(dft_state *s); /* releases the contents and zeroes the struct; NULL is fine */

/* A fresh buffer with the file's bytes; the caller frees it. */
dft_status dft_state_encode(const dft_state *s, unsigned char **bytes, size_t *count);
/* The other way round; `name` is the file's name for messages. *s is overwritten, and zeroed on failure. */
dft_status dft_state_decode(const char *name, const unsigned char *bytes, size_t count, dft_state *s);

dft_status dft_state_write(const dft_state *s, const char *path);
dft_status dft_state_read(const char *path, dft_state *s);

/* What `dft inspect` prints: the state for people, tensors summed up by layer. */
dft_status dft_inspect(const dft_state *s, FILE *out);

/* The run directory. */
typedef struct dft_store dft_store;
/* Creates run_dir when missing and locks it (run_dir/lock, by fcntl); a directory locked by a living process
 * is DFT_EUSAGE "another run uses ...", one that cannot be written DFT_EIO. */
dft_status dft_store_open(const char *run_dir, dft_store **store);
/* Whether another run holds that lock; who it says it is goes to `owner`. */
bool dft_store_in_use(const char *run_dir, char *owner, size_t bytes);
void dft_store_close(dft_store *s);
/* Path of a file in the directory. By value: the thread that writes checkpoints asks too. */
typedef struct dft_path {
  char text[PATH_MAX];
} dft_path;
dft_path dft_store_path(const dft_store *s, const char *name);
/* Newest good state of final.pb and ckpt-*.pb, or best.pb; damaged ones are warned about by name and passed
 * over. *found false when there is no file to read; DFT_EDATA when there are some and none is good (starting
 * over would lose work). *path is a fresh string. */
dft_status dft_store_latest(dft_store *s, dft_state *state, char **path, bool *found);
/* Whether there is any checkpoint, good or not. */
dft_status dft_store_has_checkpoints(const dft_store *s, bool *has);
/* The names of one state, in the order in which they appear: a run that is killed in between writes the later
 * ones again. */
typedef enum dft_save_as {
  DFT_SAVE_BEST = 1,     /* best.pb */
  DFT_SAVE_NUMBERED = 2, /* ckpt-eEEEE-sSSSSSSSS.pb */
  DFT_SAVE_FINAL = 4     /* final.pb */
} dft_save_as;
/* Writes a state once under a set of names, which share the bytes on disk where the file system can. After a
 * numbered one, deletes the oldest of these up to it until `keep` are left (keep < 1: none is deleted). */
dft_status dft_store_save(dft_store *s, const dft_state *state, unsigned names, int keep);
/* Whether dft_store_latest gave what final.pb holds, or dft_store_save wrote it: not if it is missing,
 * damaged or of fewer epochs than the latest checkpoint. */
bool dft_store_has_final(const dft_store *s);

#endif
