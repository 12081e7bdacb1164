/* Huffman decoding of baseline JPEG, in the place of libjpeg's own: most of the time that a photograph takes.
 *
 * libjpeg asks its entropy decoder for one MCU (the blocks of one tile of the image) at a time, by a function
 * pointer; this puts another function there. All else (headers, inverse DCT, upsampling, colours) stays with
 * libjpeg, and so do progressive, arithmetic and multi-scan files. Faster here: the bytes are freed
 * of stuffing first, so that 56 bits are had without a question, a run of zeros, a code and its value are
 * found by one lookup, and where the image is reduced by 8, whole series of coefficients that nobody wants
 * are passed over by one lookup. Damage, which libjpeg fills up with grey, is an error.
 *
 * The pointer lies in a struct that libjpeg's headers only name. Its beginning is the same in libjpeg-turbo 1
 * and 2 (jpegint.h: struct jpeg_entropy_decoder); with any other libjpeg this is left out. */
#ifndef DFT_DATA_JPEG_ENTROPY_H
#define DFT_DATA_JPEG_ENTROPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* after stdio.h: it names FILE */
#include <jpeglib.h>

enum { DFT_HUFFMAN_BITS = 11, DFT_HUFFMAN_SKIP_BITS = 13 };

/* The first coefficient in the next DFT_HUFFMAN_BITS bits. */
typedef struct dft_huffman_one {
  int16_t value;
  uint8_t run;    /* zeros before it, or one of the marks of jpeg_entropy.c */
  uint8_t length; /* bits of code and value */
} dft_huffman_one;

/* The first two, as far as these bits surely hold them. Where there is no second, it lies in the place of the
 * first and is equal. */
typedef struct dft_huffman_two {
  int16_t values[2];
  uint8_t run;    /* zeros before the first; 64: the bits do not even hold that */
  uint8_t step;   /* from the first to the second */
  uint8_t length; /* bits of all of it */
  uint8_t end;    /* the end of the block comes after them */
} dft_huffman_two;

/* All coefficients that DFT_HUFFMAN_SKIP_BITS bits surely hold, for who only wants to pass over them. */
typedef struct dft_huffman_skip {
  uint8_t length;  /* bits; 0: not even one */
  uint8_t advance; /* coefficients; 128 more: the end of the block comes after them */
} dft_huffman_skip;

typedef struct dft_huffman {
  dft_huffman_two two[1 << DFT_HUFFMAN_BITS];
  dft_huffman_one one[1 << DFT_HUFFMAN_BITS];
  int32_t last[17];         /* [length] the greatest code, or -1 */
  int32_t first_symbol[17]; /* [length] place in `symbols`, less the first code */
  JHUFF_TBL source;         /* what it was made of */
  bool made, skips_made;
  dft_huffman_skip skips[1 << DFT_HUFFMAN_SKIP_BITS];
} dft_huffman;

typedef struct dft_jpeg_bits {
  const uint8_t *at, *stop; /* the next bytes; beyond them there are zeros */
  uint64_t buffer;          /* the next bits, from the top */
  unsigned count;           /* of them; those below are right, too, but were not taken from `at` */
} dft_jpeg_bits;

/* One for a thread: files of the same tables, which most are, share the work of making them. */
typedef struct dft_jpeg_entropy {
  dft_huffman dc[NUM_HUFF_TBLS], ac[NUM_HUFF_TBLS];
  uint8_t *segment; /* data up to the next marker, without the zeros after ff; then zeros */
  size_t segment_bytes, room;
  const uint8_t *marker, *end; /* in the file: what follows the segment */
  dft_jpeg_bits bits;
  int before[MAX_COMPS_IN_SCAN]; /* DC of the last block */
  unsigned until_restart, restarts;
} dft_jpeg_entropy;

/* To be called after jpeg_start_decompress; `e` stays in place, zeros at first. False: libjpeg goes on by
 * itself. */
void dft_jpeg_entropy_free(void *e); /* and what it owns */
bool dft_jpeg_entropy_take(dft_jpeg_entropy *e, j_decompress_ptr cinfo);

/* What decode_jpeg.c offers for that: the decoder of this cinfo, and how damage ends it. */
dft_jpeg_entropy *dft_jpeg_entropy_of(j_decompress_ptr cinfo);
_Noreturn void dft_jpeg_damaged(j_decompress_ptr cinfo, const char *what);

#endif
