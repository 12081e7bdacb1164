/* A stopped process (SIGSTOP) runs no alarm, and in MPI_Init and MPI_Finalize no other rank watches it: the
 * last one to leave would stay for ever, and mpirun with it. So each rank of several has a guard: a child,
 * forked before MPI starts, that ends the rank when it has been stopped for the timeout and somewhat more
 * (where other ranks wait for it, they come first and can say more). It goes when the rank is gone, not
 * before: a rank may be stopped on its very last way out. A job that is suspended as a whole (scontrol
 * suspend, a terminal's Ctrl-Z with job control forwarded) suspends its guards too, and their patience: it is
 * counted in their own rounds, not by the clock. */
#include "comm_impl.h"
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* Shared with the guard. */
typedef struct guarded {
  _Atomic double timeout_s;
} guarded;

static guarded *shared;
static pid_t guard;
static const double longest_round_s = 1.0;
enum { ROUNDS_PER_TIMEOUT = 16 };

/* After which other ranks have noticed, if any can. */
static double patience_s(double timeout_s) {
  return timeout_s + fmax(timeout_s / 4, 5.0);
}

/* proc(5): the state is the first letter after the command's name in parentheses, which may hold anything. */
static bool is_stopped(const char *stat_path) {
  char text[512];
  const int fd = open(stat_path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t got = read(fd, text, sizeof text - 1);
  close(fd);
  if (got <= 0) return false;
  text[got] = '\0';
  const char *name_end = strrchr(text, ')');
  return name_end != NULL && name_end[1] == ' ' && name_end[2] == 'T';
}

static void pause_for(double seconds) {
  struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - floor(seconds)) * 1e9)};
  nanosleep(&left, NULL);
}

/* Only system calls: this is a copy of a process that may have had threads. */
static _Noreturn void watch(pid_t rank, const char *stat_path) {
  static const char words[] =
      "dft: error: a stopped rank made no progress for timeout_s and is ended by its guard\n";
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "rank-guard");
  close(STDIN_FILENO);
  close(STDOUT_FILENO);
  close_range(STDERR_FILENO + 1, ~0u, 0);
  for (double stopped_s = 0; getppid() == rank;) {
    const double timeout_s = shared->timeout_s;
    const double round_s = fmin(timeout_s / ROUNDS_PER_TIMEOUT, longest_round_s);
    pause_for(round_s);
    stopped_s = is_stopped(stat_path) ? stopped_s + round_s : 0;
    if (stopped_s <= patience_s(timeout_s)) continue;
    if (write(STDERR_FILENO, words, sizeof words - 1) > 0) fsync(STDERR_FILENO);
    kill(rank, SIGKILL);
  }
  _exit(0);
}

void dft_guard_open(double timeout_s) {
  if (guard > 0) return;
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) { /* a run without a guard is still a run */
    shared = NULL;
    return;
  }
  shared->timeout_s = timeout_s;
  const pid_t rank = getpid();
  char stat_path[64];
  snprintf(stat_path, sizeof stat_path, "/proc/%ld/stat", (long)rank);
  guard = fork();
  if (guard == 0) watch(rank, stat_path);
}

void dft_guard_set_timeout(double timeout_s) {
  if (shared != NULL) shared->timeout_s = timeout_s;
}
