/* What the tail's planning, forward and backward share. */
#ifndef DFT_TAIL_H
#define DFT_TAIL_H

#include "dft/model.h"

/* One unit of the tail and its BatchNorm. Only the convolution's output
 * z is kept; whoever reads it applies `norm` on the way (ops.h). Where a block ends, and where a residual
 * needs it, y = norm(z) + residual is stored beside it. */
typedef struct tail_unit {
  const dft_unit *unit;
  bool conv_trains, bn_trains;
  bool needs_dx; /* something before it trains */
  bool pair;     /* an expansion that is run with the depthwise unit above it; its z is not stored */
  float *z, *y;  /* [samples][out_elements]; y NULL where readers apply norm */
  double *gram;  /* of a pair (dft_train_conv) whose BatchNorm trains; else NULL */
  dft_batch_norm_vectors v; /* with frozen statistics only scale and shift */
  dft_norm norm;            /* of these */
} tail_unit;

struct dft_tail {
  dft_model *model;
  const dft_ops *ops;
  dft_tail_hooks hooks;
  dft_arena *arena;
  char *block;      /* in the memory of ops->device, where there is one: all tensors */
  size_t bytes;     /* of all tensors planned */
  bool counting;    /* plan only: nothing is allocated */
  int first, count; /* units [first, first+count) of the model */
  int stop;         /* index in units[] of the first that trains; count: only the head */
  tail_unit *units;
  double dropout;
  float *features, *dropped; /* [samples][features]; dropped NULL without dropout */
  float *head_packed, *head_packed_dx;
  float *logits;
  float *wide[2], *narrow[2]; /* gradients of tensors without and with a stored y, in turn */
  float *work;                /* of the training kernels */
  double *sums;               /* [nodes][2][c], and room for a number per node */
  double global;              /* samples of the global batch; -1: not yet known */
  float *scratch;             /* [nodes][elements] of one kernel, where a rank owns several nodes */
  int travelling[DFT_MAX_TRAVELLING], travelling_count;
};

/* Packs the head. */
void dft_tail_pack(dft_tail *tail);
/* What the kernels need to know of unit i on a batch whose boundary rows are x. */
dft_train_conv dft_tail_train(const dft_tail *tail, int i, const dft_batch *batch, const float *x);
/* Writes features*mask/(1-p) of the batch to `out`; forward and backward are the same product. */
void dft_tail_dropout(const dft_tail *tail, const dft_batch *batch, const float *in, float *out);

#endif
