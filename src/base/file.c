#include "dft/file.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GATHERED_BYTES = 1 << 16, ON_ITS_WAY_BYTES = 1 << 18 };

struct dft_output {
  int fd, error;             /* error: errno of what failed first */
  bool lasts;                /* also when the machine stops */
  size_t bytes;              /* as announced */
  off_t written, on_its_way; /* of them, the latter asked of the disk */
  size_t used;               /* of gathered */
  char path[PATH_MAX], temporary[PATH_MAX];
  char gathered[GATHERED_BYTES]; /* small pieces */
};

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

dft_status dft_sync_rename(const char *path) {
  if (sync_directory(path) == DFT_OK) return DFT_OK;
  return dft_fail(DFT_EIO, "%s: cannot sync its directory: %s", path, strerror(errno));
}

/* The first failure stays. What is written starts on its way to the disk now and then, so that the fsync at
 * the end finds little left to wait for. */
static void write_out(dft_output *out, const char *data, size_t bytes) {
  while (bytes > 0 && out->error == 0) {
    ssize_t n = write(out->fd, data, bytes);
    if (n < 0 && errno != EINTR) out->error = errno;
    if (n < 0) continue;
    data += n;
    bytes -= (size_t)n;
    out->written += n;
  }
  if (!out->lasts || out->written - out->on_its_way < ON_ITS_WAY_BYTES) return;
  (void)sync_file_range(out->fd, out->on_its_way, out->written - out->on_its_way, SYNC_FILE_RANGE_WRITE);
  out->on_its_way = out->written;
}

static void write_gathered(dft_output *out) {
  write_out(out, out->gathered, out->used);
  out->used = 0;
}

static dft_status output_open(const char *path, size_t bytes, bool lasts, dft_output **output) {
  *output = NULL;
  dft_output *out = malloc(sizeof *out);
  if (out == NULL) return dft_fail_memory(path, sizeof *out);
  out->error = 0; /* one by one: the rest is large, and has nothing in it yet */
  out->lasts = lasts;
  out->bytes = bytes;
  out->written = out->on_its_way = 0;
  out->used = 0;
  snprintf(out->path, sizeof out->path, "%s", path);
  dft_status status = temporary_name(path, out->temporary);
  if (status == DFT_OK) {
    out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out->fd < 0) status = dft_fail(DFT_EIO, "%s: cannot create: %s", path, strerror(errno));
  }
  if (status == DFT_OK)
    *output = out;
  else
    free(out);
  return status;
}

dft_status dft_output_open(const char *path, size_t bytes, dft_output **output) {
  return output_open(path, bytes, true, output);
}

void dft_output_add(dft_output *out, const void *data, size_t bytes) {
  if (out->used + bytes > sizeof out->gathered) write_gathered(out);
  if (bytes >= sizeof out->gathered) {
    write_out(out, data, bytes);
    return;
  }
  memcpy(out->gathered + out->used, data, bytes);
  out->used += bytes;
}

dft_status dft_output_close(dft_output *out) {
  write_gathered(out);
  if (out->error == 0 && out->lasts && fsync(out->fd) != 0) out->error = errno;
  if (close(out->fd) != 0 && out->error == 0) out->error = errno;
  if (out->error == 0 && rename(out->temporary, out->path) != 0) out->error = errno;
  dft_status status = DFT_OK;
  if (out->error != 0) {
    unlink(out->temporary);
    status = dft_fail(DFT_EIO, "%s: cannot write %zu bytes: %s", out->path, out->bytes, strerror(out->error));
  } else if (out->lasts)
    status = dft_sync_rename(out->path);
  free(out);
  return status;
}

static dft_status write_file(const char *path, const void *data, size_t bytes, bool lasts) {
  dft_output *out;
  DFT_TRY(output_open(path, bytes, lasts, &out));
  dft_output_add(out, data, bytes);
  return dft_output_close(out);
}

dft_status dft_write_file(const char *path, const void *data, size_t bytes) {
  return write_file(path, data, bytes, true);
}

dft_status dft_replace_file(const char *path, const void *data, size_t bytes) {
  return write_file(path, data, bytes, false);
}

/* /dev/stdout may lead to a file that the shell has opened: written to, never replaced. */
static bool stays_in_place(const char *path) {
  struct stat s;
  if (strncmp(path, "/dev/", 5) == 0) return lstat(path, &s) == 0; /* a link there may lead nowhere */
  return stat(path, &s) == 0 && !S_ISDIR(s.st_mode) && !S_ISREG(s.st_mode);
}

static dft_status write_in_place(const char *path, const void *data, size_t bytes) {
  FILE *f = fopen(path, "ae");
  if (f == NULL) return dft_fail(DFT_EIO, "%s: cannot open: %s", path, strerror(errno));
  bool good = fwrite(data, 1, bytes, f) == bytes;
  good = fclose(f) == 0 && good;
  return good ? DFT_OK : dft_fail(DFT_EIO, "%s: cannot write %zu bytes: %s", path, bytes, strerror(errno));
}

