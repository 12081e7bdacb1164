#include "decoded.h"
#include "dft/crc.h"
#include "dft/file.h"
#include "dft/log.h"
#include "dft/version.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <isa-l/crc64.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MAGIC = 0x31434544, ALIGN_BYTES = 4096, LOOK_EVERY = 16 /* bitmaps between looks at the free room */ };

typedef struct slot {
  uint32_t magic, crc; /* of all that follows */
  uint64_t stamp;
  int32_t height, width;
} slot;
enum { SEALED_FROM = 8, HEADER_BYTES = sizeof(slot) };
_Static_assert(sizeof(slot) == 24, "no padding");

struct dft_decoded {
  const dft_manifest *manifest;
  char path[PATH_MAX];
  size_t directory_bytes; /* of path: what comes before the last slash */
  int64_t slot_bytes;
  bool warns;
  pthread_mutex_t lock; /* of opening, writing's end, and the counting for it */
  bool tried, writes;
  int fd;               /* -1: not open */
  double reserve_bytes; /* is left free */
  unsigned puts;
};

static void hash(uint64_t key[2], const void *data, size_t bytes) {
  key[0] = crc64_ecma_refl(key[0], data, bytes);
  key[1] = crc64_jones_refl(key[1], data, bytes);
}

dft_status dft_decoded_new(const char *directory, const dft_manifest *m, dft_resize mode, int out_height,
                           int out_width, bool warns, dft_decoded **decoded) {
  *decoded = NULL;
  dft_decoded *d = calloc(1, sizeof *d);
  if (d == NULL) return dft_fail_memory("decoded images", sizeof *d);
  const char build[] = "decoded " DFT_VERSION " " DFT_GIT;
  const int32_t size[] = {out_height, out_width, mode};
  uint64_t key[2] = {0};
  hash(key, build, sizeof build);
  hash(key, size, sizeof size);
  dft_manifest_key(m, key);
  int64_t most = HEADER_BYTES + (mode == DFT_RESIZE_CROP ? 8 : 4) * (int64_t)out_height * out_width * 3;
  d->manifest = m;
  d->slot_bytes = (most + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
  d->warns = warns;
  d->fd = -1;
  d->directory_bytes = strlen(directory);
  int length =
      snprintf(d->path, sizeof d->path, "%s/%016" PRIx64 "%016" PRIx64 ".decoded", directory, key[0], key[1]);
  pthread_mutex_init(&d->lock, NULL);
  if (length < 0 || (size_t)length >= sizeof d->path) {
    dft_decoded_free(d);
    return dft_fail(DFT_EUSAGE, "data.decoded_cache: %s: the path is too long", directory);
  }
  *decoded = d;
  return DFT_OK;
}

void dft_decoded_free(dft_decoded *d) {
  if (d == NULL) return;
  if (d->fd >= 0) close(d->fd);
  pthread_mutex_destroy(&d->lock);
  free(d);
}

static double free_bytes(int fd) {
  struct statvfs disk;
  return fstatvfs(fd, &disk) == 0 ? (double)disk.f_bavail * (double)disk.f_frsize : 0;
}

/* The lock is held. */
static void stop_writing(dft_decoded *d, const char *why) {
  if (d->writes && d->warns) dft_warn("%s: %s: further decoded images are not kept", d->path, why);
  d->writes = false;
}

static void open_file(dft_decoded *d) {
  char directory[PATH_MAX];
  snprintf(directory, sizeof directory, "%.*s", (int)d->directory_bytes, d->path);
  d->tried = true;
  bool made = dft_make_directories(directory, "directory of decoded images") == DFT_OK;
  if (made) d->fd = open(d->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  int error = errno;
  d->writes = d->fd >= 0;
  if (!d->writes) d->fd = open(d->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (d->writes) d->reserve_bytes = 0.1 * free_bytes(d->fd);
  if (d->writes || !d->warns) return;
  const char *instead = d->fd >= 0 ? "what is there is read" : "images are decoded each time";
  if (made)
    dft_warn("data.decoded_cache: %s: cannot write: %s; %s", d->path, strerror(error), instead);
  else
    dft_warn("data.decoded_cache: %s; %s", dft_error(), instead);
}

static int file_of(dft_decoded *d) {
  pthread_mutex_lock(&d->lock);
  if (!d->tried) open_file(d);
  int fd = d->fd;
  pthread_mutex_unlock(&d->lock);
  return fd;
}

static bool read_all(int fd, void *to, size_t bytes, int64_t offset) {
  for (size_t have = 0; have < bytes;) {
    ssize_t n = pread(fd, (char *)to + have, bytes - have, (off_t)(offset + (int64_t)have));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    have += (size_t)n;
  }
  return true;
}

static size_t pixel_bytes(int32_t height, int32_t width) {
  return (size_t)height * (size_t)width * 3;
}

static uint32_t seal(const slot *s, const uint8_t *rgb) {
  uint32_t crc = dft_crc32c(0, (const char *)s + SEALED_FROM, HEADER_BYTES - SEALED_FROM);
  return dft_crc32c(crc, rgb, pixel_bytes(s->height, s->width));
}

static bool grow(dft_bitmap *bitmap, size_t bytes) {
  if (bytes <= bitmap->capacity_bytes) return true;
  uint8_t *rgb = realloc(bitmap->rgb, bytes);
  if (rgb == NULL) return false;
  bitmap->rgb = rgb;
  bitmap->capacity_bytes = bytes;
  return true;
}

bool dft_decoded_get(dft_decoded *d, int64_t origin, dft_bitmap *bitmap, uint64_t *stamp) {
  slot s;
  int fd = file_of(d);
  int64_t at = origin * d->slot_bytes, room = d->slot_bytes - HEADER_BYTES;
  *stamp = fd >= 0 ? dft_manifest_stamp(d->manifest, origin) : 0;
  if (*stamp == 0 || !read_all(fd, &s, HEADER_BYTES, at)) return false;
  if (s.magic != MAGIC || s.stamp != *stamp || s.height < 1 || s.width < 1 || s.height > room ||
      (int64_t)s.width * 3 > room / s.height)
    return false;
  size_t bytes = pixel_bytes(s.height, s.width);
  if (!grow(bitmap, bytes) || !read_all(fd, bitmap->rgb, bytes, at + HEADER_BYTES)) return false;
  bitmap->height = s.height;
  bitmap->width = s.width;
  return seal(&s, bitmap->rgb) == s.crc;
}

/* Whether a bitmap may be written; now and then looks whether there is still room. */
static bool may_write(dft_decoded *d) {
  pthread_mutex_lock(&d->lock);
  if (d->writes && d->puts++ % LOOK_EVERY == 0 && free_bytes(d->fd) < d->reserve_bytes)
    stop_writing(d, "nine tenths of the free room are used");
  bool may = d->writes;
  pthread_mutex_unlock(&d->lock);
  return may;
}

void dft_decoded_put(dft_decoded *d, int64_t origin, const dft_bitmap *bitmap, uint64_t stamp) {
  size_t bytes = pixel_bytes(bitmap->height, bitmap->width);
  if (stamp == 0 || (int64_t)bytes > d->slot_bytes - HEADER_BYTES || !may_write(d)) return;
  slot s = {.magic = MAGIC, .stamp = stamp, .height = bitmap->height, .width = bitmap->width};
  s.crc = seal(&s, bitmap->rgb);
  const char *parts[] = {(const char *)&s, (const char *)bitmap->rgb};
  const size_t sizes[] = {HEADER_BYTES, bytes};
  int64_t at = origin * d->slot_bytes;
  for (int p = 0; p < 2; p++)
    for (size_t done = 0; done < sizes[p];) {
      ssize_t n = pwrite(d->fd, parts[p] + done, sizes[p] - done, (off_t)at);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        const char *why = strerror(n < 0 ? errno : ENOSPC);
        pthread_mutex_lock(&d->lock);
        stop_writing(d, why);
        pthread_mutex_unlock(&d->lock);
        return;
      }
      done += (size_t)n;
      at += n;
    }
}
