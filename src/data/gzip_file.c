#include "source.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { GZ_BUFFER_BYTES = 1 << 18 };

const char *dft_basename(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == NULL ? path : slash + 1;
}

/* Data that is not there is bad data; data that is there and cannot be read is a failure of the machine. */
static dft_status fail_errno(const char *path, const char *doing) {
  dft_status code = errno == ENOENT || errno == ENOTDIR ? DFT_EDATA : DFT_EIO;
  return dft_fail(code, "%s: cannot %s: %s", path, doing, strerror(errno));
}

static dft_status unpack(dft_file *f) {
  uint8_t magic[2];
  ssize_t got = pread(f->fd, magic, sizeof magic, 0);
  if (got < 0) return fail_errno(f->path, "read");
  if (got < 2 || magic[0] != 0x1f || magic[1] != 0x8b) return DFT_OK;
  gzFile gz = gzdopen(f->fd, "rb");
  if (gz == NULL) return dft_fail_memory("gzip reader", GZ_BUFFER_BYTES);
  (void)gzbuffer(gz, GZ_BUFFER_BYTES);
  f->gz = gz;
  return DFT_OK;
}

dft_status dft_file_open(dft_file *f, const char *path) {
  *f = (dft_file){.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (f->fd < 0) return fail_errno(path, "open");
  struct stat s;
  dft_status status = DFT_OK;
  if (fstat(f->fd, &s) != 0)
    status = fail_errno(path, "read");
  else if (!S_ISREG(s.st_mode))
    status = dft_fail(DFT_EDATA, "%s: not a regular file", path);
  else
    f->disk_bytes = s.st_size;
  if (status == DFT_OK) status = unpack(f);
  if (status != DFT_OK) dft_file_close(f);
  return status;
}

static dft_status fail_gzip(dft_file *f) {
  int code;
  const char *text = gzerror(f->gz, &code);
  if (code == Z_ERRNO) return fail_errno(f->path, "read");
  if (code == Z_BUF_ERROR) return dft_fail(DFT_EDATA, "%s: truncated: the gzip data ends early", f->path);
  return dft_fail(DFT_EDATA, "%s: damaged gzip data (%s)", f->path, text);
}

static dft_status read_packed(dft_file *f, uint8_t *to, size_t want, size_t *got) {
  while (*got < want) {
    size_t left = want - *got;
    int n = gzread(f->gz, to + *got, left > INT_MAX / 2 ? INT_MAX / 2 : (unsigned)left);
    if (n < 0) return fail_gzip(f);
    if (n == 0) { /* also where the packed data stops in the middle */
      int code;
      (void)gzerror(f->gz, &code);
      return code == Z_OK || code == Z_STREAM_END ? DFT_OK : fail_gzip(f);
    }
    *got += (size_t)n;
  }
  return DFT_OK;
}

dft_status dft_file_read(dft_file *f, void *to, size_t want, size_t *got) {
  *got = 0;
  if (f->gz != NULL) return read_packed(f, to, want, got);
  while (*got < want) {
    ssize_t n = read(f->fd, (uint8_t *)to + *got, want - *got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(f->path, "read");
    if (n == 0) break;
    *got += (size_t)n;
  }
  return DFT_OK;
}

void dft_file_close(dft_file *f) {
  if (f->gz != NULL)
    (void)gzclose_r(f->gz); /* closes fd */
  else if (f->fd >= 0)
    (void)close(f->fd);
  f->gz = NULL;
  f->fd = -1;
}
