/* A directory per class -> listing. */
#include "dft/log.h"
#include "manifest.h"
#include "source.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const dft_image_endings[] = {".bmp", ".gif",  ".jpeg", ".jpg", ".png",
                                         ".tif", ".tiff", ".webp", NULL};

bool dft_image_name(const char *name) {
  size_t n = strlen(name);
  for (int i = 0; dft_image_endings[i] != NULL && name[0] != '.'; i++) {
    size_t ending = strlen(dft_image_endings[i]);
    if (n > ending && strcasecmp(name + n - ending, dft_image_endings[i]) == 0) return true;
  }
  return false;
}

/* ---- order ---- */

/* By directory, then by name in it: as Keras sorts what os.walk yields. */
static int compare_files(const void *a, const void *b) {
  const char *x = *(char *const *)a, *y = *(char *const *)b;
  const char *x_name = dft_basename(x), *y_name = dft_basename(y);
  size_t nx = x_name > x ? (size_t)(x_name - x) - 1 : 0, ny = y_name > y ? (size_t)(y_name - y) - 1 : 0;
  int order = memcmp(x, y, nx < ny ? nx : ny);
  if (order == 0) order = (nx > ny) - (nx < ny);
  return order != 0 ? order : strcmp(x_name, y_name);
}

/* ---- one directory ---- */

typedef struct walk {
  const char *root;
  const dft_share *share;
  dft_strings directories; /* of one class, below the root; read in this order */
  dft_strings files;       /* of one class */
  struct inode {
    dev_t device;
    ino_t number;
  } * seen; /* [seen_count] directories of this class that were read */
  int64_t seen_count, seen_room;
  int64_t passed_over; /* files with other names, of all classes, and those beside them */
  char *passed_over_name;
} walk;

static dft_status fail_directory(const char *path) {
  bool missing = errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
  return dft_fail(missing ? DFT_EDATA : DFT_EIO, "%s: cannot read the directory: %s", path, strerror(errno));
}

static dft_status path_of(const walk *w, const char *below, char path[DFT_PATH_BYTES]) {
  int n = snprintf(path, DFT_PATH_BYTES, "%s%s%s", w->root, below[0] != '\0' ? "/" : "", below);
  if (n < 0 || n >= DFT_PATH_BYTES)
    return dft_fail(DFT_EDATA, "%.200s...: the path is longer than %d bytes", path, DFT_PATH_BYTES - 1);
  return DFT_OK;
}

static bool is_directory(DIR *d, const struct dirent *e) {
  if (e->d_type != DT_UNKNOWN && e->d_type != DT_LNK) return e->d_type == DT_DIR;
  struct stat s;
  return fstatat(dirfd(d), e->d_name, &s, 0) == 0 && S_ISDIR(s.st_mode);
}

/* Whether this directory was not read yet; then it counts as read. */
static dft_status is_new(walk *w, DIR *d, bool *fresh) {
  struct stat s;
  *fresh = false;
  if (fstat(dirfd(d), &s) != 0) return dft_fail(DFT_EIO, "%s: %s", w->root, strerror(errno));
  for (int64_t i = 0; i < w->seen_count; i++)
    if (w->seen[i].device == s.st_dev && w->seen[i].number == s.st_ino) return DFT_OK;
  if (w->seen_count == w->seen_room) {
    int64_t room = w->seen_room < 64 ? 64 : 2 * w->seen_room;
    struct inode *bigger = reallocarray(w->seen, (size_t)room, sizeof *bigger);
    if (bigger == NULL) return dft_fail_memory("directories", (unsigned long long)room * sizeof *bigger);
    w->seen = bigger;
    w->seen_room = room;
  }
  w->seen[w->seen_count++] = (struct inode){s.st_dev, s.st_ino};
  *fresh = true;
  return DFT_OK;
}

/* The first by name is kept: directories give their entries in any order. */
static dft_status pass_over(walk *w, const char *below, const char *name) {
  char *path = NULL;
  if (asprintf(&path, "%s%s%s", below, below[0] != '\0' ? "/" : "", name) < 0)
    return dft_fail_memory("file name", 0);
  w->passed_over++;
  bool first = w->passed_over_name == NULL || strcmp(path, w->passed_over_name) < 0;
  free(first ? w->passed_over_name : path);
  if (first) w->passed_over_name = path;
  return DFT_OK;
}

