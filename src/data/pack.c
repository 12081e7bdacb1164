#include "dft/pack.h"
#include "dft/file.h"
#include "dft/text.h"
#include "tar.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = DFT_TAR_BLOCK_BYTES, BUFFER_BYTES = 1 << 20, PROGRESS_SAMPLES = 100 };

/* A file, under a temporary name until all are whole. */
typedef struct output {
  char path[DFT_PATH_BYTES], temporary[DFT_PATH_BYTES + 32];
  FILE *f;
  int64_t bytes;
} output;

typedef struct packing {
  const dft_manifest *manifest;
  const char *directory;
  const dft_pack_options *options;
  dft_packed *packed;
  output shard, table, names;
  int64_t in_shard, begun; /* samples; shards */
} packing;

/* ---- files ---- */

static dft_status fail_output(const output *o) {
  return dft_fail(DFT_EIO, "%s: cannot write: %s", o->path, strerror(errno));
}

static dft_status name_output(output *o, const char *directory, const char *name) {
  if (snprintf(o->path, sizeof o->path, "%s/%s", directory, name) >= DFT_PATH_BYTES) {
    errno = ENAMETOOLONG;
    return fail_output(o);
  }
  snprintf(o->temporary, sizeof o->temporary, "%s.%ld" DFT_TEMPORARY_SUFFIX, o->path, (long)getpid());
  return DFT_OK;
}

static dft_status name_shard(output *o, const char *directory, int64_t number) {
  char name[32];
  snprintf(name, sizeof name, "shard-%06lld.tar", (long long)number);
  return name_output(o, directory, name);
}

static dft_status open_output(output *o) {
  o->bytes = 0;
  o->f = fopen(o->temporary, "wbe");
  if (o->f == NULL) return fail_output(o);
  (void)setvbuf(o->f, NULL, _IOFBF, BUFFER_BYTES);
  return DFT_OK;
}

static dft_status put(output *o, const void *data, size_t bytes) {
  if (bytes > 0 && fwrite(data, 1, bytes, o->f) != bytes) return fail_output(o);
  o->bytes += (int64_t)bytes;
  return DFT_OK;
}

static dft_status close_output(output *o) {
  bool good = fflush(o->f) == 0 && fsync(fileno(o->f)) == 0;
  int error = errno;
  if (fclose(o->f) != 0 && good) {
    good = false;
    error = errno;
  }
  o->f = NULL;
  errno = error;
  return good ? DFT_OK : fail_output(o);
}

static void drop_output(output *o) {
  if (o->f != NULL) (void)fclose(o->f);
  o->f = NULL;
  (void)unlink(o->temporary);
}

static dft_status publish_output(const output *o) {
  return rename(o->temporary, o->path) == 0 ? DFT_OK : fail_output(o);
}

/* Everything under its name, classes.txt last, and on the disk. */
static dft_status publish(packing *p) {
  for (int64_t i = 0; i < p->begun; i++) {
    DFT_TRY(name_shard(&p->shard, p->directory, i));
    DFT_TRY(publish_output(&p->shard));
  }
  DFT_TRY(publish_output(&p->table));
  DFT_TRY(publish_output(&p->names));
  return dft_sync_rename(p->names.path);
}

/* After an error. */
static void drop_all(packing *p) {
  drop_output(&p->shard);
  drop_output(&p->table);
  drop_output(&p->names);
  /* What is there already has been published before what failed: the directory was empty. */
  (void)unlink(p->table.path);
  (void)unlink(p->names.path);
  for (int64_t i = 0; i < p->begun; i++)
    if (name_shard(&p->shard, p->directory, i) == DFT_OK) {
      (void)unlink(p->shard.temporary);
      (void)unlink(p->shard.path);
    }
}

/* ---- tar ---- */

/* A POSIX.1-1988 ustar header: mode, owner, group, time, the checksum's place as spaces (so it is summed) and
 * the type of a regular file, magic, version. Whatever is not said here is zero. */
