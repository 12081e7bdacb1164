/* What reduce.c (on the host, the way of every reduction) and reduce_device.c (buffers in a device's memory)
 * share. */
#ifndef DFT_REDUCE_REDUCTION_H
#define DFT_REDUCE_REDUCTION_H

#include "dft/reduce.h"
#include "exchange_plan.h"

struct dft_reduction_handle {
  dft_reduction_handle *next; /* under way: in the order of start; idle: the list of spares */
  const dft_exchange_plan *plan;
  dft_dtype dtype;
  size_t bytes;      /* of one row */
  char *data, *work; /* the rows, and what the plan calls scratch */
  char *scratch;     /* the host's; owned */
  size_t scratch_bytes;
  dft_message *message; /* of the current stage */
  int message_room;
  int stages;              /* of the plan: all, or those for this rank's part */
  int tag, stage, pending; /* pending: messages of the stage not known to be complete */
  bool done;
  double traced_s; /* its begin, for the trace; -1: told, or not traced */
  /* with a device */
  void *event;     /* NCCL: when all of it is done; owned */
  void *on_device; /* MPI: where the total goes; then data is `locked` */
  void *locked;    /* page-locked memory; owned */
  size_t locked_bytes;
  bool downloading; /* not known to have come to the host */
};

/* How buffers are exchanged: here; not at all; by NCCL; brought here. */
typedef enum dft_way { DFT_WAY_HOST, DFT_WAY_ALONE, DFT_WAY_NCCL, DFT_WAY_STAGED } dft_way;

/* A block of the device's memory for the plan's scratch: reductions follow each other on the stream, so one
 * serves all. Smaller ones stay, for recorded steps know them. */
typedef struct dft_device_scratch {
  struct dft_device_scratch *smaller;
  void *memory;
  size_t bytes;
} dft_device_scratch;

struct dft_reducer {
  dft_comm *comm;
  const dft_device *device;
  dft_way way;
  bool ordered;
  int ranks, nodes;
  dft_exchange_plan small, large;
  unsigned started;
  dft_reduction_handle *first, **last, *spare;
  dft_device_scratch *scratch;
  dft_reduce_stats stats;
};

/* reduce.c */
char *dft_reduction_place(const dft_reduction_handle *h, int row, int first);
size_t dft_reduction_length(const dft_reduction_handle *h, int first, int last); /* bytes of these pieces */
size_t dft_reduction_scratch(const dft_exchange_plan *plan, size_t bytes);       /* bytes */
/* Begins with the rows h->data on the host. */
dft_status dft_reduction_begin(dft_reducer *r, dft_reduction_handle *h);

/* reduce_device.c. The whole of it by NCCL, on the exchange's stream. */
dft_status dft_reduction_enqueue(dft_reducer *r, dft_reduction_handle *h);
/* The rows begin to come to the host; `settle` begins the reduction of all that have come, when the device is
 * done or, with `wait`, once it is. */
dft_status dft_reduction_download(dft_reducer *r, dft_reduction_handle *h, void *on_device);
dft_status dft_reduction_settle(dft_reducer *r, bool wait);
void dft_reduction_free_device(const dft_reducer *r, dft_reduction_handle *h);
void dft_reducer_free_device(dft_reducer *r);

#endif
