/* The frozen forward layer by layer through the operations of a set, a few samples at a time: what the
 * reference and portable sets run, and the yardstick of the fused ones. */
#ifndef DFT_OPS_CPU_FROZEN_GENERIC_H
#define DFT_OPS_CPU_FROZEN_GENERIC_H

#include "dft/ops.h"

/* The checks every set makes: shapes that follow each other, residuals that fit. DFT_EINTERNAL otherwise. */
dft_status dft_frozen_check(const dft_folded *layers, int count);

/* Floats of one sample before and after a layer. */
size_t dft_folded_in_floats(const dft_folded *layer);
size_t dft_folded_out_floats(const dft_folded *layer);

dft_status dft_frozen_generic_new(const dft_ops *ops, const dft_folded *layers, int count,
                                  dft_frozen **frozen);
void dft_frozen_generic_run(dft_frozen *frozen, const float *x, float *y, int samples);
void dft_frozen_generic_free(dft_frozen *frozen);

#endif
