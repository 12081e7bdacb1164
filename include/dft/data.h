/* From files to batches: source -> selection -> sampler -> loader.
 *
 *   source      raw samples of one file set: idx (plain or gzip, told by content), npy, random; or a
 *               manifest of image files: a folder per class (image_folder), WebDataset shards (tar)
 *   selection   which of them, with which label: classes_subset, split, limit_per_class, limit, in this order
 *   sampler     position in an epoch -> sample: a keyed permutation, pure and O(1)
 *   loader      sample, view -> float32 image [height][width][3]: resize (Keras' bilinear, half-pixel
 *               centres, no antialiasing), grey to RGB, augmentation (training data with data.augment),
 *               preprocessing of the values, whatever their type
 *
 * Images: idx u8, npy u8 or f32 (little endian, C order, versions 1 to 3), [N,H,W] or [N,H,W,1] (grey) or
 * [N,H,W,3]; [H,W,3] is taken for one image, and refused. Labels: idx u8; npy integers [N] or [N,1], or
 * one-hot [N,C] of any number type. Images without finite values are passed on. image_folder: order as Keras'
 * image_dataset_from_directory, see src/data/manifest.h; tar: order of the shards and of their members.
 * random: images of the model's size, uniform in [0,1) before preprocessing, and labels uniform over the
 * classes; training and validation draw different numbers.
 *
 * Samples are numbered 0..n-1 within a dft_dataset, after selection, in the order of the file; the number is
 * the sample's identity for the sampler, the cache and random numbers. Selection chooses by counter-based
 * random numbers keyed by the config's seed, so no rank needs another. The split takes the rounded fraction
 * of each class. A larger limit keeps what a smaller one chose.
 *
 * Memory: a manifest (some 70 bytes per file) exists once per host, made by its writer; files are read when
 * they are asked for. Of arrays, the raw bytes of the selected samples exist once per host: gzip is unpacked
 * into a dft_share block, anything else is mapped. A file that is truncated while it is mapped ends the
 * process (SIGBUS), as for any mapping: replace data files by renaming. Errors: DFT_EDATA naming the file:
 * missing, truncated or longer than its header says, foreign, another type or shape, label outside the
 * classes with its position, counts that differ, nothing selected; of files: a sample that cannot be read or
 * decoded, which dft_dataset_image alone returns and which keeps its place (data.on_corrupt); DFT_EIO: there
 * but not readable; DFT_EUSAGE: a config that cannot be. Ownership: a dataset owns what it hands out pointers
 * to. Threads: dft_dataset_image and the other readers may be called from several threads at once. Collective
 * on the ranks of a host through `share`: dft_data_open, dft_data_open_validation, dft_data_open_images,
 * dft_data_open_files, dft_dataset_free; all ranks of the host return the same status.
 */
#ifndef DFT_DATA_H
#define DFT_DATA_H

#include "dft/config.h"
#include "dft/share.h"
#include "dft/status.h"
#include <stdbool.h>

typedef struct dft_dataset dft_dataset;

/* Opens training and validation data of a config. *validation is NULL when there is none. */
dft_status dft_data_open(const dft_config *config, const dft_share *share, dft_dataset **train,
                         dft_dataset **validation);
/* Opens validation data that are not split off from the training data, which are not looked at. `names` NULL,
 * or the names of all model.classes classes, in the order that the data's (if these have names) must have;
 * `from` says in messages whose they are. */
dft_status dft_data_open_validation(const dft_config *config, const char *const *names, const char *from,
                                    const dft_share *share, dft_dataset **validation);
void dft_dataset_free(dft_dataset *d); /* NULL is fine; collective on the host */

int64_t dft_dataset_count(const dft_dataset *d);
int dft_dataset_label(const dft_dataset *d, int64_t sample);
/* Names the data knows for its classes (folders), or NULL; classes of them. */
const char *const *dft_dataset_class_names(const dft_dataset *d);
/* The model-ready image: out[height*width*3], NHWC, float32, resized and preprocessed. */
dft_status dft_dataset_image(const dft_dataset *d, int64_t sample, float *out);
/* The same, and a line in `warning` about what is readable but not as it should be, or "": a file whose name
 * does not say what it is. */
dft_status dft_dataset_check(const dft_dataset *d, int64_t sample, float *out, char *warning,
                             size_t warning_bytes);
/* Files that were passed over for their names (.heic, .txt) or places (beside class folders); *example names
 * one.
 */
int64_t dft_dataset_passed_over(const dft_dataset *d, const char **example);
/* A line about values that data.preprocessing does not seem to be meant for, or "": floats of which none of
 * the first few images is beyond 1, where 0 ... 255 are expected. */
void dft_dataset_doubt(const dft_dataset *d, char *text, size_t text_bytes);
/* Whether there may be samples that cannot be read: files one by one. The same on all ranks. */
bool dft_dataset_can_fail(const dft_dataset *d);

