/* The communicator at any number of ranks. With an argument: how it starts, for test_comm_start.sh,
 * and the ways to lose a peer, for tests/faults/test_lost_peer.sh. */
#include "dft/clock.h"
#include "dft/reduce.h"
#include "world.h"
#include <math.h>
#include <signal.h>
#include <unistd.h>

static void everyone_knows_the_places(void) {
  CHECK(size >= 1 && rank >= 0 && rank < size, "rank %d of %d", rank, size);
  CHECK(dft_comm_local_size(world) == size && dft_comm_local_rank(world) == rank, " ");
  CHECK(dft_comm_hosts(world) == 1, "%d hosts", dft_comm_hosts(world));
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  for (int r = 0; r < size; ++r) CHECK(strncmp(dft_comm_host(world, r), name, 63) == 0, "host %s", name);
  CHECK(strstr(dft_comm_version(), "MPI") != NULL, "%s", dft_comm_version());
}

static void messages_arrive_in_any_order_of_waiting(void) {
  enum { COUNT = 5000 };
  static int out[3][COUNT], in[3][COUNT];
  const int right = (rank + 1) % size, left = (rank + size - 1) % size;
  if (size == 1) return;
  dft_message sent[3] = {{0}}, got[3] = {{0}};
  for (int k = 0; k < 3; ++k) {
    for (int i = 0; i < COUNT; ++i) out[k][i] = rank * 1000000 + k * 100000 + i;
    OK(dft_comm_irecv(world, left, 10 + k, in[k], sizeof in[k], &got[k]));
  }
  for (int k = 3; k-- > 0;) OK(dft_comm_isend(world, right, 10 + k, out[k], sizeof out[k], &sent[k]));
  for (int k = 0; k < 3; ++k) {
    OK(dft_comm_wait(world, &got[k]));
    for (int i = 0; i < COUNT; ++i)
      CHECK(in[k][i] == left * 1000000 + k * 100000 + i, "message %d, [%d] is %d", k, i, in[k][i]);
    OK(dft_comm_wait(world, &sent[k]));
    bool done = false;
    OK(dft_comm_test(world, &got[k], &done)); /* idle again */
    CHECK(done, " ");
  }
}

static void impossible_messages_are_refused(void) {
  char byte = 0;
  dft_message m = {0};
  CHECK(dft_comm_isend(world, rank, 0, &byte, 1, &m) == DFT_EINTERNAL, " ");
  CHECK(dft_comm_isend(world, size, 0, &byte, 1, &m) == DFT_EINTERNAL, " ");
  CHECK(dft_comm_irecv(world, (rank + 1) % size, DFT_TAGS, &byte, 1, &m) == DFT_EINTERNAL, " ");
  CHECK(dft_comm_irecv(world, (rank + 1) % size, 0, &byte, (size_t)1 << 31, &m) == DFT_EINTERNAL, " ");
}

static void collectives_collect(void) {
  for (int root = 0; root < size; ++root) {
    int data[1000];
    for (int i = 0; i < 1000; ++i) data[i] = rank == root ? root * 7 + i : -1;
    OK(dft_comm_bcast(world, root, data, sizeof data));
    for (int i = 0; i < 1000; ++i) CHECK(data[i] == root * 7 + i, "[%d] is %d", i, data[i]);
  }
  int64_t all[64][2], mine[2] = {rank, -rank};
  OK(dft_comm_allgather(world, mine, sizeof mine, all));
  for (int r = 0; r < size; ++r) CHECK(all[r][0] == r && all[r][1] == -r, "rank %d's", r);
  int64_t low = 100 - rank, high = ((int64_t)1 << 40) + rank;
  OK(dft_comm_min(world, &low));
  OK(dft_comm_max(world, &high));
  CHECK(low == 101 - size && high == ((int64_t)1 << 40) + size - 1, "%lld %lld", (long long)low,
        (long long)high);
  float f[3] = {1, 2, (float)rank};
  double d[2] = {0.5, rank};
  OK(dft_comm_sum_f32(world, f, 3));
  OK(dft_comm_sum_f64(world, d, 2));
  const double ranks_sum = 0.5 * size * (size - 1);
  CHECK(f[0] == (float)size && f[1] == 2.0f * (float)size && f[2] == (float)ranks_sum, " ");
  CHECK(d[0] == 0.5 * size && d[1] == ranks_sum, " ");
  OK(dft_comm_barrier(world));
}

