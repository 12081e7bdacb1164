/* ITU-T T.81: annex C and figure F.16 (codes), F.2.2.1 and table F.1 (values). */
#include "jpeg_entropy.h"
#include <string.h>

enum { LOOK = DFT_HUFFMAN_BITS, LOOK_DC = DFT_HUFFMAN_DC_BITS, LOOK_SKIP = DFT_HUFFMAN_SKIP_BITS };
/* Bits of the greatest values that 8-bit samples give (T.81, F.1.2.1 and F.1.2.2). */
enum { MOST_SIZE_DC = 11, MOST_SIZE_AC = 10, ZERO_RUN = 0xf0, NOWHERE = 64 };

/* One symbol at the start of some bits. */
typedef struct found {
  int code_length, length; /* of code, and of code and value */
  int run, size;
  int base; /* value = base + the number that code and value are */
  bool end;
} found;

/* The symbol that `bits` of `look` bits begin with; false: they do not hold its code, and the sign of its
 * value, or it is none of baseline's. */
static bool find(const dft_huffman *h, unsigned bits, int look, bool ac, found *f) {
  unsigned held = look > LOOK ? bits >> (look - LOOK) : bits << (LOOK - look);
  int symbol = h->symbols[held] & 255, code_length = h->symbols[held] >> 8;
  int size = ac ? symbol & 15 : symbol, run = ac ? symbol >> 4 : 0;
  if (code_length == 0 || code_length + (size > 0) > look) return false;
  if (size > (ac ? MOST_SIZE_AC : MOST_SIZE_DC)) return false;
  if (ac && size == 0 && symbol != 0 && symbol != ZERO_RUN) return false;
  int code = (int)(bits >> (look - code_length));
  bool negative = size > 0 && (bits >> (look - code_length - 1) & 1) == 0;
  *f = (found){.code_length = code_length,
               .length = code_length + size,
               .run = run,
               .size = size,
               .base = (negative ? 1 - (1 << size) : 0) - (code << size),
               .end = ac && symbol == 0};
  return true;
}

static dft_huffman_entry pack(int length, int advance, int first, int last, int base, int value) {
  return (dft_huffman_entry)length | (dft_huffman_entry)advance << 8 | (dft_huffman_entry)first << 16 |
         (dft_huffman_entry)last << 24 | (dft_huffman_entry)(uint16_t)base << 32 |
         (dft_huffman_entry)(uint16_t)value << 48;
}

/* Writes nothing but a zero at NOWHERE: all of `length` bits are known, and base takes them away. */
static dft_huffman_entry pack_none(unsigned bits, int length, int advance) {
  return pack(length, advance, NOWHERE, NOWHERE, -(int)(bits >> (LOOK - length)), 0);
}

/* What is left of LOOK bits after the first `length`. */
static unsigned rest_of(unsigned bits, int length) {
  return bits & ((1u << (LOOK - length)) - 1);
}

static dft_huffman_entry make_entry(const dft_huffman *h, unsigned bits) {
  found a, b;
  if (!find(h, bits, LOOK, true, &a) || a.length > DFT_HUFFMAN_MOST_BITS)
    return pack_none(bits, LOOK, DFT_HUFFMAN_NOTHING);
  if (a.end) return pack_none(bits, a.length, DFT_HUFFMAN_END);
  int length = a.length, value = 0, first = a.run, last = a.run, base = a.base;
  if (length < LOOK && find(h, rest_of(bits, length), LOOK - length, true, &b) && !b.end &&
      length + b.length <= DFT_HUFFMAN_MOST_BITS) {
    value = a.base + (int)(bits >> (LOOK - length));
    last = a.run + 1 + b.run;
    length += b.length;
    base = b.base - (int)((bits >> (LOOK - a.length)) << b.length);
  }
  int advance = last + 1;
  if (length < LOOK && find(h, rest_of(bits, length), LOOK - length, true, &b) && b.end) {
    base += (int)(bits >> (LOOK - length)) - (int)(bits >> (LOOK - length - b.length));
    length += b.length;
    advance += DFT_HUFFMAN_END;
  }
  return pack(length, advance, first, last, base, value);
}

static dft_huffman_entry make_dc_entry(const dft_huffman *h, unsigned bits) {
  found f;
  if (!find(h, bits, LOOK_DC, false, &f)) return pack(1, DFT_HUFFMAN_NOTHING, 0, 0, 0, 0);
  return pack(f.length, 0, 0, 0, 0, 0) | (dft_huffman_entry)(uint32_t)f.base << 32;
}

static dft_huffman_skip make_skip(const dft_huffman *h, unsigned bits) {
  int length = 0, advance = 0;
  found f;
  while (length < LOOK_SKIP && advance < DFT_HUFFMAN_END &&
         find(h, bits & ((1u << (LOOK_SKIP - length)) - 1), LOOK_SKIP - length, true, &f) &&
         length + f.length <= DFT_HUFFMAN_MOST_BITS) {
    int more = f.end ? DFT_HUFFMAN_END : f.run + 1;
    if (!f.end && advance + more > 63) break;
    advance += more;
    length += f.length;
  }
  if (length == 0) advance = DFT_HUFFMAN_NOTHING;
  return (dft_huffman_skip)(length | advance << 6);
}

/* Codes and symbols; false: not a prefix code of at most 256 symbols. */
static bool assign_codes(const JHUFF_TBL *source, dft_huffman *h) {
  int32_t code = 0, symbol = 0;
  for (int length = 1; length <= 16; length++, code <<= 1) {
    int count = source->bits[length];
    if (symbol + count > 256 || code + count > 1 << length) return false;
    h->first_symbol[length] = symbol - code;
    h->last[length] = count > 0 ? code + count - 1 : -1;
    for (int i = 0; i < count; i++, symbol++, code++)
      for (int rest = 0; length <= LOOK && rest < 1 << (LOOK - length); rest++)
        h->symbols[code << (LOOK - length) | rest] = (uint16_t)(length << 8 | source->huffval[symbol]);
  }
  return true;
}

static bool make_table(const JHUFF_TBL *source, bool ac, dft_huffman *h) {
  memset(h, 0, sizeof *h);
  if (!assign_codes(source, h)) return false;
  if (ac)
    for (unsigned bits = 0; bits < 1u << LOOK; bits++) h->entries[bits] = make_entry(h, bits);
  else
    for (unsigned bits = 0; bits < 1u << LOOK_DC; bits++) h->entries[bits] = make_dc_entry(h, bits);
  memcpy(h->counts, source->bits, sizeof h->counts);
  memcpy(h->values, source->huffval, sizeof h->values);
  h->made = true;
  return true;
}

bool dft_huffman_make(const JHUFF_TBL *source, bool ac, bool skips, dft_huffman *h) {
  bool same = h->made && memcmp(h->counts, source->bits, sizeof h->counts) == 0 &&
              memcmp(h->values, source->huffval, sizeof h->values) == 0;
  if (!same && !make_table(source, ac, h)) return false;
  for (unsigned bits = 0; skips && !h->skips_made && bits < 1u << LOOK_SKIP; bits++)
    h->skips[bits] = make_skip(h, bits);
  h->skips_made = h->skips_made || skips;
  return true;
}
