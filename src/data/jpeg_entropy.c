/* ITU-T T.81: F.2.2 (Huffman decoding), annex C and figure F.16 (tables). */
#include "jpeg_entropy.h"
#include <stdlib.h>
#include <string.h>

/* As in jpegint.h, as far as it is needed. */
struct jpeg_entropy_decoder {
  void (*start_pass)(j_decompress_ptr cinfo);
  boolean (*decode_mcu)(j_decompress_ptr cinfo, JBLOCKROW *blocks);
};

enum { LOOK = DFT_HUFFMAN_BITS, LOOK_SKIP = DFT_HUFFMAN_SKIP_BITS, BLOCK = 64, SKIP_END = 128 };
/* Marks in dft_huffman_one.run, from 64 on: the end of the block; the value's bits come after the code,
 * `value` is the symbol and `length` the code's; the code is longer than this, or there is none. */
enum { END_OF_BLOCK = 64, VALUE_FOLLOWS = 128, LONG_CODE = 192, NOT_HELD = 64 };
/* A refill gives 56 bits, enough for 5 lookups, or a code and a value apart: up to 16 + 15. */
enum { LOOKUPS = 56 / LOOK, SKIP_LOOKUPS = 56 / LOOK_SKIP, PADDING_BYTES = 16 };

/* Zigzag order to natural order (T.81, figure 5). */
static const uint8_t natural[BLOCK] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,
                                       12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
                                       35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
                                       58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

/* What handles bits must be inlined, or they are not in registers. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* ---- tables ---- */

/* A value of `size` bits as it is coded: negative ones are less by 2^size - 1 (T.81, F.2.2.1). */
static int extend(int value, int size) {
  return size > 0 && value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
}

/* What `bits` are, which begin with the code of a symbol. */
static dft_huffman_one make_one(uint8_t symbol, int code_length, int bits, bool ac) {
  int size = ac ? symbol & 15 : symbol, run = ac ? symbol >> 4 : 0;
  int length = code_length + size;
  if (length > LOOK) return (dft_huffman_one){symbol, VALUE_FOLLOWS, (uint8_t)code_length};
  int value = extend(bits >> (LOOK - length) & ((1 << size) - 1), size);
  if (ac && size == 0 && run < 15) run = END_OF_BLOCK;
  return (dft_huffman_one){(int16_t)value, (uint8_t)run, (uint8_t)length};
}

static dft_huffman_two make_two(const dft_huffman *h, int bits) {
  dft_huffman_two t = {.run = NOT_HELD};
  for (int found = 0; found < 3 && !t.end; found++) {
    /* what is known of the rest, zeros after it */
    const dft_huffman_one *one = &h->one[bits << t.length & ((1 << LOOK) - 1)];
    if (one->run >= VALUE_FOLLOWS || t.length + one->length > LOOK) break;
    if (one->run == END_OF_BLOCK) {
      t.end = 1;
      if (found == 0) t.run = 0;
    } else if (found == 0) {
      t.run = one->run;
      t.values[0] = t.values[1] = one->value;
    } else if (found == 1) {
      t.step = (uint8_t)(one->run + 1);
      t.values[1] = one->value;
    } else
      break; /* the third is left for the next lookup */
    t.length = (uint8_t)(t.length + one->length);
  }
  return t;
}

static dft_huffman_skip make_skip(const dft_huffman *h, int bits) {
  dft_huffman_skip s = {0};
  while (s.length < LOOK_SKIP && s.advance < SKIP_END) {
    const dft_huffman_one *one = &h->one[(bits << s.length & ((1 << LOOK_SKIP) - 1)) >> (LOOK_SKIP - LOOK)];
    if (one->run >= VALUE_FOLLOWS || s.length + one->length > LOOK_SKIP) break;
    int more = one->run == END_OF_BLOCK ? SKIP_END : one->run + 1;
    if (s.advance + more > UINT8_MAX || (more < SKIP_END && s.advance + more >= SKIP_END)) break;
    s.advance = (uint8_t)(s.advance + more);
    s.length = (uint8_t)(s.length + one->length);
  }
  return s;
}

/* False: not a table that libjpeg would take. */
static bool make_table(const JHUFF_TBL *table, bool ac, dft_huffman *h) {
  int32_t code = 0, symbol = 0;
  memset(h, 0, sizeof *h);
  for (int i = 0; i < 1 << LOOK; i++) h->one[i].run = LONG_CODE;
  for (int length = 1; length <= 16; length++, code <<= 1) {
    int count = table->bits[length];
    if (symbol + count > 256 || code + count > 1 << length) return false;
    h->first_symbol[length] = symbol - code;
    h->last[length] = count > 0 ? code + count - 1 : -1;
    for (int i = 0; i < count; i++, symbol++, code++) {
      if (!ac && table->huffval[symbol] > 15) return false;
      for (int rest = 0; length <= LOOK && rest < 1 << (LOOK - length); rest++) {
        int bits = code << (LOOK - length) | rest;
        h->one[bits] = make_one(table->huffval[symbol], length, bits, ac);
      }
    }
  }
  for (int bits = 0; ac && bits < 1 << LOOK; bits++) h->two[bits] = make_two(h, bits);
  h->source = *table;
  h->made = true;
  return true;
}

