#include "rows.h"
#include "dft/clock.h"
#include "dft/crc.h"
#include "dft/file.h"
#include "dft/log.h"
#include "dft/text.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, VERSION = 1, ATTEMPTS = 4, STALE_S = 24 * 3600 };
#define MAGIC  "dft.CachedRows\n"
#define SUFFIX ".rows"

typedef struct header {
  char magic[16];
  uint32_t version, page;
  dft_rows_key key;
  uint32_t crc; /* of what is before it */
} header;
#define HEADER_BYTES (offsetof(header, crc) + sizeof(uint32_t))

static header header_of(const dft_rows_key *key) {
  header h = {.magic = MAGIC, .version = VERSION, .page = PAGE, .key = *key};
  h.crc = dft_crc32c(0, &h, offsetof(header, crc));
  return h;
}

static size_t data_offset(const dft_rows_key *key) {
  size_t words = (size_t)key->count * sizeof(uint32_t);
  return PAGE + (words + PAGE - 1) / PAGE * PAGE;
}

static size_t file_bytes(const dft_rows_key *key) {
  return data_offset(key) + (size_t)key->count * (size_t)key->row_bytes;
}

static dft_status cannot(const char *path, const char *what, int error) {
  return dft_fail(DFT_EIO, "%s: cannot %s: %s", path, what, strerror(error));
}

/* A creator lives for seconds, and may be on another host: what is a day old is nobody's. */
static void remove_stale(const char *directory) {
  DIR *d = opendir(directory);
  if (d == NULL) return;
  for (struct dirent *item; (item = readdir(d)) != NULL;) {
    struct stat info;
    if (dft_ends_in(item->d_name, SUFFIX DFT_TEMPORARY_SUFFIX) &&
        fstatat(dirfd(d), item->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        time(NULL) - info.st_mtime > STALE_S)
      unlinkat(dirfd(d), item->d_name, 0);
  }
  closedir(d);
}

dft_status dft_rows_prepare(const char *directory) {
  if (strlen(directory) > PATH_MAX - 256) return cannot(directory, "create", ENAMETOOLONG);
  DFT_TRY(dft_make_directories(directory, "cache directory"));
  remove_stale(directory);
  return DFT_OK;
}

/* All blocks now, and a tenth of the room left for checkpoints. */
static int take_room(int fd, size_t bytes) {
  struct statvfs disk;
  if (fstatvfs(fd, &disk) == 0 && (double)bytes > 0.9 * (double)disk.f_bavail * (double)disk.f_frsize)
    return ENOSPC;
  int error = 0;
  do error = posix_fallocate(fd, 0, (off_t)bytes);
  while (error == EINTR);
  return error;
}

static int fill(int fd, const dft_rows_key *key) {
  int error = take_room(fd, file_bytes(key));
  if (error != 0) return error;
  header h = header_of(key);
  ssize_t n = pwrite(fd, &h, HEADER_BYTES, 0);
  return n == (ssize_t)HEADER_BYTES ? 0 : n < 0 ? errno : EIO;
}

/* Writes an empty file and gives it its name. Of several that create at once the first wins, and the others
 * use its file; where the file system has no links, or a bad file is in the way, the last one wins. */
static dft_status create_file(const char *path, const dft_rows_key *key, bool replace) {
  char temporary[PATH_MAX];
  snprintf(temporary, sizeof temporary, "%s-%ld-%.0f" SUFFIX DFT_TEMPORARY_SUFFIX, path, (long)getpid(),
           dft_now_s() * 1e9);
  int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return cannot(path, "create", errno);
  int error = fill(fd, key);
  if (close(fd) != 0 && error == 0) error = errno;
  if (error == 0 && (replace || (link(temporary, path) != 0 && errno != EEXIST)))
    error = rename(temporary, path) == 0 ? 0 : errno;
  unlink(temporary);
  if (error == 0) return DFT_OK;
  return dft_fail(DFT_EIO, "%s: cannot create %zu bytes: %s", path, file_bytes(key), strerror(error));
}

/* A copy of a file may have holes, which would be filled when it is too late to say that there is no room. */
static int fill_holes(int fd, const struct stat *info) {
  if ((int64_t)info->st_blocks * 512 >= (int64_t)info->st_size) return 0;
  return fallocate(fd, 0, 0, info->st_size) == 0 || errno != ENOSPC ? 0 : ENOSPC;
}

typedef enum found { GOOD, MISSING, BAD, FAILED } found;

/* Opens the file and looks at its header; *fd is the descriptor of a GOOD one. */
static found look(const char *path, const dft_rows_key *key, int *fd) {
  struct stat info;
  if (stat(path, &info) != 0) {
    if (errno == ENOENT) return MISSING;
    (void)cannot(path, "open", errno);
    return FAILED;
  }
  if (!S_ISREG(info.st_mode)) return BAD;
  *fd = open(path, O_RDWR | O_CLOEXEC);
  if (*fd < 0 && errno == ENOENT) return MISSING;
  int error = *fd < 0 || fstat(*fd, &info) != 0 ? errno : 0;
  header expected = header_of(key), h;
  ssize_t n = error == 0 ? pread(*fd, &h, HEADER_BYTES, 0) : 0;
  if (n < 0) error = errno;
  bool good = n == (ssize_t)HEADER_BYTES && memcmp(&h, &expected, HEADER_BYTES) == 0 &&
              info.st_size == (off_t)file_bytes(key);
  if (good) error = fill_holes(*fd, &info);
  if (good && error == 0) return GOOD;
  if (*fd >= 0) close(*fd);
  if (error == 0) return BAD;
  (void)cannot(path, "open", error);
  return FAILED;
}

static dft_status map(const char *path, int fd, const dft_rows_key *key, dft_rows *rows) {
  size_t bytes = file_bytes(key);
  char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  int error = errno;
  close(fd);
  if (base == MAP_FAILED) return cannot(path, "map", error);
  *rows = (dft_rows){.key = *key,
                     .words = (uint32_t *)(void *)(base + PAGE),
                     .data = (float *)(void *)(base + data_offset(key)),
                     .mapped_bytes = bytes};
  return DFT_OK;
}

dft_status dft_rows_open(const char *directory, const dft_rows_key *key, bool create, dft_rows *rows) {
  *rows = (dft_rows){0};
  char path[PATH_MAX];
  int length = snprintf(path, sizeof path, "%s/%016" PRIx64 "%016" PRIx64 SUFFIX, directory, key->hash[0],
                        key->hash[1]);
  if (length < 0 || length > PATH_MAX - 100) return cannot(directory, "open", ENAMETOOLONG);
  if (key->count >= INT64_MAX / 4 / (key->row_bytes + (int64_t)sizeof(uint32_t)))
    return cannot(path, "create", EFBIG);
  found was = MISSING;
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    int fd = -1;
    was = look(path, key, &fd);
    if (was == GOOD) return map(path, fd, key, rows);
    if (was == FAILED) return DFT_EIO;
    if (!create) break;
    if (was == BAD) dft_warn("%s: foreign or damaged: made anew", path);
    DFT_TRY(create_file(path, key, was == BAD));
  }
  return dft_fail(DFT_EIO, "%s: %s", path, was == MISSING ? "is gone" : "is foreign or damaged");
}

