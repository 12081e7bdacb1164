/* Checkpoints are written beside training: between two steps rank 0 copies what training is going to change,
 * and a thread of its own encodes and writes that, and the rest of the state where it lies, while the next
 * steps run. At most one is under way. What goes wrong is told at the next step, at the next save, or when
 * the run waits for it at its end.
 *
 * While the writer needs a core of its own, the steps make do with one thread less: threads that wait for one
 * another spin, and a pair that shares a core with a third waits for whole time slices. */
#include "dft/clock.h"
#include "dft/trace.h"
#include "train.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const double busy_s = 0.1; /* then it waits for the disk, or needs little of what the steps do */

struct dft_writer {
  dft_store *store;
  int keep;
  pthread_t thread;
  bool running; /* started and not joined */
  atomic_bool done;
  int threads;    /* of the steps, while it has one of them; else 0 */
  double began_s; /* when it took it */
  unsigned names;
  dft_state state;   /* stays, memory for the next copy; it is lent what its phase does not change */
  dft_status status; /* of the write before, until it is told */
  char error[DFT_MESSAGE_BYTES];
};

static void *write_state(void *context) {
  dft_writer *w = context;
  w->status = dft_store_save(w->store, &w->state, w->names, w->keep);
  if (w->status != DFT_OK) snprintf(w->error, sizeof w->error, "%s", dft_error());
  atomic_store(&w->done, true);
  return NULL;
}

static void take_thread(dft_writer *w) {
  w->threads = dft_ops_threads();
  w->began_s = dft_now_s();
  dft_ops_set_threads(w->threads - 1);
}

static void give_back(dft_writer *w) {
  if (w->threads > 0) dft_ops_set_threads(w->threads);
  w->threads = 0;
}

/* Gives signs of life: a slow disk is no lost rank. */
static void settle(dft_run *run) {
  dft_writer *w = run->writer;
  if (w == NULL || !w->running) return;
  while (!atomic_load(&w->done)) {
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    dft_comm_tick(run->comm);
  }
  pthread_join(w->thread, NULL);
  w->running = false;
  give_back(w);
}

void dft_save_take_back(dft_run *run) {
  if (run->writer != NULL && (run->writer->state.at.phase != run->at.phase || run->at.finished)) settle(run);
}

/* Waits for the write under way, if there is one, and tells how it went. */
static dft_status finish(dft_run *run) {
  dft_writer *w = run->writer;
  if (w == NULL) return DFT_OK;
  settle(run);
  const dft_status status = w->status;
  w->status = DFT_OK;
  return status == DFT_OK ? DFT_OK : dft_fail(status, "%s", w->error);
}

static dft_status begin(dft_run *run, unsigned names) {
  if (run->writer == NULL) run->writer = calloc(1, sizeof *run->writer);
  dft_writer *w = run->writer;
  if (w == NULL) return dft_fail_memory("checkpoint", sizeof *w);
  DFT_TRY(finish(run));
  w->store = run->store;
  w->keep = run->config->checkpoint.keep;
  w->names = names;
  atomic_store(&w->done, false);
  DFT_TRY(dft_device_fetch(run));
  dft_status status = dft_state_of(run, &w->state);
  if (status != DFT_OK) {
    dft_state_free(&w->state);
    return status;
  }
  w->running = pthread_create(&w->thread, NULL, write_state, w) == 0;
  if (w->running) {
    take_thread(w);
    return DFT_OK;
  }
  write_state(w); /* no threads to be had: then here, without signs of life meanwhile */
  return finish(run);
}

dft_status dft_save(dft_run *run, unsigned names) {
  const double traced_s = dft_trace_begin();
  dft_set_activity(run, "saving step", 0);
  DFT_TRY(dft_comm_agree(run->comm, dft_comm_rank(run->comm) == 0 ? begin(run, names) : DFT_OK));
  dft_trace_end(DFT_TRACE_WORK, "checkpoint", -1, traced_s);
  return DFT_OK;
}

dft_status dft_save_wait(dft_run *run) {
  return dft_comm_agree(run->comm, finish(run));
}

void dft_save_poll(dft_run *run) {
  dft_writer *w = run->writer;
  if (w == NULL) return;
  if (!w->running || atomic_load(&w->done)) dft_defer(run, finish(run));
  if (w->running && dft_now_s() - w->began_s > busy_s) give_back(w);
}

void dft_save_close(dft_run *run) {
  if (run->writer == NULL) return;
  settle(run);
  dft_state_free(&run->writer->state);
  free(run->writer);
  run->writer = NULL;
}
