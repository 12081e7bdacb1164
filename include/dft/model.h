/* MobileNetV2 as a table of layers with Keras' names, and its trainable tail.
 *
 * The network is a chain of "units": a convolution (stem, depthwise or pointwise), its BatchNorm, an optional
 * ReLU6 and an optional residual. Units are grouped in blocks; a frozen part always ends at a block's start,
 * where one narrow tensor is enough to go on. A phase splits the chain in
 *   prefix   units [0, first): no trainable layer; runs folded, one sample at a time (folded.c)
 *   tail     units [first, units), the pooling layer and the head: forward (tail_forward.c), backward
 *            (tail_backward.c)
 * With only the head trainable the prefix reaches through the pooling layer: boundary = pooled features.
 *
 * Source of names, shapes, padding and channel rounding: keras/src/applications/mobilenet_v2.py (Sandler et
 * al. 2018).
 *
 * Ownership: the model owns layers, parameters and units. Threads: main thread only. Not collective; where
 * sums over ranks are needed (BatchNorm, gradients) the tail calls the hooks it was given.
 */
#ifndef DFT_MODEL_H
#define DFT_MODEL_H

#include "dft/arena.h"
#include "dft/config.h"
#include "dft/ops.h"
#include "dft/weights.h"

#define DFT_BN_EPSILON  1e-3f
#define DFT_BN_MOMENTUM 0.999

typedef enum dft_layer_kind {
  DFT_LAYER_INPUT,
  DFT_LAYER_CONV,
  DFT_LAYER_DEPTHWISE,
  DFT_LAYER_BATCH_NORM,
  DFT_LAYER_RELU,
  DFT_LAYER_PAD,
  DFT_LAYER_ADD,
  DFT_LAYER_POOL,
  DFT_LAYER_DENSE
} dft_layer_kind;

typedef struct dft_layer {
  char name[40];
  dft_layer_kind kind;
  int out_h, out_w, out_c; /* pooling and Dense: 1, 1, channels */
  int first_param, params; /* in the model's params */
  int unit;                /* the unit it belongs to; -1: input, pooling, head */
  bool trainable;          /* in the current phase */
} dft_layer;

/* One tensor, shaped as in Keras. */
typedef struct dft_param {
  int layer;
  const char *variable; /* "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance" */
  int rank;
  int64_t shape[DFT_MAX_RANK];
  int64_t elements;
  float *data;
  float *live;    /* where the training kernels have it: `data`, or on a device during a phase (mirror.c) */
  bool statistic; /* moving_*: never has a gradient */
  bool trainable; /* in the current phase; false for statistics */
} dft_param;

/* Floats that it takes where parameters or slots lie side by side: whole lines, so that the next begins with
 * one. */
static inline size_t dft_param_floats(const dft_param *p) {
  return ((size_t)p->elements + 15) / 16 * 16;
}

typedef struct dft_unit {
  dft_conv_kind kind;
  dft_conv conv;
  bool relu6, residual, block_start;
  int kernel, gamma, beta, mean, variance; /* params */
  int conv_layer, bn_layer;
  int in_elements, out_elements; /* floats per sample */
} dft_unit;

typedef struct dft_model {
  double alpha;
  int height, width, classes;
  dft_pooling pooling;
  dft_layer *layers;            /* base layers in Keras' order, then the head `predictions` */
  int layer_count, base_layers; /* base_layers = layer_count - 1 = len(base.layers) */
  dft_param *params;
  int param_count;
  dft_unit *units;
  int unit_count;
  int features;               /* channels after pooling */
  int feature_pixels;         /* pixels before pooling */
  int head_kernel, head_bias; /* params */
  dft_arena *arena;
} dft_model;

/* Builds the table, all tensors zero. DFT_EUSAGE when the input is too small. */
dft_status dft_model_new(double alpha, int height, int width, dft_pooling pooling, int classes,
                         dft_model **model);
void dft_model_free(dft_model *model);
const dft_layer *dft_model_layer(const dft_model *model, const char *name); /* or NULL */
int64_t dft_model_count(const dft_model *model, bool trainable_only); /* parameters as Keras counts them */
/* The first parameter of a unit; of the head for unit_count. The later units' and the head's follow. */
int dft_model_first_param(const dft_model *model, int unit);
/* The parameters from `first` on with the zeros between them that align each to 64 bytes: they lie side by
 * side, unless dft_model_place has moved only some of them. */
float *dft_model_values(const dft_model *model, int first, size_t *count);
/* From now on these parameters are at `values`, placed as in dft_model_values, which the caller has filled.
 */
void dft_model_place(dft_model *model, int first, float *values);
/* Keras' class of a layer ("Conv2D"), for the writers of Keras files. */
const char *dft_layer_class(dft_layer_kind kind);

/* Keras' initialisers: Glorot uniform kernels (fans as keras/src/initializers computes them), gamma and
 * moving variance 1, the rest 0. Random numbers keyed by (seed, tensor, element). */
void dft_model_init(dft_model *model, uint64_t seed);

