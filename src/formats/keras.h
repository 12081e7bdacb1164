/* What Keras calls things in its weight files: shared by the reader, the writer and the sniffer. */
#ifndef DFT_FORMATS_KERAS_H
#define DFT_FORMATS_KERAS_H

#include "h5.h"

/* Attribute of the root group, ours: the class names. Keras ignores it. */
#define DFT_H5_CLASS_NAMES "dft_class_names"

enum { DFT_KERAS_VARIABLES_MAX = 4 };

/* A layer class with variables: in the order in which Keras numbers them, and the names that published files
 * (Keras 2) use. `optional` from this index on: a layer may be built without. */
typedef struct dft_keras_class {
  const char *name;
  int count, optional;
  const char *variables[DFT_KERAS_VARIABLES_MAX];
  const char *published[DFT_KERAS_VARIABLES_MAX];
} dft_keras_class;

static const dft_keras_class dft_keras_classes[] = {
    {"Conv2D", 2, 1, {"kernel", "bias"}, {"kernel", "bias"}},
    {"DepthwiseConv2D", 2, 1, {"kernel", "bias"}, {"depthwise_kernel", "bias"}},
    {"Dense", 2, 1, {"kernel", "bias"}, {"kernel", "bias"}},
    {"BatchNormalization",
     4,
     4,
     {"gamma", "beta", "moving_mean", "moving_variance"},
     {"gamma", "beta", "moving_mean", "moving_variance"}},
};
enum { DFT_KERAS_CLASSES = sizeof dft_keras_classes / sizeof dft_keras_classes[0] };

/* Which of the two layouts an open HDF5 file has; DFT_FILE_UNKNOWN when none. */
dft_file_kind dft_keras_layout(const dft_h5 *file);

/* dft_keras_read in this process: libhdf5 may crash on a damaged file. */
dft_status dft_keras_read_here(const char *path, dft_weights *w);
/* The layout of an HDF5 file, found by another process. */
dft_status dft_keras_sniff(const char *path, dft_file_kind *kind);

#endif