/* Augmented images. A view is a number that names one set of random choices for each sample; which views an
 * epoch uses is dft_dataset_view_of: the epoch itself, or with cache.views K the epoch modulo K, or
 * DFT_VIEW_PLAIN where nothing is augmented (also validation data). */
enum { DFT_VIEW_PLAIN = -1 };
int64_t dft_dataset_view_of(const dft_dataset *d, int64_t epoch); /* epoch counted over all phases, from 0 */
bool dft_dataset_augments(const dft_dataset *d); /* whether there are other views than the plain one */
/* Different views of a sample: 1 where nothing is augmented, cache.views, or 0: as many as there are epochs.
 */
int dft_dataset_views(const dft_dataset *d);
/* The number of a sample's view among all that the dataset has. */
int64_t dft_dataset_row(const dft_dataset *d, int64_t sample, int64_t view);

/* mixup and cutmix: what is mixed into the image at one place of a batch. */
typedef struct dft_mix {
  int64_t partner;              /* sample of the same batch; -1: none */
  float weight;                 /* of the sample itself, in its label and with mixup in its pixels */
  int top, left, bottom, right; /* cutmix: the partner's rectangle; bottom 0: mixup */
} dft_mix;
bool dft_dataset_mixes(const dft_dataset *d); /* data.augment.mixup or cutmix */
/* The mix of a position in an epoch: a pure function, no rank needs another for it. */
dft_mix dft_dataset_mix(const dft_dataset *d, int64_t epoch, int64_t position);

/* As dft_dataset_image, of a view and, unless `mix` is NULL, mixed with the same view of another sample. For
 * DFT_VIEW_PLAIN without mix the same bits. A pure function of (seed, view, sample, mix). With on_corrupt
 * skip, a partner that cannot be read is left out: then *mix becomes that of no partner. */
dft_status dft_dataset_view(const dft_dataset *d, int64_t sample, int64_t view, dft_mix *mix, float *out);

/* Identifies a sample in messages: "train-images-idx3-ubyte.gz[1234]". Writes at most `bytes`, always ends
 * with 0. */
void dft_dataset_name(const dft_dataset *d, int64_t sample, char *text, size_t bytes);
/* A 64-bit fingerprint (CRC-64/XZ) of the selected samples: count, labels, image size and type, and the
 * pixels: all of them up to 64 MiB, else 1024 rows spread evenly; of files, names and sizes instead; of
 * random data, the seed. It depends on values only: plain, gzip and npy of the same values are equal. Reads
 * the pixels at each call. Goes into checkpoints. */
uint64_t dft_dataset_fingerprint(const dft_dataset *d);

/* The fingerprint and, of what it does not read, sizes and times of change: of each image file or the tar
 * file that holds it, of the array's file. Two sets of the same names and sizes differ in it, and a file that
 * was replaced. For what is kept about samples on this host; copies of the files elsewhere differ. Ticks
 * `share` while it asks for the files' times. */
uint64_t dft_dataset_contents(const dft_dataset *d, const dft_share *share);

/* ---- images alone (dft predict): labels are absent (-1), same loader ---- */

/* What is to be read: `count` records in `text`, each its kind, its path, 0. */
enum { DFT_INPUT_ARRAY = 'a', DFT_INPUT_IMAGE = 'i' };
typedef struct dft_inputs {
  int64_t count;
  size_t bytes, room;
  char *text;
} dft_inputs;

/* Adds what a path stands for: a folder for the image files in it and below (directories by path, in each the
 * files by name, byte by byte; hidden ones are left out), a file for itself: an array if it is named .npy or
 * its content is npy, idx or gzip, else an image, readable or not. "-" stands for the paths that standard
 * input has, one a line, or if a NUL byte comes before any newline, each ended by one. `share`: ticks while
 * it reads, and is not used otherwise. DFT_EDATA: a folder or standard input without images. Not collective.
 */
dft_status dft_inputs_add(dft_inputs *inputs, const char *path, const dft_share *share);
void dft_inputs_free(dft_inputs *inputs); /* the text; zeros are fine */

/* An .npy or idx file. */
dft_status dft_data_open_images(const char *path, int height, int width, dft_preprocessing preprocessing,
                                dft_resize resize, const dft_share *share, dft_dataset **images);
/* Image files; a sample's name is its path. dft_dataset_image tells of each whether it can be read. */
dft_status dft_data_open_files(const char *const *paths, int64_t count, int height, int width,
                               dft_preprocessing preprocessing, dft_resize resize, const dft_share *share,
                               dft_dataset **files);

/* The sample at `position` (0-based) of `epoch` (counted over all phases) of n samples. shuffle false:
 * position itself. */
int64_t dft_sampler(uint64_t seed, bool shuffle, int64_t epoch, int64_t n, int64_t position);

#endif
