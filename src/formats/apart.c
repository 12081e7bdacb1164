#include "apart.h"
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Keras' own files take less than one. */
enum { MOST_CPU_S = 30 };
static const rlim_t most_memory_bytes = (rlim_t)3 << 30; /* weights of up to 1 GiB, in some copies */

/* Shared with the child. */
typedef struct answer {
  bool given;
  dft_status status;
  char text[DFT_MESSAGE_BYTES];
} answer;

/* A small file can say of itself that it is large many times over. */
static void limit_memory(void) {
  struct rlimit space;
  unsigned long long pages = 0;
  FILE *f = fopen("/proc/self/statm", "re");
  const bool known = f != NULL && fscanf(f, "%llu", &pages) == 1;
  if (f != NULL) (void)fclose(f);
  if (!known || getrlimit(RLIMIT_AS, &space) != 0) return;
  const rlim_t most = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + most_memory_bytes;
  if (space.rlim_cur != RLIM_INFINITY && space.rlim_cur < most) return;
  space.rlim_cur = most;
  setrlimit(RLIMIT_AS, &space);
}

static _Noreturn void work_apart(pid_t parent, const char *path, dft_apart_work *work, FILE *out, answer *a) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent)
    _exit(0); /* it had gone before; this process would hold the run directory's lock */
  /* SIGXCPU at the first, so that SIGKILL is somebody else's doing */
  const struct rlimit cpu = {MOST_CPU_S, MOST_CPU_S + 1}, core = {0, 0};
  setrlimit(RLIMIT_CPU, &cpu);
  setrlimit(RLIMIT_CORE, &core);
  limit_memory();
  static const int crashes[] = {SIGSEGV, SIGBUS,  SIGILL,
                                SIGFPE,  SIGABRT, SIGXCPU}; /* the parent tells, no handler's stack trace */
  for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) signal(crashes[i], SIG_DFL);
  a->status = work(path, out);
  if (a->status == DFT_OK && fflush(out) != 0)
    a->status = dft_fail(DFT_EINTERNAL, "%s: cannot hand on what was read: %s", path, strerror(errno));
  snprintf(a->text, sizeof a->text, "%s", dft_error());
  a->given = true;
  _exit(0);
}

static dft_status wait_for(const char *path, const char *library, pid_t child, const answer *a) {
  int end = 0;
  while (waitpid(child, &end, 0) < 0)
    if (errno != EINTR)
      return dft_fail(DFT_EINTERNAL, "%s: lost the process that reads it: %s", path, strerror(errno));
  if (a->given) return a->status == DFT_OK ? DFT_OK : dft_fail(a->status, "%s", a->text);
  if (WIFSIGNALED(end) && WTERMSIG(end) == SIGXCPU)
    return dft_fail(DFT_EDATA, "%s: %s did not come to an end with it: the file is damaged", path, library);
  if (WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL)
    return dft_fail(DFT_EINTERNAL, "%s: the process that reads it was killed; is there memory enough?", path);
  return dft_fail(DFT_EDATA, "%s: %s crashed on it (%s): the file is damaged", path, library,
                  WIFSIGNALED(end) ? strsignal(WTERMSIG(end)) : "it left");
}

/* A file without a name, in memory. */
static FILE *unnamed(void) {
  const int fd = memfd_create("dft-apart", MFD_CLOEXEC);
  FILE *f = fd < 0 ? NULL : fdopen(fd, "w+");
  if (f == NULL && fd >= 0) close(fd);
  return f;
}

dft_status dft_apart(const char *path, const char *library, dft_apart_work *work, FILE **found) {
  *found = NULL;
  answer *a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (a == MAP_FAILED) return dft_fail_memory("reading apart", sizeof *a);
  FILE *out = unnamed();
  const pid_t parent = getpid(), child = out == NULL ? -1 : fork();
  if (child == 0) work_apart(parent, path, work, out, a);
  dft_status status = child < 0 ? dft_fail(DFT_EINTERNAL, "%s: cannot start a process that reads it: %s",
                                           path, strerror(errno))
                                : wait_for(path, library, child, a);
  munmap(a, sizeof *a);
  if (status == DFT_OK) {
    rewind(out);
    *found = out;
  } else if (out != NULL)
    fclose(out);
  return status;
}
