/* EXIF: a TIFF header, then the entries of its first directory (Exif 2.3, 4.6.2; TIFF 6.0, section 2). */
#include "raster.h"
#include <string.h>

enum {
  ENTRY_BYTES = 12,
  TAG_COMPRESSION = 259,
  TAG_PHOTOMETRIC = 262,
  TAG_ORIENTATION = 274,
  TYPE_SHORT = 3
};

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

/* The value of a tag of type SHORT in the first directory; `otherwise` if it has none, or no such. */
static uint32_t find_short(const uint8_t *tiff, size_t count, uint32_t tag, uint32_t otherwise) {
  if (count < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0)) return otherwise;
  order o = {tiff, tiff[0] == 'M'};
  size_t at = get32(o, 4);
  if (at > count - 2) return otherwise;
  size_t entries = get16(o, at);
  at += 2;
  for (size_t i = 0; i < entries && at + ENTRY_BYTES <= count; i++, at += ENTRY_BYTES)
    if (get16(o, at) == tag)
      return get16(o, at + 2) == TYPE_SHORT && get32(o, at + 4) == 1 ? get16(o, at + 8) : otherwise;
  return otherwise;
}

int dft_exif_orientation(const uint8_t *exif, size_t count) {
  const uint32_t value = find_short(exif, count, TAG_ORIENTATION, 1);
  return value >= 1 && value <= 8 ? (int)value : 1;
}

bool dft_tiff_is_ycbcr(const uint8_t *tiff, size_t count) {
  enum { YCBCR = 6, OLD_JPEG = 6, JPEG = 7 };
  const uint32_t compression = find_short(tiff, count, TAG_COMPRESSION, 1);
  return find_short(tiff, count, TAG_PHOTOMETRIC, 0) == YCBCR && compression != JPEG &&
         compression != OLD_JPEG;
}
