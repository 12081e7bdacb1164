/* What Keras calls things in its weight files, and the module that knows libhdf5 (hdf5/): shared by both
 * sides.
 */
#ifndef DFT_FORMATS_KERAS_H
#define DFT_FORMATS_KERAS_H

#include "dft/weights.h"
#include "metadata.h"

enum {
  DFT_H5_NAMES_MAX = 1 << 17,   /* names in one attribute or group */
  DFT_H5_TENSORS_MAX = 65536,   /* tensors in one file */
  DFT_H5_NAME_BYTES_MAX = 4096, /* of one name */
};

/* Attribute of the root group, ours: the class names. Keras ignores it. */
#define DFT_H5_CLASS_NAMES DFT_CLASS_NAMES_KEY

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

/* libhdf5 brings some forty libraries along (curl, GnuTLS, Kerberos, ...), whose start takes longer than
 * ours. So it is in a module, which a run without Keras files does not load. The module has the parts of dft
 * that it needs itself, and so a message of its own. */
typedef struct dft_hdf5 {
  /* In this process: libhdf5 may crash on a damaged file. */
  dft_status (*read)(const char *path, dft_weights *w);
  dft_status (*layout)(const char *path, dft_file_kind *kind); /* DFT_FILE_UNKNOWN: neither */
  /* The bytes of a file for dft_keras_write; *image is the caller's to free. */
  dft_status (*image)(dft_file_kind kind, const dft_weights *w, const dft_keras_layer *layers,
                      int layer_count, void **image, size_t *bytes);
  const char *(*error)(void); /* dft_error of what failed last */
} dft_hdf5;

/* What the module exports. A change of anything above is another symbol, so that a module left over from
 * another version is refused. */
#define DFT_HDF5_MODULE_SYMBOL "dft_hdf5_module_1"

/* The layout of an HDF5 file, found by another process. */
dft_status dft_keras_sniff(const char *path, dft_file_kind *kind);

#endif
