#include "source.h"
#include <stdlib.h>
#include <string.h>

static bool is_float(dft_type t) {
  return t == DFT_TYPE_F32 || t == DFT_TYPE_F64;
}

#define LOAD(ctype)                                                                                          \
  do {                                                                                                       \
    ctype value;                                                                                             \
    memcpy(&value, element, sizeof value);                                                                   \
    return (int64_t)value;                                                                                   \
  } while (0)

/* An unsigned 64-bit value beyond int64 becomes the greatest of it: outside any classes either way. */
static int64_t load_integer(dft_type type, const uint8_t *element) {
  switch (type) {
  case DFT_TYPE_I8:
    LOAD(int8_t);
  case DFT_TYPE_U16:
    LOAD(uint16_t);
  case DFT_TYPE_I16:
    LOAD(int16_t);
  case DFT_TYPE_U32:
    LOAD(uint32_t);
  case DFT_TYPE_I32:
    LOAD(int32_t);
  case DFT_TYPE_U64: {
    uint64_t value;
    memcpy(&value, element, sizeof value);
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
  }
  case DFT_TYPE_I64:
    LOAD(int64_t);
  default:
    return *element;
  }
}

/* 0, 1, or -1 for anything else. */
static int load_flag(dft_type type, const uint8_t *element) {
  double value;
  if (type == DFT_TYPE_F64) {
    memcpy(&value, element, sizeof value);
  } else if (type == DFT_TYPE_F32) {
    float single;
    memcpy(&single, element, sizeof single);
    value = single;
  } else {
    int64_t integer = load_integer(type, element);
    return integer == 0 || integer == 1 ? (int)integer : -1;
  }
  return value == 1.0 ? 1 : value == 0.0 ? 0 : -1;
}

/* The class of a one-hot row; -1 when it is none. */
static int64_t hot_class(dft_type type, const uint8_t *row, int64_t classes) {
  int64_t hot = -1;
  for (int64_t c = 0; c < classes; c++) {
    int flag = load_flag(type, row + (size_t)c * dft_type_bytes(type));
    if (flag < 0 || (flag == 1 && hot >= 0)) return -1;
    if (flag == 1) hot = c;
  }
  return hot;
}

static dft_status check_shape(const char *path, const dft_array *a) {
  bool hot = a->dims == 2 && a->shape[1] > 1;
  if (a->dims > 2 || (a->dims == 2 && a->shape[1] == 0))
    return dft_fail(DFT_EDATA, "%s: labels with %d dimensions; expected integers [N] or one-hot [N,classes]",
                    path, a->dims);
  if (!hot && is_float(a->type))
    return dft_fail(DFT_EDATA, "%s: labels of type %s; save integers, as with .astype('int64')", path,
                    dft_type_name(a->type));
  return DFT_OK;
}

/* Reads `bytes` into a fresh block that grows with what the file really holds. */
static dft_status read_all(dft_file *f, const dft_array *a, uint8_t **block) {
  size_t have = 0, size = 0, want = (size_t)a->bytes;
  dft_status status = DFT_OK;
  *block = NULL;
  do {
    size = want - size < size ? want : size == 0 ? (want < 1 << 20 ? want : 1 << 20) : 2 * size;
    uint8_t *bigger = realloc(*block, size ? size : 1);
    if (bigger == NULL) {
      status = dft_fail_memory("labels", size);
      break;
    }
    *block = bigger;
    size_t got;
    status = dft_file_read(f, *block + have, size - have, &got);
    have += got;
    if (status == DFT_OK && have < size) status = dft_fail_truncated(f->path, a, a->offset + (int64_t)have);
  } while (status == DFT_OK && size < want);
  if (status == DFT_OK) status = dft_array_end(f, a);
  if (status != DFT_OK) {
    free(*block);
    *block = NULL;
  }
  return status;
}

static dft_status decode(const char *path, const dft_array *a, const uint8_t *block, int64_t *labels) {
  int64_t width = a->dims == 2 ? a->shape[1] : 1;
  size_t row_bytes = (size_t)width * dft_type_bytes(a->type);
  for (int64_t i = 0; i < a->shape[0]; i++) {
    const uint8_t *row = block + (size_t)i * row_bytes;
    labels[i] = width > 1 ? hot_class(a->type, row, width) : load_integer(a->type, row);
    if (width > 1 && labels[i] < 0)
      return dft_fail(DFT_EDATA, "%s: row %lld is not one-hot (a single 1, else 0)", path, (long long)i);
  }
  return DFT_OK;
}

dft_status dft_labels_read(const char *path, dft_data_format format, int64_t **labels, int64_t *count,
                           int64_t *columns) {
  dft_file f;
  dft_array a;
  uint8_t *block = NULL;
  *labels = NULL;
  DFT_TRY(dft_array_open(&f, path, format, &a));
  *columns = a.dims == 2 && a.shape[1] > 1 ? a.shape[1] : 0;
  dft_status status = check_shape(path, &a);
  if (status == DFT_OK) status = read_all(&f, &a, &block);
  dft_file_close(&f);
  if (status != DFT_OK) return status;
  *count = a.shape[0];
  *labels = calloc((size_t)*count + 1, sizeof **labels);
  status = *labels == NULL ? dft_fail_memory("labels", (unsigned long long)*count * sizeof **labels)
                           : decode(path, &a, block, *labels);
  free(block);
  if (status != DFT_OK) {
    free(*labels);
    *labels = NULL;
  }
  return status;
}
