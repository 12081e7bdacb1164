/* The model as an ONNX file, and weights out of one. proto/onnx.proto has the part of the format that is
 * used; operators are those of opset 13 (github.com/onnx/onnx, docs/Operators.md).
 *
 * Written: one graph, input "image" float32 [batch, height, width, 3], RGB, as the model itself takes it
 * (that is, after data.preprocessing), output float32 [batch, classes]: probabilities, named like the head,
 * or without a head the pooled features. Inside it is NCHW, as ONNX' operators want. Nodes have the layers'
 * Keras names, weights Keras' paths ("Conv1/kernel"), transposed to ONNX' shapes; BatchNormalization stays
 * a node of its own, so that the file also is a place to go on training from. Runtimes fold it themselves.
 * Properties and class names (a JSON list under "dft_class_names") are the model's metadata_props.
 *
 * Read: the weights of Conv, BatchNormalization and Gemm nodes, in the graph's order, transposed back to
 * Keras' shapes; the layer is the node's name, or else what stands before the last slash or dot of its
 * weight's. So a file that dft wrote gives back what went in, bit for bit. A graph whose BatchNormalization
 * is folded into its convolutions, or has another epsilon than Keras' MobileNetV2, is refused, as are
 * weights in other files. Nothing in a file is believed before it is checked; errors: DFT_EDATA, "FILE: what
 * is wrong" or "FILE: NODE: what is wrong", and DFT_EIO. Not collective; any thread.
 */
#ifndef DFT_ONNX_H
#define DFT_ONNX_H

#include "dft/weights.h"

typedef enum dft_onnx_op {
  DFT_ONNX_CONV,      /* kernel [h,w,in,out] */
  DFT_ONNX_DEPTHWISE, /* kernel [h,w,c,1] */
  DFT_ONNX_BATCH_NORM,
  DFT_ONNX_RELU6,
  DFT_ONNX_ADD,
  DFT_ONNX_POOL_AVG, /* global */
  DFT_ONNX_POOL_MAX,
  DFT_ONNX_DENSE /* with softmax */
} dft_onnx_op;

/* A layer reads the one before it, the first the image. */
typedef struct dft_onnx_layer {
  const char *name;
  dft_onnx_op op;
  int stride, pads[4]; /* of convolutions: top, left, bottom, right, in pixels of zeros */
  const char *added;   /* DFT_ONNX_ADD: the layer whose output is added */
} dft_onnx_layer;

typedef struct dft_onnx_model {
  const char *name;
  int height, width;
  float epsilon; /* of all BatchNormalization layers */
  const dft_onnx_layer *layers;
  int layer_count;
  const dft_property *properties;
  int property_count;
} dft_onnx_model;

/* `w` has the tensors of all layers; a missing one is DFT_EINTERNAL. Written whole or not at all (file.h).
 * Equal weights give equal bytes. */
dft_status dft_onnx_write(const char *path, const dft_onnx_model *model, const dft_weights *w);

/* `epsilon`: what its BatchNormalization layers must have. *w is overwritten, and empty after an error. */
dft_status dft_onnx_read(const char *path, float epsilon, dft_weights *w);
/* The same of a file's bytes; `name` is for messages. */
dft_status dft_onnx_decode(const char *name, const unsigned char *bytes, size_t count, float epsilon,
                           dft_weights *w);

#endif
