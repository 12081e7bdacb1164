/* The configuration: one struct, one table of keys.
 *
 * The table in src/config/keys.c gives each key's path, type, range, default, help, Keras counterpart, and
 * whether it decides the result (those go into checkpoints and must match at a resume). Reading, key=value
 * overrides, the resolved file in run_dir, `--help` and docs/config.md are all made from it.
 *
 * YAML is read with libyaml; a key is located by line for messages. An unknown key names the nearest known
 * one. Everything wrong is DFT_EUSAGE with one line "FILE:LINE: key: what".
 *
 * Ownership: strings and arrays belong to the config; dft_config_free releases them. Read-only after loading.
 * Not collective (rank 0 reads the file and broadcasts the text: see dft_config_parse). Any thread.
 */
#ifndef DFT_CONFIG_H
#define DFT_CONFIG_H

#include "dft/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { DFT_POOL_AVG, DFT_POOL_MAX } dft_pooling;
typedef enum {
  DFT_DATA_RANDOM,
  DFT_DATA_IDX,
  DFT_DATA_NPY,
  DFT_DATA_IMAGE_FOLDER,
  DFT_DATA_TAR
} dft_data_format;
typedef enum { DFT_PREPROCESS_MOBILENET_V2, DFT_PREPROCESS_UNIT, DFT_PREPROCESS_NONE } dft_preprocessing;
typedef enum { DFT_RESIZE_STRETCH, DFT_RESIZE_CROP, DFT_RESIZE_PAD } dft_resize;
typedef enum {
  DFT_FLIP_NONE,
  DFT_FLIP_HORIZONTAL,
  DFT_FLIP_VERTICAL,
  DFT_FLIP_HORIZONTAL_AND_VERTICAL
} dft_flip;
typedef enum { DFT_FILL_REFLECT, DFT_FILL_CONSTANT, DFT_FILL_NEAREST, DFT_FILL_WRAP } dft_fill;
typedef enum { DFT_CORRUPT_SKIP, DFT_CORRUPT_FAIL } dft_on_corrupt;
typedef enum { DFT_ADAM, DFT_ADAMW, DFT_SGD } dft_optimizer_name;
typedef enum { DFT_BN_SYNC, DFT_BN_FROZEN } dft_batch_norm;
typedef enum { DFT_BACKEND_AUTO, DFT_BACKEND_MPI, DFT_BACKEND_NCCL } dft_backend;
typedef enum { DFT_REDUCTION_ORDERED, DFT_REDUCTION_FAST } dft_reduction;
typedef enum { DFT_PREFIX_FLOAT32, DFT_PREFIX_BFLOAT16 } dft_prefix;
typedef enum { DFT_PRECISION_FLOAT32, DFT_PRECISION_TF32, DFT_PRECISION_BFLOAT16 } dft_precision;
typedef enum { DFT_CACHE_AUTO, DFT_CACHE_OFF } dft_cache_mode;
typedef enum { DFT_MONITOR_VAL_LOSS, DFT_MONITOR_VAL_ACCURACY } dft_monitor;
typedef enum { DFT_NONFINITE_ABORT, DFT_NONFINITE_SKIP } dft_on_nonfinite;

enum {
  DFT_MOST_THREADS = 4096, /* that compute, of a rank */
  DFT_MOST_PHASES = 64     /* of a run: the cache has a level for each */
};

typedef struct dft_config_optimizer {
  dft_optimizer_name name;
  double learning_rate;           /* default: 0.001 adam, adamw; 0.01 sgd (Keras) */
  double beta_1, beta_2, epsilon; /* adam, adamw: 0.9, 0.999, 1e-7 */
  double weight_decay;            /* adamw: 0.004; adam, sgd: 0 (Keras' weight_decay=None) */
  double momentum;                /* sgd: 0 */
  bool nesterov;                  /* sgd: false */
} dft_config_optimizer;

typedef struct dft_config_phase {
  char *name;
  int epochs;
  int64_t unfreeze_last; /* 0: none. Counts as Keras' base.layers[-N:] */
  char *unfreeze_from;   /* NULL or a layer's name */
  char **unfreeze;       /* globs over layer names; {"*"} for `all` */
  int unfreeze_count;
  dft_config_optimizer optimizer;
} dft_config_phase;

/* Where one split's samples are. Unused strings are NULL. */
typedef struct dft_config_split {
  bool present;
  char *path;            /* image_folder, tar */
  char *images, *labels; /* idx, npy */
  int64_t samples;       /* random; validation: 0 when split is used */
  double split;          /* validation only: fraction taken from train; 0: not used */
} dft_config_split;

