/* Rows of the first convolution, for the kernels that fuse it with something else. */
#ifndef DFT_SIMD_STEM_H
#define DFT_SIMD_STEM_H

#include "dft/ops.h"
#include "simd.h"

/* Channels whose gradient is summed at a time: DFT_SUMS_MAX/27, whole vectors. */
enum { DFT_STEM_WIDEST = 80 };

/* Output row oh of the sample x[in_h][in_w][3], to y + at; at counts in the epilogue's residual too. */
void DFT_SIMD(dft_stem_row)(const float *x, const float *w, const dft_conv *g, const dft_epilogue *e, int oh,
                            int64_t at, float *y);
/* sums[27][width] += the inputs of output row oh times its gradient dy, rows of all channels; on the way, as
 * many floats as dy has are fetched from each of soon[]. */
void DFT_SIMD(dft_stem_dw_row)(const float *x, const dft_conv *g, int oh, const float *dy,
                               const float *const soon[2], int width, float (*sums)[DFT_STEM_WIDEST]);

#endif
