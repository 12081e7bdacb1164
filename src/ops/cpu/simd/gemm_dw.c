/* dw = sum over rows of x^T . dy by register tiles: each element takes one FMA per row, in order, from zero
 * in each shard; shards fold in the tree's order (gemm.h) while their sums are in registers or L1.
 *
 * A tile has up to TILE_ROWS rows, whose factors are broadcast, and two vectors of columns. Either x or dy
 * gives the columns, whichever wastes fewer lanes: products commute, so the bits do not depend on it. */
#include "../gemm.h"
#include "../kernels.h"
#include "gemm_panel.h"
#include "train.h"

#include <string.h>

#if VF_LANES == 16
enum { TILE_ROWS = 12 };
#else
enum { TILE_ROWS = 6 };
#endif
enum {
  TILE_COLUMNS = 2 * VF_LANES,
  BLOCK_TILES = 6144 / (TILE_ROWS * TILE_COLUMNS), /* read together; their pending sums stay in L2 */
  NEAR_BYTES = 1 << 20,                            /* factors up to this size stay in L2 themselves */
  GROUP_ROWS = 96, /* samples' rows that a block takes at a time, so that they stay near too */
  PACK_TILES = 4,  /* from so many tiles of one panel on, it is worth packing */
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
  bool transposed;      /* a is dy and b is x: tiles are stored transposed */
  const dft_norm *norm; /* of b, applied as it is packed; or NULL */
} factors;

/* One tile: its rows' factors begin at `a`, its columns at `b`, both at the group's first row. */
typedef struct tile_call {
  const float *a, *b;
  ptrdiff_t a_stride, b_stride;
  const segment *parts; /* of the group */
  int count;
  partial *level; /* pending sums */
  float *out;     /* where the node's sum goes; NULL: it is not complete, or left in level[0] */
  ptrdiff_t out_stride;
  int last; /* columns of the last vector */
} tile_call;

/* `rows` and `vectors` are constants where this is inlined, so that the sums are registers. */
static inline __attribute__((always_inline)) void tile(const tile_call *call, int rows, int vectors) {
  const float *a = call->a, *b = call->b;
  const ptrdiff_t a_stride = call->a_stride, b_stride = call->b_stride;
  if (call->out) /* it is written soon */
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      __builtin_prefetch(call->out + r * call->out_stride, 1);
      __builtin_prefetch(call->out + r * call->out_stride + (vectors - 1) * VF_LANES, 1);
    }
  for (const segment *part = call->parts, *end = part + call->count; part < end; part++) {
    partial *top = call->level + __builtin_popcount((unsigned)part->shard);
    vf sum[TILE_ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++)
        sum[r][v] = part->begins ? vf_zero() : vf_load(&(*top)[r][v * VF_LANES]);
    for (int left = part->rows; left > 0; left--, a += a_stride, b += b_stride) {
      vf b0 = vf_load(b), b1 = vectors == 2 ? vf_load(b + VF_LANES) : vf_zero();
#pragma GCC unroll 12
      for (int r = 0; r < rows; r++) {
        vf factor = vf_set1(a[r]);
        sum[r][0] = vf_fma(factor, b0, sum[r][0]);
        if (vectors == 2) sum[r][1] = vf_fma(factor, b1, sum[r][1]);
      }
    }
    for (int joins = part->ends ? __builtin_ctz(~(unsigned)part->shard) : 0; joins > 0; joins--) {
      top--;
#pragma GCC unroll 12
      for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r][v] = vf_add(vf_load(&(*top)[r][v * VF_LANES]), sum[r][v]);
    }
    float *out = call->out && part == end - 1 ? call->out : (*top)[0];
    ptrdiff_t out_stride = out == call->out ? call->out_stride : TILE_COLUMNS;
    int last = out == call->out ? call->last : VF_LANES;
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++, out += out_stride) {
      if (vectors == 2) vf_store(out, sum[r][0]);
      if (last == VF_LANES)
        vf_store(out + (vectors - 1) * VF_LANES, sum[r][vectors - 1]);
      else
        vf_store_n(out + (vectors - 1) * VF_LANES, sum[r][vectors - 1], last);
    }
  }
}

typedef void (*tile_kernel)(const tile_call *);

#define TILE(rows, vectors)                                                                                  \
  static void tile_##rows##x##vectors(const tile_call *call) {                                               \
    tile(call, rows, vectors);                                                                               \
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

/* `rows` rows of one panel of b, without its stride. */
static void pack(const float *b, ptrdiff_t stride, int rows, int columns, float *to) {
  int last = columns > VF_LANES ? columns - VF_LANES : columns;
  for (; rows > 0; rows--, b += stride, to += TILE_COLUMNS) {
    if (columns > VF_LANES) vf_store(to, vf_load(b));
    vf_store(to + columns - last, vf_load_n(b + columns - last, last));
  }
}

