/* Where the cache's images come from: read ahead or now, in parallel; and which of them cannot be read. */
#ifndef DFT_CACHE_IMAGES_H
#define DFT_CACHE_IMAGES_H

#include "dft/cache.h"

/* An image that is wanted. */
typedef struct dft_item {
  int64_t sample, view;
  int64_t number; /* of its row in the cache */
  dft_mix *mix;   /* or NULL */
  int place;      /* in the caller's rows */
} dft_item;

typedef struct dft_images {
  const dft_dataset *data[DFT_SETS];
  const dft_share *share;
  dft_prefetch *ahead;              /* NULL: images are read when they are needed */
  unsigned char *corrupt[DFT_SETS]; /* [samples], shared, atomic: left out; NULL: none ever is */
  int named;                        /* samples left out that this rank has met first */
  int64_t floats;                   /* of an image */
  double waited_s;
} dft_images;

/* Collective on the host, as is closing. */
dft_status dft_images_open(const dft_config *config, const dft_share *share,
                           const dft_dataset *const data[DFT_SETS], dft_images *images);
void dft_images_close(dft_images *images);

/* Whether the sample is known as one that cannot be read and is left out. */
bool dft_images_corrupt(const dft_images *images, dft_set set, int64_t sample);
/* out[count][floats]; bad[i] as in dft_cache_rows. The error that is reported is that of the first failing
 * sample in order. */
dft_status dft_images_read(dft_images *images, dft_set set, const dft_item *items, int count, float *out,
                           unsigned char *bad);

#endif
