/* What a dataset is made of: shared by open.c, which makes it, and dataset.c, which reads it. */
#ifndef DFT_DATA_DATASET_H
#define DFT_DATA_DATASET_H

#include "source.h"

struct dft_dataset {
  dft_selection selection; /* labels are -1 for images alone */
  dft_pixels *pixels;      /* NULL: the random source */
  dft_loader loader;
  uint64_t seed; /* random source */
  uint32_t part; /* random source: 0 training, 1 validation */
};

#endif
