/* dw = sum over rows of x^T . dy by register tiles: each element takes one FMA per row, in order, from zero
 * in each shard; shards fold in the tree's order (gemm.h) while their sums are in registers or L1.
 *
 * A tile has up to TILE_ROWS rows, whose factors are broadcast, and two vectors of columns. Either x or dy
 * gives the columns, whichever wastes fewer lanes: products commute, so the bits do not depend on it. */
#include "../gemm.h"
#include "simd.h"

#include <string.h>

#if VF_LANES == 16
enum { TILE_ROWS = 12 };
#else
enum { TILE_ROWS = 6 };
#endif
enum {
  TILE_COLUMNS = 2 * VF_LANES,
  BLOCK_ROWS = 48, /* a block of tiles is read together; its partial sums stay in L2 */
  BLOCK_COLUMNS = 128,
  BLOCK_TILES = (BLOCK_ROWS / TILE_ROWS) * (BLOCK_COLUMNS / TILE_COLUMNS),
  GROUP_ROWS = 192, /* samples' rows that a block takes at a time, so that they too stay in L2 */
  SEGMENTS = 64
};

typedef float partial[TILE_ROWS][TILE_COLUMNS];

/* The part of a shard that lies in a group of rows. */
typedef struct segment {
  int64_t row;
  int rows;
  int shard; /* within the node */
  bool begins, ends;
} segment;

/* The two factors, with their number of columns, which is their stride. */
typedef struct factors {
  const float *a, *b; /* a gives the tile's rows, b its columns */
  int a_columns, b_columns;
  bool transposed; /* a is dy and b is x: tiles are stored transposed */
} factors;

static inline __attribute__((always_inline)) void accumulate(const float *a, ptrdiff_t a_stride,
                                                             const float *b, ptrdiff_t b_stride, int count,
                                                             vf sum[][2], int last, int rows, int vectors) {
  for (; count > 0; count--, a += a_stride, b += b_stride) {
    const float *tail = b + (ptrdiff_t)(vectors - 1) * VF_LANES;
    vf b_last = last == VF_LANES ? vf_load(tail) : vf_load_n(tail, last);
    vf b0 = vectors == 2 ? vf_load(b) : b_last;
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      vf factor = vf_set1(a[r]);
      sum[r][0] = vf_fma(factor, b0, sum[r][0]);
      if (vectors == 2) sum[r][1] = vf_fma(factor, b_last, sum[r][1]);
    }
  }
}

/* One segment of one tile. `level` holds the tile's pending sums; `rows` and `vectors` are constants where
 * this is inlined. */
static inline __attribute__((always_inline)) void tile(const factors *f, ptrdiff_t a_at, ptrdiff_t b_at,
                                                       const segment *part, partial *level, int last,
                                                       int rows, int vectors) {
  partial *top = level + __builtin_popcount((unsigned)part->shard);
  int joins = part->ends ? __builtin_ctz(~(unsigned)part->shard) : 0;
  const float *a = f->a + part->row * f->a_columns + a_at, *b = f->b + part->row * f->b_columns + b_at;
  vf sum[TILE_ROWS][2];
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      sum[r][v] = part->begins ? vf_zero() : vf_load(&(*top)[r][v * VF_LANES]);
  if (last == VF_LANES)
    accumulate(a, f->a_columns, b, f->b_columns, part->rows, sum, VF_LANES, rows, vectors);
  else
    accumulate(a, f->a_columns, b, f->b_columns, part->rows, sum, last, rows, vectors);
  for (; joins > 0; joins--) {
    top--;
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) sum[r][v] = vf_add(vf_load(&(*top)[r][v * VF_LANES]), sum[r][v]);
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) vf_store(&(*top)[r][v * VF_LANES], sum[r][v]);
}

typedef void (*tile_kernel)(const factors *, ptrdiff_t, ptrdiff_t, const segment *, partial *, int);

#define TILE(rows, vectors)                                                                                  \
  static void tile_##rows##x##vectors(const factors *f, ptrdiff_t a_at, ptrdiff_t b_at, const segment *part, \
                                      partial *level, int last) {                                            \
    tile(f, a_at, b_at, part, level, last, rows, vectors);                                                   \
  }
#define TILES_UP_TO_6(vectors)                                                                               \
  TILE(1, vectors) TILE(2, vectors) TILE(3, vectors) TILE(4, vectors) TILE(5, vectors) TILE(6, vectors)
#define TILES_UP_TO_12(vectors)                                                                              \
  TILE(7, vectors) TILE(8, vectors) TILE(9, vectors) TILE(10, vectors) TILE(11, vectors) TILE(12, vectors)

TILES_UP_TO_6(1)
TILES_UP_TO_6(2)
#if VF_LANES == 16
TILES_UP_TO_12(1)
TILES_UP_TO_12(2)
static const tile_kernel kernels[2][TILE_ROWS] = {
    {tile_1x1, tile_2x1, tile_3x1, tile_4x1, tile_5x1, tile_6x1, tile_7x1, tile_8x1, tile_9x1, tile_10x1,
     tile_11x1, tile_12x1},
    {tile_1x2, tile_2x2, tile_3x2, tile_4x2, tile_5x2, tile_6x2, tile_7x2, tile_8x2, tile_9x2, tile_10x2,
     tile_11x2, tile_12x2}};
