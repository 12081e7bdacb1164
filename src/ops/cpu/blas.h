/* OpenBLAS, which only the portable set needs: loaded when that is asked for. Linked, it would start a thread
 * per core that spins for a tenth of a second at every start of the program. Not thread-safe until loaded. */
#ifndef DFT_OPS_CPU_BLAS_H
#define DFT_OPS_CPU_BLAS_H

#include <cblas.h>
#include <stdbool.h>

/* Whether it is there; loads it, held to one thread: ours call it side by side. */
bool dft_blas_load(void);
/* cblas_sgemm, once loaded. */
extern __typeof__(cblas_sgemm) *dft_sgemm;

#endif
