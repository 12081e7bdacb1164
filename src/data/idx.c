/* IDX, the format of MNIST (yann.lecun.com/exdb/mnist): two zero bytes, an element type, the number of
 * dimensions, each dimension as a big-endian 32-bit number, then the elements. */
#include "source.h"

enum { IDX_UNSIGNED_BYTE = 0x08 };

static uint32_t big_endian(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

dft_status dft_idx_parse(const char *path, const uint8_t *head, size_t have, dft_array *a) {
  if (have < 4) return dft_fail(DFT_EDATA, "%s: not an IDX file: only %zu bytes long", path, have);
  if (head[0] != 0 || head[1] != 0)
    return dft_fail(DFT_EDATA, "%s: not an IDX file: it starts with %02x %02x instead of 00 00", path,
                    head[0], head[1]);
  if (head[2] != IDX_UNSIGNED_BYTE)
    return dft_fail(DFT_EDATA, "%s: IDX element type 0x%02x, only unsigned bytes (0x08) are supported", path,
                    head[2]);
  int dims = head[3];
  if (dims < 1 || dims > DFT_MAX_DIMS)
    return dft_fail(DFT_EDATA, "%s: IDX with %d dimensions, expected 1 to %d", path, dims, DFT_MAX_DIMS);
  *a = (dft_array){.type = DFT_TYPE_U8, .dims = dims, .offset = 4 + 4 * dims};
  if (have < (size_t)a->offset)
    return dft_fail(DFT_EDATA, "%s: truncated in the IDX header, at byte %zu", path, have);
  for (int i = 0; i < dims; i++) a->shape[i] = big_endian(head + 4 + 4 * i);
  return dft_array_size(path, a);
}