#else
static const tile_kernel kernels[2][TILE_ROWS] = {
    {tile_1x1, tile_2x1, tile_3x1, tile_4x1, tile_5x1, tile_6x1},
    {tile_1x2, tile_2x2, tile_3x2, tile_4x2, tile_5x2, tile_6x2}};
#endif

/* A rectangle of tiles: rows [row, row_end) and columns [column, column_end) of the tiles' matrix. */
typedef struct block {
  int row, row_end, column, column_end;
} block;

/* The next rows of a node: whole segments until GROUP_ROWS or SEGMENTS are reached. Returns their number. */
static int next_group(const dft_shard_map *map, int node, int pixels, int *shard, int64_t *row,
                      segment *parts) {
  int count = 0, room = GROUP_ROWS;
  while (*shard < map->node_first[node + 1] && count < SEGMENTS && room > 0) {
    int64_t begin = (int64_t)map->first[*shard] * pixels, end = (int64_t)map->first[*shard + 1] * pixels;
    int64_t left = end - *row;
    int rows = left < room ? (int)left : room;
    parts[count++] = (segment){.row = *row,
                               .rows = rows,
                               .shard = *shard - map->node_first[node],
                               .begins = *row == begin,
                               .ends = rows == left};
    room -= rows;
    *row += rows;
    if (rows == left) ++*shard;
  }
  return count;
}

/* Writes a finished tile to dw[k][n]. */
static void store(const factors *f, const partial *sum, int row, int rows, int column, int columns,
                  float *dw) {
  if (f->transposed) {
    for (int c = 0; c < columns; c++)
      for (int r = 0; r < rows; r++) dw[(size_t)(column + c) * f->a_columns + row + r] = (*sum)[r][c];
  } else {
    for (int r = 0; r < rows; r++)
      memcpy(dw + (size_t)(row + r) * f->b_columns + column, (*sum)[r], (size_t)columns * sizeof(float));
  }
}

/* One block of one node. */
static void run_block(const factors *f, const block *area, int pixels, const dft_shard_map *map, int node,
                      float *dw) {
  _Alignas(64) partial level[BLOCK_TILES][DFT_GEMM_LEVELS];
  segment parts[SEGMENTS];
  int shard = map->node_first[node], end = map->node_first[node + 1];
  int64_t row = (int64_t)map->first[shard] * pixels;
  for (bool first = true; shard < end; first = false) {
    int count = next_group(map, node, pixels, &shard, &row, parts);
    bool alone = first && shard == end; /* one group: all tiles can use the same place in L1 */
    int tiles = (area->row_end - area->row + TILE_ROWS - 1) / TILE_ROWS, at = 0;
    for (int column = area->column; column < area->column_end; column += TILE_COLUMNS) {
      int columns = area->column_end - column < TILE_COLUMNS ? area->column_end - column : TILE_COLUMNS;
      const tile_kernel *kernel = kernels[columns > VF_LANES] - 1;
      int last = columns > VF_LANES ? columns - VF_LANES : columns;
      int a_at = area->row;
      for (int left = tiles; left > 0; left--, at++) {
        int rows = (area->row_end - a_at + left - 1) / left;
        partial *pending = level[alone ? 0 : at];
        for (int p = 0; p < count; p++) kernel[rows](f, a_at, column, parts + p, pending, last);
        if (shard == end) store(f, (const partial *)pending, a_at, rows, column, columns, dw);
        a_at += rows;
      }
    }
  }
}

/* Tiles' vectors that a matrix of rows x columns takes. */
static int64_t vectors_of(int rows, int columns) {
  return (int64_t)((rows + TILE_ROWS - 1) / TILE_ROWS) * ((columns + VF_LANES - 1) / VF_LANES);
}

void DFT_SIMD(dft_gemm_dw)(const float *x, const float *dy, int pixels, int k, int n,
                           const dft_shard_map *map, float *dw) {
  factors f = {x, dy, k, n, false};
  if (vectors_of(n, k) < vectors_of(k, n)) f = (factors){dy, x, n, k, true};
  int height = BLOCK_ROWS, width = BLOCK_COLUMNS, threads = dft_ops_threads();
  while (height > TILE_ROWS &&
         ((f.a_columns + height - 1) / height) * ((f.b_columns + width - 1) / width) < 2 * threads) {
    if (width > TILE_COLUMNS) width /= 2;
    height /= 2;
  }
  for (int node = 0; node < map->nodes; node++, dw += (size_t)k * n) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (int row = 0; row < f.a_columns; row += height)
      for (int column = 0; column < f.b_columns; column += width) {
        block area = {row, row + height < f.a_columns ? row + height : f.a_columns, column,
                      column + width < f.b_columns ? column + width : f.b_columns};
        run_block(&f, &area, pixels, map, node, dw);
      }
  }
}