/* The node's sum of a tile of the transposed matrix, to dw[k][n]. */
static void store_transposed(const factors *f, const partial *sum, int row, int rows, int column, int columns,
                             float *dw) {
  for (int first = 0; first < columns; first += VF_LANES) {
    vf lines[VF_LANES];
    for (int r = 0; r < VF_LANES; r++) lines[r] = r < rows ? vf_load(&(*sum)[r][first]) : vf_zero();
    vf_transpose(lines);
    float *to = dw + (size_t)(column + first) * f->a_columns + row;
    for (int c = 0; c < VF_LANES && first + c < columns; c++, to += f->a_columns)
      vf_store_n(to, lines[c], rows);
  }
}

/* One panel of a block takes a group. */
static void run_panel(const factors *f, const block *area, int column, const segment *parts, int count,
                      partial (*level)[DFT_GEMM_LEVELS], ptrdiff_t level_step, bool complete, float *dw) {
  _Alignas(64) float packed[GROUP_ROWS * TILE_COLUMNS];
  int columns = area->column_end - column < TILE_COLUMNS ? area->column_end - column : TILE_COLUMNS;
  int64_t row = parts[0].row, rows = parts[count - 1].row + parts[count - 1].rows - row;
  const tile_kernel *kernel = kernels[columns > VF_LANES] - 1;
  int at = area->row, left = (area->row_end - at + TILE_ROWS - 1) / TILE_ROWS;
  tile_call call = {.b = f->b + row * f->b_columns + column,
                    .b_stride = f->b_columns,
                    .a_stride = f->a_columns,
                    .parts = parts,
                    .count = count,
                    .out_stride = f->b_columns,
                    .last = columns > VF_LANES ? columns - VF_LANES : columns};
  if (f->norm != NULL || left >= PACK_TILES || columns % VF_LANES != 0) {
    if (f->norm == NULL) {
      pack(call.b, f->b_columns, (int)rows, columns, packed);
    } else {
      if (columns < TILE_COLUMNS) memset(packed, 0, sizeof packed);
      normalise(call.b, f->b_columns, f->norm, column, (int)rows, columns, packed, TILE_COLUMNS);
    }
    call.b = packed;
    call.b_stride = TILE_COLUMNS;
  }
  for (; left > 0; left--, level += level_step) {
    int height = (area->row_end - at + left - 1) / left;
    call.a = f->a + row * f->a_columns + at;
    call.level = *level;
    call.out = complete && !f->transposed ? dw + (size_t)at * f->b_columns + column : NULL;
    kernel[height](&call);
    if (complete && f->transposed)
      store_transposed(f, (const partial *)*level, at, height, column, columns, dw);
    at += height;
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
    int tiles = (area->row_end - area->row + TILE_ROWS - 1) / TILE_ROWS, panel = 0;
    for (int column = area->column; column < area->column_end; column += TILE_COLUMNS, panel++)
      run_panel(f, area, column, parts, count, level + (alone ? 0 : panel * tiles), alone ? 0 : 1,
                shard == end, dw);
  }
}

/* Tiles' vectors that a matrix of rows x columns takes. */
static int64_t vectors_of(int rows, int columns) {
  return (int64_t)((rows + TILE_ROWS - 1) / TILE_ROWS) * ((columns + VF_LANES - 1) / VF_LANES);
}

void DFT_SIMD(dft_gemm_dw)(const float *x, const float *dy, int pixels, int k, int n,
                           const dft_shard_map *map, float *dw) {
  DFT_SIMD(dft_gemm_dw_normed)(x, NULL, dy, pixels, k, n, map, dw);
}

void DFT_SIMD(dft_gemm_dw_normed)(const float *x, const dft_norm *x_norm, const float *dy, int pixels, int k,
                                  int n, const dft_shard_map *map, float *dw) {
  factors f = {x, dy, k, n, false, NULL};
  if (x_norm != NULL || vectors_of(n, k) < vectors_of(k, n)) f = (factors){dy, x, n, k, true, x_norm};
  /* A block is one panel wide, so that packing it pays; or square, when what counts is to read less. */
  bool near = x_norm != NULL || (size_t)map->samples * pixels * (size_t)(k + n) * sizeof(float) <= NEAR_BYTES;
  int wide = near ? 1 : 4, width = wide * TILE_COLUMNS, height = BLOCK_TILES / wide * TILE_ROWS;
  int threads = dft_threads_for_product((int64_t)map->samples * pixels, k, n);
  while (height > TILE_ROWS &&
         ((f.a_columns + height - 1) / height) * ((f.b_columns + width - 1) / width) < 2 * threads) {
    if (width > TILE_COLUMNS) width /= 2;
    height /= 2;
  }
  for (int node = 0; node < map->nodes; node++, dw += (size_t)k * n) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if (threads > 1)
    for (int row = 0; row < f.a_columns; row += height)
      for (int column = 0; column < f.b_columns; column += width) {
        block area = {row, row + height < f.a_columns ? row + height : f.a_columns, column,
                      column + width < f.b_columns ? column + width : f.b_columns};
        run_block(&f, &area, pixels, map, node, dw);
      }
  }
}
