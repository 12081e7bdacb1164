/* Processes that train together. The only module that includes <mpi.h> and, in the module of the GPU kernels,
 * <nccl.h>.
 *
 * Waiting polls, and gives the core away. Every rank passes signs of life on (a few bytes to 2*log2(N) others
 * every timeout_s/16), whether it waits or works, so that a wait ends with DFT_EPEER when and only when
 *   - some rank has shown no sign of life for timeout_s: "rank 3 (host n2): no progress for 300 s in step 17,
 *     noticed by rank 0 (host n1)", naming the lost rank even if this one waits for one that waits for it;
 *   - or all ranks have been waiting for timeout_s.
 * A slow rank is no lost rank as long as its main thread comes by: it calls dft_comm_tick, or anything that
 * waits or polls, more often than timeout_s. Only the main thread calls (MPI_THREAD_FUNNELED).
 *
 * After a DFT_EPEER the communicator is broken: every later call that needs a peer returns DFT_EPEER with the
 * same message at once, and dft_comm_close ends the job.
 *
 * Opening a world of several ranks forks a child, the guard, which ends this process when it has been stopped
 * (SIGSTOP) for longer than timeout_s, also while MPI starts or ends. It blocks all signals and ends with its
 * rank.
 *
 * When the whole world is on one host and the user set neither OMPI_MCA_pml nor OMPI_MCA_btl, opening
 * restricts Open MPI to shared memory, which starts in about a quarter of the time; a process started without
 * a launcher, inside a Slurm job, starts without Open MPI's helper daemon.
 *
 * dft_comm_alone() is the world of one process without starting MPI (plan, inspect, export): every call
 * works. dft_comm_open gives the same where nothing in the environment comes from a launcher.
 */
#ifndef DFT_COMM_H
#define DFT_COMM_H

#include "dft/nccl.h"
#include "dft/share.h"
#include "dft/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct dft_comm dft_comm;

/* Starts MPI if there may be a launcher. Collective over the world. Refuses (DFT_EUSAGE) a world of 1 inside
 * a Slurm step of several tasks. */
dft_status dft_comm_open(dft_comm **comm);
dft_status dft_comm_alone(dft_comm **comm);
/* Whether mpirun or srun started several of this process; needs no MPI. */
bool dft_comm_several_launched(void);
/* Collective. Ends MPI when it was started; should that crash, the process exits with `code` all the same. A
 * broken communicator ends the whole job instead, with exit code 76, and does not return: MPI_Finalize would
 * wait for the lost peer. So close comes last, after the error is printed. NULL is fine. */
void dft_comm_close(dft_comm *comm, int code);
/* Ends the whole job at once with this exit code, and does not return; for errors that not all ranks know of.
 */
void dft_comm_abort(dft_comm *comm, int code);

int dft_comm_rank(const dft_comm *comm);
int dft_comm_size(const dft_comm *comm);
int dft_comm_local_rank(const dft_comm *comm); /* among the ranks of this host */
int dft_comm_local_size(const dft_comm *comm);
int dft_comm_hosts(const dft_comm *comm);
const char *dft_comm_host(const dft_comm *comm, int rank);
const char *dft_comm_version(void); /* "Open MPI v4.1.4 ..." */
const dft_share *dft_comm_share(dft_comm *comm);

void dft_comm_set_timeout(dft_comm *comm, double timeout_s);
/* "This rank is at work": call it between batches of anything that takes long without messages (cache pass,
 * evaluation, waiting for slow files). Costs a clock reading. dft_reduce_poll does it too. */
void dft_comm_tick(dft_comm *comm);
/* Words for timeout messages: "step 17". Copied. */
void dft_comm_set_activity(dft_comm *comm, const char *where);

/* Point to point between different ranks. One slot is one message under way; a zeroed slot is idle. Up to
 * INT_MAX bytes. Messages of one pair and tag arrive in the order they were sent. */
enum {
  DFT_TAG_ROWS = 1, /* of the cache, between hosts */
  DFT_TAG_PREDICTIONS,
  DFT_TAG_TRACE,
  DFT_TAG_REDUCE = 4096, /* and all above, in turn */
  DFT_TAGS = 8192
};
typedef struct dft_message {
  void *request;
  int peer;
  bool receiving;
} dft_message;
dft_status dft_comm_isend(dft_comm *comm, int peer, int tag, const void *data, size_t bytes, dft_message *m);
dft_status dft_comm_irecv(dft_comm *comm, int peer, int tag, void *data, size_t bytes, dft_message *m);
dft_status dft_comm_test(dft_comm *comm, dft_message *m, bool *done); /* idle slots are done */
dft_status dft_comm_wait(dft_comm *comm, dft_message *m);
/* For loops that test several messages: called after each round. Zero the pause at first. When the round
 * brought nothing (`progressed` false) it gives the core away, ever more patiently, and returns DFT_EPEER
 * naming `peer` (-1: any) after timeout_s without progress; time in which this process was suspended does not
 * count. */