static void all_agree_on_the_lowest_failing_rank(void) {
  OK(dft_comm_agree(world, DFT_OK));
  for (int failing = 0; failing < size; ++failing) {
    /* `failing` and everyone above fail, each with its own words */
    dft_status mine = DFT_OK;
    if (rank >= failing)
      mine = dft_fail(rank == failing ? DFT_EDATA : DFT_EIO, "file-%d.npy: truncated %%s", rank);
    CHECK(dft_comm_agree(world, mine) == DFT_EDATA, " ");
    char text[64];
    snprintf(text, sizeof text, "file-%d.npy: truncated %%s", failing);
    CHECK(strcmp(dft_error(), text) == 0, "instead of %s", text);
  }
  OK(dft_comm_agree(world, DFT_OK)); /* an old message is no failure */
}

static void a_host_shares_one_block(void) {
  const dft_share *share = dft_comm_share(world);
  int64_t writers = share->writer;
  int64_t all[64];
  OK(dft_comm_allgather(world, &writers, sizeof writers, all));
  for (int r = 1; r < size; ++r) CHECK(all[r] == 0, "rank %d writes", r);
  CHECK(all[0] == 1, " ");
  enum { COUNT = 300000 };
  int *block[2] = {0};
  for (int k = 0; k < 2; ++k) {
    OK(share->alloc(share->context, COUNT * sizeof(int), (void **)&block[k]));
    for (int i = 0; i < COUNT; i += 1000) CHECK(block[k][i] == 0, "not zeroed");
    OK(share->fence(share->context, DFT_OK));
    for (int i = 0; share->writer && i < COUNT; ++i) block[k][i] = i * (k + 3);
    OK(share->fence(share->context, DFT_OK));
    for (int i = 0; i < COUNT; ++i) CHECK(block[k][i] == i * (k + 3), "[%d] is %d", i, block[k][i]);
  }
  /* anyone's failure reaches all, also the writer's */
  for (int failing = 0; failing<size; failing += size> 1 ? size - 1 : 1) {
    dft_status mine = rank == failing ? dft_fail(DFT_EIO, "cannot read train-%d", failing) : DFT_OK;
    CHECK(share->fence(share->context, mine) == DFT_EIO, " ");
    char text[64];
    snprintf(text, sizeof text, "cannot read train-%d", failing);
    CHECK(strcmp(dft_error(), text) == 0, "instead of %s", text);
  }
  int64_t told[2] = {share->writer ? 12 : 0, share->writer ? -5 : 0};
  OK(share->broadcast(share->context, told, sizeof told));
  CHECK(told[0] == 12 && told[1] == -5, " ");
  share->free(share->context, block[0]);
  CHECK(block[1][COUNT - 1] == (COUNT - 1) * 4, " ");
  share->free(share->context, block[1]);
  void *none = NULL;
  OK(share->alloc(share->context, 0, &none));
  CHECK(none != NULL, " ");
  if (size > 1) CHECK(share->alloc(share->context, (size_t)1 << 62, &none) == DFT_EINTERNAL, " ");
}

static void one_process_needs_no_mpi(void) {
  dft_comm *with = world;
  OK(dft_comm_alone(&world));
  CHECK(dft_comm_size(world) == 1 && dft_comm_rank(world) == 0, " ");
  CHECK(dft_comm_hosts(world) == 1 && dft_comm_local_size(world) == 1, " ");
  int64_t value = 5, all = 0;
  float f = 2;
  OK(dft_comm_barrier(world));
  OK(dft_comm_min(world, &value));
  OK(dft_comm_allgather(world, &value, sizeof value, &all));
  OK(dft_comm_sum_f32(world, &f, 1));
  CHECK(value == 5 && all == 5 && f == 2, " ");
  CHECK(dft_comm_agree(world, dft_fail(DFT_EIO, "disk full")) == DFT_EIO, " ");
  CHECK(dft_comm_share(world)->writer, " ");
  dft_comm_close(world, 0);
  world = with;
}

/* 8 ranks on few cores: a wait must give the core to those waited for. The best of ten times, since other
 * programs want the cores too. */
static void waiting_gives_the_core_away(void) {
  double best_ms = INFINITY;
  for (int time = 0; time < 10; ++time) {
    const double begin_s = dft_now_s();
    for (int i = 0; i < 20; ++i) OK(dft_comm_barrier(world));
    const double each_ms = (dft_now_s() - begin_s) * 1000 / 20;
    if (each_ms < best_ms) best_ms = each_ms;
  }
  if (rank == 0) printf("%d ranks: barrier %.3f ms\n", size, best_ms);
  CHECK(best_ms < 10, "%.2f ms each", best_ms);
}

/* A rank that works longer than the timeout without a message is not lost. */
static void a_slow_rank_is_waited_for(void) {
  dft_comm_set_timeout(world, 2.0);
  OK(dft_comm_barrier(world));
  const double begin_s = dft_now_s();
  while (rank == size - 1 && dft_now_s() - begin_s < 4.5) {
    dft_comm_tick(world);
    usleep(10000);
  }
  OK(dft_comm_barrier(world));
  dft_comm_set_timeout(world, 30);
  CHECK(dft_now_s() - begin_s > 4.4, " ");
}

