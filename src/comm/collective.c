/* Collectives: MPI's nonblocking ones, waited for with our own patience. */
#include "comm_impl.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t bcast_piece_bytes = (size_t)1 << 30;

dft_status dft_comm_bcast_on(dft_comm *comm, MPI_Comm group, int root, void *data, size_t bytes) {
  DFT_TRY(dft_comm_alive(comm));
  if (comm->size == 1) return DFT_OK;
  for (size_t at = 0; at < bytes; at += bcast_piece_bytes) {
    size_t piece = bytes - at < bcast_piece_bytes ? bytes - at : bcast_piece_bytes;
    MPI_Request request = MPI_REQUEST_NULL;
    int error = MPI_Ibcast((char *)data + at, (int)piece, MPI_BYTE, root, group, &request);
    DFT_TRY(dft_comm_check(comm, error, "broadcasting", -1));
    DFT_TRY(dft_comm_finish(comm, &request, "broadcasting", -1));
  }
  return DFT_OK;
}

static dft_status reduce_i64(dft_comm *comm, MPI_Comm group, int64_t *value, MPI_Op op) {
  DFT_TRY(dft_comm_alive(comm));
  if (comm->size == 1) return DFT_OK;
  MPI_Request request = MPI_REQUEST_NULL;
  int error = MPI_Iallreduce(MPI_IN_PLACE, value, 1, MPI_INT64_T, op, group, &request);
  DFT_TRY(dft_comm_check(comm, error, "comparing", -1));
  return dft_comm_finish(comm, &request, "comparing", -1);
}

dft_status dft_comm_agree_on(dft_comm *comm, MPI_Comm group, dft_status status) {
  if (comm->size == 1) return status;
  DFT_TRY(dft_comm_alive(comm));
  int rank = 0;
  MPI_Comm_rank(group, &rank);
  struct {
    int64_t status;
    char text[DFT_MESSAGE_BYTES];
  } word = {.status = status};
  snprintf(word.text, sizeof word.text, "%s", dft_error());
  int64_t speaker = status == DFT_OK ? INT64_MAX : rank;
  DFT_TRY(reduce_i64(comm, group, &speaker, MPI_MIN));
  if (speaker == INT64_MAX) return DFT_OK;
  DFT_TRY(dft_comm_bcast_on(comm, group, (int)speaker, &word, sizeof word));
  return dft_fail((dft_status)word.status, "%s", word.text);
}

dft_status dft_comm_barrier(dft_comm *comm) {
  DFT_TRY(dft_comm_alive(comm));
  if (comm->size == 1) return DFT_OK;
  MPI_Request request = MPI_REQUEST_NULL;
  DFT_TRY(dft_comm_check(comm, MPI_Ibarrier(comm->world, &request), "meeting at a barrier", -1));
  return dft_comm_finish(comm, &request, "meeting at a barrier", -1);
}

dft_status dft_comm_bcast(dft_comm *comm, int root, void *data, size_t bytes) {
  return dft_comm_bcast_on(comm, comm->world, root, data, bytes);
}

dft_status dft_comm_agree(dft_comm *comm, dft_status status) {
  return dft_comm_agree_on(comm, comm->world, status);
}

dft_status dft_comm_agree_hosts(dft_comm *comm, dft_status status) {
  if (comm->hosts > 1) {
    int64_t failed = status != DFT_OK;
    DFT_TRY(reduce_i64(comm, comm->world, &failed, MPI_SUM));
    if (failed < comm->size) (void)dft_context(status, "host %s", comm->host[comm->rank]);
  }
  return dft_comm_agree(comm, status);
}

dft_status dft_comm_min(dft_comm *comm, int64_t *value) {
  return reduce_i64(comm, comm->world, value, MPI_MIN);
}

dft_status dft_comm_max(dft_comm *comm, int64_t *value) {
  return reduce_i64(comm, comm->world, value, MPI_MAX);
}

dft_status dft_comm_allgather(dft_comm *comm, const void *mine, size_t bytes, void *all) {
  DFT_TRY(dft_comm_alive(comm));
  if (comm->size == 1) {
    memcpy(all, mine, bytes);
    return DFT_OK;
  }
  if (bytes > INT_MAX) return dft_fail(DFT_EINTERNAL, "gathering %zu bytes per rank: not possible", bytes);
  MPI_Request request = MPI_REQUEST_NULL;
  int error = MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, comm->world, &request);
  DFT_TRY(dft_comm_check(comm, error, "gathering", -1));
  return dft_comm_finish(comm, &request, "gathering", -1);
}

dft_status dft_comm_allgather_new(dft_comm *comm, const void *mine, size_t bytes, void **all) {
  *all = calloc((size_t)comm->size, bytes);
  dft_status status =
      dft_comm_agree(comm, *all != NULL ? DFT_OK : dft_fail_memory("ranks", (size_t)comm->size * bytes));
  if (status == DFT_OK) status = dft_comm_allgather(comm, mine, bytes, *all);
  if (status == DFT_OK) return DFT_OK;
  free(*all);
  *all = NULL;
  return status;
}

dft_status dft_comm_sum_f32(dft_comm *comm, float *data, size_t count) {
  dft_message m = {0};
  DFT_TRY(dft_comm_isum_f32(comm, data, count, &m));
  return dft_comm_wait(comm, &m);
}

dft_status dft_comm_sum_f64(dft_comm *comm, double *data, size_t count) {
  dft_message m = {0};
  DFT_TRY(dft_comm_isum_f64(comm, data, count, &m));
  return dft_comm_wait(comm, &m);
}
