/* Messages, and waiting for them: poll, give the core away, lose patience. */
#include "comm_impl.h"
#include "dft/clock.h"
#include <assert.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A round is one pass through Open MPI's progress and one sched_yield, below 1 us where nobody else wants the
 * core. With more ranks than cores spinning would keep the core from the rank waited for, so there is none:
 * yielding costs the same on a free core. After some 0.5 ms of it, sleep; where others want the core each
 * yield may give them milliseconds (Linux 6.18: 4 for each of them), so not for longer than yield_s:
 * meanwhile nobody hears from this rank. */
enum { YIELD_ROUNDS = 1000 };
static const double yield_s = 0.05;
static const long nap_ns = 20000;

static_assert(sizeof(MPI_Request) <= sizeof(void *), "a request fits the slot");

static MPI_Request request_of(const dft_message *m) {
  MPI_Request request;
  memcpy(&request, &m->request, sizeof(MPI_Request));
  return request;
}

static void keep_request(dft_message *m, MPI_Request request) {
  m->request = NULL;
  if (request != MPI_REQUEST_NULL) memcpy(&m->request, &request, sizeof(MPI_Request));
}

static void name_peer(const dft_comm *comm, int peer, char *text, size_t bytes) {
  if (peer >= 0)
    snprintf(text, bytes, "rank %d (host %s)", peer, dft_comm_host(comm, peer));
  else
    snprintf(text, bytes, "some rank");
}

dft_status dft_comm_break(dft_comm *comm, const char *message) {
  comm->broken = true;
  snprintf(comm->lost, sizeof comm->lost, "%s", message);
  dft_comm_nccl_abort(comm); /* whatever else waits for the GPU would wait for the peer */
  return dft_fail(DFT_EPEER, "%s", comm->lost);
}

dft_status dft_comm_alive(dft_comm *comm) {
  return comm->broken ? dft_fail(DFT_EPEER, "%s", comm->lost) : DFT_OK;
}

dft_status dft_comm_check(dft_comm *comm, int mpi_error, const char *doing, int peer) {
  if (mpi_error == MPI_SUCCESS) return DFT_OK;
  char reason[MPI_MAX_ERROR_STRING] = "", who[128], text[DFT_MESSAGE_BYTES];
  int length = 0;
  MPI_Error_string(mpi_error, reason, &length);
  reason[strcspn(reason, "\n")] = '\0';
  name_peer(comm, peer, who, sizeof who);
  snprintf(text, sizeof text, "%s: lost while %s%s%s: %s", who, doing, comm->where[0] ? " in " : "",
           comm->where, reason);
  return dft_comm_break(comm, text);
}

static dft_status give_up(dft_comm *comm, int peer, int others, const char *why) {
  char who[128], more[32] = "", text[DFT_MESSAGE_BYTES];
  name_peer(comm, peer, who, sizeof who);
  if (others > 0) snprintf(more, sizeof more, " and %d more", others);
  snprintf(text, sizeof text, "%s%s: no progress for %g s%s%s, noticed by rank %d (host %s)%s", who, more,
           comm->timeout_s, comm->where[0] ? " in " : "", comm->where, comm->rank,
           dft_comm_host(comm, comm->rank), why);
  return dft_comm_break(comm, text);
}

/* A round begins. More than a second since the last one: this process was suspended, and maybe all were, as
 * Slurm does it with whole jobs. That time counts for nobody. */
static void begin_round(dft_comm *comm, dft_pause *pause, double now_s) {
  const double away_s = now_s - pause->last_s;
  if (pause->rounds == 0) {
    pause->since_s = now_s;
  } else if (away_s > fmin(1, comm->timeout_s / 4)) {
    pause->since_s += away_s;
    dft_beats_away(comm, away_s);
  }
  pause->last_s = now_s;
}

dft_status dft_comm_pause(dft_comm *comm, dft_pause *pause, bool progressed, int peer) {
  if (progressed) {
    *pause = (dft_pause){0};
    return DFT_OK;
  }
  double now_s = dft_now_s();
  begin_round(comm, pause, now_s);
  if (pause->rounds++ < YIELD_ROUNDS && now_s - pause->since_s < yield_s) {
    sched_yield();
    return DFT_OK;
  }
  nanosleep(&(struct timespec){.tv_nsec = nap_ns}, NULL);
  now_s = dft_now_s();
  begin_round(comm, pause, now_s);
  DFT_TRY(dft_beat(comm, now_s, false));
  if (now_s - pause->since_s <= comm->timeout_s) return DFT_OK;
  const int lost = dft_beats_lost(comm, now_s, pause->since_s, &peer);
  if (lost > 0) return give_up(comm, peer, lost - 1, "");
  if (dft_beats_all_wait(comm, now_s, pause->since_s)) return give_up(comm, peer, 0, ": all ranks wait");
  return DFT_OK;
}

