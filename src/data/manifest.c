#include "manifest.h"
#include "dft/text.h"
#include "source.h"
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Shards that stay open; of others the file is opened at each read. */
enum { KEPT_OPEN = 256 };
static const int64_t max_sample_bytes = INT64_C(1) << 30;

/* ---- listing ---- */

void dft_listing_free(dft_listing *l) {
  free(l->entries);
  free(l->text);
  free(l->classes);
  free(l->shards);
  *l = (dft_listing){0};
}

/* `array` is the address of a pointer to elements of `size` bytes. */
static dft_status grow(void *array, int64_t *room, int64_t needed, size_t size) {
  if (needed <= *room) return DFT_OK;
  int64_t wanted = *room < 64 ? 64 : *room;
  while (wanted < needed) wanted *= 2;
  void *old, *bigger;
  memcpy(&old, array, sizeof(void *));
  bigger = reallocarray(old, (size_t)wanted, size);
  if (bigger == NULL) return dft_fail_memory("list of files", (unsigned long long)wanted * size);
  memcpy(array, &bigger, sizeof(void *));
  *room = wanted;
  return DFT_OK;
}

static dft_status add_bytes(dft_listing *l, const char *text, int64_t bytes, int64_t *place) {
  DFT_TRY(grow(&l->text, &l->text_room, l->text_bytes + bytes, 1));
  memcpy(l->text + l->text_bytes, text, (size_t)bytes);
  *place = l->text_bytes;
  l->text_bytes += bytes;
  return DFT_OK;
}

dft_status dft_listing_text(dft_listing *l, const char *text, int64_t *place) {
  return add_bytes(l, text, (int64_t)strlen(text) + 1, place);
}

dft_status dft_listing_add(dft_listing *l, const char *name, dft_entry entry) {
  DFT_TRY(grow(&l->entries, &l->room, l->count + 1, sizeof *l->entries));
  DFT_TRY(dft_listing_text(l, name, &entry.name));
  l->entries[l->count++] = entry;
  return DFT_OK;
}

dft_status dft_listing_class(dft_listing *l, const char *name) {
  if (!dft_is_line(name))
    return dft_fail(DFT_EDATA, "the class name '%s' is not UTF-8 text in one line: rename it", name);
  DFT_TRY(grow(&l->classes, &l->class_room, l->class_count + 1, sizeof *l->classes));
  DFT_TRY(dft_listing_text(l, name, &l->classes[l->class_count]));
  l->class_count++;
  return DFT_OK;
}

dft_status dft_listing_shard(dft_listing *l, const char *path) {
  DFT_TRY(grow(&l->shards, &l->shard_room, l->shard_count + 1, sizeof *l->shards));
  DFT_TRY(dft_listing_text(l, path, &l->shards[l->shard_count]));
  l->shard_count++;
  return DFT_OK;
}

dft_status dft_listing_join(dft_listing *l, const dft_listing *part, int32_t shard) {
  if (part->count == 0 && part->passed_over == 0) return DFT_OK;
  int64_t base;
  DFT_TRY(grow(&l->entries, &l->room, l->count + part->count, sizeof *l->entries));
  DFT_TRY(add_bytes(l, part->text, part->text_bytes, &base));
  if (l->passed_over == 0) l->passed_over_name = base + part->passed_over_name;
  l->passed_over += part->passed_over;
  for (int64_t i = 0; i < part->count; i++) {
    dft_entry *e = &l->entries[l->count++];
    *e = part->entries[i];
    e->name += base;
    e->shard = shard;
  }
  return DFT_OK;
}

/* ---- one copy per host ---- */

/* The block: entries, places of class names, places of shards, text. */
typedef struct extent {
  int64_t root, count, classes, shards, text_bytes, passed_over, passed_over_name;
} extent;

struct dft_manifest {
  int refs;
  const dft_share *share;
  extent n;
  void *block;
  const dft_entry *entries;
  const int64_t *shards;
  const char *text;
  const char **class_names; /* [n.classes] */
  int *fds;                 /* [n.shards], -1: not open */
};

static dft_status point(dft_manifest *m) {
  m->entries = m->block;
  const int64_t *classes = (const int64_t *)(m->entries + m->n.count);
  m->shards = classes + m->n.classes;
  m->text = (const char *)(m->shards + m->n.shards);
  m->class_names = calloc((size_t)m->n.classes + 1, sizeof *m->class_names);
  m->fds = malloc(((size_t)m->n.shards + 1) * sizeof *m->fds);
  for (int64_t i = 0; m->fds != NULL && i < m->n.shards; i++) m->fds[i] = -1;
  if (m->class_names == NULL || m->fds == NULL) return dft_fail_memory("class names and shards", 0);
  for (int64_t i = 0; i < m->n.classes; i++) m->class_names[i] = m->text + classes[i];
  return DFT_OK;
}

