/* Inside of decoding: one interface to what reads rows of pixels (libjpeg, libvips, BMP), and what makes a
 * bitmap of the rows. The module that is loaded at run time knows this header and nothing else of dft. */
#ifndef DFT_DATA_RASTER_H
#define DFT_DATA_RASTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Pixels as they are read: [height][width][bands] samples of 8 or 16 bits (the machine's order). */
typedef enum { DFT_COLOUR_GREY, DFT_COLOUR_RGB, DFT_COLOUR_CMYK } dft_colour;

typedef struct dft_raster {
  int64_t height, width; /* as stored, before orientation */
  int bands;             /* those of the colour, and any number more, which are dropped */
  int sample_bytes;      /* 1 or 2 */
  dft_colour colour;
  bool inverted;   /* CMYK: 255 is no ink */
  int orientation; /* EXIF's 1 to 8 */
} dft_raster;

typedef enum {
  DFT_IMAGE_JPEG,
  DFT_IMAGE_PNG,
  DFT_IMAGE_WEBP,
  DFT_IMAGE_GIF,
  DFT_IMAGE_TIFF,
  DFT_IMAGE_BMP
} dft_image_format;

/* Why a reader failed: one line without the file's name. */
typedef struct dft_raster_error {
  char text[512];
  bool unsupported;   /* nothing is wrong with the file, ... */
  bool out_of_memory; /* ... nor here */
} dft_raster_error;

static inline bool dft_raster_refuse(dft_raster_error *e, const char *what) {
  snprintf(e->text, sizeof e->text, "%s", what);
  return false;
}

static inline bool dft_raster_unsupported(dft_raster_error *e, const char *what) {
  e->unsupported = true;
  return dft_raster_refuse(e, what);
}

static inline bool dft_raster_no_memory(dft_raster_error *e) {
  e->out_of_memory = true;
  return dft_raster_refuse(e, "out of memory");
}

/* Reads one image in memory; bytes stay in place until close. Each function but close fills in *error,
 * zeros at first, when it returns false. Any thread, one image on one thread at a time. */
typedef struct dft_raster_reader {
  /* Reads the header. *handle is NULL when it fails. */
  bool (*open)(dft_image_format format, const void *bytes, size_t count, dft_raster *raster, void **handle,
               dft_raster_error *error);
  /* Gets ready to read, reduced by up to `shrink` (1, 2, 4 or 8) on both axes. raster's size becomes what
   * will be read. */
  bool (*start)(void *handle, int shrink, dft_raster *raster, dft_raster_error *error);
  /* The next rows, at least one, at most `most`: *count of them, *stride_bytes apart, valid until the next
   * call. */
  bool (*rows)(void *handle, int64_t most, const void **rows, size_t *stride_bytes, int64_t *count,
               dft_raster_error *error);
  void (*close)(void *handle);
} dft_raster_reader;

/* JPEG: the first fails at anything unusual in a file, which the second, libjpeg alone, is then to read from
 * the start; what the first reads, the second reads to the same pixels. */
extern const dft_raster_reader dft_jpeg_reader, dft_plain_jpeg_reader;
extern const dft_raster_reader dft_bmp_reader;
/* By our Huffman decoding or not at all: what dft_jpeg_reader begins with, if a first try of it showed that
 * it works with this libjpeg. */
extern const dft_raster_reader dft_fast_jpeg_reader;
bool dft_jpeg_entropy_works(void);

/* What the module exports under the name of DFT_RASTER_MODULE_SYMBOL. A change of anything above is another
 * symbol, so that a module left over from another version is refused. */
#define DFT_RASTER_MODULE_SYMBOL "dft_raster_module_3"

/* The orientation in EXIF data, which is a TIFF file of its own; 1 if it says none. */
int dft_exif_orientation(const uint8_t *exif, size_t count);
/* Whether the first image of a TIFF file holds YCbCr that is not JPEG's: libvips hands that on as it is. */
bool dft_tiff_is_ycbcr(const uint8_t *tiff, size_t count);

/* The size that the start of a file announces; false: it does not, or not there. */
bool dft_announced_size(dft_image_format format, const void *bytes, size_t count, int64_t *height,
                        int64_t *width);

#endif
