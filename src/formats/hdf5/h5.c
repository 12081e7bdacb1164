#include "h5.h"
#include "dft/text.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void dft_h5_quiet(void) {
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void dft_h5_free(hid_t id) {
  if (id >= 0) H5Idec_ref(id);
}

/* The operating system's word on why a file cannot be read is better than libhdf5's. */
static dft_status file_length(const char *path, int64_t *bytes) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return dft_fail(DFT_EDATA, "%s: cannot read: %s", path, strerror(errno));
  struct stat s;
  int failed = fstat(fd, &s);
  close(fd);
  if (failed) return dft_fail(DFT_EDATA, "%s: cannot read: %s", path, strerror(errno));
  if (!S_ISREG(s.st_mode)) return dft_fail(DFT_EDATA, "%s: not a regular file", path);
  *bytes = s.st_size;
  return DFT_OK;
}

dft_status dft_h5_open(const char *path, dft_h5 *file) {
  *file = (dft_h5){.id = -1, .path = path};
  DFT_TRY(file_length(path, &file->file_bytes));
  dft_h5_quiet();
  H5PLset_loading_state(0); /* a file may not make us load code */
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  if (access < 0) return dft_fail(DFT_EINTERNAL, "%s: libhdf5 does not start", path);
  H5Pset_file_locking(access, false, true); /* file systems without locks are common on clusters */
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  file->id = H5Fopen(path, H5F_ACC_RDONLY, access);
  H5Pclose(access);
  if (file->id < 0) return dft_fail(DFT_EDATA, "%s: not an HDF5 file, or a damaged or truncated one", path);
  return DFT_OK;
}

void dft_h5_close(dft_h5 *file) {
  if (file->id >= 0) H5Fclose(file->id);
  file->id = -1;
}

/* ---- names ---- */

static dft_status add_name(dft_names *list, const char *name, size_t bytes) {
  bool full = (list->count & (list->count - 1)) == 0; /* as in weights.c: capacity is a power of two */
  if (full) {
    size_t capacity = list->count == 0 ? 1 : 2 * (size_t)list->count;
    char **names = realloc(list->names, capacity * sizeof *names);
    if (!names) return dft_fail_memory("names", capacity * sizeof *names);
    list->names = names;
  }
  char *copy = strndup(name, bytes);
  if (!copy) return dft_fail_memory("a name", bytes);
  dft_no_controls(copy);
  list->names[list->count++] = copy;
  return DFT_OK;
}

void dft_names_free(dft_names *list) {
  for (int i = 0; i < list->count; i++) free(list->names[i]);
  free(list->names);
  *list = (dft_names){0};
}

/* ---- objects ---- */

/* `name` is one link of `parent`. */
static hid_t open_link(hid_t parent, const char *name) {
  H5L_info_t info;
  if (!*name || H5Lget_info(parent, name, &info, H5P_DEFAULT) < 0 || info.type != H5L_TYPE_HARD) return -1;
  return H5Oopen(parent, name, H5P_DEFAULT);
}

hid_t dft_h5_child(hid_t parent, const char *path) {
  char name[DFT_H5_NAME_BYTES_MAX];
  hid_t current = parent;
  for (;;) {
    size_t bytes = strcspn(path, "/");
    if (bytes >= sizeof name) break;
    memcpy(name, path, bytes);
    name[bytes] = 0;
    bool group = H5Iget_type(current) == H5I_GROUP || H5Iget_type(current) == H5I_FILE;
    hid_t next = group ? open_link(current, name) : -1;
    if (current != parent) dft_h5_free(current);
    if (next < 0 || !path[bytes]) return next;
    current = next;
    path += bytes + 1;
  }
  if (current != parent) dft_h5_free(current);
  return -1;
}

hid_t dft_h5_group(hid_t parent, const char *path) {
  hid_t id = dft_h5_child(parent, path);
  if (id >= 0 && H5Iget_type(id) == H5I_GROUP) return id;
  dft_h5_free(id);
  return -1;
}

/* Names on their way into a list, and what went wrong with it. */
typedef struct collection {
  const dft_h5 *file;
  dft_names *list;
  dft_status status;
} collection;

