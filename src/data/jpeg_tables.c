/* ITU-T T.81: annex C and figure F.16 (codes), F.2.2.1 and table F.1 (values). */
#include "jpeg_entropy.h"
#include <string.h>

enum { LOOK = DFT_HUFFMAN_BITS, LOOK_DC = DFT_HUFFMAN_DC_BITS, LOOK_SKIP = DFT_HUFFMAN_SKIP_BITS };
/* Bits of the greatest values that 8-bit samples give (T.81, F.1.2.1 and F.1.2.2). */
enum { MOST_SIZE_DC = 11, MOST_SIZE_AC = 10, END_OF_BLOCK = 0, ZERO_RUN = 0xf0, NOWHERE = 64, NEVER = 255 };

/* The symbol at the start of LOOK bits. */
typedef struct single {
  int32_t base; /* the value is base + the number that code and value are */
  uint8_t held; /* bits that must be known: the code, and the value's sign; NEVER: none, or not baseline's */
  uint8_t length; /* of code and value */
  uint8_t run;
  bool end; /* of the block */
} single;

/* ---- single symbols ---- */

static single single_of(int symbol, int code, int code_length, bool negative, bool ac) {
  int size = ac ? symbol & 15 : symbol;
  if (size > (ac ? MOST_SIZE_AC : MOST_SIZE_DC)) return (single){.held = NEVER};
  if (ac && size == 0 && symbol != END_OF_BLOCK && symbol != ZERO_RUN) return (single){.held = NEVER};
  return (single){.base = (negative && size > 0 ? 1 - (1 << size) : 0) - (code << size),
                  .held = (uint8_t)(code_length + (size > 0)),
                  .length = (uint8_t)(code_length + size),
                  .run = (uint8_t)(ac ? symbol >> 4 : 0),
                  .end = ac && symbol == END_OF_BLOCK};
}

static void make_singles(const dft_huffman *h, bool ac, single *singles) {
  for (int i = 0; i < 1 << LOOK; i++) singles[i].held = NEVER;
  int code = 0, symbol = 0;
  for (int length = 1; length <= LOOK; length++, code <<= 1)
    for (int i = 0; i < h->counts[length]; i++, symbol++, code++) {
      int places = 1 << (LOOK - length), half = places / 2;
      single *to = singles + ((size_t)code << (LOOK - length));
      const single low = single_of(h->values[symbol], code, length, true, ac),
                   high = single_of(h->values[symbol], code, length, false, ac);
      for (int k = 0; k < places; k++) to[k] = k < half ? low : high;
    }
}

/* ---- entries ---- */

static dft_huffman_entry pack(int length, int advance, int first, int last, int base, int value) {
  return (dft_huffman_entry)length | (dft_huffman_entry)advance << 8 | (dft_huffman_entry)first << 16 |
         (dft_huffman_entry)last << 24 | (dft_huffman_entry)(uint16_t)base << 32 |
         (dft_huffman_entry)(uint16_t)value << 48;
}

/* Writes nothing but a zero at NOWHERE: all of `length` bits are known, and base takes them away. */
static dft_huffman_entry pack_none(unsigned bits, int length, int advance) {
  return pack(length, advance, NOWHERE, NOWHERE, -(int)(bits >> (LOOK - length)), 0);
}

/* What follows `length` of some bits, if they hold it; NULL: they do not. */
static const single *find_next(const single *singles, unsigned bits, int look, int length) {
  if (length >= look) return NULL;
  unsigned rest = bits << length & ((1u << look) - 1);
  const single *s = &singles[look > LOOK ? rest >> (look - LOOK) : rest];
  return length + s->held <= look && length + s->length <= DFT_HUFFMAN_MOST_BITS ? s : NULL;
}

