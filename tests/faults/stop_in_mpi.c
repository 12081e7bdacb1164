/* Preloaded into dft by test_lost_rank.sh, test_resume.sh and others: rank STOP_RANK stops for good where no
 * other rank watches it: before MPI starts (STOP_IN=init), after the last of MPI_Finalize (STOP_IN=finalize),
 * when the other ranks are free to leave, or after all exit handlers (STOP_IN=exit). Or in the barrier before
 * the goodbyes (STOP_IN=goodbye), where the others wait. Or it crashes where it would stop (STOP_IN=crash, in
 * MPI_Finalize). Or it gets no aligned block of NO_MEMORY_BYTES. SLOW_FSYNC_S: the fsync of a checkpoint
 * takes so long; SLOW_WRITE_MS: each write to it. By test_disk.sh: each fsync and each rename is a line of
 * the file SYNC_LOG, "sync INODE" or "rename INODE INODE-OF-DIRECTORY TO". By test_corrupt.sh: pread(2) fails
 * on files with BAD_DISK in their path. By test_slurm.sh: each rank that MPI_Init has let go writes its
 * number as a line of the file MPI_STARTED. Through MPI's profiling interface (MPI 3.1, chapter 14). */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <malloc.h>
#include <mpi.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_the_rank(void) {
  const char *rank = getenv("STOP_RANK"), *mine = getenv("OMPI_COMM_WORLD_RANK");
  return rank != NULL && mine != NULL && strcmp(rank, mine) == 0;
}

static bool stops_here(const char *place) {
  const char *in = getenv("STOP_IN");
  return in != NULL && strcmp(in, place) == 0 && is_the_rank();
}

static bool stops_at_exit; /* the environment is gone by then */
__attribute__((constructor)) static void look_ahead(void) {
  stops_at_exit = stops_here("exit");
}
__attribute__((destructor)) static void leave(void) {
  if (stops_at_exit) raise(SIGSTOP);
}

static void mark_started(void) {
  const char *path = getenv("MPI_STARTED");
  if (path == NULL) return;
  int rank = -1;
  PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0 || dprintf(fd, "%d\n", rank) < 0) perror(path);
  if (fd >= 0) close(fd);
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided) {
  if (stops_here("init")) raise(SIGSTOP);
  const int error = PMPI_Init_thread(argc, argv, required, provided);
  if (error == MPI_SUCCESS) mark_started();
  return error;
}

int MPI_Ibarrier(MPI_Comm comm, MPI_Request *request) {
  if (stops_here("goodbye")) raise(SIGSTOP);
  return PMPI_Ibarrier(comm, request);
}

int posix_memalign(void **block, size_t alignment, size_t bytes) {
  const char *refused = getenv("NO_MEMORY_BYTES");
  if (refused != NULL && strtoull(refused, NULL, 10) == bytes && is_the_rank()) return ENOMEM;
  *block = memalign(alignment, bytes);
  return *block != NULL ? 0 : ENOMEM;
}

static void path_of(int fd, char path[4096]) {
  char link[32];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, 4095);
  path[length > 0 ? length : 0] = '\0';
}

static bool is_checkpoint(int fd) {
  char path[4096];
  path_of(fd, path);
  return strstr(path, ".pb.") != NULL;
}

static void log_sync(const char *what, ino_t inode, ino_t directory, const char *path) {
  const int fd = open(getenv("SYNC_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0 || dprintf(fd, "%s %ju %ju %s\n", what, (uintmax_t)inode, (uintmax_t)directory, path) < 0)
    perror("SYNC_LOG");
  if (fd >= 0) close(fd);
}

int fsync(int fd) {
  const char *seconds = getenv("SLOW_FSYNC_S");
  if (seconds != NULL && is_checkpoint(fd)) sleep((unsigned)atoi(seconds));
  const int result = (int)syscall(SYS_fsync, fd);
  struct stat info;
  if (getenv("SYNC_LOG") != NULL && result == 0 && fstat(fd, &info) == 0)
    log_sync("sync", info.st_ino, 0, "");
  return result;
}

int rename(const char *from, const char *to) {
  const int result = renameat(AT_FDCWD, from, AT_FDCWD, to);
  if (getenv("SYNC_LOG") == NULL || result != 0) return result;
  struct stat info, directory;
  char parent[4096];
  snprintf(parent, sizeof parent, "%s", to);
  if (stat(to, &info) == 0 && stat(dirname(parent), &directory) == 0)
    log_sync("rename", info.st_ino, directory.st_ino, to);
  return result;
}

ssize_t pread(int fd, void *data, size_t bytes, off_t from) {
  const char *bad = getenv("BAD_DISK");
  char path[4096];
  if (bad != NULL) path_of(fd, path);
  if (bad != NULL && strstr(path, bad) != NULL) {
    errno = EIO;
    return -1;
  }
  return syscall(SYS_pread64, fd, data, bytes, from);
}

ssize_t write(int fd, const void *data, size_t bytes) {
  const char *ms = getenv("SLOW_WRITE_MS");
  if (ms != NULL && is_checkpoint(fd)) usleep(1000 * (useconds_t)atoi(ms));
  return syscall(SYS_write, fd, data, bytes);
}

int MPI_Finalize(void) {
  /* before the environment is MPI's to take down */
  const bool stops = stops_here("finalize"), crashes = stops_here("crash");
  const int error = PMPI_Finalize();
  if (stops) raise(SIGSTOP);
  if (crashes) raise(SIGSEGV);
  return error;
}
