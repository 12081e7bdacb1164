/* Named tensors, as weight files hold them, and the Keras files themselves.
 *
 * A dft_weights is a list of tensors in file order. `layer` and `variable` are Keras 3's words: layer
 * "block_1_depthwise", variable "kernel" | "bias" | "gamma" | "beta" | "moving_mean" | "moving_variance".
 * Files that do not say a name give what they have ("" for an unknown variable): model/bind.c then binds by
 * order. Keras 2's "depthwise_kernel" is read as "kernel". Values are float32, C order, shapes as in Keras:
 * Conv2D [h,w,in,out], DepthwiseConv2D [h,w,c,1], Dense [in,out], BatchNormalization [c].
 *
 * Readers trust no size in a file before checking it against the file's length. Errors: DFT_EDATA naming the
 * file and the tensor. Ownership: the dft_weights owns everything it points to. Not collective, one thread at
 * a time (libhdf5 is not thread-safe). libhdf5 is only touched inside src/formats/.
 */
#ifndef DFT_WEIGHTS_H
#define DFT_WEIGHTS_H

#include "dft/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DFT_MAX_RANK 4

typedef struct dft_tensor {
  char *layer;
  char *variable;
  int rank;
  int64_t shape[DFT_MAX_RANK];
  float *data;
} dft_tensor;

typedef struct dft_weights {
  dft_tensor *tensors;
  int count;
  char **class_names; /* NULL when the file knows none */
  int classes;
} dft_weights;

int64_t dft_tensor_elements(const dft_tensor *t);
/* Appends a tensor with a copy of the names; data is copied when not NULL, else allocated and zeroed. */
dft_status dft_weights_add(dft_weights *w, const char *layer, const char *variable, int rank,
                           const int64_t *shape, const float *data);
dft_tensor *dft_weights_find(const dft_weights *w, const char *layer, const char *variable); /* or NULL */
void dft_weights_free(dft_weights *w); /* releases the contents, not the struct; NULL is fine */

typedef enum {
  DFT_FILE_UNKNOWN,
  DFT_FILE_KERAS_H5,
  DFT_FILE_KERAS_WEIGHTS_H5,
  DFT_FILE_CHECKPOINT
} dft_file_kind;

/* Tells by content. DFT_EDATA when missing or unreadable. */
dft_status dft_file_sniff(const char *path, dft_file_kind *kind);

/* Both Keras layouts, told apart by content: published `*_no_top.h5` (layer_names / weight_names attributes,
 * also under model_weights/) and Keras 3 `.weights.h5` (layers/NAME/vars/N, nested models included). */
dft_status dft_keras_read(const char *path, dft_weights *w);

/* Writes what Keras itself loads: DFT_FILE_KERAS_H5 for `model.load_weights(x.h5)` (by order and by name),
 * DFT_FILE_KERAS_WEIGHTS_H5 for `model.load_weights(x.weights.h5)`. `layers` lists all the model's layers in
 * order, with and without weights, and their Keras class ("Conv2D", ...), because both layouts record them.
 * The head is the last layer. Written to a temporary name, then renamed. */
typedef struct dft_keras_layer {
  const char *name, *keras_class;
} dft_keras_layer;
dft_status dft_keras_write(const char *path, dft_file_kind kind, const dft_weights *w,
                           const dft_keras_layer *layers, int layer_count);

#endif