void dft_rows_close(dft_rows *rows) {
  if (rows->data != NULL) munmap((char *)rows->words - PAGE, rows->mapped_bytes);
  *rows = (dft_rows){0};
}

static uint32_t seal(const dft_rows *rows, const float *row) {
  uint32_t crc = dft_crc32c(0, row, (size_t)rows->key.row_bytes);
  return crc == 0 ? 1 : crc;
}

static float *row_of(const dft_rows *rows, int64_t sample) {
  return rows->data + sample * (rows->key.row_bytes / (int64_t)sizeof(float));
}

bool dft_rows_get(const dft_rows *rows, int64_t sample, float *out) {
  uint32_t word = __atomic_load_n(&rows->words[sample], __ATOMIC_ACQUIRE);
  if (word == 0) return false;
  memcpy(out, row_of(rows, sample), (size_t)rows->key.row_bytes);
  return seal(rows, out) == word;
}

void dft_rows_put(dft_rows *rows, int64_t sample, const float *row) {
  memcpy(row_of(rows, sample), row, (size_t)rows->key.row_bytes);
  __atomic_store_n(&rows->words[sample], seal(rows, row), __ATOMIC_RELEASE);
}

bool dft_rows_has(const dft_rows *rows, int64_t sample) {
  return __atomic_load_n(&rows->words[sample], __ATOMIC_RELAXED) != 0;
}

int64_t dft_rows_there(const dft_rows *rows) {
  int64_t there = 0;
  for (int64_t i = 0; i < rows->key.count; i++) there += dft_rows_has(rows, i);
  return there;
}