void dft_comm_tick(dft_comm *comm) {
  (void)dft_beat(comm, dft_now_s(), true); /* a failure breaks the communicator: the next wait tells */
}

dft_status dft_comm_finish(dft_comm *comm, MPI_Request *request, const char *doing, int peer) {
  dft_pause pause = {0};
  for (;;) {
    int done = 0;
    DFT_TRY(dft_comm_check(comm, MPI_Test(request, &done, MPI_STATUS_IGNORE), doing, peer));
    if (done) break;
    DFT_TRY(dft_comm_pause(comm, &pause, false, peer));
  }
  dft_comm_tick(comm);
  return DFT_OK;
}

static dft_status check_message(dft_comm *comm, int peer, int tag, size_t bytes) {
  DFT_TRY(dft_comm_alive(comm));
  if (peer < 0 || peer >= comm->size || peer == comm->rank || tag < 0 || tag >= DFT_TAGS || bytes > INT_MAX)
    return dft_fail(DFT_EINTERNAL, "message of %zu bytes between rank %d and rank %d, tag %d: not possible",
                    bytes, comm->rank, peer, tag);
  return DFT_OK;
}

dft_status dft_comm_isend(dft_comm *comm, int peer, int tag, const void *data, size_t bytes, dft_message *m) {
  DFT_TRY(check_message(comm, peer, tag, bytes));
  MPI_Request request = MPI_REQUEST_NULL;
  DFT_TRY(dft_comm_check(comm, MPI_Isend(data, (int)bytes, MPI_BYTE, peer, tag, comm->world, &request),
                         "sending", peer));
  *m = (dft_message){.peer = peer};
  keep_request(m, request);
  return DFT_OK;
}

dft_status dft_comm_irecv(dft_comm *comm, int peer, int tag, void *data, size_t bytes, dft_message *m) {
  DFT_TRY(check_message(comm, peer, tag, bytes));
  MPI_Request request = MPI_REQUEST_NULL;
  DFT_TRY(dft_comm_check(comm, MPI_Irecv(data, (int)bytes, MPI_BYTE, peer, tag, comm->world, &request),
                         "receiving", peer));
  *m = (dft_message){.peer = peer, .receiving = true};
  keep_request(m, request);
  return DFT_OK;
}

static dft_status isum(dft_comm *comm, void *data, size_t count, MPI_Datatype type, dft_message *m) {
  *m = (dft_message){.peer = -1};
  DFT_TRY(dft_comm_alive(comm));
  if (comm->size == 1) return DFT_OK;
  if (count > INT_MAX) return dft_fail(DFT_EINTERNAL, "a sum of %zu values at once: not possible", count);
  MPI_Request request = MPI_REQUEST_NULL;
  int error = MPI_Iallreduce(MPI_IN_PLACE, data, (int)count, type, MPI_SUM, comm->world, &request);
  DFT_TRY(dft_comm_check(comm, error, "summing", -1));
  keep_request(m, request);
  return DFT_OK;
}

dft_status dft_comm_isum_f32(dft_comm *comm, float *data, size_t count, dft_message *m) {
  return isum(comm, data, count, MPI_FLOAT, m);
}

dft_status dft_comm_isum_f64(dft_comm *comm, double *data, size_t count, dft_message *m) {
  return isum(comm, data, count, MPI_DOUBLE, m);
}

dft_status dft_comm_test(dft_comm *comm, dft_message *m, bool *done) {
  *done = m->request == NULL;
  if (*done) return DFT_OK;
  DFT_TRY(dft_comm_alive(comm));
  MPI_Request request = request_of(m);
  int flag = 0;
  int error = MPI_Test(&request, &flag, MPI_STATUS_IGNORE);
  keep_request(m, request);
  DFT_TRY(dft_comm_check(comm, error, m->receiving ? "receiving" : "sending", m->peer));
  *done = flag != 0;
  return DFT_OK;
}

dft_status dft_comm_wait(dft_comm *comm, dft_message *m) {
  dft_pause pause = {0};
  for (;;) {
    bool done = false;
    DFT_TRY(dft_comm_test(comm, m, &done));
    if (done) break;
    DFT_TRY(dft_comm_pause(comm, &pause, false, m->peer));
  }
  dft_comm_tick(comm);
  return DFT_OK;
}
