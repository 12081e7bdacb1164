/* The inside of the cache: levels, and the places where their rows live. */
#ifndef DFT_CACHE_STORES_H
#define DFT_CACHE_STORES_H

#include "images.h"
#include "rows.h"

/* Rows of one set at one boundary. In a file, or in memory, where sample s < fitting has rows[s] when
 * present[s]. */
typedef struct dft_store {
  int64_t fitting;        /* 0: no place */
  dft_rows file;          /* open, or memory: */
  int64_t there;          /* of the file's rows, before the phase began */
  unsigned char *present; /* read and written atomically */
  float *rows;
} dft_store;

typedef struct dft_level {
  int first;
  int64_t row; /* floats */
  dft_store stores[DFT_SETS];
  dft_folded_net *net; /* from the level before (or the image) to this one; NULL until a row is computed */
} dft_level;

struct dft_cache {
  const dft_config *config;
  const dft_model *model;
  const dft_ops *ops;
  const dft_share *share;
  dft_images images;
  int *starts;
  int phases;
  int trained_from; /* the boundary of the phase under way */
  bool files;       /* rows go to cache.directory, as long as it can be used */
  bool asked[DFT_SETS];
  uint64_t contents[DFT_SETS]; /* dft_dataset_contents, if asked */
  int64_t budget_bytes;        /* left */
  dft_level levels[DFT_CACHE_LEVELS];
  int count;
  float *tile[2];   /* images or rows of a tile, in turn */
  int tile_samples; /* room in each */
  dft_cache_stats stats;
};

/* A row per sample and view; none where every epoch has views of its own. */
int64_t dft_cache_rows_of(const dft_cache *c, int set);
/* Whether some level has the row, or a place for it. */
bool dft_cache_has_row(const dft_cache *c, dft_set set, int64_t number, bool or_place);

void dft_stores_drop(dft_cache *c, dft_level *l);
/* Keeps the stores of levels that still stand, in `old`, for the levels of the new phase. */
void dft_stores_take_over(dft_cache *c, dft_level *old, int old_count);
/* Files for the stores that have no place; after the first that cannot be had, none. Collective on the host.
 */
dft_status dft_stores_open_files(dft_cache *c);
/* Memory for the stores that have no place, in proportion when not all fits. Collective on the host. */
dft_status dft_stores_alloc(dft_cache *c);

bool dft_store_has(const dft_store *t, int64_t number);
/* Copies a row out if it is there. */
bool dft_store_fetch(const dft_level *l, dft_set set, int64_t number, float *row);
/* Puts a row where there is a place for it. */
void dft_store_keep(dft_level *l, dft_set set, int64_t number, const float *row);

#endif
