/* What a dataset is made of: shared by open.c, which makes it, and dataset.c, which reads it. */
#ifndef DFT_DATA_DATASET_H
#define DFT_DATA_DATASET_H

#include "source.h"

struct dft_dataset {
  dft_selection selection; /* labels are -1 for images alone */
  dft_pixels *pixels;      /* NULL: the random source */
  dft_loader loader;
  uint64_t seed; /* of the config */
  uint32_t part; /* random source: 0 training, 1 validation */
  /* training data: */
  bool augments;
  dft_config_augment augment;
  int views;      /* cache.views */
  int batch_size; /* what mixup and cutmix mix within */
  bool shuffle;
  dft_on_corrupt on_corrupt;
};

#endif