/* Random changes to training images (src/data/augment.h). Ranges are [low, high]; all off by default. */
typedef struct dft_config_augment {
  dft_flip flip;
  dft_fill fill_mode;
  int num_ops, magnitude;              /* RandAugment; num_ops 0: off */
  double crop_scale[2], crop_ratio[2]; /* of the area, {1, 1}: off; width to height */
  double rotation[2];                  /* of a full turn */
  double zoom[2], translation[2];      /* of height and width */
  double brightness[2], contrast[2], saturation[2];
  double erasing, erasing_scale[2], erasing_ratio[2]; /* probability, 0: off; of the area; height to width */
  double value_range[2], fill_value;                  /* in the values of the images before preprocessing */
  double mixup, cutmix;                               /* alpha, 0: off */
} dft_config_augment;

typedef struct dft_config {
  int64_t seed;
  char *run_dir;
  struct {
    char *name;
    double alpha;
    int height, width; /* input_shape[0], [1]; [2] is always 3 */
    dft_pooling pooling;
    int classes;
    char **class_names; /* classes of them, or NULL */
    int class_name_count;
    double dropout;
    char *weights; /* path, "imagenet", or NULL for none */
  } model;
  struct {
    dft_data_format format;
    int batch_size;
    bool shuffle;
    dft_preprocessing preprocessing;
    dft_resize resize;
    dft_config_split train, validation;
    int64_t *classes_subset;
    int classes_subset_count; /* 0: keep all */
    int64_t limit, limit_per_class;
    dft_config_augment augment;
    dft_on_corrupt on_corrupt;
    char *decoded_cache; /* NULL: none */
    int threads;         /* 0: auto */
  } data;
  dft_config_phase *phases;
  int phase_count;
  dft_batch_norm batch_norm;
  struct {
    dft_backend backend;
    int shards; /* 0: auto; else a power of two */
    dft_reduction reduction;
    double timeout_s;
  } distributed;
  struct {
    int threads; /* 0: auto */
    dft_prefix prefix;
    dft_precision precision; /* on a GPU */
  } compute;
  struct {
    dft_cache_mode mode;
    int64_t memory_mb;
    char *directory; /* NULL: none */
    int views;       /* of an augmented image, used in turn; 0: a new one in every epoch */
  } cache;
  struct {
    int every_epochs, every_steps, keep;
    char *resume; /* "auto", "none" or a path */
    dft_monitor monitor;
  } checkpoint;
  dft_on_nonfinite on_nonfinite;
  struct {
    int verbose; /* -1: auto, 0, 1, 2 */
    bool tensorboard;
    int trace_steps;
  } log;
} dft_config;

/* Reads a whole config file into a fresh string (rank 0 does; then broadcasts). Missing: DFT_EUSAGE. */
dft_status dft_config_read(const char *path, char **text);

/* Parses `text` (named `path` in messages), applies `overrides` ("a.b=value", phases by index) and checks
 * every value. On success *config is complete, with defaults filled in. */
dft_status dft_config_parse(const char *path, const char *text, const char *const *overrides,
                            int override_count, dft_config **config);
void dft_config_free(dft_config *config);

/* The resolved config as YAML, in the order of the table; a fresh string. Parsing it gives an equal config.
 */
dft_status dft_config_write(const dft_config *config, char **yaml);

/* The result-deciding part as "key=value" lines in table order, phases included; a fresh string. */
dft_status dft_config_deciding(const dft_config *config, char **lines);

/* Compares a checkpoint's deciding lines with this config's. DFT_OK when the run can go on: equal, or phases
 * appended, or more epochs in phases at or after `phase` (the current one, 0-based). Otherwise DFT_EUSAGE
 * naming each key that differs with both values. */
dft_status dft_config_compatible(const dft_config *config, const char *checkpoint_lines, int phase);

/* Whether images are changed at all; mixup and cutmix, which mix them as they are, do not count. */
bool dft_config_augments(const dft_config_augment *a);

/* The words of a key that chooses among them ("model.pooling": avg, max): the one that stands for an enum's
 * value, in `text`, which is returned; and back, -1 for a word that the key does not have. */
enum { DFT_WORD_BYTES = 32 };
const char *dft_config_word(const char *key, int value, char text[DFT_WORD_BYTES]);
int dft_config_word_value(const char *key, const char *word);

/* The table as Markdown (docs/config.md) or as plain text (`dft --help config`); a fresh string. */
dft_status dft_config_reference(bool markdown, char **text);

#endif
