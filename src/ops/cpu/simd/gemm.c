/* y = epilogue(x . W) by register tiles of some rows of a panel: accumulators start at the bias and take one
 * FMA per k, in order; residual and clamp follow in registers. */
#include "../gemm.h"
#include "../kernels.h"
#include "lanes.h"
#include "register_tiles.h"

#include <math.h>

/* Of k: the inner loop takes so many at once; below SHALLOW W is small and near; from DEEP on tiles of three
 * vectors fetch W from L2 to L1 so many rows AHEAD (0.94 to 0.99 of the FMA rate, but less where W is in L1).
 */
enum { UNROLLED = 4, SHALLOW = 32, DEEP = 128, AHEAD = 32 };

/* Where the next tile begins. */
typedef struct cursor {
  const float *x, *residual;
  float *y;
  vf_bf16 *rounded;
  int column; /* in an image with a border */
} cursor;

/* Adds the residual, clamps and stores a tile of whole vectors. Without a clamp the bounds are infinite, so
 * that there is no branch. */
INLINE void finish(const panel_call *call, vf sum[][PANEL_VECTORS], cursor *at, int rows, int vectors) {
  const vf low = vf_set1(call->relu6 ? 0 : -INFINITY), high = vf_set1(call->relu6 ? 6 : INFINITY);
  float *y = at->y;
  int column = at->column;
  if (at->residual) {
    const float *residual = at->residual;
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++, residual += call->y_stride)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) sum[r][v] = vf_add(sum[r][v], vf_load(residual + v * VF_LANES));
    at->residual = residual;
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) vf_store(y + v * VF_LANES, vf_clamp(sum[r][v], low, high));
    y += call->y_stride;
    if (++column == call->y_row) {
      column = 0;
      y += call->y_gap;
    }
  }
  at->y = y;
  at->column = column;
}

/* The same for tiles whose last vector has only `last` columns, or that are wanted as bfloat16 too. */
static __attribute__((noinline)) void finish_other(const panel_call *call, const vf *sum, cursor *at,
                                                   int last, int rows, int vectors) {
  const vf low = vf_set1(call->relu6 ? 0 : -INFINITY), high = vf_set1(call->relu6 ? 6 : INFINITY);
  for (int r = 0; r < rows; r++, sum += PANEL_VECTORS) {
    for (int v = 0; v < vectors; v++) {
      const int lanes = v == vectors - 1 ? last : VF_LANES, lane = v * VF_LANES;
      vf value = sum[v];
      if (at->residual) value = vf_add(value, vf_load_n(at->residual + lane, lanes));
      value = vf_clamp(value, low, high);
      vf_store_n(at->y + lane, value, lanes);
      if (at->rounded) vf_store_rounded(at->rounded + lane, value, lanes);
    }
    at->y += call->y_stride;
    if (at->rounded) at->rounded += call->rounded_stride;
    if (at->residual) at->residual += call->y_stride;
    if (++at->column == call->y_row) {
      at->column = 0;
      at->y += call->y_gap;
    }
  }
}

/* sum[r][v] += the k-th factor of row r times w[v] */
INLINE void multiply(const row_factors *x, ptrdiff_t x_stride, int k, const float *w, vf sum[][PANEL_VECTORS],
                     int rows, int vectors, bool pairs, bool deep) {
  vf column[PANEL_VECTORS];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) column[v] = vf_load(w + v * VF_LANES);
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++) {
    if (deep && r < vectors) __builtin_prefetch(w + (AHEAD * vectors + r) * VF_LANES);
    const vf factor = vf_set1(*factor_at(x, r, x_stride, k));
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      if (pairs)
        sum[r][v] = vf_word_fma(factor, column[v], sum[r][v]);
      else
        vf_accumulate(&sum[r][v], factor, column[v]);
  }
}

/* `count` tiles below each other. `rows`, `vectors`, `pairs` and `strided` (W is not packed) are constants
 * where this is inlined, as is `deep`, so that the accumulators are registers; `last` is the number of
 * columns in the last vector. */