/* With the table of the last file it is there already. */
static bool have_table(const JHUFF_TBL *table, bool ac, bool skips, dft_huffman *h) {
  if (table == NULL) return false;
  bool same = h->made && memcmp(h->source.bits, table->bits, sizeof table->bits) == 0 &&
              memcmp(h->source.huffval, table->huffval, sizeof table->huffval) == 0;
  if (!same && !make_table(table, ac, h)) return false;
  for (int bits = 0; skips && !h->skips_made && bits < 1 << LOOK_SKIP; bits++)
    h->skips[bits] = make_skip(h, bits);
  h->skips_made = h->skips_made || skips;
  return true;
}

/* ---- bits ---- */

/* From `at` in the file up to the next marker, or its end. */
static bool read_segment(dft_jpeg_entropy *e, const uint8_t *at) {
  size_t most = (size_t)(e->end - at) + PADDING_BYTES;
  if (most > e->room) {
    free(e->segment);
    e->segment = malloc(most);
    e->room = e->segment != NULL ? most : 0;
    if (e->segment == NULL) return false;
  }
  uint8_t *to = e->segment;
  while (at < e->end) {
    const uint8_t *ff = memchr(at, 0xff, (size_t)(e->end - at)), *next;
    size_t n = (size_t)((ff != NULL ? ff : e->end) - at);
    memcpy(to, at, n);
    to += n;
    at += n;
    if (ff == NULL) break;
    for (next = ff + 1; next < e->end && *next == 0xff; next++) continue;
    if (next == e->end || *next != 0) break;
    *to++ = 0xff;
    at = next + 1;
  }
  memset(to, 0, PADDING_BYTES);
  e->marker = at;
  e->segment_bytes = (size_t)(to - e->segment);
  e->bits = (dft_jpeg_bits){.at = e->segment, .stop = to + PADDING_BYTES / 2};
  return true;
}

