/* The frozen forward layer by layer through the operations of a set, a few samples at a time: what the
 * reference and portable sets run, and the yardstick of the fused ones. */
#ifndef DFT_OPS_CPU_FROZEN_GENERIC_H
#define DFT_OPS_CPU_FROZEN_GENERIC_H

#include "../folded.h"

/* The product of factors that were rounded to bfloat16; weights are [k][n]. */
typedef void (*dft_rounded_product)(const float *x, const float *w, float *y, int samples, int pixels, int k,
                                    int n, const dft_epilogue *epilogue);

/* The set's gemm_pack keeps [k][n] as it is. */
dft_status dft_frozen_generic_new(const dft_ops *ops, dft_rounded_product product, const dft_folded *layers,
                                  int count, dft_frozen **frozen);
void dft_frozen_generic_run(dft_frozen *frozen, const float *x, float *y, int samples);
void dft_frozen_generic_free(dft_frozen *frozen);

#endif