static herr_t collect_member(hid_t group, const char *name, const H5L_info_t *info, void *context) {
  (void)group, (void)info;
  collection *c = context;
  c->status = c->list->count < DFT_H5_NAMES_MAX
                  ? add_name(c->list, name, DFT_H5_NAME_BYTES_MAX)
                  : dft_fail(DFT_EDATA, "%s: a group of more than %d names: not one of Keras' files",
                             c->file->path, DFT_H5_NAMES_MAX);
  return c->status == DFT_OK ? 0 : -1;
}

static int natural_order(const void *a, const void *b) {
  return strverscmp(*(char *const *)a, *(char *const *)b);
}

dft_status dft_h5_members(const dft_h5 *file, hid_t group, dft_names *list) {
  collection c = {file, list, DFT_OK};
  const herr_t end = H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, collect_member, &c);
  DFT_TRY(c.status);
  if (end < 0) return dft_fail(DFT_EDATA, "%s: a group cannot be listed: the file is damaged", file->path);
  if (list->count > 0) qsort(list->names, (size_t)list->count, sizeof *list->names, natural_order);
  return DFT_OK;
}

/* ---- attributes ---- */

static dft_status add_fixed(hid_t attribute, hid_t type, int64_t count, dft_names *list, bool *good) {
  size_t bytes = H5Tget_size(type);
  *good = bytes != 0 && bytes <= DFT_H5_NAME_BYTES_MAX;
  if (!*good) return DFT_OK;
  char *text = calloc((size_t)count, bytes);
  if (!text) return dft_fail_memory("names", (size_t)count * bytes);
  dft_status status = DFT_OK;
  *good = H5Aread(attribute, type, text) >= 0;
  for (int64_t i = 0; *good && status == DFT_OK && i < count; i++)
    status = add_name(list, text + (size_t)i * bytes, bytes);
  free(text);
  return status;
}

static dft_status add_variable(hid_t attribute, hid_t type, hid_t space, int64_t count, dft_names *list,
                               bool *good) {
  char **texts = calloc((size_t)count, sizeof *texts);
  if (!texts) return dft_fail_memory("names", (size_t)count * sizeof *texts);
  dft_status status = DFT_OK;
  *good = H5Aread(attribute, type, texts) >= 0;
  for (int64_t i = 0; *good && status == DFT_OK && i < count; i++) {
    const char *text = texts[i] ? texts[i] : "";
    *good = strnlen(text, DFT_H5_NAME_BYTES_MAX) < DFT_H5_NAME_BYTES_MAX;
    if (*good) status = add_name(list, text, DFT_H5_NAME_BYTES_MAX);
  }
  H5Dvlen_reclaim(type, space, H5P_DEFAULT, texts);
  free(texts);
  return status;
}

dft_status dft_h5_strings(const dft_h5 *file, hid_t object, const char *name, dft_names *list, bool *found) {
  htri_t exists = H5Aexists(object, name);
  if (found) *found = exists > 0;
  if (exists <= 0) return DFT_OK;
  hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
  hid_t type = attribute < 0 ? -1 : H5Aget_type(attribute);
  hid_t space = attribute < 0 ? -1 : H5Aget_space(attribute);
  hssize_t count = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
  bool good = type >= 0 && count >= 0 && count <= DFT_H5_NAMES_MAX;
  dft_status status = DFT_OK;
  if (good && count > 0) { /* an empty list has no type to speak of: Keras writes float64 */
    good = H5Tget_class(type) == H5T_STRING;
    if (good && H5Tis_variable_str(type) > 0)
      status = add_variable(attribute, type, space, count, list, &good);
    else if (good)
      status = add_fixed(attribute, type, count, list, &good);
  }
  dft_h5_free(space);
  dft_h5_free(type);
  dft_h5_free(attribute);
  if (status == DFT_OK && !good)
    status = dft_fail(DFT_EDATA, "%s: attribute %s is not a readable list of names", file->path, name);
  return status;
}

/* ---- tensors ---- */

typedef struct layout {
  int rank;
  hsize_t shape[H5S_MAX_RANK];
  int64_t elements, element_bytes, stored_bytes;
  H5T_class_t type;
  bool plain;   /* in this file, contiguous, compact or chunked */
  bool chunked; /* then perhaps compressed */
  int64_t chunk_bytes;
} layout;

