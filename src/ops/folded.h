/* Folded layers (ops.h) as every set's frozen forward sees them. Also compiled into the modules of device.h.
 */
#ifndef DFT_OPS_FOLDED_H
#define DFT_OPS_FOLDED_H

#include "dft/ops.h"

/* Floats of one sample before and after a layer. */
size_t dft_folded_in_floats(const dft_folded *layer);
size_t dft_folded_out_floats(const dft_folded *layer);
/* Of the weights as frozen_new gets them. */
size_t dft_folded_weights(const dft_folded *layer);
/* Their values with the scale folded in, in `room` for so many floats; the weights themselves without a
 * scale. */
const float *dft_folded_values(const dft_folded *layer, float *room);
/* Floats that the largest of some layers has. */
size_t dft_folded_room(const dft_folded *layers, int count);
/* The checks every set makes: shapes that follow each other, residuals that fit, bfloat16 for products of
 * even depth only. DFT_EINTERNAL otherwise. */
dft_status dft_frozen_check(const dft_folded *layers, int count);

#endif
