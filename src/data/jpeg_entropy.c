/* ITU-T T.81: F.2.2 (Huffman decoding), B.1.1.5 (stuffing), E.2.4 (restarts). */
#include "jpeg_entropy.h"
#include <stdlib.h>
#include <string.h>

#if defined(__has_include) && JPEG_LIB_VERSION == 62 && defined(LIBJPEG_TURBO_VERSION_NUMBER)
#if __has_include(<jpegint.h>) && LIBJPEG_TURBO_VERSION_NUMBER >= 1005000 &&                                 \
    LIBJPEG_TURBO_VERSION_NUMBER < 4000000
#include <jpegint.h>
#define KNOWN_LIBJPEG 1
#endif
#endif

enum { BLOCK = 64, MOST_BLOCKS = 10, LONGEST_CODE = 16, MOST_DC = 2047 };
/* A block takes at most 208 bytes: of its codes and values none is longer than 16 + 11 bits. So it is enough
 * to see before each block that the reader is not past the end (but for the 8 bytes that it reads ahead). */
enum { AHEAD_BYTES = 8, PADDING_BYTES = 256 };
/* After a refill there are 56 bits. */
enum { REFILL_BITS = 56, LOOKUPS = REFILL_BITS / DFT_HUFFMAN_MOST_BITS };

/* So much data is worth tables of its own: they take 30 us, and libjpeg 4 us more than this per kB. */
enum { WORTH_BYTES = 6000 };

/* Zigzag order to natural order (T.81, figure 5). An entry of dft_huffman may point past the block: at
 * nothing (then it writes 0, to the last place, which is still 0), or too far (then it is looked up again in
 * parts, which writes the last place again, or is an error). */
static const uint8_t natural[2 * BLOCK] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45,
    38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63};

typedef struct bit_reader {
  const uint8_t *at, *stop; /* the next bytes; past `stop` the data was not enough */
  uint64_t buffer;          /* the next bits, from the top */
  unsigned count;           /* of them; those below are right, too, but were not taken from `at` */
} bit_reader;

typedef struct block_plan {
  dft_huffman *dc, *ac;
  int component;
  bool skip; /* only DC is wanted */
} block_plan;

struct dft_jpeg_entropy {
  dft_huffman dc[NUM_HUFF_TBLS], ac[NUM_HUFF_TBLS];
  uint8_t *segment; /* data up to the next marker, without the zeros after ff; then zeros */
  size_t segment_bytes, room;
  const uint8_t *marker, *end; /* in the file: what follows the segment */
  bit_reader bits;
  block_plan plan[MOST_BLOCKS];
  int blocks;
  int before[MAX_COMPS_IN_SCAN]; /* DC of the last block */
  unsigned restart_interval, until_restart, restarts;
  uint64_t mcus_left;
  bool complete;
};

/* What handles bits must be inlined, or they are not in registers. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* ---- bits ---- */

/* From `at` in the file up to the next marker. False: there is none, or no memory, or bytes that only libjpeg
 * knows what to make of. */
static bool read_segment(dft_jpeg_entropy *e, const uint8_t *at) {
  size_t most = (size_t)(e->end - at) + PADDING_BYTES;
  if (most > e->room) {
    free(e->segment);
    e->segment = malloc(most);
    e->room = e->segment != NULL ? most : 0;
    if (e->segment == NULL) return false;
  }
  uint8_t *to = e->segment;
  for (;; at += 2) {
    const uint8_t *ff = memchr(at, 0xff, (size_t)(e->end - at));
    if (ff == NULL || e->end - ff < 2) return false;
    size_t n = (size_t)(ff - at);
    memcpy(to, at, n);
    to += n;
    at = ff;
    if (ff[1] != 0) break;
    *to++ = 0xff;
  }
  memset(to, 0, PADDING_BYTES);
  e->marker = at;
  e->segment_bytes = (size_t)(to - e->segment);
  e->bits = (bit_reader){.at = e->segment, .stop = to + AHEAD_BYTES};
  return true;
}

