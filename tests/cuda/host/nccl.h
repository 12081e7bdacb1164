/* The part of NCCL's header that src/comm/nccl/nccl.c uses, played by nccl_host.cpp: pieces travel through
 * sockets between the processes of this machine, moved by closures on the streams of host_cuda.h. As a
 * communicator opened without blocking does, it comes to be ready some time later, and what a group holds is
 * on its stream only when its state is no longer ncclInProgress.
 *
 * More names of DFT_HOST_CUDA (host_cuda.h):
 *   nccl_rank=R      the one rank that the following happen to; all
 *   nccl_open=1      opening fails
 *   nccl_never=1     the communicator never becomes ready
 *   nccl_error=N     from the Nth group to run on, its state is an error of NCCL's own, and nothing moves
 *   nccl_stuck=N     the Nth group to run is never done until it is aborted
 * A peer that ends is ncclRemoteError. Whoever waits for work that never ends, waits: as on a device. */
#ifndef DFT_TESTS_NCCL_H
#define DFT_TESTS_NCCL_H

#include "cuda_runtime.h"

#define NCCL_MAJOR            2
#define NCCL_MINOR            28
#define NCCL_PATCH            3
#define NCCL_VERSION(X, Y, Z) ((X)*10000 + (Y)*100 + (Z))
#define NCCL_VERSION_CODE     NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH)
#define NCCL_UNIQUE_ID_BYTES  128
#define NCCL_CONFIG_INITIALIZER                                                                              \
  { 1 }

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ncclComm *ncclComm_t;
typedef struct {
  char internal[NCCL_UNIQUE_ID_BYTES];
} ncclUniqueId;
typedef struct {
  int blocking;
} ncclConfig_t;
typedef enum {
  ncclSuccess,
  ncclUnhandledCudaError,
  ncclSystemError,
  ncclInternalError,
  ncclInvalidArgument,
  ncclInvalidUsage,
  ncclRemoteError,
  ncclInProgress
} ncclResult_t;
typedef enum { ncclUint8 = 1, ncclFloat32 = 7, ncclFloat64 = 8 } ncclDataType_t;
typedef enum { ncclSum } ncclRedOp_t;

ncclResult_t ncclGetVersion(int *version);
ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
const char *ncclGetErrorString(ncclResult_t result);
const char *ncclGetLastError(ncclComm_t comm);
ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state);
ncclResult_t ncclCommFinalize(ncclComm_t comm);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
ncclResult_t ncclCommAbort(ncclComm_t comm);
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);
ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream);
ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream);
ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
