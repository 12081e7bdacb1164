/* Image files -> pixels: JPEG, PNG, WebP, GIF (first frame), TIFF (first page), BMP, known by their content.
 *
 *   dft_decode        a file's bytes -> a small RGB bitmap: reduced by whole factors while it is decoded
 *   dft_image_reader  a bitmap or a file's bytes -> the model-ready float image (resize.c does the rest of
 *                     the way, a ratio in [1,2), or enlarges)
 *
 * So a lossless image that is less than twice the model's size gives exactly what its pixels in an npy file
 * give, and a bitmap that was kept gives the same bits as decoding again.
 *
 * Reduction. Wanted are out_height x out_width. For stretch each axis is reduced by the whole part of its own
 * ratio, for crop both by that of the smaller ratio, for pad by that of the larger. JPEG reduces by 2, 4 or 8
 * as far as that goes while it decodes (libjpeg's scaled inverse DCT), WebP likewise by libwebp's rescaler;
 * what is left is the mean over boxes of pixels, rounded to the nearest, half up. Sizes round up: the last
 * box of a row or column may hold fewer pixels. This is Pillow's Image.draft and Image.reduce.
 *
 * Pixels are what Pillow's convert("RGB") gives:
 *   grey, palette  expanded
 *   alpha          dropped, without regard to a background. Transparent pixels of a GIF are black: libvips
 *                  does not keep their colour
 *   16 bits        the upper 8 (Pillow clips 16-bit grey at 255 instead)
 *   CMYK           r = (1 - k)(1 - c) and so on in 8 bits; in a JPEG file inverted, as Adobe writes it
 *   orientation    EXIF's, or TIFF's tag, is applied
 * Colour profiles and gamma are left alone. Samples of 32 bits or floats, Lab and colours of more than four
 * components are refused, and TIFF's YCbCr without JPEG.
 *
 * JPEG goes through libjpeg and BMP through a reader of our own; the others through libvips, which is in a
 * module of its own (module/), loaded when the first such image is met: it brings along some hundred
 * libraries (dft/module.h; its environment variable is DFT_DECODE_MODULE).
 *
 * Errors: DFT_EDATA with one line that begins with `name`: empty, no image, a format that is not supported,
 * truncated, damaged, more than DFT_DECODE_MAX_PIXELS pixels or DFT_DECODE_MAX_SIDE on a side (refused before
 * memory is asked for), a progressive JPEG of more than 500 scans; DFT_EINTERNAL: out of memory, or the
 * module cannot be loaded. A JPEG file that lacks only its last marker counts as truncated, as with Pillow.
 * Nothing is printed.
 * Threads: any, several at once; nothing here starts threads. Not collective. */
#ifndef DFT_DATA_DECODE_H
#define DFT_DATA_DECODE_H

#include "source.h"

/* Pillow's limit, at which it refuses. */
#define DFT_DECODE_MAX_PIXELS 178956970
enum { DFT_DECODE_MAX_SIDE = 1000000 };

typedef struct dft_bitmap {
  int height, width;
  uint8_t *rgb; /* [height][width][3], owned; NULL at first */
  size_t capacity_bytes;
} dft_bitmap;

/* "JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP" by the first bytes, or NULL. */
const char *dft_decode_format(const void *bytes, size_t count);
/* What the header says, after EXIF orientation. Cheap for JPEG, BMP, PNG, TIFF and WebP. */
dft_status dft_decode_size(const void *bytes, size_t count, const char *name, int *height, int *width);

/* Decodes and reduces. bitmap begins as zeros and is reused between calls; a thread has its own. */
dft_status dft_decode(const void *bytes, size_t count, const char *name, dft_resize mode, int out_height,
                      int out_width, dft_bitmap *bitmap);
void dft_bitmap_free(dft_bitmap *bitmap); /* its pixels; a bitmap of zeros is fine */

/* Tables and a bitmap for one thread; they are made anew only when the bitmap's size changes. */
typedef struct dft_image_reader {
  dft_resize mode;
  int out_height, out_width;
  dft_preprocessing preprocessing;
  dft_bitmap bitmap; /* the last image's */
  dft_loader loader;
} dft_image_reader;

dft_image_reader dft_image_reader_make(dft_resize mode, int out_height, int out_width,
                                       dft_preprocessing preprocessing);
void dft_image_reader_free(dft_image_reader *r);
/* rgb[height][width][3] -> out[out_height*out_width*3]. */
dft_status dft_image_reader_pixels(dft_image_reader *r, const uint8_t *rgb, int height, int width,
                                   float *out);
/* dft_decode into r->bitmap, and the above. */
dft_status dft_image_reader_file(dft_image_reader *r, const void *bytes, size_t count, const char *name,
                                 float *out);

#endif
