/* Errors inside the module: dft_fail is the module's own, which hands on to the program's. */
#ifndef DFT_OPS_CUDA_MODULE_H
#define DFT_OPS_CUDA_MODULE_H

extern "C" {
#include "dft/device.h"
#include "dft/status.h"
extern const struct dft_nccl dft_nccl_table; /* src/comm/nccl, where it is built with NCCL */
const dft_module *dft_cuda_module(dft_fail_function fail);
}

#endif
