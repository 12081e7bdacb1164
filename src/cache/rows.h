/* Rows of one set at one boundary, in a file that is mapped: what makes cache.directory.
 *
 * The file: one page with the header (magic, version, key, sizes, their CRC32C), then a word per row (0: not
 * there yet; else the row's CRC32C, 0 counted as 1), then, from a page's start on, the rows. The host's byte
 * order. The file has all its blocks from the start, so that writing to the mapping finds room.
 *
 * A row is true only if its CRC is: it is copied out first and checked then. So a row that a crash, a failing
 * disk or another host's stale page has torn is a row that is not there, and writers need no lock: those of
 * equal keys write equal bytes. Truncating a file that a run has mapped ends that run (SIGBUS), as for data
 * files. */
#ifndef DFT_CACHE_ROWS_H
#define DFT_CACHE_ROWS_H

#include "dft/config.h"
#include "dft/data.h"
#include "dft/model.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct dft_rows_key {
  uint64_t hash[2]; /* two CRC-64 of different polynomials over what decides the rows */
  int64_t row_bytes, count;
} dft_rows_key;

/* What decides the rows of a dataset at boundary firsts[level]: the build of dft, the kernel set, the weights
 * before the boundary with their BatchNorm statistics, the boundaries passed on the way, image size, alpha,
 * resize and preprocessing, the data (dft_dataset_contents), and of augmented images data.augment and the
 * seed.
 */
dft_rows_key dft_rows_key_of(const dft_config *config, const dft_model *model, const dft_ops *ops,
                             const int *firsts, int level, uint64_t contents, int64_t count, bool augmented);

typedef struct dft_rows {
  dft_rows_key key;
  uint32_t *words;
  float *data; /* NULL: closed */
  size_t mapped_bytes;
} dft_rows;

/* Makes the directory, and removes what creators that were killed left in it. DFT_EIO. */
dft_status dft_rows_prepare(const char *directory);
/* Maps the key's file. With `create` one that is missing is made, and a foreign or damaged one replaced, each
 * appearing whole under its name. Without, those are DFT_EIO. DFT_EIO also where there is no room. */
dft_status dft_rows_open(const char *directory, const dft_rows_key *key, bool create, dft_rows *rows);
void dft_rows_close(dft_rows *rows);

/* Copies a row out; false when it is not there or damaged (out is undefined then). */
bool dft_rows_get(const dft_rows *rows, int64_t sample, float *out);
void dft_rows_put(dft_rows *rows, int64_t sample, const float *row);
/* Whether a row is there, not looking at its CRC. */
bool dft_rows_has(const dft_rows *rows, int64_t sample);
/* How many rows are there, not looking at their CRCs. */
int64_t dft_rows_there(const dft_rows *rows);

#endif
