/* Inside of the data module: files -> arrays -> labels, pixels -> selection -> image.
 *
 * All sizes are checked against overflow and against the file before anything of that size is allocated.
 * Functions that take a dft_share are collective on the host and return the same status on all its ranks. */
#ifndef DFT_DATA_SOURCE_H
#define DFT_DATA_SOURCE_H

#include "dft/data.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- gzip_file.c: bytes in order, unpacked where the content says gzip (1f 8b) ---- */

typedef struct dft_file {
  const char *path; /* borrowed */
  int fd;
  void *gz;           /* gzFile, or NULL: plain */
  int64_t disk_bytes; /* as stored, packed or not */
} dft_file;

dft_status dft_file_open(dft_file *f, const char *path);
/* Reads `want` bytes from where the last read ended; *got is less only at the end of the data. */
dft_status dft_file_read(dft_file *f, void *to, size_t want, size_t *got);
void dft_file_close(dft_file *f);
const char *dft_basename(const char *path);

/* ---- array.c, idx.c, npy.c: what a header says ---- */

typedef enum {
  DFT_TYPE_U8,
  DFT_TYPE_I8,
  DFT_TYPE_U16,
  DFT_TYPE_I16,
  DFT_TYPE_U32,
  DFT_TYPE_I32,
  DFT_TYPE_U64,
  DFT_TYPE_I64,
  DFT_TYPE_F32,
  DFT_TYPE_F64,
  DFT_TYPE_BOOL
} dft_type;

enum { DFT_MAX_DIMS = 4, DFT_MAX_HEADER_BYTES = 16384 };

typedef struct dft_array {
  dft_type type;
  int dims;
  int64_t shape[DFT_MAX_DIMS];
  int64_t offset; /* of the first element in the (unpacked) file */
  int64_t bytes;  /* of all elements; offset + bytes does not overflow */
} dft_array;

size_t dft_type_bytes(dft_type type);
const char *dft_type_name(dft_type type); /* as numpy writes it: "uint8" */

/* Parse a header from the first `have` bytes of a file, at most DFT_MAX_HEADER_BYTES of them. */
dft_status dft_idx_parse(const char *path, const uint8_t *head, size_t have, dft_array *a);
dft_status dft_npy_parse(const char *path, const uint8_t *head, size_t have, dft_array *a);
/* Fills in a->bytes from shape and type; refuses what overflows. */
dft_status dft_array_size(const char *path, dft_array *a);

/* Opens an array file and leaves it positioned at the first element. The file's length must be what the
 * header promises (for gzip: possible, given the packed length; the end shows when it is read). `format`
 * is DFT_DATA_IDX, DFT_DATA_NPY or, for whichever of them the content is, DFT_DATA_EITHER_ARRAY. */
#define DFT_DATA_EITHER_ARRAY DFT_DATA_RANDOM /* random data has no files */
dft_status dft_array_open(dft_file *f, const char *path, dft_data_format format, dft_array *a);
/* To be called after the last element was read: nothing may follow. */
dft_status dft_array_end(dft_file *f, const dft_array *a);
dft_status dft_fail_truncated(const char *path, const dft_array *a, int64_t have);

/* ---- labels.c ---- */

/* Reads all labels: integers [N] or [N,1], or one-hot [N,C]. Fresh array of *count; *columns is C, or
 * 0 of integers; not collective. */
dft_status dft_labels_read(const char *path, dft_data_format format, int64_t **labels, int64_t *count,
                           int64_t *columns);

/* ---- select.c: pure functions of labels and config ---- */

typedef struct dft_selection {
  int64_t count;
  int64_t *origin; /* index in the source, ascending */
  int32_t *label;  /* 0 .. classes-1 */
} dft_selection;

void dft_selection_free(dft_selection *s);
/* All samples, or those of classes_subset, renumbered. `where` names the labels in messages. every_class: a
 * class of the subset without a sample is an error. */
dft_status dft_select_classes(const dft_config *config, const char *where, const int64_t *labels,
                              int64_t count, bool every_class, dft_selection *s);
/* Moves `fraction` of each class, rounded, from *train to *validation; a class of two or more samples keeps
 * one in *train. */
dft_status dft_select_split(uint64_t seed, int classes, double fraction, dft_selection *train,
                            dft_selection *validation);
/* limit_per_class, then limit; 0: none. */
dft_status dft_select_limits(uint64_t seed, int classes, int64_t per_class, int64_t limit, dft_selection *s);

/* ---- resize.c: raw pixels -> model-ready image ---- */

/* One axis of bilinear interpolation: output i = in[first] + (in[second] - in[first]) * lerp. For mode pad, a
 * tap that lies in the zero border has its bit in `outside`. */
typedef struct dft_tap {
  int32_t first, second;
  float lerp;
  uint32_t outside; /* 1: first, 2: second */
} dft_tap;

typedef struct dft_loader {
  int height, width, channels; /* of the source: 1 or 3 channels */
  dft_type type;               /* DFT_TYPE_U8 or DFT_TYPE_F32 */
  int out_height, out_width;
  dft_preprocessing preprocessing;
  dft_tap *rows; /* [out_height], or NULL: sizes are equal, no resize */
  dft_tap *line; /* [out_width*channels], over the elements of a row */
} dft_loader;

dft_status dft_loader_init(dft_loader *l, dft_resize mode); /* the fields above the tables are given */
void dft_loader_free(dft_loader *l);
/* pixels[height*width*channels] of `type`, any alignment -> out[out_height*out_width*3]. Any thread. */
void dft_loader_image(const dft_loader *l, const void *pixels, float *out);
/* value/127.5-1, value/255 or value, in place. */
void dft_preprocess(dft_preprocessing preprocessing, float *values, size_t count);

/* ---- pixels.c: the raw bytes, once per host ---- */

typedef struct dft_pixels dft_pixels;

typedef struct dft_image_file {
  char path[4096];
  int64_t count;
  int32_t height, width, channels;
  dft_type type;
  bool packed; /* gzip: rows live in a shared block, else the file is mapped */
  int64_t offset, sample_bytes;
} dft_image_file;

/* Reads and checks the header. Not collective. */
dft_status dft_image_file_open(const char *path, dft_data_format format, dft_image_file *file);
/* Makes the rows of `a` and `b` (NULL: none) available. Collective on the host. */
dft_status dft_pixels_open(const dft_image_file *file, const dft_selection *a, const dft_selection *b,
                           const dft_share *share, dft_pixels **pixels);
/* The row of sample `origin`, one of those asked for. Any thread. */
const void *dft_pixels_row(const dft_pixels *p, int64_t origin);
const dft_image_file *dft_pixels_file(const dft_pixels *p);
dft_pixels *dft_pixels_ref(dft_pixels *p);
void dft_pixels_unref(dft_pixels *p); /* NULL is fine; the last one is collective on the host */

/* ---- random_data.c ---- */

/* Image `sample` of the random source: uniform in [0,1), count values. `part` 0: training, 1: validation. */
void dft_random_image(uint64_t seed, uint32_t part, int64_t sample, float *values, size_t count);
/* Uniform in 0 .. classes-1. */
int64_t dft_random_label(uint64_t seed, uint32_t part, int64_t sample, int64_t classes);

#endif
