/* dw = sum over rows of x^T . dy by register tiles: each element takes one FMA per row, in order, from zero
 * in each shard; shards fold in the tree's order (gemm.h) while their sums are in registers or L1.
 *
 * A tile has some rows, whose factors are broadcast, and the vectors of one panel of columns (gemm_panel.h).
 * Either x or dy gives the columns, whichever wastes fewer lanes: products commute, so the bits do not depend
 * on it. */
#include "gemm_dw.h"
#include "../gemm.h"
#include "../kernels.h"
#include "register_tiles.h"
#include "train.h"

#include <string.h>

enum {
  BLOCK_TILES = VF_LANES == 16 ? 18 : 64, /* read together; their pending sums stay in L2 */
  BLOCK_PANELS = 3,                       /* of a block of factors that do not */
  NEAR_BYTES = 1 << 20,                   /* factors up to this size stay in L2 themselves */
  GROUP_ROWS = 96, /* samples' rows that a block takes at a time, so that they stay near too */
  PACK_TILES = 4,  /* from so many tiles of one panel on, it is worth packing */
  SEGMENTS = 64
};

typedef float partial[TILE_FLOATS]; /* the rows of a tile, without gaps */

/* The part of a shard that lies in a group of rows. */
typedef struct segment {
  int64_t row;
  int rows;
  int shard; /* within the node */
  bool begins, ends;
} segment;

typedef dft_dw_factors factors;

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
  const ptrdiff_t a_stride = call->a_stride, b_stride = call->b_stride, width = (ptrdiff_t)vectors * VF_LANES;
  if (call->out) /* it is written soon */
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++)
        __builtin_prefetch(call->out + r * call->out_stride + v * VF_LANES, 1);
  for (const segment *part = call->parts, *end = part + call->count; part < end; part++) {
    partial *top = call->level + __builtin_popcount((unsigned)part->shard);
    vf sum[TILE_ROWS][PANEL_VECTORS];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++)
        sum[r][v] = part->begins ? vf_zero() : vf_load(*top + r * width + v * VF_LANES);
    for (int left = part->rows; left > 0; left--, a += a_stride, b += b_stride) {
      vf column[PANEL_VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) column[v] = vf_load(b + v * VF_LANES);
#pragma GCC unroll 12
      for (int r = 0; r < rows; r++) {
        const vf factor = vf_set1(a[r]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[r][v] = vf_fma(factor, column[v], sum[r][v]);
      }
    }
    for (int joins = part->ends ? __builtin_ctz(~(unsigned)part->shard) : 0; joins > 0; joins--) {
      top--;
#pragma GCC unroll 12
      for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
          sum[r][v] = vf_add(vf_load(*top + r * width + v * VF_LANES), sum[r][v]);
    }
    float *out = call->out && part == end - 1 ? call->out : *top;
    const ptrdiff_t out_stride = out == call->out ? call->out_stride : width;
    const int last = out == call->out ? call->last : VF_LANES;
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++, out += out_stride)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++)
        if (v < vectors - 1 || last == VF_LANES)
          vf_store(out + v * VF_LANES, sum[r][v]);
        else
          vf_store_n(out + v * VF_LANES, sum[r][v], last);
  }
}

typedef void (*tile_kernel)(const tile_call *);

#define TILE(rows, vectors)                                                                                  \
  static void tile_##rows##x##vectors(const tile_call *call) {                                               \
    tile(call, rows, vectors);                                                                               \
  }
EACH_TILE(TILE)
static const tile_kernel kernels[PANEL_VECTORS][TILE_ROWS] = TILE_TABLE(tile);

/* A rectangle of the tiles' matrix: rows [row, row_end), the panels that begin in columns [column,
 * column_end).
 */
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
  for (; rows > 0; rows--, b += stride)
    for (int v = 0; v < columns; v += VF_LANES, to += VF_LANES)
      vf_store(to, columns - v < VF_LANES ? vf_load_n(b + v, columns - v) : vf_load(b + v));
}

/* The node's sum of a tile of the transposed matrix, to dw[k][n]. */
static void store_transposed(const factors *f, const float *sum, ptrdiff_t width, int row, int rows,
                             int column, int columns, float *dw) {
  for (int first = 0; first < columns; first += VF_LANES) {
    vf lines[VF_LANES];
    for (int r = 0; r < VF_LANES; r++) lines[r] = r < rows ? vf_load(sum + r * width + first) : vf_zero();
    vf_transpose(lines);
    float *to = dw + (size_t)(column + first) * f->a_columns + row;
    for (int c = 0; c < VF_LANES && first + c < columns; c++, to += f->a_columns)
      vf_store_n(to, lines[c], rows);
  }
}

/* The panel of a block that begins at `column` takes a group; its tiles' pending sums are at level[0],
 * level[step], ... Returns the number of tiles. */
