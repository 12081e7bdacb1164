#include "row_sink.h"
#include <stdlib.h>
#include <string.h>

/* ---- factors ---- */

dft_factors dft_factors_for(const dft_raster *raster, dft_resize mode, int out_height, int out_width) {
  bool turned = raster->orientation >= 5;
  int64_t wanted_rows = turned ? out_width : out_height, wanted_columns = turned ? out_height : out_width;
  dft_factors r = {raster->height / wanted_rows, raster->width / wanted_columns};
  int64_t less = r.rows < r.columns ? r.rows : r.columns, more = r.rows < r.columns ? r.columns : r.rows;
  if (mode == DFT_RESIZE_CROP) r.rows = r.columns = less;
  if (mode == DFT_RESIZE_PAD) r.rows = r.columns = more;
  if (r.rows < 1) r.rows = 1;
  if (r.columns < 1) r.columns = 1;
  return r;
}

int dft_factors_shrink(dft_factors r) {
  int shrink = 8;
  while (shrink > r.rows || shrink > r.columns) shrink /= 2;
  return shrink;
}

/* ---- colours ---- */

static uint8_t times(unsigned a, unsigned b) { /* a * b / 255, rounded: Pillow's MULDIV255 */
  unsigned t = a * b + 128;
  return (uint8_t)((t + (t >> 8)) >> 8);
}

/* The upper 8 bits of sample i. */
static unsigned sample(const uint8_t *row, int64_t i, int sample_bytes) {
  if (sample_bytes == 1) return row[i];
  uint16_t value;
  memcpy(&value, row + 2 * i, sizeof value);
  return value >> 8;
}

/* One row as RGB of 8 bits; where it is that already, itself. */
static const uint8_t *to_rgb(const dft_row_sink *s, const uint8_t *row) {
  const dft_raster *r = &s->raster;
  int64_t bands = r->bands;
  if (r->colour == DFT_COLOUR_RGB && bands == 3 && r->sample_bytes == 1) return row;
  for (int64_t x = 0; x < r->width; x++) {
    uint8_t *to = s->rgb + 3 * x;
    if (r->colour == DFT_COLOUR_GREY) {
      to[0] = to[1] = to[2] = (uint8_t)sample(row, x * bands, r->sample_bytes);
      continue;
    }
    for (int c = 0; c < 3; c++) to[c] = (uint8_t)sample(row, x * bands + c, r->sample_bytes);
    if (r->colour != DFT_COLOUR_CMYK) continue;
    unsigned flip = r->inverted ? 255 : 0, light = 255 - (sample(row, x * bands + 3, r->sample_bytes) ^ flip);
    for (int c = 0; c < 3; c++) to[c] = (uint8_t)(light - times(to[c] ^ flip, light));
  }
  return s->rgb;
}

/* ---- places ---- */

/* EXIF's orientations: where row 0 and column 0 of the raster lie in the upright image. */
static void orient(dft_row_sink *s) {
  int64_t h = s->height, w = s->width;
  int o = s->raster.orientation;
  bool turned = o >= 5, bottom = o == 3 || o == 4 || o == 7 || o == 8,
       end = o == 2 || o == 3 || o == 6 || o == 7;
  s->bitmap->height = (int)(turned ? w : h);
  s->bitmap->width = (int)(turned ? h : w);
  int64_t line = s->bitmap->width;
  if (!turned) { /* 1: as it is, 2: mirrored, 3: turned by 180, 4: upside down */
    s->down = bottom ? -line : line;
    s->right = end ? -1 : 1;
    s->origin = (bottom ? (h - 1) * line : 0) + (end ? w - 1 : 0);
  } else { /* row 0 lies at the left (5, 8) or right (6, 7); column 0 at the top (5, 6) or bottom (7, 8) */
    s->down = end ? -1 : 1;
    s->right = bottom ? -line : line;
    s->origin = (bottom ? (w - 1) * line : 0) + (end ? h - 1 : 0);
  }
}

static dft_status make_room(dft_bitmap *b, size_t bytes) {
  if (bytes <= b->capacity_bytes) return DFT_OK;
  free(b->rgb);
  b->rgb = malloc(bytes);
  b->capacity_bytes = b->rgb != NULL ? bytes : 0;
  return b->rgb != NULL ? DFT_OK : dft_fail_memory("image", bytes);
}

dft_status dft_row_sink_init(dft_row_sink *s, const dft_raster *raster, dft_factors by, dft_bitmap *bitmap) {
  *s = (dft_row_sink){.raster = *raster, .by = by, .bitmap = bitmap};
  s->height = (raster->height + by.rows - 1) / by.rows;
  s->width = (raster->width + by.columns - 1) / by.columns;
  DFT_TRY(make_room(bitmap, (size_t)s->height * (size_t)s->width * 3));
  orient(s);
  size_t line = (size_t)raster->width * 3;
  s->rgb = malloc(line);
  s->reduced = malloc((size_t)s->width * 3);
  if (by.rows > 1) s->sums = calloc(line, sizeof *s->sums);
  if (s->rgb != NULL && s->reduced != NULL && (s->sums != NULL || by.rows == 1)) return DFT_OK;
  dft_row_sink_free(s);
  return dft_fail_memory("image row", line);
}

