/* From files to batches: source -> selection -> sampler -> loader.
 *
 *   source      raw samples of one file set: idx (plain or gzip), npy, random
 *   selection   which of them, with which label: classes_subset, split, limit, limit_per_class, in this order
 *   sampler     position in an epoch -> sample: a keyed permutation, pure and O(1)
 *   loader      sample -> float32 image [height][width][3]: resize (Keras' bilinear, half-pixel centres,
 *               no antialiasing), grey to RGB, preprocessing
 *
 * Samples are numbered 0..n-1 within a dft_dataset, after selection; the number is the sample's identity for
 * the sampler, the cache and random numbers. `limit` and friends choose by counter-based random numbers, so
 * no rank needs another.
 *
 * Memory: the raw bytes of the selected samples exist once per host (dft_share), or are mapped from the file.
 * Errors: DFT_EDATA naming the file (missing, truncated, foreign, label outside the classes with its
 * position). Ownership: a dataset owns what it hands out pointers to. Threads: dft_dataset_image may be
 * called from several threads at once. dft_data_open is collective on the ranks of a host through `share`.
 */
#ifndef DFT_DATA_H
#define DFT_DATA_H

#include "dft/config.h"
#include "dft/share.h"
#include "dft/status.h"

typedef struct dft_dataset dft_dataset;

/* Opens training and validation data of a config. *validation is NULL when there is none. */
dft_status dft_data_open(const dft_config *config, const dft_share *share, dft_dataset **train,
                         dft_dataset **validation);
void dft_dataset_free(dft_dataset *d); /* NULL is fine; collective on the host */

int64_t dft_dataset_count(const dft_dataset *d);
int dft_dataset_label(const dft_dataset *d, int64_t sample);
/* Names the data knows for its classes (folders), or NULL; classes of them. */
const char *const *dft_dataset_class_names(const dft_dataset *d);
/* The model-ready image: out[height*width*3], NHWC, float32, resized and preprocessed. */
dft_status dft_dataset_image(const dft_dataset *d, int64_t sample, float *out);
/* Identifies a sample in messages: "train-images-idx3-ubyte.gz[1234]". Writes at most `bytes`, always ends
 * with 0. */
void dft_dataset_name(const dft_dataset *d, int64_t sample, char *text, size_t bytes);
/* A 64-bit fingerprint of the selected samples: count, labels, names or sizes and content of what is cheap to
 * read. Equal on every rank and host. Goes into checkpoints. */
uint64_t dft_dataset_fingerprint(const dft_dataset *d);

/* An .npy or idx file of images alone (dft predict). Labels are absent (-1). Same loader. */
dft_status dft_data_open_images(const char *path, int height, int width, dft_preprocessing preprocessing,
                                dft_resize resize, const dft_share *share, dft_dataset **images);

/* The sample at `position` (0-based) of `epoch` (counted over all phases) of n samples. shuffle false:
 * position itself. */
int64_t dft_sampler(uint64_t seed, bool shuffle, int64_t epoch, int64_t n, int64_t position);

#endif