/* Rank 0 has waited for longer than the timeout when both are suspended for as long again; it goes on a
 * little before rank 1, whose last sign of life is older than the timeout by then. */
static int suspend_both(void) {
  int64_t pids[2], mine = getpid();
  int word = rank;
  dft_message m = {0};
  OK(dft_comm_allgather(world, &mine, sizeof mine, pids));
  dft_comm_set_timeout(world, 2.0);
  if (rank == 1) {
    for (const double begin_s = dft_now_s(); dft_now_s() - begin_s < 2.5; usleep(10000)) dft_comm_tick(world);
    if (fork() == 0) {
      usleep(2500000);
      kill((pid_t)pids[0], SIGCONT);
      usleep(200000);
      kill((pid_t)pids[1], SIGCONT);
      _exit(0);
    }
    kill((pid_t)pids[0], SIGSTOP);
    raise(SIGSTOP);
    OK(dft_comm_isend(world, 0, 3, &word, sizeof word, &m));
  } else {
    OK(dft_comm_irecv(world, 1, 3, &word, sizeof word, &m));
  }
  OK(dft_comm_wait(world, &m));
  CHECK(word == 1, " ");
  dft_comm_close(world, 0);
  return 0;
}

/* Of three ranks rank 1 alone reduces: from rank 0 it receives first, to rank 2 it sends first. */
static dft_status reduce_alone(void) {
  enum { SHARDS = 8, COUNT = 100003 };
  static float data[SHARDS * COUNT];
  dft_reducer *r = NULL;
  OK(dft_reducer_new(world, SHARDS, true, NULL, &r));
  return dft_reduce(r, DFT_F32, data, COUNT);
}

/* What happens instead of a message: rank 1 sleeps ("silent", "collective"), is stopped, or all wait. Does
 * not come back: the job ends. "chain": rank 0 waits for rank 2, which waits for the stopped rank 1.
 * "reduce": all wait, and rank 1, in a reduction, is the one that notices. */
static int lose_peer(const char *how) {
  dft_comm_set_timeout(world, 2.0);
  dft_comm_set_activity(world, "step 17");
  OK(dft_comm_barrier(world));
  const bool deadlock = strcmp(how, "deadlock") == 0, reduces = strcmp(how, "reduce") == 0;
  if (reduces && rank != 1) dft_comm_set_timeout(world, 20.0);
  if (rank == 1 && !deadlock && !reduces) {
    if (strcmp(how, "stopped") == 0 || strcmp(how, "chain") == 0) raise(SIGSTOP);
    sleep(30);
    return 1;
  }
  const double begin_s = dft_now_s();
  int word = 0;
  dft_status status = DFT_OK;
  if (strcmp(how, "collective") == 0) {
    status = dft_comm_barrier(world);
  } else if (reduces && rank == 1) {
    status = reduce_alone();
  } else {
    dft_message m = {0};
    int peer = 1;
    if (strcmp(how, "chain") == 0 && rank == 0) peer = 2;
    if (deadlock) peer = (rank + 1) % size;
    OK(dft_comm_irecv(world, peer, 3, &word, sizeof word, &m));
    status = dft_comm_wait(world, &m);
  }
  const double waited_s = dft_now_s() - begin_s;
  fprintf(stderr, "rank %d: status %d after %.1f s: %s\n", rank, status, waited_s, dft_error());
  CHECK(status == DFT_EPEER && waited_s < 8.0, " ");
  CHECK(dft_comm_barrier(world) == DFT_EPEER && dft_now_s() - begin_s < waited_s + 1.0, "waits again");
  dft_comm_close(world, 0); /* ends the job with 76 */
  return 1;
}

int main(int argc, char **argv) {
  open_world(30);
  if (argc > 1 && strcmp(argv[1], "transport") == 0) {
    if (rank == 0) printf("transport %s %s\n", getenv("OMPI_MCA_pml"), getenv("OMPI_MCA_btl"));
    dft_comm_close(world, 0);
    return 0;
  }
  if (argc > 1 && strcmp(argv[1], "abort") == 0) {
    if (rank == size - 1) dft_comm_abort(world, 74);
    sleep(30);
  }
  if (argc > 1 && strcmp(argv[1], "suspended") == 0) return suspend_both();
  if (argc > 1) return lose_peer(argv[1]);
  everyone_knows_the_places();
  messages_arrive_in_any_order_of_waiting();
  impossible_messages_are_refused();
  collectives_collect();
  all_agree_on_the_lowest_failing_rank();
  a_host_shares_one_block();
  one_process_needs_no_mpi();
  waiting_gives_the_core_away();
  if (size > 1) a_slow_rank_is_waited_for();
  dft_comm_close(world, 0);
  return 0;
}