static ALWAYS_INLINE void refill(bit_reader *b) {
  uint64_t word;
  memcpy(&word, b->at, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  b->buffer |= word >> b->count;
  b->at += (63 - b->count) / 8;
  b->count |= REFILL_BITS;
}

static ALWAYS_INLINE void use(bit_reader *b, unsigned bits) {
  b->buffer <<= bits & 63;
  b->count -= bits & 63;
}

/* The number that the next `bits` are, at least one; above 32 bits cut. */
static ALWAYS_INLINE unsigned number(const bit_reader *b, unsigned bits) {
  return (unsigned)(b->buffer >> (-bits & 63));
}

static size_t used_bits(const dft_jpeg_entropy *e) {
  return 8 * (size_t)(e->bits.at - e->segment) - e->bits.count;
}

/* ---- blocks ---- */

/* One symbol, by itself; -1: there is none. */
static ALWAYS_INLINE int next_symbol(bit_reader *b, const dft_huffman *h) {
  unsigned found = h->symbols[number(b, DFT_HUFFMAN_BITS)];
  if (found != 0) {
    use(b, found >> 8);
    return (int)(found & 255);
  }
  for (unsigned length = DFT_HUFFMAN_BITS + 1; length <= LONGEST_CODE; length++) {
    int32_t code = (int32_t)number(b, length);
    if (code > h->last[length]) continue;
    use(b, length);
    return h->values[(h->first_symbol[length] + code) & 255];
  }
  return -1;
}

/* A value of `size` bits as it is coded: negative ones are less by 2^size - 1 (T.81, F.2.2.1). */
static ALWAYS_INLINE int next_value(bit_reader *b, int size) {
  if (size == 0) return 0;
  int value = (int)number(b, (unsigned)size);
  use(b, (unsigned)size);
  return value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
}

static ALWAYS_INLINE int next_difference(bit_reader *b, const dft_huffman *h, j_decompress_ptr cinfo) {
  refill(b);
  dft_huffman_entry entry = h->entries[number(b, DFT_HUFFMAN_DC_BITS)];
  if ((entry >> 8 & 255) == 0) {
    int value = (int)((unsigned)(entry >> 32) + number(b, entry & 63));
    use(b, entry & 63);
    return value;
  }
  int size = next_symbol(b, h);
  if (size < 0 || size > 11) dft_jpeg_unusual(cinfo);
  return next_value(b, size);
}

/* One symbol of AC at place k, by itself; returns the next place. */
static __attribute__((noinline)) unsigned step_ac_apart(bit_reader *b, const dft_huffman *h, unsigned k,
                                                        JCOEF *block, j_decompress_ptr cinfo) {
  refill(b);
  int symbol = next_symbol(b, h), size = symbol & 15;
  if (symbol == 0) return BLOCK;
  k += (unsigned)symbol >> 4;
  if (symbol < 0 || size > 10 || (size == 0 && symbol != 0xf0) || k >= BLOCK) dft_jpeg_unusual(cinfo);
  int value = next_value(b, size);
  if (block != NULL) block[natural[k]] = (JCOEF)value;
  return k + 1;
}

/* By way of a copy, since what has an address is not in registers. */
static ALWAYS_INLINE unsigned step_ac(bit_reader *b, const dft_huffman *h, unsigned k, JCOEF *block,
                                      j_decompress_ptr cinfo) {
  bit_reader copy = *b;
  k = step_ac_apart(&copy, h, k, block, cinfo);
  *b = copy;
  return k;
}

/* What a lookup leads to is right if that is within the block, just behind it, or the block's end where there
 * could be another coefficient. Anything else is to be taken in parts: its end may belong to the next block.
 */
static ALWAYS_INLINE bool is_end(unsigned next) {
  return next == BLOCK || next - (DFT_HUFFMAN_END + 1) < BLOCK - 1;
}

static ALWAYS_INLINE void decode_ac(bit_reader *b, const dft_huffman *h, JCOEF *block,
                                    j_decompress_ptr cinfo) {
  for (unsigned k = 1; k < BLOCK;) {
    refill(b);
    for (int i = 0; i < LOOKUPS; i++) {
      dft_huffman_entry entry = h->entries[number(b, DFT_HUFFMAN_BITS)];
      unsigned next = k + (uint8_t)(entry >> 8);
      block[natural[k + (uint8_t)(entry >> 16)]] = (JCOEF)(entry >> 48);
      block[natural[k + (uint8_t)(entry >> 24)]] =
          (JCOEF)((unsigned)(entry >> 32) + number(b, (unsigned)entry));
      if (next >= BLOCK) {
        if (is_end(next)) {
          use(b, (unsigned)entry);
          return;
        }
        k = step_ac(b, h, k, block, cinfo);
        break;
      }
      use(b, (unsigned)entry);
      k = next;
    }
  }
}

/* The same for coefficients that nobody wants. */
static ALWAYS_INLINE void skip_ac(bit_reader *b, const dft_huffman *h, j_decompress_ptr cinfo) {
  for (unsigned k = 1; k < BLOCK;) {
    refill(b);
    for (int i = 0; i < LOOKUPS; i++) {
      dft_huffman_skip skip = h->skips[number(b, DFT_HUFFMAN_SKIP_BITS)];
      unsigned next = k + (skip >> 6);
      if (next >= BLOCK) {
        if (is_end(next)) {
          use(b, skip);
          return;
        }
        k = step_ac(b, h, k, NULL, cinfo);
        break;
      }
      use(b, skip);
      k = next;
    }
  }
}

/* ---- MCUs ---- */

/* The data of a segment ends in its last byte, and `marker` follows. */
static bool ends_with(const dft_jpeg_entropy *e, int marker) {
  size_t used = used_bits(e);
  return used <= 8 * e->segment_bytes && used + 8 > 8 * e->segment_bytes && e->marker[1] == marker;
}

static void restart(dft_jpeg_entropy *e, j_decompress_ptr cinfo) {
  if (!ends_with(e, JPEG_RST0 + (int)(e->restarts % 8)) || !read_segment(e, e->marker + 2))
    dft_jpeg_unusual(cinfo);
  e->restarts++;
  e->until_restart = e->restart_interval;
  memset(e->before, 0, sizeof e->before);
}

static ALWAYS_INLINE boolean decode_mcu(j_decompress_ptr cinfo, JBLOCKROW *blocks) {
  dft_jpeg_entropy *e = dft_jpeg_entropy_of(cinfo);
  if (e->mcus_left == 0) dft_jpeg_unusual(cinfo);
  if (e->restart_interval > 0) {
    if (e->until_restart == 0) restart(e, cinfo);
    e->until_restart--;
  }
  bit_reader bits = e->bits; /* in registers */
  for (int i = 0; i < e->blocks; i++) {
    const block_plan *p = &e->plan[i];
    if (bits.at > bits.stop) dft_jpeg_unusual(cinfo);
    int dc = e->before[p->component] + next_difference(&bits, p->dc, cinfo);
    if (dc < -MOST_DC || dc > MOST_DC) dft_jpeg_unusual(cinfo);
    e->before[p->component] = dc;
    blocks[i][0][0] = (JCOEF)dc;
    if (p->skip)
      skip_ac(&bits, p->ac, cinfo);
    else
      decode_ac(&bits, p->ac, blocks[i][0], cinfo);
  }
  e->bits = bits;
  if (used_bits(e) > 8 * e->segment_bytes) dft_jpeg_unusual(cinfo);
  if (--e->mcus_left > 0) return TRUE;
  if (!ends_with(e, JPEG_EOI)) dft_jpeg_unusual(cinfo);
  e->complete = true;
  return TRUE;
}

#if KNOWN_LIBJPEG
static boolean decode_mcu_anywhere(j_decompress_ptr cinfo, JBLOCKROW *blocks) {
  return decode_mcu(cinfo, blocks);
}

#if defined(__x86_64__)
/* Shifts by a register in one instruction. */
__attribute__((target("bmi,bmi2"))) static boolean decode_mcu_bmi2(j_decompress_ptr cinfo,
                                                                   JBLOCKROW *blocks) {
  return decode_mcu(cinfo, blocks);
}
#endif
#endif

/* ---- start ---- */

dft_jpeg_entropy *dft_jpeg_entropy_make(void) {
  return calloc(1, sizeof(dft_jpeg_entropy));
}

void dft_jpeg_entropy_free(void *e) {
  free(((dft_jpeg_entropy *)e)->segment);
  free(e);
}

bool dft_jpeg_entropy_complete(const dft_jpeg_entropy *e) {
  return e->complete;
}

#if KNOWN_LIBJPEG
static bool is_baseline(j_decompress_ptr cinfo) {
  return !cinfo->progressive_mode && !cinfo->arith_code && cinfo->data_precision == 8 &&
         !jpeg_has_multiple_scans(cinfo) && cinfo->comps_in_scan == cinfo->num_components && cinfo->Ss == 0 &&
         cinfo->Se == BLOCK - 1 && cinfo->Ah == 0 && cinfo->Al == 0 && cinfo->unread_marker == 0 &&
         cinfo->blocks_in_MCU <= MOST_BLOCKS && cinfo->comps_in_scan <= MAX_COMPS_IN_SCAN;
}

/* The table of that number; NULL: there is none. *met stays true if the last file had it, too. */
static dft_huffman *get_table(JHUFF_TBL **sources, int number, dft_huffman *tables, bool *met) {
  if (number < 0 || number >= NUM_HUFF_TBLS || sources[number] == NULL) return NULL;
  *met = dft_huffman_meet(&tables[number], sources[number]) && *met;
  return &tables[number];
}

/* False: tables are missing, or would have to be made and are not worth it. */
static bool make_plan(dft_jpeg_entropy *e, j_decompress_ptr cinfo, bool worth) {
  bool met = true;
  e->blocks = cinfo->blocks_in_MCU;
  for (int i = 0; i < e->blocks; i++) {
    int component = cinfo->MCU_membership[i];
    const jpeg_component_info *c = cinfo->cur_comp_info[component];
    e->plan[i] = (block_plan){.dc = get_table(cinfo->dc_huff_tbl_ptrs, c->dc_tbl_no, e->dc, &met),
                              .ac = get_table(cinfo->ac_huff_tbl_ptrs, c->ac_tbl_no, e->ac, &met),
                              .component = component,
                              .skip = c->DCT_scaled_size == 1};
    if (e->plan[i].dc == NULL || e->plan[i].ac == NULL || !c->component_needed) return false;
  }
  if (!met && !worth) return false;
  for (int i = 0; i < e->blocks; i++) {
    const block_plan *p = &e->plan[i];
    if (!dft_huffman_make(p->dc, false) || !dft_huffman_make(p->ac, true)) return false;
    if (p->skip) dft_huffman_make_skips(p->ac);
  }
  return true;
}

bool dft_jpeg_entropy_take(dft_jpeg_entropy *e, j_decompress_ptr cinfo, bool always) {
  if (!is_baseline(cinfo) || !make_plan(e, cinfo, always || cinfo->src->bytes_in_buffer >= WORTH_BYTES))
    return false;
  e->end = cinfo->src->next_input_byte + cinfo->src->bytes_in_buffer;
  if (!read_segment(e, cinfo->src->next_input_byte)) return false;
  e->restarts = 0;
  e->restart_interval = e->until_restart = cinfo->restart_interval;
  e->mcus_left = (uint64_t)cinfo->MCUs_per_row * cinfo->MCU_rows_in_scan;
  e->complete = false;
  memset(e->before, 0, sizeof e->before);
  cinfo->entropy->decode_mcu = decode_mcu_anywhere;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
    cinfo->entropy->decode_mcu = decode_mcu_bmi2;
#endif
  return true;
}
#else
bool dft_jpeg_entropy_take(dft_jpeg_entropy *e, j_decompress_ptr cinfo, bool always) {
  (void)e;
  (void)cinfo;
  (void)always;
  return false;
}
#endif