void dft_row_sink_free(dft_row_sink *s) {
  free(s->rgb);
  free(s->reduced);
  free(s->sums);
  s->rgb = s->reduced = NULL;
  s->sums = NULL;
}

/* ---- rows ---- */

static void place(const dft_row_sink *s, int64_t y, const uint8_t *rgb) {
  uint8_t *to = s->bitmap->rgb + 3 * (s->origin + y * s->down);
  if (s->right == 1)
    memcpy(to, rgb, (size_t)s->width * 3);
  else
    for (int64_t x = 0; x < s->width; x++) memcpy(to + 3 * x * s->right, rgb + 3 * x, 3);
}

/* sum / n, rounded half up, is (sum + n / 2) * reciprocal >> 32 with 2^32 / n rounded up for sums of n values
 * up to 255 and n up to 1024: the product is too large by less than sum < 2^32 / n. */
enum { MOST_BY_RECIPROCAL = 1024 };

/* Sums of `columns` neighbours, of one row or of sums down a box, and their means over n values. Inlined with
 * small constants for `columns`. */
#define DEFINE_ACROSS(name, type)                                                                            \
  static inline __attribute__((always_inline)) void name##_of(                                               \
      const type *restrict values, int64_t boxes, int64_t columns, uint32_t n, uint8_t *restrict to) {       \
    uint64_t reciprocal = ((UINT64_C(1) << 32) + n - 1) / n;                                                 \
    for (int64_t x = 0; x < boxes; x++, values += 3 * columns, to += 3)                                      \
      for (int c = 0; c < 3; c++) {                                                                          \
        uint32_t sum = n / 2;                                                                                \
        for (int64_t i = 0; i < columns; i++) sum += values[3 * i + c];                                      \
        to[c] = (uint8_t)(sum * reciprocal >> 32);                                                           \
      }                                                                                                      \
  }                                                                                                          \
  static void name##_many(const type *values, int64_t boxes, int64_t columns, uint64_t n, uint8_t *to) {     \
    for (int64_t x = 0; x < boxes; x++, values += 3 * columns, to += 3)                                      \
      for (int c = 0; c < 3; c++) {                                                                          \
        uint64_t sum = n / 2;                                                                                \
        for (int64_t i = 0; i < columns; i++) sum += values[3 * i + c];                                      \
        to[c] = (uint8_t)(sum / n);                                                                          \
      }                                                                                                      \
  }                                                                                                          \
  static void name(const type *values, int64_t boxes, int64_t columns, int64_t rows, uint8_t *to) {          \
    int64_t n = columns * rows;                                                                              \
    if (n > MOST_BY_RECIPROCAL)                                                                              \
      name##_many(values, boxes, columns, (uint64_t)n, to);                                                  \
    else if (columns == 2)                                                                                   \
      name##_of(values, boxes, 2, (uint32_t)n, to);                                                          \
    else if (columns == 3)                                                                                   \
      name##_of(values, boxes, 3, (uint32_t)n, to);                                                          \
    else                                                                                                     \
      name##_of(values, boxes, columns, (uint32_t)n, to);                                                    \
  }
DEFINE_ACROSS(across_bytes, uint8_t)
DEFINE_ACROSS(across_sums, uint32_t)

/* The means of a strip of boxes, `rows` high: from its one row, or from the sums of its rows. */
static void finish_boxes(dft_row_sink *s, const uint8_t *rgb, int64_t rows, uint8_t *to) {
  int64_t columns = s->by.columns, whole = s->raster.width / columns, left = s->raster.width % columns;
  if (s->sums == NULL) {
    across_bytes(rgb, whole, columns, 1, to);
    if (left > 0) across_bytes(rgb + 3 * whole * columns, 1, left, 1, to + 3 * whole);
    return;
  }
  across_sums(s->sums, whole, columns, rows, to);
  if (left > 0) across_sums(s->sums + 3 * whole * columns, 1, left, rows, to + 3 * whole);
  memset(s->sums, 0, (size_t)s->raster.width * 3 * sizeof *s->sums);
}

void dft_row_sink_put(dft_row_sink *s, const void *row) {
  const uint8_t *rgb = to_rgb(s, row);
  int64_t y = s->row++, in_box = y % s->by.rows + 1;
  if (s->by.rows == 1 && s->by.columns == 1) {
    place(s, y, rgb);
    return;
  }
  if (s->sums != NULL)
    for (int64_t i = 0; i < s->raster.width * 3; i++) s->sums[i] += rgb[i];
  if (in_box < s->by.rows && s->row < s->raster.height) return;
  finish_boxes(s, rgb, in_box, s->reduced);
  place(s, y / s->by.rows, s->reduced);
}
