/* NCCL behind the table of dft/nccl.h; part of the module dft_cuda.so. Communicators are opened without
 * blocking (ncclConfig_t.blocking = 0), so that every call comes back, whatever has become of the peers: what
 * is then under way shows in `state`. NCCL's user guide, "Fault Tolerance" and "Using multiple NCCL
 * communicators concurrently". */
#include "dft/nccl.h"
#include <nccl.h>
#include <string.h>
#include <time.h>

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 18, 0)
#error "NCCL 2.18 or later is needed"
#endif
_Static_assert(NCCL_UNIQUE_ID_BYTES == DFT_NCCL_ID_BYTES, "NCCL's id has another size");

enum { CLOSE_PATIENCE_MS = 10000 };

/* dft_nccl_comm is NCCL's own. */
static ncclComm_t own(dft_nccl_comm *comm) {
  return (ncclComm_t)(void *)comm;
}

/* A remote error is a lost peer or its link; so is a failed system call, for the calls are the network's. */
static dft_status check(ncclResult_t result, dft_nccl_comm *comm, const char *doing) {
  if (result == ncclSuccess || result == ncclInProgress) return DFT_OK;
  const bool peer = result == ncclRemoteError || result == ncclSystemError;
  const char *more = ncclGetLastError(own(comm));
  const bool says = more != NULL && more[0] != '\0';
  return dft_fail(peer ? DFT_EPEER : DFT_EINTERNAL, "NCCL, %s: %s%s%.*s%s", doing, ncclGetErrorString(result),
                  says ? " (" : "", says ? (int)strcspn(more, "\n") : 0, says ? more : "", says ? ")" : "");
}

static int version(void) {
  int number = 0;
  return ncclGetVersion(&number) == ncclSuccess ? number : 0;
}

static dft_status unique_id(unsigned char id[DFT_NCCL_ID_BYTES]) {
  ncclUniqueId made;
  DFT_TRY(check(ncclGetUniqueId(&made), NULL, "making an id"));
  memcpy(id, &made, sizeof made);
  return DFT_OK;
}

static dft_status open_comm(const unsigned char id[DFT_NCCL_ID_BYTES], int rank, int ranks,
                            dft_nccl_comm **comm) {
  ncclUniqueId given;
  ncclComm_t opened = NULL;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  memcpy(&given, id, sizeof given);
  *comm = NULL;
  DFT_TRY(check(ncclCommInitRankConfig(&opened, ranks, given, rank, &config), NULL, "opening"));
  *comm = (dft_nccl_comm *)(void *)opened;
  return DFT_OK;
}

static dft_status state(dft_nccl_comm *comm, bool *ready) {
  ncclResult_t result = ncclInProgress;
  *ready = false;
  DFT_TRY(check(ncclCommGetAsyncError(own(comm), &result), comm, "asking for its state"));
  *ready = result == ncclSuccess;
  return check(result, comm, "exchanging");
}

static void cancel(dft_nccl_comm *comm) {
  if (comm != NULL) (void)ncclCommAbort(own(comm)); /* nothing more can be done about its errors */
}

/* Finalizing waits for what is under way with others: not for ever. */
static void close_comm(dft_nccl_comm *comm) {
  if (comm == NULL) return;
  bool ready = false;
  dft_status status = check(ncclCommFinalize(own(comm)), comm, "closing");
  for (int ms = 0; ms < CLOSE_PATIENCE_MS && status == DFT_OK && !ready; ms++) {
    status = state(comm, &ready);
    if (!ready) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  if (status == DFT_OK && ready)
    (void)ncclCommDestroy(own(comm));
  else
    cancel(comm);
}

static dft_status group_begin(void) {
  return check(ncclGroupStart(), NULL, "beginning a group");
}

static dft_status group_end(dft_nccl_comm *comm) {
  return check(ncclGroupEnd(), comm, "exchanging");
}

static dft_status send_bytes(dft_nccl_comm *comm, int peer, const void *data, size_t bytes, void *stream) {
  return check(ncclSend(data, bytes, ncclUint8, peer, own(comm), stream), comm, "sending");
}

static dft_status receive_bytes(dft_nccl_comm *comm, int peer, void *data, size_t bytes, void *stream) {
  return check(ncclRecv(data, bytes, ncclUint8, peer, own(comm), stream), comm, "receiving");
}

static dft_status sum_f32(dft_nccl_comm *comm, float *data, size_t count, void *stream) {
  return check(ncclAllReduce(data, data, count, ncclFloat32, ncclSum, own(comm), stream), comm, "summing");
}

static dft_status sum_f64(dft_nccl_comm *comm, double *data, size_t count, void *stream) {
  return check(ncclAllReduce(data, data, count, ncclFloat64, ncclSum, own(comm), stream), comm, "summing");
}

const dft_nccl dft_nccl_table = {
    .version = version,
    .unique_id = unique_id,
    .open = open_comm,
    .state = state,
    .cancel = cancel,
    .close = close_comm,
    .group_begin = group_begin,
    .group_end = group_end,
    .send = send_bytes,
    .receive = receive_bytes,
    .sum_f32 = sum_f32,
    .sum_f64 = sum_f64,
};
