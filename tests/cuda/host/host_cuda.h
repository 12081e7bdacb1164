/* The CUDA runtime played on the host, so that the sources of src/ops/cuda and src/comm/nccl run in tests
 * where there is no GPU. Headers of CUDA's names beside this one declare the part of it that dft uses.
 *
 * Streams are threads that run closures in order, events order them, so that work is as asynchronous as on a
 * device. Between cudaStreamBeginCapture and cudaStreamEndCapture closures are kept instead, those of streams
 * that joined by an event too; cudaGraphLaunch runs them one after the other with the arguments of then.
 * Device memory is memory of the host that this file knows: copies check which side their pointers are on,
 * launches that no pointer among a kernel's arguments is the host's.
 *
 * DFT_HOST_CUDA, read at each use, is a list of NAME=NUMBER with commas between:
 *   devices=N       of the host; 1. CUDA_VISIBLE_DEVICES chooses among them; each has its own UUID
 *   slices=1        they are slices (MIG) of one GPU
 *   memory_mb=N     of each device; 4096
 *   fail_alloc=N    the Nth allocation, of the device or page-locked, finds no memory
 *   again_alloc=N   the same, counted from when the variable was changed last
 *   fail_launch=N   the Nth kernel to run hits an illegal address; everything after fails, as on a device
 *   fail_gemm=N     the Nth product is refused by cuBLASLt
 *   protect=1       the host cannot read or write the device's memory: it crashes. From the start to the end;
 *                   one closure runs at a time
 *   slow_us=N       each closure of a stream takes so much longer: what does not wait reads too early
 */
#ifndef DFT_TESTS_HOST_CUDA_H
#define DFT_TESTS_HOST_CUDA_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* From now on every wait for the device returns this cudaError_t (illegal address and the like). */
void dft_host_cuda_failed(int error);
/* Whether all `bytes` from memory on are in one allocation of the device. */
bool dft_host_cuda_is_device(const void *memory, size_t bytes);
/* A number of DFT_HOST_CUDA. */
long dft_host_cuda_option(const char *name, long otherwise);

#ifdef __cplusplus
}

#include <functional>

/* Whether the stream is captured. */
bool dft_host_cuda_records(const struct CUstream_st *stream);
/* Enqueues `run` on a stream, as a launch does: in order, recorded while the stream is captured (then run at
 * each launch of the graph). It may block; it runs on the stream's thread, and reports failure through
 * dft_host_cuda_failed. `kernel`: it counts for fail_launch, and does not run after a failure. */
void dft_host_cuda_run(struct CUstream_st *stream, bool kernel, std::function<void()> run);
/* Refuses host pointers among a kernel's arguments. False (and the error is kept): do not run it. */
bool dft_host_cuda_arguments(const void *arguments, size_t bytes, const char *name);
#endif

#endif
