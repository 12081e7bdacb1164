/* NCCL, the exchange between GPUs, as the module of device.h offers it: a table, so that nothing else is
 * linked with it. comm/ opens one communicator over all ranks beside MPI's (dft_comm_use_nccl, comm.h) and
 * watches it; reduce/ sends the pieces of its plan through it.
 *
 * Everything but unique_id, open, state, cancel and close only enqueues on `stream` (device.h's
 * exchange_stream). Errors: DFT_EPEER for a peer's failure, DFT_EINTERNAL else, with NCCL's words. Main
 * thread.
 */
#ifndef DFT_NCCL_H
#define DFT_NCCL_H

#include "dft/status.h"
#include <stdbool.h>
#include <stddef.h>

#define DFT_NCCL_ID_BYTES 128

typedef struct dft_nccl_comm dft_nccl_comm;

typedef struct dft_nccl {
  int (*version)(void); /* NCCL's own number */
  dft_status (*unique_id)(unsigned char id[DFT_NCCL_ID_BYTES]);
  /* Begins without waiting; the communicator may be used once `state` says that it is ready. */
  dft_status (*open)(const unsigned char id[DFT_NCCL_ID_BYTES], int rank, int ranks, dft_nccl_comm **comm);
  /* DFT_OK with *ready, or still under way, or what has gone wrong (ncclCommGetAsyncError). */
  dft_status (*state)(dft_nccl_comm *comm, bool *ready);
  /* Ends what is under way on all streams, at once; then waits for recorded steps with it to be freed. NULL
   * is fine. */
  void (*cancel)(dft_nccl_comm *comm);
  void (*close)(dft_nccl_comm *comm); /* after everything is done; NULL is fine */

  /* Pieces between group_begin and group_end travel together. */
  dft_status (*group_begin)(void);
  dft_status (*group_end)(dft_nccl_comm *comm);
  dft_status (*send)(dft_nccl_comm *comm, int peer, const void *data, size_t bytes, void *stream);
  dft_status (*receive)(dft_nccl_comm *comm, int peer, void *data, size_t bytes, void *stream);
  /* Sums in place, in NCCL's own order (distributed.reduction: fast). */
  dft_status (*sum_f32)(dft_nccl_comm *comm, float *data, size_t count, void *stream);
  dft_status (*sum_f64)(dft_nccl_comm *comm, double *data, size_t count, void *stream);
} dft_nccl;

#endif
