#include "source.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_SIDE = 65535, SKIP_BYTES = 1 << 16 };

struct dft_pixels {
  int refs;
  dft_image_file file;
  const dft_share *share;
  void *map; /* a plain file, whole */
  size_t map_bytes;
  void *block;     /* gzip: the kept rows, one copy per host */
  int64_t *row_of; /* gzip: [count] origin -> row of block, -1: not kept */
};

/* ---- header ---- */

static dft_status check_shape(const char *path, const dft_array *a) {
  if (a->type != DFT_TYPE_U8 && a->type != DFT_TYPE_F32)
    return dft_fail(DFT_EDATA, "%s: images of type %s; save as uint8 or float32", path,
                    dft_type_name(a->type));
  if (a->dims < 3)
    return dft_fail(DFT_EDATA, "%s: %d dimensions; images are [N,H,W], [N,H,W,1] or [N,H,W,3]", path,
                    a->dims);
  if (a->dims == 3 && a->shape[2] == 3) /* grey images three pixels wide are nobody's */
    return dft_fail(
        DFT_EDATA, "%s: shape (%lld, %lld, 3): is this one image? save image[None], shape (1, %lld, %lld, 3)",
        path, (long long)a->shape[0], (long long)a->shape[1], (long long)a->shape[0], (long long)a->shape[1]);
  int64_t channels = a->dims == 4 ? a->shape[3] : 1;
  if (channels != 1 && channels != 3)
    return dft_fail(DFT_EDATA, "%s: images with %lld channels; 1 (grey) or 3 (RGB) are supported", path,
                    (long long)channels);
  for (int i = 1; i <= 2; i++)
    if (a->shape[i] < 1 || a->shape[i] > MAX_SIDE)
      return dft_fail(DFT_EDATA, "%s: images of %lld x %lld pixels; sides of 1 to %d are supported", path,
                      (long long)a->shape[1], (long long)a->shape[2], MAX_SIDE);
  return DFT_OK;
}

dft_status dft_image_file_open(const char *path, dft_data_format format, dft_image_file *file) {
  dft_file f;
  dft_array a;
  memset(file, 0, sizeof *file); /* it is told as bytes */
  if (strlen(path) >= sizeof file->path) return dft_fail(DFT_EDATA, "%s: the path is too long", path);
  strcpy(file->path, path);
  DFT_TRY(dft_array_open(&f, path, format, &a));
  file->packed = f.gz != NULL;
  dft_file_close(&f);
  DFT_TRY(check_shape(path, &a));
  file->count = a.shape[0];
  file->height = (int32_t)a.shape[1];
  file->width = (int32_t)a.shape[2];
  file->channels = a.dims == 4 ? (int32_t)a.shape[3] : 1;
  file->type = a.type;
  file->offset = a.offset;
  file->sample_bytes =
      (int64_t)file->height * file->width * file->channels * (int64_t)dft_type_bytes(file->type);
  return DFT_OK;
}

/* ---- rows ---- */

static dft_status map_file(dft_pixels *p) {
  const dft_image_file *file = &p->file;
  dft_array a = {.offset = file->offset, .bytes = file->count * file->sample_bytes};
  dft_file f;
  DFT_TRY(dft_file_open(&f, file->path));
  dft_status status = DFT_OK;
  if (f.gz != NULL || f.disk_bytes < a.offset + a.bytes) {
    status = dft_fail_truncated(file->path, &a, f.disk_bytes); /* it changed since its header was read */
  } else {
    p->map_bytes = (size_t)f.disk_bytes;
    p->map = mmap(NULL, p->map_bytes, PROT_READ, MAP_SHARED, f.fd, 0);
    if (p->map == MAP_FAILED) {
      p->map = NULL;
      status = dft_fail(DFT_EIO, "%s: cannot map: %s", file->path, strerror(errno));
    }
  }
  dft_file_close(&f);
  return status;
}

