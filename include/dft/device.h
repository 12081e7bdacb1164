/* A processor beside the host (a GPU) that a kernel set runs on: its memory, the order of its work, and the
 * parts of a training step that the host does itself where it has the tensors at hand.
 *
 * The code is in a module (module.h), dft_cuda.so, which is loaded only where a device is to be seen; nothing
 * else of dft knows CUDA. DFT_CUDA_MODULE names another file (the tests' module runs the same sources on the
 * host).
 *
 * Memory: "device" pointers come from `alloc` and may be read by kernels alone; all tensors that the training
 * operations of a device's dft_ops get are such pointers, but for shard maps and structs, which are read
 * before the call returns. frozen_new and frozen_run take host memory, as in every other set. Types:
 * activations and their gradients (dft_train_conv's x, everything's z, y, dy, dx, skip, residual) have
 * activation_bytes each: float32, or bfloat16 when the device was opened with that precision. Everything from
 * the pooled features on (features, logits, the head), weights, gradients of weights, and sums are float32 or
 * float64 as ops.h says.
 * Order: all functions only enqueue, on one stream, in the order of the calls, unless they say that they
 * wait. What goes wrong in them is kept and returned by the next `finish`, `poll` or `failed`, whoever's they
 * are: DFT_EINTERNAL with the CUDA error, the function and the device in words. A second stream, the
 * exchange's, runs beside. Bits: as ops.h says for every set; with an ordered exchange also independent of
 * whether a step was recorded as a graph. Main thread. Not collective.
 */
#ifndef DFT_DEVICE_H
#define DFT_DEVICE_H

#include "dft/config.h"
#include "dft/shards.h"
#include "dft/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A step's sums, per node and in total: what the update needs to know of the batch. */
enum { DFT_STEP_LOSS, DFT_STEP_CORRECT, DFT_STEP_COUNT, DFT_STEP_STOP, DFT_STEP_FAILED, DFT_STEP_SUMS };

/* What became of an update, in device memory. */
enum { DFT_UPDATE_NONE, DFT_UPDATE_DONE, DFT_UPDATE_LOSS_NOT_FINITE, DFT_UPDATE_GRADIENT_NOT_FINITE };

/* One tensor under an optimizer; all device pointers. slots: optim.h (momentum, velocity), NULL if unused. */
typedef struct dft_update_tensor {
  float *w, *slots[2];
  const float *gradient; /* summed over the batch */
  int64_t count;
} dft_update_tensor;

/* Formulas: optim.h. */
typedef struct dft_update_rule {
  bool sgd, nesterov;
  double learning_rate, beta_1, beta_2, epsilon, momentum, weight_decay;
} dft_update_rule;

typedef struct dft_graph dft_graph; /* recorded work */

