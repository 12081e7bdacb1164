/* EXIF: a TIFF header, then the entries of its first directory (Exif 2.3, 4.6.2; TIFF 6.0, section 2). */
#include "raster.h"
#include <string.h>

enum { TAG_COMPRESSION = 259, TAG_PHOTOMETRIC = 262, TAG_ORIENTATION = 274 };
enum { TYPE_BYTE = 1, TYPE_SHORT = 3, TYPE_LONG = 4 };

typedef struct order {
  const uint8_t *data;
  bool big;
} order;

static uint32_t get16(order o, size_t at) {
  uint32_t a = o.data[at], b = o.data[at + 1];
  return o.big ? a << 8 | b : b << 8 | a;
}

static uint32_t get32(order o, size_t at) {
  uint32_t a = get16(o, at), b = get16(o, at + 2);
  return o.big ? a << 16 | b : b << 16 | a;
}

/* A directory of a TIFF file; of a BigTIFF its counts and places are wider (BigTIFF design, AWare Systems).
 */
typedef struct layout {
  size_t first; /* where the file says where it is */
  size_t count_bytes, entry_bytes;
  size_t value; /* in an entry */
} layout;

static const layout *layout_of(const uint8_t *tiff, size_t count) {
  static const layout classic = {4, 2, 12, 8}, big = {8, 8, 20, 12};
  if (count >= 8 && (memcmp(tiff, "II*\0", 4) == 0 || memcmp(tiff, "MM\0*", 4) == 0)) return &classic;
  if (count >= 16 && (memcmp(tiff, "II+\0", 4) == 0 || memcmp(tiff, "MM\0+", 4) == 0)) return &big;
  return NULL;
}

/* A number of 4 or 8 bytes; what does not fit 32 bits lies beyond any file here. */
static uint32_t get_place(order o, size_t at, bool wide) {
  if (!wide) return get32(o, at);
  const uint32_t high = get32(o, o.big ? at : at + 4), low = get32(o, o.big ? at + 4 : at);
  return high != 0 ? UINT32_MAX : low;
}

/* The value of a tag that is one BYTE, SHORT or LONG in the first directory; `otherwise` if there is none. */
static uint32_t find_tag(const uint8_t *tiff, size_t count, uint32_t tag, uint32_t otherwise) {
  const layout *l = layout_of(tiff, count);
  if (l == NULL) return otherwise;
  const order o = {tiff, tiff[0] == 'M'};
  const bool wide = l->count_bytes == 8;
  size_t at = get_place(o, l->first, wide);
  if (at > count - l->count_bytes) return otherwise;
  const size_t entries = wide ? get_place(o, at, true) : get16(o, at);
  at += l->count_bytes;
  for (size_t i = 0; i < entries && at + l->entry_bytes <= count; i++, at += l->entry_bytes) {
    const uint32_t type = get16(o, at + 2);
    if (get16(o, at) != tag) continue;
    if (get_place(o, at + 4, wide) != 1) return otherwise;
    return type == TYPE_BYTE    ? tiff[at + l->value]
           : type == TYPE_SHORT ? get16(o, at + l->value)
           : type == TYPE_LONG  ? get32(o, at + l->value)
                                : otherwise;
  }
  return otherwise;
}

int dft_exif_orientation(const uint8_t *exif, size_t count) {
  const uint32_t value = find_tag(exif, count, TAG_ORIENTATION, 1);
  return value >= 1 && value <= 8 ? (int)value : 1;
}

bool dft_tiff_is_ycbcr(const uint8_t *tiff, size_t count) {
  enum { YCBCR = 6, OLD_JPEG = 6, JPEG = 7 };
  const uint32_t compression = find_tag(tiff, count, TAG_COMPRESSION, 1);
  return find_tag(tiff, count, TAG_PHOTOMETRIC, 0) == YCBCR && compression != JPEG && compression != OLD_JPEG;
}
