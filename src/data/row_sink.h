/* Inside of decoding: rows of a raster -> an oriented, reduced RGB bitmap. */
#ifndef DFT_DATA_ROW_SINK_H
#define DFT_DATA_ROW_SINK_H

#include "decode.h"
#include "raster.h"

/* The whole factors by which an image of height x width, not oriented, is reduced for the mode. */
typedef struct dft_factors {
  int64_t rows, columns;
} dft_factors;

/* out_height, out_width: as wanted after orientation. */
dft_factors dft_factors_for(const dft_raster *raster, dft_resize mode, int out_height, int out_width);
/* 1, 2, 4 or 8, at most both factors. */
int dft_factors_shrink(dft_factors r);

/* Takes rows from the top, reduces them by boxes, and puts them where orientation wants them. */
typedef struct dft_row_sink {
  dft_raster raster;
  dft_factors by;
  dft_bitmap *bitmap;
  int64_t origin, down, right; /* pixels: where raster (0,0) goes, and its neighbours */
  int64_t height, width;       /* reduced, not oriented */
  int64_t row;                 /* next of the raster */
  uint8_t *rgb;                /* [raster.width][3] */
  uint8_t *reduced;            /* [width][3] */
  uint32_t *sums;              /* [raster.width][3], down a box; NULL: boxes of one row */
} dft_row_sink;

/* Makes room in the bitmap. */
dft_status dft_row_sink_init(dft_row_sink *s, const dft_raster *raster, dft_factors by, dft_bitmap *bitmap);
void dft_row_sink_put(dft_row_sink *s, const void *row);
void dft_row_sink_free(dft_row_sink *s);

#endif