/* Numbers the rows to keep, in file order. */
static dft_status number_rows(dft_pixels *p, const dft_selection *a, const dft_selection *b, int64_t *kept) {
  const dft_selection *selections[2] = {a, b};
  p->row_of = malloc(((size_t)p->file.count + 1) * sizeof *p->row_of);
  if (p->row_of == NULL) return dft_fail_memory("row numbers", (unsigned long long)p->file.count * 8);
  for (int64_t i = 0; i < p->file.count; i++) p->row_of[i] = -1;
  for (int s = 0; s < 2; s++)
    for (int64_t i = 0; selections[s] != NULL && i < selections[s]->count; i++)
      p->row_of[selections[s]->origin[i]] = 0;
  *kept = 0;
  for (int64_t i = 0; i < p->file.count; i++)
    if (p->row_of[i] == 0) p->row_of[i] = (*kept)++;
  return DFT_OK;
}

static dft_status read_row(dft_file *f, const dft_array *a, uint8_t *to, int64_t bytes, int64_t *at) {
  uint8_t skipped[SKIP_BYTES];
  for (int64_t left = bytes; left > 0;) {
    size_t want = to != NULL || left < SKIP_BYTES ? (size_t)left : SKIP_BYTES, got;
    DFT_TRY(dft_file_read(f, to != NULL ? to : skipped, want, &got));
    *at += (int64_t)got;
    left -= (int64_t)got;
    if (got < want) return dft_fail_truncated(f->path, a, *at);
  }
  return DFT_OK;
}

static dft_status unpack_rows(dft_pixels *p) {
  dft_file f;
  dft_array a;
  DFT_TRY(dft_array_open(&f, p->file.path, DFT_DATA_EITHER_ARRAY, &a));
  int64_t promised = p->file.count * p->file.sample_bytes, at = a.offset;
  dft_status status = DFT_OK;
  if (a.offset != p->file.offset || a.bytes != promised)
    status = dft_fail(DFT_EDATA, "%s: the file changed while it was read", p->file.path);
  for (int64_t i = 0; i < p->file.count && status == DFT_OK; i++) {
    int64_t row = p->row_of[i];
    uint8_t *to = row < 0 ? NULL : (uint8_t *)p->block + row * p->file.sample_bytes;
    status = read_row(&f, &a, to, p->file.sample_bytes, &at);
    p->share->tick(p->share->context);
  }
  if (status == DFT_OK) status = dft_array_end(&f, &a);
  dft_file_close(&f);
  return status;
}

static dft_status load_block(dft_pixels *p, const dft_selection *a, const dft_selection *b) {
  const dft_share *share = p->share;
  int64_t kept = 0;
  DFT_TRY(share->fence(share->context, number_rows(p, a, b, &kept)));
  DFT_TRY(share->alloc(share->context, (size_t)(kept * p->file.sample_bytes), &p->block));
  return share->fence(share->context, share->writer ? unpack_rows(p) : DFT_OK);
}

dft_status dft_pixels_open(const dft_image_file *file, const dft_selection *a, const dft_selection *b,
                           const dft_share *share, dft_pixels **pixels) {
  dft_pixels *p = calloc(1, sizeof *p);
  *pixels = NULL;
  dft_status status =
      share->fence(share->context, p == NULL ? dft_fail_memory("image source", sizeof *p) : DFT_OK);
  if (status != DFT_OK || p == NULL) {
    free(p);
    return status;
  }
  *p = (dft_pixels){.refs = 1, .file = *file, .share = share};
  status = file->packed ? load_block(p, a, b) : share->fence(share->context, map_file(p));
  if (status != DFT_OK) {
    dft_pixels_unref(p);
    return status;
  }
  *pixels = p;
  return DFT_OK;
}

const void *dft_pixels_row(const dft_pixels *p, int64_t origin) {
  if (p->map != NULL) return (const uint8_t *)p->map + p->file.offset + origin * p->file.sample_bytes;
  return (const uint8_t *)p->block + p->row_of[origin] * p->file.sample_bytes;
}

const dft_image_file *dft_pixels_file(const dft_pixels *p) {
  return &p->file;
}

dft_pixels *dft_pixels_ref(dft_pixels *p) {
  p->refs++;
  return p;
}

void dft_pixels_unref(dft_pixels *p) {
  if (p == NULL || --p->refs > 0) return;
  if (p->map != NULL) (void)munmap(p->map, p->map_bytes);
  if (p->block != NULL) p->share->free(p->share->context, p->block);
  free(p->row_of);
  free(p);
}