static dft_huffman_entry make_entry(const single *singles, unsigned bits) {
  const single *a = find_next(singles, bits, LOOK, 0), *next;
  if (a == NULL) return pack_none(bits, LOOK, DFT_HUFFMAN_NOTHING);
  if (a->end) return pack_none(bits, a->length, DFT_HUFFMAN_END);
  int length = a->length, value = 0, last = a->run, base = a->base;
  next = find_next(singles, bits, LOOK, length);
  if (next != NULL && !next->end) {
    int known = (int)(bits >> (LOOK - length));
    value = a->base + known;
    last += 1 + next->run;
    length += next->length;
    base = next->base - (known << next->length);
    next = find_next(singles, bits, LOOK, length);
  }
  int advance = last + 1;
  if (next != NULL && next->end) {
    int known = (int)(bits >> (LOOK - length));
    length += next->length;
    base += known - (int)(bits >> (LOOK - length));
    advance += DFT_HUFFMAN_END;
  }
  return pack(length, advance, a->run, last, base, value);
}

static dft_huffman_entry make_dc_entry(const single *singles, unsigned bits) {
  const single *s = &singles[bits << (LOOK - LOOK_DC)];
  if (s->held > LOOK_DC) return pack(1, DFT_HUFFMAN_NOTHING, 0, 0, 0, 0);
  return pack(s->length, 0, 0, 0, 0, 0) | (dft_huffman_entry)(uint32_t)s->base << 32;
}

static dft_huffman_skip make_skip(const single *singles, unsigned bits) {
  int length = 0, advance = 0;
  const single *s;
  while (advance < DFT_HUFFMAN_END && (s = find_next(singles, bits, LOOK_SKIP, length)) != NULL) {
    int more = s->end ? DFT_HUFFMAN_END : s->run + 1;
    if (!s->end && advance + more > 63) break;
    advance += more;
    length += s->length;
  }
  if (length == 0) advance = DFT_HUFFMAN_NOTHING;
  return (dft_huffman_skip)(length | advance << 6);
}

/* ---- tables ---- */

/* Codes and symbols; false: not a prefix code of at most 256 symbols. */
static bool assign_codes(dft_huffman *h) {
  int32_t code = 0, symbol = 0;
  memset(h->symbols, 0, sizeof h->symbols);
  for (int length = 1; length <= 16; length++, code <<= 1) {
    int count = h->counts[length];
    if (symbol + count > 256 || code + count > 1 << length) return false;
    h->first_symbol[length] = symbol - code;
    h->last[length] = count > 0 ? code + count - 1 : -1;
    for (int i = 0; i < count; i++, symbol++, code++)
      for (int rest = 0; length <= LOOK && rest < 1 << (LOOK - length); rest++)
        h->symbols[code << (LOOK - length) | rest] = (uint16_t)(length << 8 | h->values[symbol]);
  }
  return true;
}

bool dft_huffman_meet(dft_huffman *h, const JHUFF_TBL *source) {
  if (memcmp(h->counts, source->bits, sizeof h->counts) == 0 &&
      memcmp(h->values, source->huffval, sizeof h->values) == 0)
    return true;
  memcpy(h->counts, source->bits, sizeof h->counts);
  memcpy(h->values, source->huffval, sizeof h->values);
  h->made = h->skips_made = false;
  return false;
}

bool dft_huffman_make(dft_huffman *h, bool ac) {
  single singles[1 << LOOK];
  if (h->made) return true;
  if (!assign_codes(h)) return false;
  make_singles(h, ac, singles);
  if (ac)
    for (unsigned bits = 0; bits < 1u << LOOK; bits++) h->entries[bits] = make_entry(singles, bits);
  else
    for (unsigned bits = 0; bits < 1u << LOOK_DC; bits++) h->entries[bits] = make_dc_entry(singles, bits);
  h->made = true;
  return true;
}

void dft_huffman_make_skips(dft_huffman *h) {
  single singles[1 << LOOK];
  if (h->skips_made) return;
  make_singles(h, true, singles);
  for (unsigned bits = 0; bits < 1u << LOOK_SKIP; bits++) h->skips[bits] = make_skip(singles, bits);
  h->skips_made = true;
}