static dft_status put_member(output *o, const char *name, const void *data, size_t bytes) {
  static const struct {
    int at;
    const char *text;
  } fields[] = {{DFT_TAR_MODE, "0000644"},     {DFT_TAR_OWNER, "0000000"},      {DFT_TAR_GROUP, "0000000"},
                {DFT_TAR_TIME, "00000000000"}, {DFT_TAR_CHECKSUM, "        0"}, {DFT_TAR_MAGIC, "ustar"},
                {DFT_TAR_VERSION, "00"}};
  static const char zeros[BLOCK];
  char header[BLOCK] = "";
  snprintf(header + DFT_TAR_NAME, DFT_TAR_NAME_BYTES, "%s", name);
  snprintf(header + DFT_TAR_SIZE, DFT_TAR_SIZE_BYTES, "%011llo", (unsigned long long)bytes);
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
    memcpy(header + fields[i].at, fields[i].text, strlen(fields[i].text));
  unsigned sum = 0;
  for (int i = 0; i < BLOCK; i++) sum += (unsigned char)header[i];
  snprintf(header + DFT_TAR_CHECKSUM, DFT_TAR_CHECKSUM_BYTES - 1, "%06o", sum); /* then a zero and a space */
  header[DFT_TAR_CHECKSUM + DFT_TAR_CHECKSUM_BYTES - 1] = ' ';
  DFT_TRY(put(o, header, BLOCK));
  DFT_TRY(put(o, data, bytes));
  return put(o, zeros, (BLOCK - bytes % BLOCK) % BLOCK);
}

static dft_status close_shard(packing *p) {
  static const char end[2 * BLOCK];
  if (p->shard.f == NULL) return DFT_OK;
  DFT_TRY(put(&p->shard, end, sizeof end));
  p->packed->bytes += p->shard.bytes;
  p->packed->shards++;
  return close_output(&p->shard);
}

/* Room for a sample of `bytes` bytes. */
static dft_status open_shard(packing *p, int64_t bytes) {
  const dft_pack_options *o = p->options;
  int64_t sample_bytes = 2 * BLOCK + (bytes + BLOCK - 1) / BLOCK * BLOCK + BLOCK;
  bool full = p->shard.bytes + sample_bytes + 2 * BLOCK > o->shard_bytes ||
              (o->shard_samples > 0 && p->in_shard >= o->shard_samples);
  if (p->shard.f != NULL && !full) return DFT_OK;
  DFT_TRY(close_shard(p));
  p->in_shard = 0;
  DFT_TRY(name_shard(&p->shard, p->directory, p->begun));
  p->begun++;
  return open_output(&p->shard);
}

/* ---- samples ---- */

static dft_status put_row(output *o, const char *key, const char *class_name, const char *file) {
  fprintf(o->f, "%s,", key);
  dft_csv_text(o->f, class_name);
  fputc(',', o->f);
  dft_csv_text(o->f, file);
  fputc('\n', o->f);
  return ferror(o->f) ? fail_output(o) : DFT_OK;
}

static dft_status put_sample(packing *p, int64_t i, const uint8_t *data, size_t bytes) {
  const dft_entry *e = dft_manifest_entry(p->manifest, i);
  const char *file = dft_manifest_text(p->manifest, e->name), *dot = strrchr(file, '.');
  char key[32], name[64], label[32];
  snprintf(key, sizeof key, "%08lld", (long long)i);
  int n = snprintf(name, sizeof name, "%s%s", key, dot);
  for (int c = 0; c < n; c++) name[c] = (char)tolower((unsigned char)name[c]);
  DFT_TRY(open_shard(p, (int64_t)bytes));
  DFT_TRY(put_member(&p->shard, name, data, bytes));
  snprintf(name, sizeof name, "%s.cls", key);
  n = snprintf(label, sizeof label, "%d", e->label);
  DFT_TRY(put_member(&p->shard, name, label, (size_t)n));
  p->in_shard++;
  return put_row(&p->table, key, dft_manifest_class_names(p->manifest)[e->label], file);
}