typedef struct dft_device {
  int index;      /* on this host */
  char name[128]; /* "NVIDIA H100 80GB HBM3" */
  dft_precision precision;
  int activation_bytes; /* 4 or 2 */

  /* Memory. alloc's is zeroed. DFT_EINTERNAL naming the bytes wanted and free when it does not fit. */
  dft_status (*alloc)(size_t bytes, void **memory);
  void (*free)(void *memory);                                   /* waits; NULL is fine */
  dft_status (*host_alloc)(size_t bytes, void **memory);        /* of the host, page-locked, zeroed */
  void (*host_free)(void *memory);                              /* waits; NULL is fine */
  size_t (*free_bytes)(void);                                   /* of the device */
  void (*upload)(void *device, const void *host, size_t bytes); /* host memory stays untouched until done */
  void (*download)(void *host, const void *device, size_t bytes);
  void (*copy)(void *to, const void *from, size_t bytes); /* device to device */
  /* An upload beside everything else, and what makes all enqueued from now on wait for those so far. */
  void (*upload_beside)(void *device, const void *host, size_t bytes);
  void (*wait_beside)(void);

  /* Order. */
  dft_status (*finish)(void);         /* waits for everything enqueued; the first error since the last */
  dft_status (*poll)(bool *finished); /* the same without waiting */
  dft_status (*failed)(void);         /* the same without asking the streams, so also while recording */
  /* Whatever waits here calls this over and over until it need not: what is enqueued may be waiting for a
   * peer, and someone has to notice when it is lost. `first`: the first call of a wait. NULL: nobody to look
   * after. */
  void (*while_waiting)(void (*look)(void *context, bool first), void *context);

  /* Graphs: between `record` and `recorded` nothing runs, and nothing may be allocated or waited for; each
   * `replay` runs what was enqueued between, with the pointers and numbers of then. */
  dft_status (*record)(void);
  dft_status (*recorded)(dft_graph **graph); /* ends recording also when it fails */
  void (*replay)(dft_graph *graph);
  void (*graph_free)(dft_graph *graph); /* NULL is fine */

  /* The map that the operations get until the next call: its shard bounds go to the device. Not while
   * recording. A recorded step is for maps with the same bounds only (first[], node_first[]): products have
   * them among their numbers. */
  void (*use_map)(const dft_shard_map *map);

  /* float32 rows to activations: y[count] = x[count]. */
  void (*to_activations)(const float *x, void *y, int64_t count);
  /* Rows kept on the device: x[i][floats] = store[index[i]][floats] and back, index in device memory. */
  void (*gather)(const float *store, const int64_t *index, float *x, int count, int64_t floats);
  void (*scatter)(const float *x, const int64_t *index, float *store, int count, int64_t floats);

  /* Cross-entropy (loss.h): loss[samples], dlogits[samples][classes], correct[samples]. With `others`, the
   * mixed one; all device pointers. */
  void (*loss)(const float *logits, const int *labels, const int *others, const float *weights, int samples,
               int classes, float *loss, float *dlogits, unsigned char *correct);
  /* sums[node][DFT_STEP_SUMS] of the map's samples, in its order; flags[2]: stop and failed, the same in each
   * node. Only node 0 carries the flags: the total counts each rank once. */
  void (*step_sums)(const float *loss, const unsigned char *correct, const dft_shard_map *map,
                    const double *flags, double *sums);
  /* The update from totals[DFT_STEP_SUMS]: when no rank failed, count > 0 and the loss and all gradients are
   * finite, every tensor moves by its gradient / count, and *done (device) is DFT_UPDATE_DONE; else nothing
   * is touched and *done says why. `tensors` is in device memory, alpha_t too (optim.h; unused by sgd). */
  void (*update)(const dft_update_tensor *tensors, int count, const dft_update_rule *rule,
                 const double *totals, const float *alpha_t, int *done);

  /* Makes a frozen object (ops.h) that reaches the last unit pool its output: y[samples][channels]. */
  dft_status (*frozen_pool)(void *frozen, bool max);

  /* The exchange's stream, for NCCL (a cudaStream_t). exchange_begin: what is enqueued there from now on
   * waits for what is enqueued on the first stream so far. exchange_mark: `event` happens when what is
   * enqueued there so far is done; exchange_wait: what is enqueued on the first stream from now on waits for
   * it. */
  void *exchange_stream;
  dft_status (*event_new)(void **event);
  void (*event_free)(void *event); /* NULL is fine */
  void (*exchange_begin)(void);
  void (*exchange_mark)(void *event);
  void (*exchange_wait)(void *event);
  /* to = left + right on the exchange's stream, count values; to may be left or right. */
  void (*exchange_add_f32)(float *to, const float *left, const float *right, int64_t count);
  void (*exchange_add_f64)(double *to, const double *left, const double *right, int64_t count);
} dft_device;

struct dft_ops;
struct dft_nccl; /* dft/nccl.h */

/* What the module exports is dft_cuda_module, a dft_cuda_get. Its errors go through `fail`, the program's
 * dft_fail. */
#define DFT_CUDA_INTERFACE_VERSION 3
typedef struct dft_cuda_interface {
  int version;          /* DFT_CUDA_INTERFACE_VERSION of its build */
  int (*devices)(void); /* to be seen by this process; 0 also when the driver is missing or too old */
  /* The CUDA UUID of one of them, whatever number other processes know it by; the same for slices (MIG) of
   * one GPU, between which NCCL cannot be. */
  void (*identity)(int index, unsigned char uuid[16]);
  /* One per process; DFT_EINTERNAL or DFT_EUSAGE in words. Stays open until the process ends. */
  dft_status (*open)(int index, dft_precision precision, const struct dft_ops **ops);
  const struct dft_nccl *nccl; /* NULL: built without */
} dft_cuda_interface;
typedef dft_status (*dft_fail_function)(dft_status code, const char *format, ...);
typedef const dft_cuda_interface *(*dft_cuda_get)(dft_fail_function fail);

/* The module, loaded at the first call; NULL where there is no device or no module. *why (may be NULL) says
 * why not, in a constant sentence. */
const dft_cuda_interface *dft_device_module(const char **why);

#endif
