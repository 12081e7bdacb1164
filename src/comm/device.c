/* The exchange between GPUs: one NCCL communicator over all ranks beside MPI's, watched while anyone waits.
 * Its calls come back at once; what has gone wrong shows in its state. */
#include "comm_impl.h"
#include "dft/clock.h"
#include <pthread.h>
#include <stdio.h>
#include <time.h>

static const double watch_s = 0.004;   /* asking for the state takes a lock and some 0.1 us */
static const double opening_s = 0.050; /* between two talks of the ranks about how far they are */

static dft_status lost(dft_comm *comm, dft_status status) {
  if (status == DFT_OK) return DFT_OK;
  char text[DFT_MESSAGE_BYTES];
  snprintf(text, sizeof text, "rank %d (host %s)%s%s: %s", comm->rank, dft_comm_host(comm, comm->rank),
           comm->where[0] ? " in " : "", comm->where, dft_error());
  return dft_comm_break(comm, text);
}

dft_status dft_comm_give_up(dft_comm *comm, dft_status status) {
  if (status == DFT_OK || comm->size == 1 || comm->broken) return status;
  return lost(comm, status);
}

/* If NCCL or CUDA do not let go, this process ends without them. */
static void leave_with_words(const dft_comm *comm, const char *message) {
  static char words[DFT_MESSAGE_BYTES + 32];
  snprintf(words, sizeof words, "dft: error: %s\n", message);
  dft_comm_leave_after(comm->timeout_s, DFT_EPEER, words);
}

static void *cancel(void *context) {
  dft_comm *comm = context;
  comm->nccl->cancel(comm->nccl_lost);
  return NULL;
}

/* ncclCommAbort first frees the GPU, then waits until no recorded step knows the communicator
 * (commDestroySync in NCCL's init.cc): the main thread must go on to free those. The communicator outlives
 * the thread: a broken one ends with the process. */
void dft_comm_nccl_abort(dft_comm *comm) {
  if (comm->nccl_comm == NULL) return;
  leave_with_words(comm, comm->lost);
  comm->nccl_lost = comm->nccl_comm;
  comm->nccl_comm = NULL;
  pthread_t thread;
  if (pthread_create(&thread, NULL, cancel, comm) == 0)
    pthread_detach(thread);
  else
    (void)cancel(comm);
}

void dft_comm_nccl_close(dft_comm *comm) {
  if (comm->nccl_comm != NULL) comm->nccl->close(comm->nccl_comm);
  comm->nccl_comm = NULL;
}

dft_status dft_comm_nccl_watch(dft_comm *comm, double now_s) {
  if (comm->nccl_comm == NULL || comm->broken || now_s - comm->nccl_asked_s < watch_s) return DFT_OK;
  comm->nccl_asked_s = now_s;
  bool ready;
  return lost(comm, comm->nccl->state(comm->nccl_comm, &ready));
}

void dft_comm_watch(void *context, bool first) {
  dft_comm *comm = context;
  if (first) comm->watching = (dft_pause){0};
  if (comm->broken) /* the abort lets go of the GPU soon */
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  else
    (void)dft_comm_pause(comm, &comm->watching, false, -1);
}

/* How far this rank is: the ranks go on together when the slowest is ready or one has failed. */
enum { READY, OPENING, FAILED };

static dft_status look(const dft_comm *comm, double begin_s, int64_t *how) {
  bool ready = false;
  dft_status status = comm->nccl->state(comm->nccl_comm, &ready);
  if (status == DFT_OK && !ready && dft_now_s() - begin_s > comm->timeout_s)
    status =
        dft_fail(DFT_EPEER,
                 "NCCL does not come up: not ready after %g s on rank %d (host %s); NCCL_DEBUG=INFO tells "
                 "more, NCCL_SOCKET_IFNAME names the network, distributed.backend: mpi does without",
                 comm->timeout_s, comm->rank, dft_comm_host(comm, comm->rank));
  *how = status != DFT_OK ? FAILED : ready ? READY : OPENING;
  return status;
}

static dft_status await_opening(dft_comm *comm) {
  const double begin_s = dft_now_s();
  for (;;) {
    const double round_s = dft_now_s();
    int64_t how = OPENING;
    dft_status status = DFT_OK;
    dft_pause pause = {0};
    while (how == OPENING && dft_now_s() - round_s < opening_s) {
      status = look(comm, begin_s, &how);
      if (how == OPENING) DFT_TRY(dft_comm_pause(comm, &pause, false, -1));
    }
    DFT_TRY(dft_comm_max(comm, &how));
    if (how != OPENING) return dft_comm_agree(comm, status);
  }
}

dft_status dft_comm_use_nccl(dft_comm *comm, const dft_nccl *nccl) {
  unsigned char id[DFT_NCCL_ID_BYTES] = {0};
  if (comm->size == 1) return DFT_OK;
  DFT_TRY(dft_comm_agree(comm, comm->rank == 0 ? nccl->unique_id(id) : DFT_OK));
  DFT_TRY(dft_comm_bcast(comm, 0, id, sizeof id));
  comm->nccl = nccl;
  dft_status status = dft_comm_agree(comm, nccl->open(id, comm->rank, comm->size, &comm->nccl_comm));
  if (status == DFT_OK) status = await_opening(comm);
  if (status != DFT_OK && comm->nccl_comm != NULL) { /* nothing is recorded yet */
    leave_with_words(comm, dft_error());
    nccl->cancel(comm->nccl_comm);
    comm->nccl_comm = NULL;
    dft_comm_leave_after(0, 0, NULL);
  }
  return status;
}

bool dft_comm_has_nccl(const dft_comm *comm) {
  return comm->nccl_comm != NULL;
}

#define LIVE(comm)                                                                                           \
  do {                                                                                                       \
    DFT_TRY(dft_comm_alive(comm));                                                                           \
    if ((comm)->nccl_comm == NULL) return dft_fail(DFT_EINTERNAL, "NCCL is not open");                       \
  } while (0)

dft_status dft_comm_device_begin(dft_comm *comm) {
  LIVE(comm);
  return lost(comm, comm->nccl->group_begin());
}

/* NCCL connects two ranks when they first have something for each other, in a thread of its own. */
dft_status dft_comm_device_end(dft_comm *comm) {
  LIVE(comm);
  DFT_TRY(lost(comm, comm->nccl->group_end(comm->nccl_comm)));
  dft_pause pause = {0};
  for (;;) {
    bool ready = false;
    DFT_TRY(lost(comm, comm->nccl->state(comm->nccl_comm, &ready)));
    if (ready) return DFT_OK;
    DFT_TRY(dft_comm_pause(comm, &pause, false, -1));
  }
}

dft_status dft_comm_device_send(dft_comm *comm, int peer, const void *data, size_t bytes, void *stream) {
  LIVE(comm);
  return lost(comm, comm->nccl->send(comm->nccl_comm, peer, data, bytes, stream));
}

dft_status dft_comm_device_receive(dft_comm *comm, int peer, void *data, size_t bytes, void *stream) {
  LIVE(comm);
  return lost(comm, comm->nccl->receive(comm->nccl_comm, peer, data, bytes, stream));
}

dft_status dft_comm_device_sum_f32(dft_comm *comm, float *data, size_t count, void *stream) {
  LIVE(comm);
  return lost(comm, comm->nccl->sum_f32(comm->nccl_comm, data, count, stream));
}

dft_status dft_comm_device_sum_f64(dft_comm *comm, double *data, size_t count, void *stream) {
  LIVE(comm);
  return lost(comm, comm->nccl->sum_f64(comm->nccl_comm, data, count, stream));
}
