/* A state's bytes and their CRC, from and to files. */
#include "dft/file.h"
#include "dft/checkpoint.h"
#include "internal.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct written {
  const char *path;
  dft_output *output;
} written;

static dft_status begin_file(void *context, size_t bytes) {
  written *w = context;
  return dft_output_open(w->path, bytes, &w->output);
}

static void take_file(void *context, const void *data, size_t bytes) {
  dft_output_add(((written *)context)->output, data, bytes);
}

dft_status dft_state_write(const dft_state *s, const char *path) {
  written w = {.path = path};
  DFT_TRY(dft_state_pack(s, &(dft_sink){begin_file, take_file, &w}));
  return dft_output_close(w.output);
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