static bool read_layout(hid_t dataset, layout *l) {
  *l = (layout){0};
  hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset), create = H5Dget_create_plist(dataset);
  bool good = space >= 0 && type >= 0 && create >= 0;
  if (good) {
    l->rank = H5Sget_simple_extent_dims(space, l->shape, NULL);
    l->elements = H5Sget_simple_extent_npoints(space);
    l->element_bytes = (int64_t)H5Tget_size(type);
    l->type = H5Tget_class(type);
    l->stored_bytes = (int64_t)H5Dget_storage_size(dataset);
    H5D_layout_t kind = H5Pget_layout(create);
    l->chunked = kind == H5D_CHUNKED;
    l->plain =
        (kind == H5D_CONTIGUOUS || kind == H5D_COMPACT || l->chunked) && H5Pget_external_count(create) == 0;
    if (l->chunked) {
      hsize_t chunk[H5S_MAX_RANK];
      int rank = H5Pget_chunk(create, H5S_MAX_RANK, chunk);
      l->chunk_bytes = l->element_bytes;
      for (int i = 0; i < rank; i++) {
        if (__builtin_mul_overflow(l->chunk_bytes, (int64_t)chunk[i], &l->chunk_bytes)) l->plain = false;
      }
    }
    good = l->rank >= 0 && H5Sis_simple(space) > 0;
  }
  dft_h5_free(create);
  dft_h5_free(type);
  dft_h5_free(space);
  return good;
}

/* What the file claims, against its length and our limits. deflate shrinks at most 1032-fold. */
static dft_status check_layout(const dft_h5 *file, const char *label, const layout *l) {
  enum { DEFLATE_MAX = 1032, CHUNK_BYTES_MAX = 256 << 20 };
  if (l->type != H5T_FLOAT || (l->element_bytes != 2 && l->element_bytes != 4 && l->element_bytes != 8))
    return dft_fail(DFT_EDATA, "%s: %s: does not hold float16, float32 or float64 values", file->path, label);
  if (l->rank > DFT_MAX_RANK)
    return dft_fail(DFT_EDATA, "%s: %s: has rank %d, weights have at most %d", file->path, label, l->rank,
                    DFT_MAX_RANK);
  if (!l->plain)
    return dft_fail(DFT_EDATA, "%s: %s: is stored outside this file or in a way Keras does not use",
                    file->path, label);
  if (l->elements < 1) return dft_fail(DFT_EDATA, "%s: %s: is empty", file->path, label);
  int64_t left = DFT_WEIGHTS_BYTES_MAX - file->tensor_bytes;
  if (l->elements > left / (int64_t)sizeof(float) || (l->chunked && l->chunk_bytes > CHUNK_BYTES_MAX))
    return dft_fail(DFT_EDATA, "%s: %s: is too large: a file may hold %lld MiB of weights", file->path, label,
                    (long long)(DFT_WEIGHTS_BYTES_MAX >> 20));
  int64_t declared = l->elements * l->element_bytes;
  int64_t needed = l->chunked ? (declared + DEFLATE_MAX - 1) / DEFLATE_MAX : declared;
  if (l->stored_bytes < needed || l->stored_bytes > file->file_bytes)
    return dft_fail(DFT_EDATA, "%s: %s: declares %lld bytes but %lld are stored: the file is damaged",
                    file->path, label, (long long)declared, (long long)l->stored_bytes);
  return DFT_OK;
}

dft_status dft_h5_tensor(dft_h5 *file, hid_t dataset, const char *label, dft_weights *w, const char *layer,
                         const char *variable, bool *taken) {
  layout l;
  *taken = false;
  if (H5Iget_type(dataset) != H5I_DATASET || !read_layout(dataset, &l))
    return dft_fail(DFT_EDATA, "%s: %s: missing, or not a readable dataset", file->path, label);
  if (l.type == H5T_INTEGER) return DFT_OK;
  DFT_TRY(check_layout(file, label, &l));
  if (w->count >= DFT_H5_TENSORS_MAX)
    return dft_fail(DFT_EDATA, "%s: holds more than %d tensors", file->path, DFT_H5_TENSORS_MAX);
  int64_t shape[DFT_MAX_RANK];
  for (int i = 0; i < l.rank; i++) shape[i] = (int64_t)l.shape[i];
  DFT_TRY(dft_weights_add(w, layer, variable, l.rank, shape, NULL));
  file->tensor_bytes += l.elements * (int64_t)sizeof(float);
  if (H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, w->tensors[w->count - 1].data) < 0)
    return dft_fail(DFT_EDATA, "%s: %s: its values cannot be read: the file is damaged", file->path, label);
  *taken = true;
  return DFT_OK;
}