typedef struct dft_bind_result {
  int bound;            /* tensors of the base that were loaded */
  bool by_order;        /* names did not fit, order did */
  bool head;            /* the head was loaded */
  char head_layer[64];  /* from this layer of the file */
  const char *head_why; /* else why not: a constant sentence */
} dft_bind_result;
/* Copies tensors from a file: by layer and variable name, or, when few of the base's names fit, by order
 * within each kind of tensor, unless the file has none; shapes always checked. The head is the file's
 * `predictions`, else its last Dense layer, or its only one where order means nothing; it is taken when its
 * shape fits and class names, where the file knows them and `class_names` is not NULL, are equal. DFT_EDATA
 * naming the tensor when something is missing or misshapen. */
dft_status dft_model_bind(dft_model *model, const dft_weights *file, const char *path,
                          const char *const *class_names, dft_bind_result *result);
/* All tensors as a dft_weights, in layer order: an empty one, or one that this filled before with the same
 * `first`. It gets copies of the parameters from `first` on, and is lent those before it, which must stay
 * where and as they are while it is used. */
dft_status dft_model_export(const dft_model *model, int first, dft_weights *weights);

/* Sets the trainable layers of a phase: unfreeze_last, unfreeze_from or globs over the base's layers, and the
 * head. With DFT_BN_FROZEN BatchNorm layers stay out. DFT_EUSAGE naming the phase and a layer or glob that
 * fits nothing. */
dft_status dft_model_freeze(dft_model *model, const dft_config_phase *phase, dft_batch_norm batch_norm);
/* First unit of the tail for the current trainable set (a block's start), or unit_count for a head-only
 * phase. */
int dft_model_tail_start(const dft_model *model);
/* Floats per sample at a boundary: the input of unit `first`; unit_count: the pooled features; 0: the image.
 */
int64_t dft_model_boundary(const dft_model *model, int first);

/* The frozen network between two boundaries, BatchNorm folded (moving statistics): images or boundary rows
 * in, boundary rows out. from < to; to == unit_count includes pooling. With DFT_PREFIX_BFLOAT16, or on a
 * device of that precision, the pointwise products are as dft_folded says (ops.h). A snapshot of the weights
 * at creation. */
typedef struct dft_folded_net dft_folded_net;
dft_status dft_folded_new(const dft_model *model, const dft_ops *ops, int from, int to, dft_prefix arithmetic,
                          dft_folded_net **net);
/* Fails only on a device. */
dft_status dft_folded_run(dft_folded_net *net, const float *x, float *y, int samples);
void dft_folded_free(dft_folded_net *net);

/* What the tail needs from those who know the other ranks. All are called on the main thread; each may return
 * an error. */
typedef struct dft_tail_hooks {
  void *context;
  /* sums[nodes][count] -> sums[0][count] holds the totals over all shards of all ranks. Blocking. */
  dft_status (*sum)(void *context, double *sums, size_t count);
  /* Where the gradient of the trainable parameter goes: node j at gradient + j*stride. */
  float *(*gradient)(void *context, int param, size_t *stride);
  /* The gradient of `param` is complete on this rank. */
  dft_status (*ready)(void *context, int param);
} dft_tail_hooks;

/* The trainable tail of the current phase, with all memory for batches of up to max_samples local samples. */
typedef struct dft_tail dft_tail;
dft_status dft_tail_new(dft_model *model, const dft_ops *ops, int max_samples, int max_nodes, double dropout,
                        const dft_tail_hooks *hooks, dft_tail **tail);
void dft_tail_free(dft_tail *tail);
/* Bytes that dft_tail_new would allocate for the current trainable set. */
size_t dft_tail_plan_bytes(dft_model *model, const dft_ops *ops, int max_samples, int max_nodes,
                           double dropout);
enum { DFT_MAX_TRAVELLING = 64 }; /* 52 kernels and the head's two */
/* Parameters whose gradient travels through `gradient`/`ready`, in the order they become ready (backward
 * order): kernels and the head. BatchNorm's gamma and beta are summed with the statistics and are not among
 * them. */
int dft_tail_travelling(const dft_tail *tail, const int **params);

/* Identity of a batch for BatchNorm and dropout. */
typedef struct dft_batch {
  const dft_shard_map *map;
  int64_t global;         /* samples of the global batch; -1: the ranks exchange it with BatchNorm's sums */
  const int64_t *samples; /* [map->samples] dataset numbers, for dropout */
  uint64_t seed;
  uint32_t epoch;
} dft_batch;

/* Forward over boundary rows x[samples][boundary]: logits[samples][classes]. Training mode. */
dft_status dft_tail_forward(dft_tail *tail, const dft_batch *batch, const float *x, float **logits);
/* Backward from dlogits (gradient of the summed, not averaged, loss). Gradients are sums over samples. */
dft_status dft_tail_backward(dft_tail *tail, const dft_batch *batch, const float *x, const float *dlogits);
/* Summed gradient of gamma or beta of the last step, complete over all ranks. */
const float *dft_tail_bn_gradient(const dft_tail *tail, int param);
/* Moves the moving statistics towards the last batch's. Call with the optimizer's update. `done`: bn_commit's
 * (ops.h), NULL on the CPU. */
void dft_tail_commit_statistics(dft_tail *tail, const int *done);

/* Head for evaluation: logits[samples][classes] from pooled features. */
void dft_model_head(const dft_model *model, const dft_ops *ops, const float *features, float *packed,
                    float *logits, int samples);
size_t dft_model_head_packed_floats(const dft_model *model, const dft_ops *ops);

#endif
