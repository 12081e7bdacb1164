#include "dft/report.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Name and parent of a process. */
static bool process(long pid, char name[32], long *parent) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%ld/stat", pid);
  FILE *in = fopen(path, "re");
  if (in == NULL) return false;
  size_t bytes = fread(text, 1, sizeof text - 1, in);
  fclose(in);
  text[bytes] = '\0';
  char *open = strchr(text, '('), *close = strrchr(text, ')');
  if (open == NULL || close == NULL) return false;
  snprintf(name, 32, "%.*s", (int)(close - open - 1), open + 1);
  return sscanf(close + 1, " %*c %ld", parent) == 1;
}

static bool has_terminal(long pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%ld/fd/1", pid);
  int fd = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return false;
  bool terminal = isatty(fd) == 1;
  close(fd);
  return terminal;
}

/* mpirun gives each rank a pty of its own, so what counts is mpirun's standard output. It is an ancestor (a
 * script may stand between); on another host the ancestor is a daemon, whose output nobody reads. */
bool dft_stdout_is_terminal(void) {
  static const char *const launchers[] = {"mpirun", "orterun", "prterun", "mpiexec"};
  if (isatty(STDOUT_FILENO) != 1) return false;
  if (getenv("OMPI_COMM_WORLD_RANK") == NULL && getenv("PMIX_RANK") == NULL) return true;
  long pid = getppid();
  for (int depth = 0; depth < 16 && pid > 1; depth++) {
    char name[32];
    long parent = 0;
    if (!process(pid, name, &parent)) return false;
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++)
      if (strcmp(name, launchers[i]) == 0) return has_terminal(pid);
    pid = parent;
  }
  return false;
}