static dft_status pack_sample(packing *p, int64_t i) {
  uint8_t *data = NULL;
  size_t bytes = 0;
  if (dft_manifest_entry(p->manifest, i)->bytes != 0)
    DFT_TRY(dft_manifest_read(p->manifest, i, &data, &bytes));
  else
    p->packed->empty++;
  const dft_status status = put_sample(p, i, data, bytes);
  free(data);
  return status;
}

static dft_status pack_all(packing *p) {
  int64_t samples = dft_manifest_count(p->manifest);
  DFT_TRY(name_output(&p->table, p->directory, "samples.csv"));
  DFT_TRY(open_output(&p->table));
  DFT_TRY(put(&p->table, "key,class,file\n", 15));
  for (int64_t i = 0; i < samples; i++) {
    DFT_TRY(pack_sample(p, i));
    p->packed->samples++;
    if (p->options->progress != NULL && (i + 1) % PROGRESS_SAMPLES == 0) p->options->progress(i + 1, samples);
  }
  DFT_TRY(close_shard(p));
  return close_output(&p->table);
}

/* ---- around them ---- */

static dft_status write_class_names(packing *p) {
  const char *const *names = dft_manifest_class_names(p->manifest);
  DFT_TRY(name_output(&p->names, p->directory, "classes.txt"));
  DFT_TRY(open_output(&p->names));
  for (int64_t c = 0; c < p->packed->classes; c++) {
    DFT_TRY(put(&p->names, names[c], strlen(names[c])));
    DFT_TRY(put(&p->names, "\n", 1));
  }
  return close_output(&p->names);
}

static dft_status check_empty(const char *directory) {
  DIR *d = opendir(directory);
  bool empty = true, unfinished = true;
  const struct dirent *e;
  if (d == NULL) return dft_fail(DFT_EIO, "%s: cannot read: %s", directory, strerror(errno));
  for (errno = 0; (e = readdir(d)) != NULL; errno = 0) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    empty = false;
    unfinished = unfinished && dft_ends_in(e->d_name, DFT_TEMPORARY_SUFFIX);
  }
  const int error = errno;
  (void)closedir(d);
  if (error != 0) return dft_fail(DFT_EIO, "%s: cannot read: %s", directory, strerror(error));
  return empty ? DFT_OK
               : dft_fail(DFT_EUSAGE, "%s: the output directory is not empty%s; name a new one", directory,
                          unfinished ? " (files of a dft pack that was interrupted, or still runs)" : "");
}

dft_status dft_pack(const char *folder, const char *directory, const dft_pack_options *options,
                    dft_packed *packed) {
  dft_listing l;
  dft_manifest *m = NULL;
  *packed = (dft_packed){0};
  if (directory[0] == '\0') return dft_fail(DFT_EUSAGE, "the output directory's name is empty");
  DFT_TRY(dft_list_folder(folder, NULL, 0, NULL, dft_share_alone(), &l));
  dft_status status = dft_manifest_share(&l, dft_share_alone(), &m);
  dft_listing_free(&l);
  /* shards inside the folder would be a class of it the next time */
  if (status == DFT_OK && dft_is_inside(directory, folder))
    status = dft_fail(DFT_EUSAGE,
                      "%s: the output directory is inside the folder that is packed; name one beside it",
                      directory);
  if (status == DFT_OK) status = dft_make_directories(directory, "output directory");
  if (status == DFT_OK) status = check_empty(directory);
  if (status == DFT_OK) {
    packing p = {.manifest = m, .directory = directory, .options = options, .packed = packed};
    packed->classes = dft_manifest_classes(m);
    status = write_class_names(&p);
    if (status == DFT_OK) status = pack_all(&p);
    if (status == DFT_OK) status = publish(&p);
    if (status != DFT_OK) drop_all(&p);
  }
  dft_manifest_unref(m);
  return status;
}