dft_status dft_write_result(const char *path, const void *data, size_t bytes) {
  return stays_in_place(path) ? write_in_place(path, data, bytes) : dft_write_file(path, data, bytes);
}

dft_status dft_try_result(const char *path) {
  struct stat s;
  dft_output *out;
  if (stat(path, &s) == 0 && S_ISDIR(s.st_mode))
    return dft_fail(DFT_EIO, "%s: cannot write: %s", path, strerror(EISDIR));
  if (stays_in_place(path)) return DFT_OK;
  DFT_TRY(output_open(path, 0, false, &out));
  close(out->fd);
  unlink(out->temporary);
  free(out);
  return DFT_OK;
}

dft_status dft_link_file(const char *from, const char *to) {
  char temporary[PATH_MAX];
  DFT_TRY(temporary_name(to, temporary));
  unlink(temporary);
  bool good = link(from, temporary) == 0 && rename(temporary, to) == 0;
  int error = errno;
  unlink(temporary); /* rename(2) leaves it where both are names of one file already */
  if (!good) return dft_fail(DFT_EIO, "%s: cannot become a name of %s: %s", to, from, strerror(error));
  return dft_sync_rename(to);
}

dft_status dft_make_directories(const char *directory, const char *what) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s", directory);
  for (char *slash = strchr(path[0] == '\0' ? path : path + 1, '/');; slash = strchr(slash + 1, '/')) {
    if (slash != NULL) *slash = 0;
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
      return dft_fail(DFT_EIO, "%s: cannot create the %s: %s", directory, what, strerror(errno));
    if (slash == NULL) return DFT_OK;
    *slash = '/';
  }
}

static dft_status read_all(int fd, const char *path, size_t most, unsigned char **bytes, size_t *count) {
  struct stat info;
  if (fstat(fd, &info) != 0) return dft_fail(DFT_EIO, "%s: cannot read: %s", path, strerror(errno));
  if (!S_ISREG(info.st_mode)) return dft_fail(DFT_EDATA, "%s: is not a file", path);
  size_t size = (size_t)info.st_size, done = 0;
  if (size > most) return dft_fail(DFT_EDATA, "%s: %zu bytes, more than %zu are not read", path, size, most);
  *bytes = malloc(size + 1);
  if (*bytes == NULL) return dft_fail_memory(path, size);
  while (done < size) {
    ssize_t n = read(fd, *bytes + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return dft_fail(DFT_EIO, "%s: cannot read: %s", path, strerror(errno));
    if (n == 0) break; /* became shorter meanwhile: a reader finds it cut off */
    done += (size_t)n;
  }
  *count = done;
  return DFT_OK;
}

dft_status dft_read_file(const char *path, size_t most, unsigned char **bytes, size_t *count) {
  *bytes = NULL;
  *count = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is refused, not waited for */
  if (fd < 0)
    return dft_fail(errno == ENOENT || errno == ENOTDIR ? DFT_EDATA : DFT_EIO, "%s: cannot open: %s", path,
                    strerror(errno));
  dft_status status = read_all(fd, path, most, bytes, count);
  close(fd);
  if (status == DFT_OK) return DFT_OK;
  free(*bytes);
  *bytes = NULL;
  return status;
}

/* Where `path` is or will be: the real path of what exists of it, and the rest as it is. */
static bool real_place(const char *path, char real[PATH_MAX]) {
  char part[PATH_MAX];
  snprintf(part, sizeof part, "%s", path);
  size_t there = strlen(part); /* bytes of `path` that may exist */
  while (realpath(there > 0 ? part : ".", real) == NULL) {
    if (errno != ENOENT || there == 0) return false;
    const char *slash = strrchr(part, '/');
    there = slash == NULL ? 0 : (size_t)(slash - part) + (slash == part);
    part[there] = '\0';
  }
  const char *rest = path + there + strspn(path + there, "/");
  const size_t length = strcmp(real, "/") == 0 ? 0 : strlen(real);
  return rest[0] == '\0' ||
         snprintf(real + length, PATH_MAX - length, "/%s", rest) < (int)(PATH_MAX - length);
}

bool dft_is_inside(const char *path, const char *folder) {
  char in[PATH_MAX], out[PATH_MAX];
  if (realpath(folder, in) == NULL || !real_place(path, out)) return false;
  const size_t length = strcmp(in, "/") == 0 ? 0 : strlen(in);
  if (strncmp(in, out, length) != 0 || (out[length] != '/' && out[length] != '\0')) return false;
  return out[length] == '\0' || out[length + 1] != '.';
}
