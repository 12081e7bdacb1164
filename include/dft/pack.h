/* Packs a folder of class folders into tar shards in WebDataset's layout, for file systems that dislike many
 * small files.
 *
 *   OUT/shard-000000.tar ...   for each sample 00000017.jpg (its bytes as they are), 00000017.cls (its class)
 *   OUT/classes.txt            the class folders' names, a line each
 *   OUT/samples.csv            key,class,file: where each sample came from
 *
 * Samples keep the folder's order (dft/data.h) and bytes, so training from OUT gives the same bits. The same
 * folder gives the same bytes: times, owners and permissions are not kept. A file of zero bytes keeps its
 * place.
 *
 * Errors: DFT_EDATA for the folder and its files; DFT_EUSAGE: OUT is not empty; DFT_EIO: cannot write. Files
 * get their names when all are whole; an error leaves none behind. Not collective; any thread. */
#ifndef DFT_PACK_H
#define DFT_PACK_H

#include "dft/status.h"
#include <stdint.h>

typedef struct dft_pack_options {
  int64_t shard_bytes;   /* a shard ends before it would be larger; one sample is always in it */
  int64_t shard_samples; /* or has so many samples; 0: any number */
  /* Called now and then, or NULL. */
  void (*progress)(int64_t done, int64_t samples);
} dft_pack_options;

typedef struct dft_packed {
  int64_t samples, classes, shards, empty; /* empty: of zero bytes */
  int64_t bytes;                           /* of all shards */
} dft_packed;

dft_status dft_pack(const char *folder, const char *output, const dft_pack_options *options,
                    dft_packed *packed);

#endif