/* Adds what lies in directory `below` of the root; files NULL: directories only, as files beside the classes'
 * are of none. */
static dft_status read_entries(walk *w, DIR *d, const char *path, const char *below, dft_strings *directories,
                               dft_strings *files) {
  enum { TICK_EVERY = 64 }; /* entries: asking a slow file system of each what it is takes time */
  for (int64_t n = 1;; n++) {
    if (n % TICK_EVERY == 0) w->share->tick(w->share->context);
    errno = 0;
    const struct dirent *e = readdir(d);
    if (e == NULL) return errno == 0 ? DFT_OK : fail_directory(path);
    if (e->d_name[0] == '.') continue;
    if (is_directory(d, e))
      DFT_TRY(dft_strings_join(directories, below, e->d_name));
    else if (files != NULL && dft_image_name(e->d_name))
      DFT_TRY(dft_strings_join(files, below, e->d_name));
    else
      DFT_TRY(pass_over(w, below, e->d_name));
  }
}

static dft_status read_directory(walk *w, const char *below, dft_strings *directories, dft_strings *files) {
  char path[DFT_PATH_BYTES];
  bool fresh = true;
  int64_t from = directories->count;
  DFT_TRY(path_of(w, below, path));
  DIR *d = opendir(path);
  if (d == NULL) return fail_directory(path);
  dft_status status = files != NULL ? is_new(w, d, &fresh) : DFT_OK;
  if (status == DFT_OK && fresh) status = read_entries(w, d, path, below, directories, files);
  (void)closedir(d);
  dft_strings_sort(directories, from,
                   NULL); /* which of two ways to one directory comes first must be certain */
  w->share->tick(w->share->context);
  return status;
}

/* ---- a class ---- */

static dft_status fail_no_images(const walk *w, const char *class_name) {
  char endings[128] = "";
  for (int i = 0; dft_image_endings[i] != NULL; i++) {
    size_t n = strlen(endings);
    snprintf(endings + n, sizeof endings - n, " %s", dft_image_endings[i]);
  }
  return dft_fail(DFT_EDATA, "%s/%s: no images in this class folder (names that end in%s)", w->root,
                  class_name, endings);
}

static dft_status list_class(walk *w, const char *class_name, int32_t label, dft_listing *l) {
  dft_strings_free(&w->directories);
  dft_strings_free(&w->files);
  w->seen_count = 0;
  DFT_TRY(dft_strings_join(&w->directories, "", class_name));
  for (int64_t i = 0; i < w->directories.count; i++)
    DFT_TRY(read_directory(w, w->directories.items[i], &w->directories, &w->files));
  if (w->files.count == 0) return fail_no_images(w, class_name);
  dft_strings_sort(&w->files, 0, compare_files);
  DFT_TRY(dft_context(dft_listing_class(l, class_name), "%s", w->root));
  for (int64_t i = 0; i < w->files.count; i++)
    DFT_TRY(dft_listing_add(l, w->files.items[i], (dft_entry){.bytes = -1, .label = label, .shard = -1}));
  return DFT_OK;
}

static void ask_sizes(const walk *w, dft_listing *l) {
  for (int64_t first = 0; first < l->count; first += DFT_STAT_BATCH) {
    int64_t end = l->count - first < DFT_STAT_BATCH ? l->count : first + DFT_STAT_BATCH;
#pragma omp parallel for num_threads(DFT_STAT_THREADS) schedule(dynamic, 64) if (l->count > DFT_STAT_BATCH)
    for (int64_t i = first; i < end; i++) {
      char path[2 * DFT_PATH_BYTES];
      struct stat s;
      snprintf(path, sizeof path, "%s/%s", w->root, l->text + l->entries[i].name);
      if (stat(path, &s) == 0 && S_ISREG(s.st_mode)) l->entries[i].bytes = s.st_size;
    }
    w->share->tick(w->share->context);
    dft_progress("%s: sizes of %lld of %lld files", w->root, (long long)end, (long long)l->count);
  }
}