static void fill(void *block, const dft_listing *l) {
  const struct {
    const void *from;
    int64_t count;
    size_t size;
  } parts[] = {{l->entries, l->count, sizeof *l->entries},
               {l->classes, l->class_count, sizeof *l->classes},
               {l->shards, l->shard_count, sizeof *l->shards},
               {l->text, l->text_bytes, 1}};
  char *to = block;
  for (int i = 0; i < 4; i++) {
    size_t bytes = (size_t)parts[i].count * parts[i].size;
    if (bytes > 0) memcpy(to, parts[i].from, bytes);
    to += bytes;
  }
}

dft_status dft_manifest_share(const dft_listing *l, const dft_share *share, dft_manifest **manifest) {
  extent n = {l->root,       l->count,       l->class_count,     l->shard_count,
              l->text_bytes, l->passed_over, l->passed_over_name};
  dft_manifest *m = calloc(1, sizeof *m);
  *manifest = NULL;
  dft_status status =
      share->fence(share->context, m == NULL ? dft_fail_memory("manifest", sizeof *m) : DFT_OK);
  if (status != DFT_OK || m == NULL) {
    free(m);
    return status;
  }
  *m = (dft_manifest){.refs = 1, .share = share};
  status = share->broadcast(share->context, &n, sizeof n);
  m->n = n;
  size_t bytes = (size_t)n.count * sizeof(dft_entry) + (size_t)(n.classes + n.shards) * sizeof(int64_t) +
                 (size_t)n.text_bytes;
  if (status == DFT_OK) status = share->alloc(share->context, bytes, &m->block);
  if (status == DFT_OK && share->writer) fill(m->block, l);
  if (status == DFT_OK) status = share->fence(share->context, DFT_OK);
  if (status == DFT_OK) status = share->fence(share->context, point(m));
  if (status != DFT_OK) {
    dft_manifest_unref(m);
    return status;
  }
  *manifest = m;
  return DFT_OK;
}

dft_manifest *dft_manifest_ref(dft_manifest *m) {
  m->refs++;
  return m;
}

void dft_manifest_unref(dft_manifest *m) {
  if (m == NULL || --m->refs > 0) return;
  for (int64_t i = 0; m->fds != NULL && i < m->n.shards; i++)
    if (m->fds[i] >= 0) (void)close(m->fds[i]);
  free(m->fds);
  free(m->class_names);
  if (m->block != NULL) m->share->free(m->share->context, m->block);
  free(m);
}

/* ---- reading ---- */

int64_t dft_manifest_count(const dft_manifest *m) {
  return m->n.count;
}

const dft_entry *dft_manifest_entry(const dft_manifest *m, int64_t i) {
  return &m->entries[i];
}

int dft_manifest_classes(const dft_manifest *m) {
  return (int)m->n.classes;
}

const char *const *dft_manifest_class_names(const dft_manifest *m) {
  return m->n.classes > 0 ? m->class_names : NULL;
}

int64_t dft_manifest_passed_over(const dft_manifest *m, const char **name) {
  *name = m->n.passed_over > 0 ? m->text + m->n.passed_over_name : "";
  return m->n.passed_over;
}

const char *dft_manifest_text(const dft_manifest *m, int64_t place) {
  return m->text + place;
}

static const char *shard_path(const dft_manifest *m, int64_t i) {
  return m->text + m->shards[m->entries[i].shard];
}

void dft_manifest_name(const dft_manifest *m, int64_t i, bool whole, char *text, size_t bytes) {
  const dft_entry *e = &m->entries[i];
  const char *name = m->text + e->name;
  if (e->shard >= 0)
    snprintf(text, bytes, "%s: %s", whole ? shard_path(m, i) : dft_basename(shard_path(m, i)), name);
  else if (whole && m->n.root >= 0)
    snprintf(text, bytes, "%s/%s", m->text + m->n.root, name);
  else
    snprintf(text, bytes, "%s", name);
}

/* DFT_EIO when the tar file or class folder where listing found the sample cannot be opened any more: its
 * file system is lost, or the right to read it. A path that somebody named promised nothing. */
