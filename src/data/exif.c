/* EXIF: a TIFF header, then the entries of its first directory (Exif 2.3, 4.6.2; TIFF 6.0, section 2). */
#include "raster.h"
#include <string.h>

enum { ENTRY_BYTES = 12, TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3 };

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

int dft_exif_orientation(const uint8_t *exif, size_t count) {
  if (count < 8 || (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0)) return 1;
  order o = {exif, exif[0] == 'M'};
  size_t at = get32(o, 4);
  if (at > count - 2) return 1;
  size_t entries = get16(o, at);
  at += 2;
  for (size_t i = 0; i < entries && at + ENTRY_BYTES <= count; i++, at += ENTRY_BYTES) {
    if (get16(o, at) != TAG_ORIENTATION) continue;
    uint32_t value = get16(o, at + 8);
    bool valid = get16(o, at + 2) == TYPE_SHORT && get32(o, at + 4) == 1 && value >= 1 && value <= 8;
    return valid ? (int)value : 1;
  }
  return 1;
}