dft_status dft_list_images(const char *path, const dft_share *share, dft_strings *files) {
  walk w = {.root = path, .share = share};
  dft_status status = dft_strings_join(&w.directories, "", "");
  for (int64_t i = 0; i < w.directories.count && status == DFT_OK; i++)
    status = read_directory(&w, w.directories.items[i], &w.directories, &w.files);
  dft_strings_sort(&w.files, 0, compare_files);
  for (int64_t i = 0; i < w.files.count && status == DFT_OK; i++)
    status = dft_strings_join(files, path, w.files.items[i]);
  if (w.passed_over > 0)
    dft_note("%s: %lld %s passed over, named like no image, as %s", path, (long long)w.passed_over,
             w.passed_over == 1 ? "file was" : "files were", w.passed_over_name);
  dft_strings_free(&w.directories);
  dft_strings_free(&w.files);
  free(w.seen);
  free(w.passed_over_name);
  return status;
}

/* ---- the classes ---- */

static dft_status check_present(const walk *w, const dft_strings *folders, const char *const *wanted,
                                int count, const char *wanted_from) {
  for (int i = 0; i < count; i++)
    if (!dft_strings_have(folders, wanted[i]))
      return dft_fail(DFT_EDATA, "%s: the class folder '%s' is missing, which %s has", w->root, wanted[i],
                      wanted_from);
  return DFT_OK;
}

static dft_status check_wanted(const walk *w, const dft_strings *folders, const dft_strings *wanted,
                               const char *wanted_from) {
  for (int64_t i = 0; i < folders->count; i++)
    if (!dft_strings_have(wanted, folders->items[i]))
      return dft_fail(DFT_EDATA, "%s: there is a class folder '%s', which %s does not have", w->root,
                      folders->items[i], wanted_from);
  return DFT_OK;
}

/* `folders` are sorted. */
static dft_status check_names(const walk *w, const dft_strings *folders, const char *const *wanted, int count,
                              const char *wanted_from) {
  DFT_TRY(check_present(w, folders, wanted, count, wanted_from));
  dft_strings sorted = {0};
  dft_status status = DFT_OK;
  for (int i = 0; i < count && status == DFT_OK; i++) status = dft_strings_join(&sorted, "", wanted[i]);
  dft_strings_sort(&sorted, 0, NULL);
  if (status == DFT_OK) status = check_wanted(w, folders, &sorted, wanted_from);
  dft_strings_free(&sorted);
  return status;
}

static dft_status find_classes(walk *w, const char *const *wanted, int count, const char *wanted_from,
                               dft_strings *folders) {
  DFT_TRY(read_directory(w, "", folders, NULL));
  if (folders->count == 0)
    return dft_fail(DFT_EDATA, "%s: no class folders; put the images of each class into a folder of its own",
                    w->root);
  if (folders->count > DFT_MAX_CLASSES)
    return dft_fail(DFT_EDATA, "%s: %lld folders are more than the %d classes that are possible", w->root,
                    (long long)folders->count, DFT_MAX_CLASSES);
  return wanted == NULL ? DFT_OK : check_names(w, folders, wanted, count, wanted_from);
}

static dft_status list_classes(walk *w, const dft_strings *folders, const char *const *order,
                               dft_listing *l) {
  for (int64_t i = 0; i < folders->count; i++) {
    dft_progress("%s: listing class %lld of %lld, %lld files", w->root, (long long)i + 1,
                 (long long)folders->count, (long long)l->count);
    DFT_TRY(list_class(w, order != NULL ? order[i] : folders->items[i], (int32_t)i, l));
  }
  ask_sizes(w, l);
  l->passed_over = w->passed_over;
  if (w->passed_over > 0) DFT_TRY(dft_listing_text(l, w->passed_over_name, &l->passed_over_name));
  dft_progress_end();
  return DFT_OK;
}

dft_status dft_list_folder(const char *path, const char *const *wanted, int name_count,
                           const char *wanted_from, const dft_share *share, dft_listing *l) {
  walk w = {.root = path, .share = share};
  dft_strings folders = {0};
  *l = (dft_listing){0};
  dft_status status = dft_listing_text(l, path, &l->root);
  if (status == DFT_OK) status = find_classes(&w, wanted, name_count, wanted_from, &folders);
  if (status == DFT_OK) status = list_classes(&w, &folders, wanted, l);
  dft_strings_free(&folders);
  dft_strings_free(&w.directories);
  dft_strings_free(&w.files);
  free(w.seen);
  free(w.passed_over_name);
  if (status != DFT_OK) dft_listing_free(l);
  return status;
}