INLINE void tiles(const panel_call *call, cursor *to, int last, int count, int rows, int vectors, bool pairs,
                  bool strided, bool deep) {
  const ptrdiff_t x_stride = call->x_stride, width = (ptrdiff_t)vectors * VF_LANES;
  const ptrdiff_t w_stride = strided ? call->w_stride : width;
  const float *const bias = call->bias, *const w_begin = call->w;
  const int depth = call->k;
  const bool whole = last == VF_LANES && !call->rounded;
  /* The first tiles bring the next panel of W to L2: as many of them as there are up to eight, so that it
   * comes spread over the time. */
  const ptrdiff_t next_stride = call->next ? call->next_stride : w_stride;
  const float *next = call->next ? call->next : strided ? w_begin + width : w_begin + depth * width;
  const int fetch_every = count < 2 ? 1 : count < 4 ? 2 : count < 8 ? 4 : 8;
  int fetching = depth > SHALLOW ? fetch_every : 0;
  cursor at = *to;
  for (; count > 0; count--, fetching--, at.x += rows * x_stride) {
    if (call->far)
#pragma GCC unroll 12
      for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
          __builtin_prefetch(at.y + r * call->y_stride + v * VF_LANES, 1);
          __builtin_prefetch(call->far + (at.y - call->y) + r * call->y_stride + v * VF_LANES, 0, 2);
        }
    vf sum[TILE_ROWS][PANEL_VECTORS];
    for (int v = 0; v < vectors; v++) {
      const vf first = bias ? vf_load_n(bias + v * VF_LANES, v == vectors - 1 ? last : VF_LANES) : vf_zero();
#pragma GCC unroll 12
      for (int r = 0; r < rows; r++) sum[r][v] = first;
    }
    row_factors x;
    begin_factors(&x, at.x, rows, x_stride);
    const float *w = w_begin;
    int k = depth;
    for (; k >= UNROLLED; k -= UNROLLED) {
      if (fetching > 0 && (k & (UNROLLED * (fetch_every - 1))) == 0) {
#pragma GCC unroll 4
        for (int j = 0; j < UNROLLED; j++, next += next_stride)
#pragma GCC unroll 4
          for (int v = 0; v < vectors; v++) __builtin_prefetch(next + v * VF_LANES, 0, 2);
      }
#pragma GCC unroll 4
      for (int j = 0; j < UNROLLED; j++)
        multiply(&x, x_stride, j, w + j * w_stride, sum, rows, vectors, pairs, deep);
      w += UNROLLED * w_stride;
      advance_factors(&x, rows, UNROLLED);
    }
    for (; k > 0; k--, w += w_stride) {
      multiply(&x, x_stride, 0, w, sum, rows, vectors, pairs, deep);
      advance_factors(&x, rows, 1);
    }
    if (whole) {
      finish(call, sum, &at, rows, vectors);
    } else {
      vf stored[TILE_ROWS][PANEL_VECTORS];
      for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) stored[r][v] = sum[r][v];
      finish_other(call, stored[0], &at, last, rows, vectors);
    }
  }
  *to = at;
}

typedef void (*tile_kernel)(const panel_call *, cursor *, int last, int count);

#define TILE(name, rows, vectors, pairs, strided)                                                            \
  static void name##_##rows##x##vectors(const panel_call *call, cursor *to, int last, int count) {           \
    tiles(call, to, last, count, rows, vectors, pairs, strided, false);                                      \
  }
#define PACKED_TILE(rows, vectors)  TILE(tile, rows, vectors, false, false)
#define STRIDED_TILE(rows, vectors) TILE(strided, rows, vectors, false, true)
EACH_TILE(PACKED_TILE)
EACH_TILE(STRIDED_TILE)
#if VF_PAIRS
#define PAIRS_TILE(rows, vectors) TILE(pairs, rows, vectors, true, false)
EACH_TILE(PAIRS_TILE)
#endif
static const tile_kernel kernels[][PANEL_VECTORS][TILE_ROWS] = {TILE_TABLE(tile), TILE_TABLE(strided),
#if VF_PAIRS
                                                                TILE_TABLE(pairs)
#endif
};

#if VF_LANES == 16
#define DEEP_TILE(rows, vectors)                                                                             \
  static void deep_##rows##x##vectors(const panel_call *call, cursor *to, int last, int count) {             \
    tiles(call, to, last, count, rows, vectors, false, false, true);                                         \
  }
TILES_TO_9(DEEP_TILE, 3)
static const tile_kernel deep_kernels[TILE_ROWS] = {NAMES_TO_9(deep, 3)};
#endif

/* The height of tiles: in an image with a border one that divides its rows, if that is hardly lower; else all
 * as even as can be, 9+9 rather than 12+6. */
