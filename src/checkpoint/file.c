/* Files that are there whole or not at all. */
#include "dft/checkpoint.h"
#include "internal.h"
#include <errno.h>
#include <fcntl.h>
#include <isa-l.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* crc32_iscsi is the bare shift register: the standard's initial value and final xor are added here. */
uint32_t dft_crc32c(uint32_t crc, const void *data, size_t bytes) {
  enum { MOST = 1 << 30 };                   /* its length is an int */
  unsigned char *at = (unsigned char *)data; /* read only, though its prototype does not say so */
  crc = ~crc;
  while (bytes > 0) {
    int n = bytes < MOST ? (int)bytes : MOST;
    crc = crc32_iscsi(at, n, crc);
    at += n;
    bytes -= (size_t)n;
  }
  return ~crc;
}

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

dft_status dft_write_file(const char *path, const void *data, size_t bytes) {
  char temporary[PATH_MAX];
  int length = snprintf(temporary, sizeof temporary, "%s.%ld" DFT_TEMPORARY_SUFFIX, path, (long)getpid());
  if (length < 0 || length >= PATH_MAX)
    return dft_fail(DFT_EIO, "%s: cannot write: %s", path, strerror(ENAMETOOLONG));
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
  if (sync_directory(path) != DFT_OK)
    return dft_fail(DFT_EIO, "%s: cannot sync its directory: %s", path, strerror(errno));
  return DFT_OK;
}

dft_status dft_state_write(const dft_state *s, const char *path) {
  unsigned char *bytes = NULL;
  size_t count = 0;
  DFT_TRY(dft_state_encode(s, &bytes, &count));
  dft_status status = dft_write_file(path, bytes, count);
  free(bytes);
  return status;
}

static dft_status read_all(int fd, const char *path, unsigned char **bytes, size_t *count) {
  struct stat info;
  if (fstat(fd, &info) != 0) return dft_fail(DFT_EIO, "%s: cannot read: %s", path, strerror(errno));
  if (!S_ISREG(info.st_mode)) return dft_fail(DFT_EDATA, "%s: is not a file", path);
  size_t size = (size_t)info.st_size, done = 0;
  *bytes = malloc(size + 1);
  if (*bytes == NULL) return dft_fail_memory(path, size);
  while (done < size) {
    ssize_t n = read(fd, *bytes + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return dft_fail(DFT_EIO, "%s: cannot read: %s", path, strerror(errno));
    if (n == 0) break; /* became shorter meanwhile: the CRC will tell */
    done += (size_t)n;
  }
  *count = done;
  return DFT_OK;
}

dft_status dft_state_read(const char *path, dft_state *s) {
  unsigned char *bytes = NULL;
  size_t count = 0;
  memset(s, 0, sizeof *s);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return dft_fail(errno == ENOENT || errno == ENOTDIR ? DFT_EDATA : DFT_EIO, "%s: cannot open: %s", path,
                    strerror(errno));
  dft_status status = read_all(fd, path, &bytes, &count);
  close(fd);
  if (status == DFT_OK) status = dft_state_decode(path, bytes, count, s);
  free(bytes);
  return status;
}
