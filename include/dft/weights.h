/* Named tensors, as weight files hold them, and the Keras files themselves (safetensors.h, onnx.h: the
 * others).
 *
 * A dft_weights is a list of tensors in file order. `layer` and `variable` are Keras 3's words: layer
 * "block_1_depthwise", variable "kernel" | "bias" | "gamma" | "beta" | "moving_mean" | "moving_variance".
 * Keras 2's "depthwise_kernel" is read as "kernel". Values are float32, C order, shapes as in Keras:
 * Conv2D [h,w,in,out], DepthwiseConv2D [h,w,c,1], Dense [in,out], BatchNormalization [c].
 *
 * Readers trust no size in a file before checking it against the file's length: at most 1 GiB of weights,
 * rank at most 4. Errors: DFT_EDATA, "FILE: TENSOR: what is wrong". A file that is truncated, foreign,
 * compressed and damaged, or that claims too much is refused; libhdf5, whose version 1.10.8 crashes on some
 * damage to HDF5's own structures, reads in a child process, and a crash is a DFT_EDATA. Ownership: the
 * dft_weights owns everything it points to but what it was lent. Not collective, one thread at a time
 * (libhdf5 is not thread-safe). libhdf5 is in a module (module.h), dft_hdf5.so or what DFT_HDF5_MODULE names,
 * loaded by the first Keras file; DFT_EINTERNAL when it cannot be.
 */
#ifndef DFT_WEIGHTS_H
#define DFT_WEIGHTS_H

#include "dft/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DFT_MAX_RANK 4

/* Most bytes of float32 in one file. */
#define DFT_WEIGHTS_BYTES_MAX ((int64_t)1 << 30)

typedef struct dft_tensor {
  char *layer;
  char *variable;
  int rank;
  int64_t shape[DFT_MAX_RANK];
  float *data;
  bool lent; /* data is someone else's */
} dft_tensor;

typedef struct dft_weights {
  dft_tensor *tensors;
  int count;
  char **class_names; /* NULL when the file knows none */
  int classes;
  bool unordered;          /* the file's order means nothing: names alone tell what a tensor is */
  struct dft_arena *arena; /* of all tensors' data; NULL: each has its own block */
} dft_weights;

/* What a file says of the model beside its tensors. */
typedef struct dft_property {
  const char *name, *value;
} dft_property;

int64_t dft_tensor_elements(const dft_tensor *t);
/* For an empty list: the data of the tensors to come, of so many bytes with each tensor's rounded up to 64,
 * will lie side by side, where large pages spare thousands of page faults. */
dft_status dft_weights_reserve(dft_weights *w, size_t bytes);
/* Appends a tensor with a copy of the names; data is copied when not NULL, else allocated and zeroed. */
dft_status dft_weights_add(dft_weights *w, const char *layer, const char *variable, int rank,
                           const int64_t *shape, const float *data);
/* The same for place `at` of the list: where a tensor is there already, it must be that one. It gets a copy
 * of the data, or is lent them: then they stay the caller's, and last until the list is freed or the place is
 * lent others. */
dft_status dft_weights_put(dft_weights *w, int at, const char *layer, const char *variable, int rank,
                           const int64_t *shape, float *data, bool lent);
/* Takes the tensor at place `at` out of the list. */
void dft_weights_remove(dft_weights *w, int at);
dft_tensor *dft_weights_find(const dft_weights *w, const char *layer, const char *variable); /* or NULL */
void dft_weights_free(dft_weights *w); /* releases the contents, not the struct; NULL is fine */

typedef enum {
  DFT_FILE_UNKNOWN,
  DFT_FILE_KERAS_H5,
  DFT_FILE_KERAS_WEIGHTS_H5,
  DFT_FILE_CHECKPOINT,
  DFT_FILE_SAFETENSORS, /* safetensors.h */
  DFT_FILE_ONNX         /* onnx.h */
} dft_file_kind;

/* Tells by content: a checkpoint by its first 16 bytes (proto/dft.proto), an HDF5 file by its signature at
 * offset 0 and then by what Keras puts into its root, safetensors by the brace after the header's length,
 * ONNX by the tags of ModelProto's first two fields; anything else is DFT_FILE_UNKNOWN. DFT_EDATA when the
 * file is missing or unreadable, or is a damaged HDF5 file. */
dft_status dft_file_sniff(const char *path, dft_file_kind *kind);

/* Both Keras layouts, told apart by content: the published one (attributes layer_names and weight_names, in
 * the root or under model_weights/; Keras 1 to 3, `*_no_top.h5`, model.save("x.h5")) and Keras 3's
 * `.weights.h5` (layers/CLASS_N/vars/I). Models nested in the model are read through. *w is overwritten, and
 * empty after an error. float16 and float64 become float32; integer state (the seed of a Dropout) is passed
 * over.
 *
 * What binding can go by:
 * - Where the file names its layers (the published layout always, `.weights.h5` since Keras 3 records the
 *   attribute "name"), `layer` is that name.
 * - Otherwise (Keras 2 and early Keras 3 `.weights.h5`) `layer` is the group: "conv2d", "conv2d_1", in a
 * nested model "functional/conv2d_1".
 * - `variable` is the file's name for it or, without one, what the shapes tell: four equal vectors of a layer
 * are gamma, beta, moving_mean, moving_variance; a filter or matrix is a kernel, one vector after it its
 * bias; anything else is "".
 * - Order: layers of one class are in the model's order (published files: all layers are; `.weights.h5`:
 * classes alphabetically, members by number, a model's own layers before those of models nested in it); the
 * tensors of one layer are together. */
dft_status dft_keras_read(const char *path, dft_weights *w);

typedef struct dft_keras_layer {
  const char *name, *keras_class;
} dft_keras_layer;

/* Writes a file that Keras 3 loads by model.load_weights(PATH); PATH must end accordingly:
 *
 * DFT_FILE_KERAS_WEIGHTS_H5, "x.weights.h5":
 * - the base, MobileNetV2(include_top=False), with or without pooling; a head in the file is ignored
 * - Model(base.input, Dense(...)(base.output)), also with a Dropout or an own GlobalAveragePooling2D between
 * - Sequential([base, Dense]) and Model(x, Dense(base(x))), also with a Dropout or preprocess_input
 *   (every layer is linked twice, where either kind of model looks: no copy)
 * DFT_FILE_KERAS_H5, "x.h5", the published layout, by position:
 * - written with the head: the flat models of the second line above
 * - written without: the base
 * - by_name=True: both, the base also from a file with a head
 * - not the nested models: Keras counts their top-level layers; use base.load_weights(PATH, by_name=True)
 *
 * `layers` lists all the model's layers in Keras' order, with and without weights, and their Keras class
 * ("Conv2D", ...), because both layouts record them; the head, if it is to be in the file, is the last. Every
 * tensor of `w` must belong to one of them and every variable of the layers must be there: a layer without
 * its tensors is DFT_EDATA, a tensor left over DFT_EINTERNAL. Class names, if any, become the root's
 * attribute dft_class_names, which Keras ignores and dft_keras_read reads back. Equal weights give equal
 * bytes. Written to a temporary name in the same directory, fsync, rename, fsync of the directory; DFT_EIO
 * leaves an old file as it was. */
dft_status dft_keras_write(const char *path, dft_file_kind kind, const dft_weights *w,
                           const dft_keras_layer *layers, int layer_count);

#endif