static int run_panel(const factors *f, const block *area, int column, const segment *parts, int count,
                     partial (*level)[DFT_GEMM_LEVELS], ptrdiff_t step, bool complete, float *dw) {
  _Alignas(64) float packed[GROUP_ROWS * PANEL];
  const int columns = panel_columns(f->b_columns - column, false),
            vectors = (columns + VF_LANES - 1) / VF_LANES;
  const int width = vectors * VF_LANES, most = most_rows[vectors - 1];
  const int tiles = (area->row_end - area->row + most - 1) / most;
  const int64_t row = parts[0].row, rows = parts[count - 1].row + parts[count - 1].rows - row;
  const tile_kernel *kernel = kernels[vectors - 1] - 1;
  tile_call call = {.b = f->b + row * f->b_columns + column,
                    .b_stride = f->b_columns,
                    .a_stride = f->a_columns,
                    .parts = parts,
                    .count = count,
                    .out_stride = f->b_columns,
                    .last = columns - (vectors - 1) * VF_LANES};
  if (f->norm != NULL || tiles >= PACK_TILES || columns < width) {
    if (f->norm == NULL) {
      pack(call.b, f->b_columns, (int)rows, columns, packed);
    } else {
      if (columns < width) memset(packed, 0, sizeof packed);
      normalise(call.b, f->b_columns, f->norm, column, (int)rows, columns, packed, width);
    }
    call.b = packed;
    call.b_stride = width;
  }
  for (int left = tiles, at = area->row; left > 0; left--, level += step) {
    const int height = (area->row_end - at + left - 1) / left;
    call.a = f->a + row * f->a_columns + at;
    call.level = *level;
    call.out = complete && !f->transposed ? dw + (size_t)at * f->b_columns + column : NULL;
    kernel[height](&call);
    if (complete && f->transposed) store_transposed(f, (*level)[0], width, at, height, column, columns, dw);
    at += height;
  }
  return tiles;
}

/* One block of one node. */
static void run_block(const factors *f, const block *area, int pixels, const dft_shard_map *map, int node,
                      float *dw) {
  _Alignas(64) partial level[BLOCK_TILES][DFT_GEMM_LEVELS];
  segment parts[SEGMENTS];
  int shard = map->node_first[node], end = map->node_first[node + 1];
  int64_t row = (int64_t)map->first[shard] * pixels;
  for (bool first = true; shard < end; first = false) {
    int count = next_group(map, node, pixels, &shard, &row, parts), tiles = 0;
    bool alone = first && shard == end; /* one group: all tiles can use the same place in L1 */
    for (int column = area->column; column < area->column_end;
         column += panel_columns(f->b_columns - column, false))
      tiles += run_panel(f, area, column, parts, count, level + (alone ? 0 : tiles), alone ? 0 : 1,
                         shard == end, dw);
  }
}

/* Vectors of sums that the tiles of a matrix of rows x columns have room for. */
static int64_t vectors_of(int rows, int columns) {
  const int vectors = panel_vectors(columns, false), most = most_rows[vectors - 1];
  return (int64_t)((rows + most - 1) / most) * most * ((columns + VF_LANES - 1) / VF_LANES);
}

dft_dw_job DFT_SIMD(dft_dw_plan)(const float *x, const dft_norm *x_norm, const float *dy, int pixels, int k,
                                 int n, const dft_shard_map *map, float *dw) {
  factors f = {x, dy, k, n, false, NULL};
  /* Tiles that are stored transposed have to save a tenth. */
  if (x_norm != NULL || 10 * vectors_of(n, k) < 9 * vectors_of(k, n))
    f = (factors){dy, x, n, k, true, x_norm};
  /* A block is one panel wide, so that packing it pays; or square, when what counts is to read less. */
  const bool near =
      x_norm != NULL || (size_t)map->samples * pixels * (size_t)(k + n) * sizeof(float) <= NEAR_BYTES;
  const int lowest = most_rows[panel_vectors(f.b_columns, false) - 1]; /* the first panel is the widest */
  const int threads = dft_threads_for_product((int64_t)map->samples * pixels, k, n);
  const int panels = panel_count(f.b_columns);
  int wide = near ? 1 : BLOCK_PANELS, height = BLOCK_TILES / wide * lowest;
  while (height > lowest &&
         ((f.a_columns + height - 1) / height) * ((panels + wide - 1) / wide) < 2 * threads) {
    wide = 1;
    height /= 2;
  }
  const int blocks = (f.a_columns + height - 1) / height, across = (panels + wide - 1) / wide;
  return (dft_dw_job){.factors = f,
                      .pixels = pixels,
                      .map = map,
                      .dw = dw,
                      .height = (f.a_columns + blocks - 1) / blocks, /* all as high */
                      .wide = wide,
                      .across = across,
                      .tasks = map->nodes * blocks * across};
}

void DFT_SIMD(dft_dw_task)(const void *context, int task) {
  const dft_dw_job *job = context;
  const factors *f = &job->factors;
  const int down = job->tasks / job->map->nodes / job->across; /* blocks below each other */
  const int node = task / (down * job->across), row = task / job->across % down * job->height;
  const int panel = task % job->across * job->wide;
  const block area = {row, row + job->height < f->a_columns ? row + job->height : f->a_columns,
                      panel_first(f->b_columns, panel), panel_first(f->b_columns, panel + job->wide)};
  run_block(f, &area, job->pixels, job->map, node, job->dw + (size_t)node * f->a_columns * f->b_columns);
}

void DFT_SIMD(dft_gemm_dw)(const float *x, const float *dy, int pixels, int k, int n,
                           const dft_shard_map *map, float *dw) {
  const dft_dw_job job = DFT_SIMD(dft_dw_plan)(x, NULL, dy, pixels, k, n, map, dw);
  const dft_tasks tasks = {DFT_SIMD(dft_dw_task), &job, job.tasks};
  dft_run_tasks(&tasks, 1, dft_threads_for_product((int64_t)map->samples * pixels, k, n));
}
