/* The frozen forward's object, and its layers on one tile. */
#ifndef DFT_OPS_CUDA_FROZEN_H
#define DFT_OPS_CUDA_FROZEN_H

#include "device.h"

extern "C" {
#include "../folded.h"
}

/* A tile of samples on its way: uploaded, computed, downloaded, beside another. */
typedef struct frozen_slot {
  float *host_in, *host_out; /* page-locked */
  float *in, *out;           /* on the device */
  cudaEvent_t up, computed, down;
  int first, samples; /* of the call's; 0: empty */
} frozen_slot;

enum { FROZEN_SLOTS = 2, FROZEN_BUFFERS = 3 };

struct dft_frozen {
  dft_folded *layers; /* weights and biases on the device: pointwise ones of the activations' type */
  int count;
  bool half, pooled, pool_max;
  int tile; /* samples */
  int64_t in, out;
  void *parameters, *buffer[FROZEN_BUFFERS];
  frozen_slot slot[FROZEN_SLOTS];
};

/* in[samples][in] -> out[samples][out], enqueued on the first stream. */
void dft_cuda_frozen_layers(const dft_frozen *f, const float *in, float *out, int samples);

#endif
