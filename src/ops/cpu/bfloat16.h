/* bfloat16 in plain C: what weights are rounded with, and the product that the vector sets are tested
 * against. Thread-safe; no state. */
#ifndef DFT_OPS_CPU_BFLOAT16_H
#define DFT_OPS_CPU_BFLOAT16_H

#include "dft/ops.h"

/* As VCVTNEPS2BF16 rounds: to nearest even; denormals give zero, NaNs quiet ones. */
uint16_t dft_bfloat16(float value);
/* The nearest bfloat16 as a float. */
float dft_bfloat16_rounded(float value);

/* The product of dft_ops' gemm (weights as [k][n]) for factors that are bfloat16 values, k even: each element
 * takes its terms pair by pair as VDPBF16PS does (Intel SDM, volume 2): the odd term, then the even one, each
 * sum rounded once to nearest even, denormals taken and given as zero. */
void dft_gemm_bfloat16(const float *x, const float *w, float *y, int samples, int pixels, int k, int n,
                       const dft_epilogue *epilogue);

/* The same as AMX's TDPBF16PS does it (Intel SDM, volume 2; found so, bit for bit, on a CPU that has it): for
 * every 32 of k, the even terms are summed from +0 in order, each sum rounded once to nearest even, the odd
 * ones likewise; even + odd joins the element's sum, which begins at +0. Then + bias. Denormals are taken and
 * given as zero. */
void dft_gemm_bfloat16_tiles(const float *x, const float *w, float *y, int samples, int pixels, int k, int n,
                             const dft_epilogue *epilogue);

#endif
