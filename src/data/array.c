#include "source.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
  const char *name;
  size_t bytes;
} types[] = {
    [DFT_TYPE_U8] = {"uint8", 1},    [DFT_TYPE_I8] = {"int8", 1},    [DFT_TYPE_U16] = {"uint16", 2},
    [DFT_TYPE_I16] = {"int16", 2},   [DFT_TYPE_U32] = {"uint32", 4}, [DFT_TYPE_I32] = {"int32", 4},
    [DFT_TYPE_U64] = {"uint64", 8},  [DFT_TYPE_I64] = {"int64", 8},  [DFT_TYPE_F32] = {"float32", 4},
    [DFT_TYPE_F64] = {"float64", 8}, [DFT_TYPE_BOOL] = {"bool", 1},
};

size_t dft_type_bytes(dft_type type) {
  return types[type].bytes;
}

const char *dft_type_name(dft_type type) {
  return types[type].name;
}

dft_status dft_array_size(const char *path, dft_array *a) {
  int64_t bytes = (int64_t)dft_type_bytes(a->type);
  bool empty = false, overflow = false;
  for (int i = 0; i < a->dims; i++) {
    if (a->shape[i] == 0)
      empty = true;
    else if (__builtin_mul_overflow(bytes, a->shape[i], &bytes))
      overflow = true;
  }
  int64_t end;
  if (overflow || __builtin_add_overflow(bytes, a->offset, &end))
    return dft_fail(DFT_EDATA, "%s: the header's dimensions are impossibly large", path);
  a->bytes = empty ? 0 : bytes;
  return DFT_OK;
}

dft_status dft_fail_truncated(const char *path, const dft_array *a, int64_t have) {
  const int64_t promised = a->offset + a->bytes;
  return dft_fail(DFT_EDATA, "%s: truncated: the header promises %lld bytes, the file has %lld", path,
                  (long long)promised, (long long)have);
}

static dft_status fail_trailing(const char *path, const dft_array *a) {
  const int64_t promised = a->offset + a->bytes;
  return dft_fail(DFT_EDATA, "%s: more data follows after the %lld bytes that the header promises", path,
                  (long long)promised);
}

/* Either, known by content. */
static dft_status parse_any(const char *path, const uint8_t *head, size_t have, dft_array *a) {
  if (have >= 6 && memcmp(head, "\x93NUMPY", 6) == 0) return dft_npy_parse(path, head, have, a);
  if (have >= 2 && head[0] == 0 && head[1] == 0) return dft_idx_parse(path, head, have, a);
  return dft_fail(DFT_EDATA, "%s: neither an IDX nor an npy file", path);
}

static dft_status parse(const char *path, dft_data_format format, const uint8_t *head, size_t have,
                        dft_array *a) {
  if (format == DFT_DATA_IDX) return dft_idx_parse(path, head, have, a);
  if (format == DFT_DATA_NPY) return dft_npy_parse(path, head, have, a);
  return parse_any(path, head, have, a);
}

/* Deflate packs at most 1032 to 1 (zlib's technical notes), so a header that promises more lies. */
static bool can_hold(const dft_file *f, const dft_array *a) {
  return f->gz == NULL || a->bytes / 1032 <= f->disk_bytes;
}

/* Goes back to the start, then to the first element. */
static dft_status seek_elements(dft_file *f, const dft_array *a) {
  const char *path = f->path;
  uint8_t skip[DFT_MAX_HEADER_BYTES];
  size_t got;
  dft_file_close(f);
  DFT_TRY(dft_file_open(f, path));
  DFT_TRY(dft_file_read(f, skip, (size_t)a->offset, &got)); /* offset <= DFT_MAX_HEADER_BYTES by parsing */
  return got == (size_t)a->offset ? DFT_OK : dft_fail_truncated(path, a, (int64_t)got);
}

dft_status dft_array_open(dft_file *f, const char *path, dft_data_format format, dft_array *a) {
  DFT_TRY(dft_file_open(f, path));
  uint8_t head[DFT_MAX_HEADER_BYTES];
  size_t have;
  dft_status status = dft_file_read(f, head, sizeof head, &have);
  if (status == DFT_OK) status = parse(path, format, head, have, a);
  if (status == DFT_OK && !can_hold(f, a))
    status = dft_fail(DFT_EDATA, "%s: truncated: %lld bytes of gzip cannot hold what the header promises",
                      path, (long long)f->disk_bytes);
  if (status == DFT_OK && f->gz == NULL && f->disk_bytes < a->offset + a->bytes)
    status = dft_fail_truncated(path, a, f->disk_bytes);
  if (status == DFT_OK && f->gz == NULL && f->disk_bytes > a->offset + a->bytes)
    status = fail_trailing(path, a);
  if (status == DFT_OK) status = seek_elements(f, a);
  if (status != DFT_OK) dft_file_close(f);
  return status;
}

dft_status dft_array_end(dft_file *f, const dft_array *a) {
  uint8_t extra;
  size_t got;
  DFT_TRY(dft_file_read(f, &extra, 1, &got));
  return got == 0 ? DFT_OK : fail_trailing(f->path, a);
}
