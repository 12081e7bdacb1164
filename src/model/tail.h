/* What the tail's planning, forward and backward share. */
#ifndef DFT_TAIL_H
#define DFT_TAIL_H

#include "dft/model.h"

enum { MAX_TRAVELLING = 64 }; /* 52 kernels and the head's two */

/* One unit of the tail: its weights as the kernels want them, what backward needs from forward, and its
 * BatchNorm. A BatchNorm that trains uses the batch's statistics, so the convolution's output z is kept
 * beside y; a frozen one is folded into the convolution, which then writes y itself. */
typedef struct tail_unit {
  const dft_unit *unit;
  bool conv_trains, bn_trains;
  bool needs_dx;             /* something before it trains */
  float *weight, *bias;      /* kernel with the frozen BatchNorm folded in; weight NULL: the kernel itself */
  float *packed, *packed_dx; /* pointwise: for forward, and the plain kernel transposed for dx; else NULL */
  float *z, *y;              /* [samples][out_elements]; z NULL with a frozen BatchNorm */
  float *mean, *variance, *invstd, *scale,
      *shift;            /* [c] of the last batch; scale also with a frozen BatchNorm */
  float *dgamma, *dbeta; /* [c] summed over the global batch */
  float *a, *b, *d;      /* [c] dz = a*g + b*z + d */
} tail_unit;

struct dft_tail {
  dft_model *model;
  const dft_ops *ops;
  dft_tail_hooks hooks;
  dft_arena *arena;
  size_t bytes;     /* of all floats planned */
  bool counting;    /* plan only: nothing is allocated */
  int first, count; /* units [first, first+count) of the model */
  int stop;         /* index in units[] of the first that trains; count: only the head */
  tail_unit *units;
  double dropout;
  float *features, *dropped; /* [samples][features]; dropped NULL without dropout */
  float *head_packed, *head_packed_dx;
  float *logits;
  float *gradient[2]; /* activations' gradients, in turn */
  float *skip;        /* gradient that goes around a block */
  double *sums;       /* [nodes][2][c] */
  float *scratch;     /* [nodes][elements] of one kernel, where a rank owns several nodes */
  int travelling[MAX_TRAVELLING], travelling_count;
};

/* conv(x) with the unit's current weights. */
void dft_tail_conv(const dft_tail *tail, const tail_unit *u, const float *x, int samples, float *y,
                   const dft_epilogue *epilogue);
/* Folds and packs the weights of units that train (all: also the frozen ones, once per phase). */
void dft_tail_pack(dft_tail *tail, bool all);
/* Writes features*mask/(1-p) of the batch to `out`; forward and backward are the same product. */
void dft_tail_dropout(const dft_tail *tail, const dft_batch *batch, const float *in, float *out);
void dft_fold(const dft_model *m, const dft_unit *u, float *weight, float *bias);

#endif
