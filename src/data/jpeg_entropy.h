/* Huffman decoding of baseline JPEG, in the place of libjpeg's own: most of the time that a photograph takes.
 *
 * libjpeg asks its entropy decoder for one MCU (the blocks of one tile of the image) at a time, by a function
 * pointer; this puts another function there. All else (headers, inverse DCT, upsampling, colours) stays with
 * libjpeg. Faster here: the bytes are freed of stuffing first, so that 56 bits are had without a question;
 * one lookup finds up to two coefficients and the end of the block, with no branch between the kinds; and
 * where the image is reduced by 8, whole series of coefficients that nobody wants are passed over by one
 * lookup.
 *
 * What is decoded here is what libjpeg decodes, because only files without anything unusual are: each code in
 * its table, 64 coefficients to a block, values within what 8-bit samples can give, each interval of data
 * used up to its last byte, restart markers in their order and EOI at the end, no fill bytes. The first thing
 * that is otherwise ends it (dft_jpeg_unusual), and the caller decodes the image again from its start by
 * libjpeg alone; so damage means what libjpeg makes of it. (It makes strange things of it: a MCU that its
 * fast decoder gives up, as at ff ff 00, keeps coefficients of that attempt.)
 *
 * The pointer lies in a struct of jpegint.h, which is not part of libjpeg's interface. Where there is no such
 * header, or it is not libjpeg-turbo 1.5 to 3 with the interface of libjpeg 6b, this is left out;
 * decode_jpeg_check.c tries it on an image before the first file. */
#ifndef DFT_DATA_JPEG_ENTROPY_H
#define DFT_DATA_JPEG_ENTROPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* after stdio.h: it names FILE */
#include <jpeglib.h>

enum { DFT_HUFFMAN_BITS = 11, DFT_HUFFMAN_DC_BITS = 10, DFT_HUFFMAN_SKIP_BITS = 13 };

/* What the next bits are, as far as one lookup tells; packed, because it is one load. From the lowest bit:
 *   length    8: bits of all of it, at most DFT_HUFFMAN_MOST_BITS (in a DC table 20)
 *   advance   8: coefficients up to the next, those of value 0 included; DFT_HUFFMAN_END more: then the
 *                block ends
 *   first     8: place of the first coefficient, from the next one on; 64: there is none
 *   last      8: of the last, which may be the first
 *   base     16: of the last value: it is base + those `length` bits, modulo 2^16, which removes the code
 *                and the offset of negative values at once (in a DC table 32 bits, to the top)
 *   value    16: the first value, where it is not the last
 * An entry that tells nothing (a long code, or none) advances by DFT_HUFFMAN_NOTHING. */
typedef uint64_t dft_huffman_entry;
enum { DFT_HUFFMAN_MOST_BITS = 18, DFT_HUFFMAN_END = 128, DFT_HUFFMAN_NOTHING = 255 };

/* The same for who only passes over coefficients: length in the lowest 6 bits, then advance. */
typedef uint16_t dft_huffman_skip;

typedef struct dft_huffman {
  dft_huffman_entry entries[1 << DFT_HUFFMAN_BITS];
  dft_huffman_skip skips[1 << DFT_HUFFMAN_SKIP_BITS];
  uint16_t symbols[1 << DFT_HUFFMAN_BITS]; /* length * 256 + symbol of the code these bits begin with, or 0 */
  int32_t last[17];                        /* [length] the greatest code, or -1 */
  int32_t first_symbol[17];                /* [length] place of the first code's symbol, less that code */
  uint8_t counts[17], values[256];         /* what it was made of: codes of each length, symbols */
  bool made, skips_made;
} dft_huffman;

/* Whether h, zeros at first, was the table of `source` already; it is from now on, but not made if it was
 * not. */
bool dft_huffman_meet(dft_huffman *h, const JHUFF_TBL *source);
/* Entries, unless they are there. False: it is no table of a baseline file. */
bool dft_huffman_make(dft_huffman *h, bool ac);
void dft_huffman_make_skips(dft_huffman *h);

typedef struct dft_jpeg_entropy dft_jpeg_entropy;

/* Tables and buffers of one thread, which files share one after the other. NULL: no memory. */
dft_jpeg_entropy *dft_jpeg_entropy_make(void);
void dft_jpeg_entropy_free(void *e);

/* To be called after jpeg_start_decompress. False: libjpeg goes on by itself. `always`: whether it is worth
 * it or not. */
bool dft_jpeg_entropy_take(dft_jpeg_entropy *e, j_decompress_ptr cinfo, bool always);
/* After the last row: all MCUs were decoded here, and the file ended where it should. */
bool dft_jpeg_entropy_complete(const dft_jpeg_entropy *e);

/* What decode_jpeg.c offers for that: the decoder of this cinfo, and the way out. */
dft_jpeg_entropy *dft_jpeg_entropy_of(j_decompress_ptr cinfo);
_Noreturn void dft_jpeg_unusual(j_decompress_ptr cinfo);

#endif