static dft_status check_place(const dft_manifest *m, int64_t i) {
  const dft_entry *e = &m->entries[i];
  const char *name = m->text + e->name;
  char place[2 * DFT_PATH_BYTES];
  if (e->shard >= 0)
    snprintf(place, sizeof place, "%s", shard_path(m, i));
  else if (m->n.root >= 0)
    snprintf(place, sizeof place, "%s/%.*s", m->text + m->n.root, (int)strcspn(name, "/"), name);
  else
    return DFT_OK;
  const int fd = open(place, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return dft_fail(DFT_EIO, "%s: cannot be read any more: %s", place, strerror(errno));
  (void)close(fd);
  return DFT_OK;
}

/* What is wrong with one file is wrong with a sample; the rest is wrong with the machine. */
static dft_status fail_sample(const dft_manifest *m, int64_t i, const char *doing) {
  static const int of_the_file[] = {ENOENT, ENOTDIR, EISDIR, EACCES, EPERM, ELOOP, ENXIO, ENAMETOOLONG};
  char name[2 * DFT_PATH_BYTES];
  int error = errno;
  dft_status code = DFT_EIO;
  for (size_t k = 0; k < sizeof of_the_file / sizeof of_the_file[0]; k++)
    if (error == of_the_file[k]) code = DFT_EDATA;
  if (code == DFT_EDATA) DFT_TRY(check_place(m, i));
  dft_manifest_name(m, i, true, name, sizeof name);
  return dft_fail(code, "%s: cannot %s: %s", name, doing, strerror(error));
}

/* *keep: the file stays open, for others. */
static int open_shard(const dft_manifest *m, int64_t i, bool *keep) {
  int32_t shard = m->entries[i].shard;
  *keep = shard < KEPT_OPEN;
  int fd = *keep ? __atomic_load_n(&m->fds[shard], __ATOMIC_ACQUIRE) : -1;
  if (fd >= 0) return fd;
  fd = open(shard_path(m, i), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  int none = -1;
  if (fd >= 0 && *keep &&
      !__atomic_compare_exchange_n(&m->fds[shard], &none, fd, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    (void)close(fd); /* another thread was faster */
    fd = none;
  }
  return fd;
}

static int open_file(const dft_manifest *m, int64_t i) {
  char path[2 * DFT_PATH_BYTES];
  dft_manifest_name(m, i, true, path, sizeof path);
  return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

static dft_status check_bytes(const dft_manifest *m, int64_t i, int64_t bytes) {
  char name[2 * DFT_PATH_BYTES];
  if (bytes > 0 && bytes <= max_sample_bytes) return DFT_OK;
  dft_manifest_name(m, i, true, name, sizeof name);
  if (bytes == 0) return dft_fail(DFT_EDATA, "%s: zero bytes", name);
  return dft_fail(DFT_EDATA, "%s: %lld bytes are too many for an image", name, (long long)bytes);
}

static dft_status read_bytes(const dft_manifest *m, int64_t i, int fd, int64_t bytes, uint8_t **data) {
  DFT_TRY(check_bytes(m, i, bytes));
  *data = malloc((size_t)bytes);
  if (*data == NULL) return dft_fail_memory("image file", (unsigned long long)bytes);
  for (int64_t have = 0; have < bytes;) {
    ssize_t n = pread(fd, *data + have, (size_t)(bytes - have), m->entries[i].offset + have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_sample(m, i, "read");
    if (n == 0) {
      char name[2 * DFT_PATH_BYTES];
      dft_manifest_name(m, i, true, name, sizeof name);
      return dft_fail(DFT_EDATA, "%s: ends after %lld of %lld bytes", name, (long long)have,
                      (long long)bytes);
    }
    have += n;
  }
  return DFT_OK;
}

static dft_status size_of_file(const dft_manifest *m, int64_t i, int fd, int64_t *bytes) {
  struct stat s;
  char name[2 * DFT_PATH_BYTES];
  if (fstat(fd, &s) != 0) return fail_sample(m, i, "read");
  *bytes = s.st_size;
  if (S_ISREG(s.st_mode)) return DFT_OK;
  dft_manifest_name(m, i, true, name, sizeof name);
  return dft_fail(DFT_EDATA, "%s: not a regular file", name);
}

dft_status dft_manifest_read(const dft_manifest *m, int64_t i, uint8_t **data, size_t *count) {
  const dft_entry *e = &m->entries[i];
  bool keep = false;
  int fd = e->shard >= 0 ? open_shard(m, i, &keep) : open_file(m, i);
  *data = NULL;
  *count = 0;
  if (fd < 0) return fail_sample(m, i, "open");
  int64_t bytes = e->bytes;
  dft_status status = e->shard >= 0 ? DFT_OK : size_of_file(m, i, fd, &bytes);
  if (status == DFT_OK) status = read_bytes(m, i, fd, bytes, data);
  if (!keep) (void)close(fd);
  if (status == DFT_OK) {
    *count = (size_t)bytes;
    return DFT_OK;
  }
  free(*data);
  *data = NULL;
  return status;
}

void dft_manifest_key(const dft_manifest *m, uint64_t key[2]) {
  const struct {
    const void *data;
    int64_t bytes;
  } parts[] = {{m->entries, m->n.count * (int64_t)sizeof *m->entries}, {m->text, m->n.text_bytes}};
  for (int p = 0; p < 2; p++) {
    key[0] = crc64_ecma_refl(key[0], parts[p].data, (uint64_t)parts[p].bytes);
    key[1] = crc64_jones_refl(key[1], parts[p].data, (uint64_t)parts[p].bytes);
  }
}

uint64_t dft_manifest_stamp(const dft_manifest *m, int64_t i) {
  const dft_entry *e = &m->entries[i];
  char path[2 * DFT_PATH_BYTES];
  struct stat info;
  if (e->shard < 0) dft_manifest_name(m, i, true, path, sizeof path);
  if (stat(e->shard < 0 ? path : shard_path(m, i), &info) != 0) return 0;
  const int64_t facts[] = {info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec, e->offset, e->bytes};
  uint64_t stamp = crc64_ecma_refl(0, (const unsigned char *)facts, sizeof facts);
  return stamp == 0 ? 1 : stamp;
}
