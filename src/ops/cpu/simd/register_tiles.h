/* Shapes of the products' register tiles, rows x vectors, and lists of functions for all of them: up to 27 of
 * 32 registers accumulate, or 12 of 16. Three and four vectors side by side load the least for each FMA. */
#ifndef DFT_SIMD_REGISTER_TILES_H
#define DFT_SIMD_REGISTER_TILES_H

#include "gemm_panel.h"
#include "lanes.h"

#if VF_LANES == 16
enum { TILE_ROWS = 12, TILE_FLOATS = 27 * VF_LANES };
static const int most_rows[PANEL_VECTORS] = {12, 12, 9, 6};
#else
enum { TILE_ROWS = 6, TILE_FLOATS = 12 * VF_LANES };
static const int most_rows[PANEL_VECTORS] = {6, 6};
#endif

/* Where the next factors of a tile's rows are: of each three rows the first one's. With the stride these are
 * the addresses of all of them, in few enough registers for a loop without spills. */
typedef struct row_factors {
  const float *row[TILE_ROWS / 3];
} row_factors;

INLINE const float *factor_at(const row_factors *x, int row, ptrdiff_t stride, int at) {
  return x->row[row / 3] + row % 3 * stride + at;
}

INLINE void advance_factors(row_factors *x, int rows, int floats) {
#pragma GCC unroll 4
  for (int i = 0; i * 3 < rows; i++) {
    x->row[i] += floats;
    __asm__("" : "+r"(x->row[i])); /* gcc would rather have an address for each row */
  }
}

INLINE void begin_factors(row_factors *x, const float *first, int rows, ptrdiff_t stride) {
#pragma GCC unroll 4
  for (int i = 0; i * 3 < rows; i++) x->row[i] = first + i * 3 * stride;
  advance_factors(x, rows, 0);
}

/* EACH_TILE(f) is f(rows, vectors) for every shape; TILE_TABLE(name) the functions name_<rows>x<vectors>, by
 * vectors - 1 and rows - 1. */
#define TILES_TO_6(f, v)     f(1, v) f(2, v) f(3, v) f(4, v) f(5, v) f(6, v)
#define TILES_TO_9(f, v)     TILES_TO_6(f, v) f(7, v) f(8, v) f(9, v)
#define TILES_TO_12(f, v)    TILES_TO_9(f, v) f(10, v) f(11, v) f(12, v)
#define NAMES_TO_6(name, v)  name##_1x##v, name##_2x##v, name##_3x##v, name##_4x##v, name##_5x##v, name##_6x##v
#define NAMES_TO_9(name, v)  NAMES_TO_6(name, v), name##_7x##v, name##_8x##v, name##_9x##v
#define NAMES_TO_12(name, v) NAMES_TO_9(name, v), name##_10x##v, name##_11x##v, name##_12x##v
#if VF_LANES == 16
#define EACH_TILE(f) TILES_TO_12(f, 1) TILES_TO_12(f, 2) TILES_TO_9(f, 3) TILES_TO_6(f, 4)
#define TILE_TABLE(name)                                                                                     \
  {                                                                                                          \
    {NAMES_TO_12(name, 1)}, {NAMES_TO_12(name, 2)}, {NAMES_TO_9(name, 3)}, {                                 \
      NAMES_TO_6(name, 4)                                                                                    \
    }                                                                                                        \
  }
#else
#define EACH_TILE(f) TILES_TO_6(f, 1) TILES_TO_6(f, 2)
#define TILE_TABLE(name)                                                                                     \
  {                                                                                                          \
    {NAMES_TO_6(name, 1)}, {                                                                                 \
      NAMES_TO_6(name, 2)                                                                                    \
    }                                                                                                        \
  }
#endif

#endif
