/* y = epilogue(x . W) by register tiles of some rows of a panel: accumulators start at the bias and take one
 * FMA per k, in order; residual and clamp follow in registers. */
#include "../gemm.h"
#include "../kernels.h"
#include "register_tiles.h"

#include <math.h>

/* Where the next tile begins. */
typedef struct cursor {
  const float *x, *residual;
  float *y;
  uint16_t *rounded;
  int column; /* in an image with a border */
} cursor;

/* Adds the residual, clamps and stores. Without a clamp the bounds are infinite, so that there is no branch.
 */
static inline __attribute__((always_inline)) void finish(const panel_call *call, vf sum[][PANEL_VECTORS],
                                                         cursor *at, int last, int rows, int vectors) {
  const ptrdiff_t y_stride = call->y_stride, gap = call->y_gap;
  const float *residual = at->residual;
  float *y = at->y;
  uint16_t *rounded = at->rounded;
  int column = at->column, row_end = call->y_row;
  vf low = vf_set1(call->relu6 ? 0 : -INFINITY), high = vf_set1(call->relu6 ? 6 : INFINITY);
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      bool whole = v < vectors - 1 || last == VF_LANES;
      int lane = v * VF_LANES;
      vf value = sum[r][v];
      if (residual)
        value = vf_add(value, whole ? vf_load(residual + lane) : vf_load_n(residual + lane, last));
      value = vf_clamp(value, low, high);
      if (whole)
        vf_store(y + lane, value);
      else
        vf_store_n(y + lane, value, last);
      if (rounded) vf_store_rounded(rounded + lane, value, whole ? VF_LANES : last);
    }
    y += y_stride;
    if (rounded) rounded += call->rounded_stride;
    if (residual) residual += y_stride;
    if (++column == row_end) {
      column = 0;
      y += gap;
    }
  }
  at->residual = residual;
  at->y = y;
  at->rounded = rounded;
  at->column = column;
}

/* The same for whole vectors without residual or roundings, in rows that lie evenly. */
static inline __attribute__((always_inline)) void
finish_evenly(const panel_call *call, vf sum[][PANEL_VECTORS], cursor *at, int rows, int vectors) {
  const vf low = vf_set1(call->relu6 ? 0 : -INFINITY), high = vf_set1(call->relu6 ? 6 : INFINITY);
  float *y = at->y;
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++, y += call->y_stride)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) vf_store(y + v * VF_LANES, vf_clamp(sum[r][v], low, high));
  at->y = y;
  at->column += rows;
  if (at->column == call->y_row) {
    at->column = 0;
    at->y += call->y_gap;
  }
}

/* `count` tiles below each other. `rows`, `vectors` and `pairs` are constants where this is inlined, so that
 * the accumulators are registers; `last` is the number of columns in the last vector. */
static inline __attribute__((always_inline)) void tiles(const panel_call *call, cursor *to, int last,
                                                        int count, int rows, int vectors, bool pairs) {
  const ptrdiff_t x_stride = call->x_stride;
  /* The first tiles bring the next panel of W to L2: as many of them as there are up to eight, so that a row
   * of it comes every few k, with time to arrive. */
  const ptrdiff_t width = (ptrdiff_t)vectors * VF_LANES,
                  w_stride = call->w_stride > 0 ? call->w_stride : width;
  const float *next = call->next           ? call->next
                      : call->w_stride > 0 ? call->w + width
                                           : call->w + call->k * width;
  const ptrdiff_t next_stride = call->next ? call->next_stride : w_stride;
  int fetching = count < 2 ? 1 : count < 4 ? 2 : count < 8 ? 4 : 8, fetch_mask = fetching - 1;
  cursor at = *to;
  const bool even = last == VF_LANES && !call->residual && !call->rounded && call->y_row % rows == 0;
  for (; count > 0; count--, at.x += rows * x_stride) {
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
      int lanes = v == vectors - 1 ? last : VF_LANES;
      vf bias = call->bias ? vf_load_n(call->bias + v * VF_LANES, lanes) : vf_zero();
#pragma GCC unroll 12
      for (int r = 0; r < rows; r++) sum[r][v] = bias;
    }
    const float *x = at.x, *w = call->w;
    for (int k = call->k; k > 0; k--, x++, w += w_stride) {
      vf column[PANEL_VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) column[v] = vf_load(w + v * VF_LANES);
      if (vectors > 1 && (k & fetch_mask) == 0) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) __builtin_prefetch(next + v * VF_LANES, 0, 2);
        next += next_stride;
      }
#pragma GCC unroll 12
      for (int r = 0; r < rows; r++) {
        const vf factor = vf_set1(x[r * x_stride]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
          sum[r][v] =
              pairs ? vf_pair_fma(factor, column[v], sum[r][v]) : vf_fma(factor, column[v], sum[r][v]);
      }
    }
    if (--fetching == 0) fetch_mask = -1;
    if (even && at.column % rows == 0)
      finish_evenly(call, sum, &at, rows, vectors);
    else if (last == VF_LANES)
      finish(call, sum, &at, VF_LANES, rows, vectors);
    else
      finish(call, sum, &at, last, rows, vectors);
  }
  *to = at;
}

typedef void (*tile_kernel)(const panel_call *, cursor *, int last, int count);

#define TILE(rows, vectors)                                                                                  \
  static void tile_##rows##x##vectors(const panel_call *call, cursor *to, int last, int count) {             \
    tiles(call, to, last, count, rows, vectors, false);                                                      \
  }                                                                                                          \
  static void pairs_##rows##x##vectors(const panel_call *call, cursor *to, int last, int count) {            \
    tiles(call, to, last, count, rows, vectors, true);                                                       \
  }
EACH_TILE(TILE)
static const tile_kernel kernels[2][PANEL_VECTORS][TILE_ROWS] = {TILE_TABLE(tile), TILE_TABLE(pairs)};

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
  const tile_kernel *kernel = kernels[call->pairs][vectors - 1] - 1;
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