/* At least 56 bits; after the end, zeros. */
static ALWAYS_INLINE void refill(dft_jpeg_bits *b) {
  uint64_t word;
  memcpy(&word, b->at, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  b->buffer |= word >> b->count;
  b->at += (63 - b->count) / 8;
  b->count |= 56;
  b->at = b->at < b->stop ? b->at : b->stop;
}

static ALWAYS_INLINE void use(dft_jpeg_bits *b, unsigned bits) {
  b->buffer <<= bits;
  b->count -= bits;
}

static ALWAYS_INLINE unsigned look(const dft_jpeg_bits *b, int bits) {
  return (unsigned)(b->buffer >> (64 - bits));
}

/* A code longer than a lookup: its length, its symbol into *symbol. 0: there is none. */
static __attribute__((noinline)) unsigned find_code(uint64_t buffer, const dft_huffman *h, int *symbol) {
  for (unsigned length = LOOK + 1; length <= 16; length++) {
    int32_t code = (int32_t)(buffer >> (64 - length));
    if (code > h->last[length]) continue;
    *symbol = h->source.huffval[(h->first_symbol[length] + code) & 255];
    return length;
  }
  return 0;
}

/* One coefficient, or the end of the block. */
static ALWAYS_INLINE dft_huffman_one next_one(dft_jpeg_bits *b, const dft_huffman *h, bool ac,
                                              j_decompress_ptr cinfo) {
  refill(b);
  dft_huffman_one one = h->one[look(b, LOOK)];
  if (one.run < VALUE_FOLLOWS) {
    use(b, one.length);
    return one;
  }
  int symbol = one.value;
  unsigned length = one.run == LONG_CODE ? find_code(b->buffer, h, &symbol) : one.length;
  if (length == 0) dft_jpeg_damaged(cinfo, "Corrupt JPEG data: bad Huffman code");
  use(b, length);
  int size = ac ? symbol & 15 : symbol, run = ac ? symbol >> 4 : 0;
  int value = extend((int)(b->buffer >> 1 >> (63 - size)), size);
  use(b, (unsigned)size);
  if (ac && size == 0 && run < 15) run = END_OF_BLOCK;
  return (dft_huffman_one){(int16_t)value, (uint8_t)run, 0};
}

/* ---- blocks ---- */

static ALWAYS_INLINE void decode_ac(dft_jpeg_bits *b, const dft_huffman *h, JCOEF *block,
                                    j_decompress_ptr cinfo) {
  for (int k = 1; k < BLOCK;) {
    refill(b);
    int i = 0;
    for (; i < LOOKUPS; i++) {
      const dft_huffman_two *two = &h->two[look(b, LOOK)];
      int first = k + two->run, second = first + two->step;
      if (second + two->end >= BLOCK) break; /* not held, or what comes after the last is of the next block */
      use(b, two->length);
      block[natural[first]] = two->values[0];
      block[natural[second]] = two->values[1];
      k = second + 1;
      if ((two->end | (k == BLOCK)) != 0) return;
    }
    if (i == LOOKUPS) continue;
    dft_huffman_one one = next_one(b, h, true, cinfo);
    if (one.run == END_OF_BLOCK) return;
    k += one.run;
    if (k >= BLOCK) dft_jpeg_damaged(cinfo, "Corrupt JPEG data: a block of more than 64 coefficients");
    block[natural[k++]] = one.value;
  }
}

/* The same for coefficients that nobody wants. */
static ALWAYS_INLINE void skip_ac(dft_jpeg_bits *b, const dft_huffman *h, j_decompress_ptr cinfo) {
  for (int k = 1; k < BLOCK;) {
    refill(b);
    int i = 0;
    for (; i < SKIP_LOOKUPS; i++) {
      dft_huffman_skip skip = h->skips[look(b, LOOK_SKIP)];
      int end = skip.advance / SKIP_END, next = k + skip.advance % SKIP_END;
      if (skip.length == 0 || next + end > BLOCK) break;
      use(b, skip.length);
      k = next;
      if ((end | (k == BLOCK)) != 0) return;
    }
    if (i == SKIP_LOOKUPS) continue;
    dft_huffman_one one = next_one(b, h, true, cinfo);
    if (one.run == END_OF_BLOCK) return;
    k += one.run + 1;
    if (k > BLOCK) dft_jpeg_damaged(cinfo, "Corrupt JPEG data: a block of more than 64 coefficients");
  }
}

static void restart(dft_jpeg_entropy *e, j_decompress_ptr cinfo) {
  const uint8_t *p = e->marker;
  while (e->end - p >= 2 && p[0] == 0xff && p[1] == 0xff) p++;
  if (e->end - p < 2 || p[1] != JPEG_RST0 + e->restarts % 8)
    dft_jpeg_damaged(cinfo, "Corrupt JPEG data: a restart marker is missing");
  if (!read_segment(e, p + 2)) dft_jpeg_damaged(cinfo, "out of memory");
  e->restarts++;
  e->until_restart = cinfo->restart_interval;
  memset(e->before, 0, sizeof e->before);
}

static boolean decode_mcu(j_decompress_ptr cinfo, JBLOCKROW *blocks) {
  dft_jpeg_entropy *e = dft_jpeg_entropy_of(cinfo);
  if (cinfo->restart_interval > 0) {
    if (e->until_restart == 0) restart(e, cinfo);
    e->until_restart--;
  }
  dft_jpeg_bits bits = e->bits; /* in registers */
  for (int i = 0; i < cinfo->blocks_in_MCU; i++) {
    int component = cinfo->MCU_membership[i];
    const jpeg_component_info *c = cinfo->cur_comp_info[component];
    JCOEF *block = blocks[i][0];
    int difference = next_one(&bits, &e->dc[c->dc_tbl_no], false, cinfo).value;
    e->before[component] = (int)((unsigned)e->before[component] + (unsigned)difference);
    block[0] = (JCOEF)e->before[component];
    if (c->DCT_scaled_size > 1)
      decode_ac(&bits, &e->ac[c->ac_tbl_no], block, cinfo);
    else
      skip_ac(&bits, &e->ac[c->ac_tbl_no], cinfo);
  }
  e->bits = bits;
  size_t used_bits = 8 * (size_t)(bits.at - e->segment) - bits.count;
  if (used_bits > 8 * e->segment_bytes) dft_jpeg_damaged(cinfo, "Premature end of JPEG file");
  return TRUE;
}

/* ---- start ---- */

void dft_jpeg_entropy_free(void *e) {
  free(((dft_jpeg_entropy *)e)->segment);
  free(e);
}

static bool is_table(int number) {
  return number >= 0 && number < NUM_HUFF_TBLS;
}

bool dft_jpeg_entropy_take(dft_jpeg_entropy *e, j_decompress_ptr cinfo) {
#if JPEG_LIB_VERSION != 62 || !defined(LIBJPEG_TURBO_VERSION_NUMBER) ||                                      \
    LIBJPEG_TURBO_VERSION_NUMBER >= 3000000
  return false;
#endif
  if (cinfo->progressive_mode || cinfo->arith_code || jpeg_has_multiple_scans(cinfo)) return false;
  for (int i = 0; i < cinfo->comps_in_scan; i++) {
    const jpeg_component_info *c = cinfo->cur_comp_info[i];
    int dc = c->dc_tbl_no, ac = c->ac_tbl_no;
    if (!is_table(dc) || !is_table(ac) ||
        !have_table(cinfo->dc_huff_tbl_ptrs[dc], false, false, &e->dc[dc]) ||
        !have_table(cinfo->ac_huff_tbl_ptrs[ac], true, c->DCT_scaled_size == 1, &e->ac[ac]))
      return false;
  }
  e->end = cinfo->src->next_input_byte + cinfo->src->bytes_in_buffer;
  if (!read_segment(e, cinfo->src->next_input_byte)) return false;
  e->restarts = 0;
  e->until_restart = cinfo->restart_interval;
  memset(e->before, 0, sizeof e->before);
  cinfo->entropy->decode_mcu = decode_mcu;
  return true;
}
