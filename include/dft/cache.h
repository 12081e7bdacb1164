/* Frozen work, done once: per image, the activations at the boundaries from which phases go on.
 *
 * All phases are known at start, and so are their boundaries (model.h: the start of the trainable tail). A
 * phase's levels, shallow to deep, are its own boundary, which is the last, and the shallower ones that it
 * passes on the way to it: of later phases, as long as no phase in between trains a layer before them, and of
 * earlier ones, as long as none has. A row that is missing is computed from the deepest level that has it,
 * else from the image, and kept at every level it passes. The chain of computations is the same with the
 * cache off, so results are too, to the bit.
 *
 * With cache.directory, rows live in files there, one per boundary and dataset, mapped by all ranks of the
 * host and by whatever other run has the same key: the build, the kernel set, the weights before the boundary
 * with their BatchNorm statistics, preprocessing, image size and the data (src/cache/rows.h).
 * Later runs start from the rows they find; a row that is not whole is computed again. A directory that
 * cannot be used is a warning.
 *
 * Else rows live in memory shared by the ranks of a host (dft_share), for as many samples as cache.memory_mb
 * holds; the others are recomputed. Memory that is not given is a warning too. Two ranks may compute the same
 * row at once; they write the same bytes.
 *
 * Training images with cache.views K have a row for each view, K of them. Those that data.augment makes anew
 * in every epoch, or mixes, have none: their frozen work is done again each time.
 *
 * A sample that cannot be read, also at a second try (DFT_EDATA), is remembered as such on its host for the
 * whole run: it is named in a warning (the first ten of each rank), and not tried again. It has no row.
 *
 * Collective on the host: dft_cache_open, _phase, _close. dft_cache_rows is not. Main thread; OpenMP inside.
 */
#ifndef DFT_CACHE_H
#define DFT_CACHE_H

#include "dft/config.h"
#include "dft/data.h"
#include "dft/model.h"
#include "dft/prefetch.h"

#define DFT_CACHE_LEVELS DFT_MOST_PHASES

typedef struct dft_cache dft_cache;

typedef enum { DFT_SET_TRAIN, DFT_SET_VALIDATION, DFT_SETS } dft_set;

/* starts[phases]: each phase's dft_model_tail_start. data[set] may be NULL. The model and data must outlive
 * the cache. */
dft_status dft_cache_open(const dft_config *config, const dft_model *model, const dft_ops *ops,
                          const dft_share *share, const int *starts, int phases,
                          const dft_dataset *const data[DFT_SETS], dft_cache **cache);
void dft_cache_close(dft_cache *c); /* NULL is fine */

/* Begins `phase` with the model's weights as they are now: drops what they made untrue, makes room for the
 * phase's levels. Until the next phase those before its boundary must stay as they are: the frozen forward is
 * made of them when the first row has to be computed. */
dft_status dft_cache_phase(dft_cache *c, int phase);

/* x[count][boundary of the phase], of a view of the samples (data.h) and with mixes[count] (NULL: none) mixed
 * in; a mix whose partner cannot be read becomes that of none. bad[i] is 1 and x's row undefined for a sample
 * that cannot be read, where data.on_corrupt is skip, else 0. Other errors are the data's, or memory's. */
dft_status dft_cache_rows(dft_cache *c, dft_set set, const int64_t *samples, int count, int64_t view,
                          dft_mix *mixes, float *x, unsigned char *bad);

/* From now on images come by way of `ahead`, which must outlive the cache. */
void dft_cache_use(dft_cache *c, dft_prefetch *ahead);
/* Asks for the image that a later dft_cache_rows with this view and mix (NULL: none) will need. Does nothing
 * where the row is in the cache, or, with `later`, where the pass that is under way over the set will put it
 * there. */
void dft_cache_ahead(dft_cache *c, dft_set set, int64_t sample, int64_t view, const dft_mix *mix,
                     int64_t turn, bool later);
/* Whether each row of the set is there, or (O(1)) a place for it. */
bool dft_cache_has_all(const dft_cache *c, dft_set set);
bool dft_cache_keeps_all(const dft_cache *c, dft_set set);

/* Levels of `phase`, shallow to deep, into firsts[phases]; returns how many. The image itself is none. Pure.
 */
int dft_cache_levels(const int *starts, int phases, int phase, int *firsts);

/* What the current phase keeps: bytes per image over its levels, and how many of the images fit (each view is
 * an image of its own). In files: whether all of it is, and how many images had their row at the phase's
 * boundary there when the phase began (on the share's writer). */
typedef struct dft_cache_report {
  int64_t bytes_per_image, images, fitting, there;
  bool files;
} dft_cache_report;
dft_cache_report dft_cache_describe(const dft_cache *c);
/* Since the last call, on this rank: images decoded, rows of the phase's boundary found, seconds without the
 * images that were needed. */
typedef struct dft_cache_stats {
  int64_t decoded, found;
  double waited_s;
} dft_cache_stats;
dft_cache_stats dft_cache_take_stats(dft_cache *c);

#endif