static int tile_height(const panel_call *call, int rows, int most) {
  if (call->y_row > 0 && rows % call->y_row == 0)
    for (int height = most; height >= most - 1; height--)
      if (call->y_row % height == 0) return height;
  const int count = (rows + most - 1) / most;
  return (rows + count - 1) / count;
}

/* Some tiles of the height, the others one lower. */
void DFT_SIMD(dft_gemm_panel)(const panel_call *call, int rows) {
#ifdef DFT_ISA_amx
  if (call->pairs) {
    DFT_SIMD(dft_gemm_tiles)(call, rows);
    return;
  }
#endif
  const int vectors = (call->n + VF_LANES - 1) / VF_LANES, last = call->n - (vectors - 1) * VF_LANES;
  const tile_kernel *kernel = kernels[VF_PAIRS && call->pairs ? 2 : call->w_stride > 0][vectors - 1] - 1;
#if VF_LANES == 16
  if (vectors == 3 && !call->pairs && call->w_stride == 0 && call->k >= DEEP) kernel = deep_kernels - 1;
#endif
  const int height = tile_height(call, rows, most_rows[vectors - 1]);
  const int count = (rows + height - 1) / height, lower = count * height - rows;
  cursor at = {call->x, call->residual, call->y, call->rounded, 0};
  kernel[height](call, &at, last, count - lower);
  if (lower > 0) kernel[height - 1](call, &at, last, lower);
}

/* Rows to take through all panels at a time. Where W fits in L1, so few that x and y stay there too; else as
 * many as leave x in L2, since each panel of W then comes from further away: eight samples of 3x3 pixels and
 * 960 channels at least, which else would take W twice. */
static int64_t chunk_rows(int k, int n) {
  enum { L1_BYTES = 24 << 10, L2_BYTES = 320 << 10 };
  int64_t row = k * (int64_t)sizeof(float), rows = L2_BYTES / row;
  if (row * n <= L1_BYTES) rows = L1_BYTES / (row + n * (int64_t)sizeof(float));
  return rows < TILE_ROWS ? TILE_ROWS : rows / TILE_ROWS * TILE_ROWS;
}

/* Some rows of a whole product through the panel that begins at column `first`. */
static void run_panel(const panel_call *whole, int64_t row, int64_t rows, int first) {
  ptrdiff_t at = row * whole->y_stride + first;
  panel_call call = *whole;
  call.x += row * whole->x_stride;
  call.w += whole->w_stride > 0 ? first : (ptrdiff_t)first * whole->k;
  call.n = panel_columns(whole->n - first, whole->pairs);
  if (call.bias) call.bias += first;
  if (call.residual) call.residual += at;
  if (call.far) call.far += at;
  call.y += at;
  if (call.rounded) call.rounded += row * whole->rounded_stride + first;
  DFT_SIMD(dft_gemm_panel)(&call, (int)rows);
}

void DFT_SIMD(dft_gemm_whole)(const panel_call *whole, int64_t rows) {
  int64_t step = chunk_rows(whole->k, whole->n);
  for (int64_t row = 0; row < rows; row += step)
    for (int first = 0; first < whole->n; first += panel_columns(whole->n - first, whole->pairs))
      run_panel(whole, row, rows - row < step ? rows - row : step, first);
}

static panel_call whole_product(const float *x, const float *packed, float *y, int k, int n,
                                const dft_epilogue *epilogue) {
  return (panel_call){.x = x,
                      .x_stride = k,
                      .w = packed,
                      .k = k,
                      .n = n,
                      .bias = epilogue->bias,
                      .residual = epilogue->residual,
                      .y = y,
                      .y_stride = n,
                      .relu6 = epilogue->relu6};
}

void DFT_SIMD(dft_gemm_serial)(const float *x, const float *packed, float *y, int64_t rows, int k, int n,
                               const dft_epilogue *epilogue) {
  panel_call whole = whole_product(x, packed, y, k, n, epilogue);
  DFT_SIMD(dft_gemm_whole)(&whole, rows);
}

void DFT_SIMD(dft_gemm)(const float *x, const float *packed, float *y, int samples, int pixels, int k, int n,
                        const dft_epilogue *epilogue) {
  panel_call whole = whole_product(x, packed, y, k, n, epilogue);
  int64_t rows = (int64_t)samples * pixels, step = chunk_rows(k, n);
  const int panels = panel_count(n), threads = dft_threads_for_product(rows, k, n);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < rows; row += step)
    for (int panel = 0; panel < panels; panel++)
      run_panel(&whole, row, rows - row < step ? rows - row : step, panel_first(n, panel));
}
