#include "dft/file.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static dft_status write_all(int fd, const char *data, size_t bytes) {
  while (bytes > 0) {
    ssize_t n = write(fd, data, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return DFT_EIO;
    data += n;
    bytes -= (size_t)n;
  }
  return fsync(fd) == 0 ? DFT_OK : DFT_EIO;
}

/* Makes a rename in the directory of `path` last. Some file systems cannot: theirs to answer for. */
static dft_status sync_directory(const char *path) {
  char directory[PATH_MAX];
  const char *slash = strrchr(path, '/');
  size_t length = slash != NULL ? (size_t)(slash - path) : 0;
  if (slash == NULL)
    snprintf(directory, sizeof directory, ".");
  else
    snprintf(directory, sizeof directory, "%.*s/", (int)length, path);
  int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return DFT_EIO;
  bool good = fsync(fd) == 0 || errno == EINVAL || errno == EROFS;
  int error = errno;
  close(fd);
  errno = error;
  return good ? DFT_OK : DFT_EIO;
}

static dft_status temporary_name(const char *path, char temporary[PATH_MAX]) {
  int length = snprintf(temporary, PATH_MAX, "%s.%ld" DFT_TEMPORARY_SUFFIX, path, (long)getpid());
  if (length >= 0 && length < PATH_MAX) return DFT_OK;
  return dft_fail(DFT_EIO, "%s: cannot write: %s", path, strerror(ENAMETOOLONG));
}

static dft_status sync_rename(const char *path) {
  if (sync_directory(path) == DFT_OK) return DFT_OK;
  return dft_fail(DFT_EIO, "%s: cannot sync its directory: %s", path, strerror(errno));
}

dft_status dft_write_file(const char *path, const void *data, size_t bytes) {
  char temporary[PATH_MAX];
  DFT_TRY(temporary_name(path, temporary));
  int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return dft_fail(DFT_EIO, "%s: cannot create: %s", path, strerror(errno));
  dft_status status = write_all(fd, data, bytes);
  int error = errno;
  if (close(fd) != 0 && status == DFT_OK) {
    status = DFT_EIO;
    error = errno;
  }
  if (status == DFT_OK && rename(temporary, path) != 0) {
    status = DFT_EIO;
    error = errno;
  }
  if (status != DFT_OK) {
    unlink(temporary);
    return dft_fail(status, "%s: cannot write %zu bytes: %s", path, bytes, strerror(error));
  }
  return sync_rename(path);
}

dft_status dft_link_file(const char *from, const char *to) {
  char temporary[PATH_MAX];
  DFT_TRY(temporary_name(to, temporary));
  unlink(temporary);
  bool good = link(from, temporary) == 0 && rename(temporary, to) == 0;
  int error = errno;
  unlink(temporary); /* rename(2) leaves it where both are names of one file already */
  if (!good) return dft_fail(DFT_EIO, "%s: cannot become a name of %s: %s", to, from, strerror(error));
  return sync_rename(to);
}

dft_status dft_make_directories(const char *directory, const char *what) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s", directory);
  for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
    if (slash != NULL) *slash = 0;
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
      return dft_fail(DFT_EIO, "%s: cannot create the %s: %s", directory, what, strerror(errno));
    if (slash == NULL) return DFT_OK;
    *slash = '/';
  }
}
