/* What a dataset is made of: shared by open.c, which makes it, and dataset.c, which reads it. */
#ifndef DFT_DATA_DATASET_H
#define DFT_DATA_DATASET_H

#include "decoded.h"
#include "manifest.h"
#include "source.h"

struct dft_dataset {
  dft_selection selection;  /* labels are -1 for images alone */
  dft_pixels *pixels;       /* idx, npy; else NULL */
  dft_manifest *manifest;   /* image_folder, tar; else NULL. Without both: the random source */
  dft_decoded *decoded;     /* of the manifest's images; NULL: data.decoded_cache is none */
  dft_resize resize;        /* manifest: each image has its size */
  dft_loader loader;        /* of one size; with a manifest only its out_ fields and preprocessing */
  const char **class_names; /* [classes] or NULL; the manifest's strings */
  uint64_t seed;            /* of the config */
  uint32_t part;            /* random source: 0 training, 1 validation */
  /* training data: */
  bool augments;
  dft_config_augment augment;
  int views;      /* cache.views */
  int batch_size; /* what mixup and cutmix mix within */
  bool shuffle;
  dft_on_corrupt on_corrupt;
};

/* Classes that others have, in their order, and who that is, for messages. None: count 0. */
typedef struct dft_known_classes {
  const char *const *names;
  int count;
  const char *from;
} dft_known_classes;

/* listing.c: the manifest of a folder or of shards, checked against the config. `like`: the classes that it
 * must have, or NULL. Labels: fresh array. Collective on the host. */
dft_status dft_listed_open(const dft_config *config, const char *path, const dft_known_classes *like,
                           const dft_share *share, dft_manifest **manifest, int64_t **labels);
/* Names of the classes of a dataset, renumbered by classes_subset; fresh array or NULL where none are known.
 */
dft_status dft_listed_names(const dft_config *config, const dft_manifest *m, const char ***names);
/* data.on_corrupt: fail, and a file of zero bytes is known without reading it. */
dft_status dft_listed_sizes(const dft_config *config, const dft_manifest *m, const dft_selection *s);
/* sample_files.c: the model-ready image of sample `origin` of the manifest. */
dft_status dft_file_image(const dft_dataset *d, dft_preprocessing preprocessing, int64_t origin, float *out);

#endif
