/* log.trace_steps: run_dir/trace.json, how all ranks spent the first steps of this start. */
#include "dft/trace.h"
#include "dft/file.h"
#include "dft/log.h"
#include "train.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A rank's events. */
typedef struct events {
  char *text;
  size_t bytes;
  int64_t left_out;
} events;

dft_status dft_trace_start(dft_run *run) {
  const bool writes = run->config->log.trace_steps > 0 && dft_comm_rank(run->comm) == 0;
  if (run->config->log.trace_steps == 0) return DFT_OK;
  /* The agreement also is a barrier: all ranks' times count from about the same moment. */
  DFT_TRY(dft_comm_agree(run->comm,
                         writes ? dft_try_result(dft_store_path(run->store, "trace.json").text) : DFT_OK));
  run->trace_left = run->config->log.trace_steps;
  dft_trace_open();
  return DFT_OK;
}

static dft_status make_events(const dft_run *run, events *e) {
  char name[256];
  const int rank = dft_comm_rank(run->comm);
  snprintf(name, sizeof name, "rank %d (%s)", rank, dft_comm_host(run->comm, rank));
  e->text = dft_trace_json(rank, name, &e->bytes, &e->left_out);
  if (e->text == NULL) return dft_fail_memory("trace", e->bytes);
  if (e->bytes > INT_MAX)
    return dft_fail(DFT_EINTERNAL, "trace.json: %zu bytes of one rank; set a smaller log.trace_steps",
                    e->bytes);
  return DFT_OK;
}

static dft_status send_events(dft_run *run, const events *e) {
  dft_message m = {0};
  DFT_TRY(dft_comm_isend(run->comm, 0, DFT_TAG_TRACE, e->text, e->bytes, &m));
  return dft_comm_wait(run->comm, &m);
}

static const char begin[] = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", next[] = ",\n",
                  end[] = "\n]}\n";

/* Rank 0, before anybody sends: room for the events of any rank, and the file. */
static dft_status open_file(dft_run *run, events *e, const int64_t *all, dft_output **out) {
  size_t bytes = sizeof begin + sizeof end, most = 1;
  for (int r = 0; r < dft_comm_size(run->comm); r++) {
    bytes += (size_t)all[r] + sizeof next;
    most = (size_t)all[r] > most ? (size_t)all[r] : most;
  }
  char *roomier = realloc(e->text, most);
  if (roomier == NULL) return dft_fail_memory("trace", most);
  e->text = roomier;
  return dft_output_open(dft_store_path(run->store, "trace.json").text, bytes, out);
}

/* Rank 0: its own events, then those of the others. Without all of them there is no file. */
static dft_status write_events(dft_run *run, events *e, const int64_t *all, dft_output *out) {
  dft_output_add(out, begin, sizeof begin - 1);
  for (int r = 0; r < dft_comm_size(run->comm); r++) {
    dft_message m = {0};
    if (r > 0) {
      DFT_TRY(dft_comm_irecv(run->comm, r, DFT_TAG_TRACE, e->text, (size_t)all[r], &m));
      DFT_TRY(dft_comm_wait(run->comm, &m));
      dft_output_add(out, next, sizeof next - 1);
    }
    dft_output_add(out, e->text, (size_t)all[r]);
  }
  dft_output_add(out, end, sizeof end - 1);
  return dft_output_close(out);
}

static dft_status gather(dft_run *run, events *e) {
  const int rank = dft_comm_rank(run->comm);
  void *all;
  dft_output *out = NULL;
  DFT_TRY(dft_comm_agree(run->comm, make_events(run, e)));
  const int64_t mine = (int64_t)e->bytes;
  DFT_TRY(dft_comm_allgather_new(run->comm, &mine, sizeof mine, &all));
  dft_status status = dft_comm_agree(run->comm, rank == 0 ? open_file(run, e, all, &out) : DFT_OK);
  if (status == DFT_OK)
    status = dft_comm_agree(run->comm, rank == 0 ? write_events(run, e, all, out) : send_events(run, e));
  free(all);
  return status;
}

dft_status dft_trace_finish(dft_run *run) {
  events e = {0};
  if (run->trace_left == 0) return DFT_OK;
  run->trace_left = 0;
  dft_status status = gather(run, &e);
  free(e.text);
  if (status == DFT_EIO || status == DFT_EINTERNAL) { /* training is worth more than its trace */
    if (dft_comm_rank(run->comm) == 0) dft_warn("no trace: %s", dft_error());
    dft_trace_close();
    return DFT_OK;
  }
  if (status == DFT_OK && e.left_out > 0)
    dft_warn("trace.json: memory had no room for %lld events", (long long)e.left_out);
  if (status == DFT_OK && dft_comm_rank(run->comm) == 0)
    dft_note("trace: %s, for ui.perfetto.dev", dft_store_path(run->store, "trace.json").text);
  dft_trace_close();
  return status;
}

dft_status dft_trace_step(dft_run *run) {
  if (run->trace_left <= 1) return dft_trace_finish(run);
  run->trace_left--;
  return DFT_OK;
}