typedef struct dft_pause {
  double since_s, last_s; /* the wait's begin, and its latest round */
  unsigned rounds;
} dft_pause;
dft_status dft_comm_pause(dft_comm *comm, dft_pause *pause, bool progressed, int peer);

/* Collectives over the world; all ranks call in the same order. Each waits with the timeout. */
dft_status dft_comm_barrier(dft_comm *comm);
dft_status dft_comm_bcast(dft_comm *comm, int root, void *data, size_t bytes);
dft_status dft_comm_allgather(dft_comm *comm, const void *mine, size_t bytes, void *all);
/* The same into memory of its own, which the caller frees: all ranks get it or none (NULL). */
dft_status dft_comm_allgather_new(dft_comm *comm, const void *mine, size_t bytes, void **all);
dft_status dft_comm_min(dft_comm *comm, int64_t *value);
dft_status dft_comm_max(dft_comm *comm, int64_t *value);
/* Starts a plain MPI_Allreduce, in place: order and bits are MPI's own. All ranks start theirs in the same
 * order among all collectives. */
dft_status dft_comm_isum_f32(dft_comm *comm, float *data, size_t count, dft_message *m);
dft_status dft_comm_isum_f64(dft_comm *comm, double *data, size_t count, dft_message *m);
/* The same, waiting. */
dft_status dft_comm_sum_f32(dft_comm *comm, float *data, size_t count);
dft_status dft_comm_sum_f64(dft_comm *comm, double *data, size_t count);

/* The exchange between GPUs. use_nccl opens NCCL's communicator over all ranks beside MPI's: its id travels
 * by MPI, and a rank that does not come ends the wait after timeout_s. Collective; DFT_EPEER, or what NCCL
 * says. In a world of one it does nothing. From then on everything that waits or ticks asks for NCCL's state
 * too (every few ms): what NCCL reports breaks the communicator, with NCCL's words. A broken communicator
 * aborts NCCL at once, which ends what is under way on the GPU; close ends it in order. */
dft_status dft_comm_use_nccl(dft_comm *comm, const dft_nccl *nccl);
bool dft_comm_has_nccl(const dft_comm *comm);
/* Between device_begin and device_end: sends and receives that travel together, or one sum in place (bits are
 * NCCL's own). They are on `stream` when device_end returns, which waits for nothing but, the first time that
 * two ranks have something for each other, their connection. All ranks in an order that fits. */
dft_status dft_comm_device_begin(dft_comm *comm);
dft_status dft_comm_device_end(dft_comm *comm);
dft_status dft_comm_device_send(dft_comm *comm, int peer, const void *data, size_t bytes, void *stream);
dft_status dft_comm_device_receive(dft_comm *comm, int peer, void *data, size_t bytes, void *stream);
dft_status dft_comm_device_sum_f32(dft_comm *comm, float *data, size_t count, void *stream);
dft_status dft_comm_device_sum_f64(dft_comm *comm, double *data, size_t count, void *stream);
/* While this rank waits for its GPU, which may be waiting for a peer: to be called over and over, `first` at
 * the first time (device.h, while_waiting; `comm` is a dft_comm). Like dft_comm_pause, but what it finds is
 * told by dft_comm_alive: DFT_EPEER once the communicator is broken. */
void dft_comm_watch(void *comm, bool first);
dft_status dft_comm_alive(dft_comm *comm);
/* For an error of this rank alone, in the midst of an exchange that the others cannot be told of: breaks the
 * communicator with dft_error() as the words and returns DFT_EPEER. In a world of one, or with DFT_OK, it
 * returns `status`. */
dft_status dft_comm_give_up(dft_comm *comm, dft_status status);

/* Collective. All ranks leave with the same status: the one of the lowest failing rank, whose message all
 * ranks then have in dft_error(). `status` is this rank's own. Every error that only some ranks can meet
 * passes here before any rank acts on it. */
dft_status dft_comm_agree(dft_comm *comm, dft_status status);
/* The same for what may be wrong with one host of several and not with another: then the message begins with
 * the host's name. */
dft_status dft_comm_agree_hosts(dft_comm *comm, dft_status status);

#endif
