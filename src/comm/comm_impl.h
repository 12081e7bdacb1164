/* What the files of comm/ share. Not installed; only they include it, and only they know MPI. */
#ifndef DFT_COMM_IMPL_H
#define DFT_COMM_IMPL_H

#include "dft/comm.h"
#include <mpi.h>

enum { DFT_HOST_BYTES = 64, DFT_WHERE_BYTES = 128 };

/* A block of memory shared by the ranks of a host. */
typedef struct dft_comm_block {
  void *data;
  size_t bytes;
  struct dft_comm_block *next;
} dft_comm_block;

/* Signs of life; see beat.c. */
typedef struct dft_beats dft_beats;

struct dft_comm {
  bool mpi;       /* MPI was started by us and must be ended */
  bool broken;    /* a peer was lost: `lost` says which */
  MPI_Comm world; /* meaningful when size > 1 */
  MPI_Comm local; /* the ranks of this host */
  int rank, size;
  int local_rank, local_size;
  int hosts;
  char (*host)[DFT_HOST_BYTES]; /* of each rank */
  double timeout_s;
  dft_beats *beats; /* NULL when alone */
  char where[DFT_WHERE_BYTES];
  char lost[DFT_MESSAGE_BYTES];
  dft_share share;
  dft_comm_block *blocks;
  const dft_nccl *nccl;
  dft_nccl_comm *nccl_comm; /* NULL: none, or no more */
  dft_nccl_comm *nccl_lost; /* being aborted */
  double nccl_asked_s;      /* when its state was asked for last */
  dft_pause watching;       /* of dft_comm_watch */
};

/* Turns an MPI error into DFT_EPEER (DFT_OK passes). `peer` -1: any. */
dft_status dft_comm_check(dft_comm *comm, int mpi_error, const char *doing, int peer);
/* Marks the communicator broken and records the message. */
dft_status dft_comm_break(dft_comm *comm, const char *message);
/* Waits for one MPI request with the timeout. */
dft_status dft_comm_finish(dft_comm *comm, MPI_Request *request, const char *doing, int peer);

/* device.c: asks for NCCL's state unless it just did. */
dft_status dft_comm_nccl_watch(dft_comm *comm, double now_s);
void dft_comm_nccl_abort(dft_comm *comm);
void dft_comm_nccl_close(dft_comm *comm);

/* open.c: ends this process after a while, in what others do without asking us: they wait for every rank,
 * lost or not. seconds 0: takes it back. */
void dft_comm_leave_after(double seconds, int code, const char *words);

/* guard.c: a child process that ends this one when it has been stopped (SIGSTOP) for the timeout. */
void dft_guard_open(double timeout_s);
void dft_guard_set_timeout(double timeout_s);

/* Starts and ends the exchange of signs of life; collective. */
dft_status dft_beats_open(dft_comm *comm);
dft_status dft_beats_close(dft_comm *comm);
void dft_beats_free(dft_comm *comm);
/* This process did not run for so long: what it has not heard meanwhile is nobody's fault. */
void dft_beats_away(dft_comm *comm, double away_s);
/* Passes on and takes in what is due. `working`: this rank did something since. */
dft_status dft_beat(dft_comm *comm, double now_s, bool working);
/* For a rank that has waited since since_s: how many ranks gave no sign of life for timeout_s; the lowest. */
int dft_beats_lost(const dft_comm *comm, double now_s, double since_s, int *lowest);
/* Whether nobody has worked for timeout_s. */
bool dft_beats_all_wait(const dft_comm *comm, double now_s, double since_s);

/* The collectives below any communicator of ours. */
dft_status dft_comm_bcast_on(dft_comm *comm, MPI_Comm group, int root, void *data, size_t bytes);
dft_status dft_comm_agree_on(dft_comm *comm, MPI_Comm group, dft_status status);

/* Sets comm->share; comm->local must be ready. */
void dft_comm_share_open(dft_comm *comm);
void dft_comm_share_close(dft_comm *comm);

#endif
