/* One panel of a bfloat16 product by AMX tiles: 32 rows x 32 columns at a time in four tiles, from +0
 * upwards; bias, residual and clamp follow from a buffer in L1. A panel packed for pairs (gemm_panel.h),
 * words of two neighbours in k, is what TDPBF16PS takes as its second factor. */
#include "gemm_panel.h"

#include <math.h>

enum {
  TILE_ROWS = 16,
  TILE_WORDS = 16,
  BLOCK_ROWS = 2 * TILE_ROWS,
  COLUMNS = 2 * VF_LANES,
  ROW_BYTES = COLUMNS * sizeof(float)
};

/* Where the next rows begin. */
typedef struct cursor {
  const float *x, *residual;
  float *y;
  uint16_t *rounded;
  int column; /* in an image with a border */
} cursor;

/* What the epilogue of a panel takes. */
typedef struct epilogue {
  vf bias[2], low, high;
  __mmask16 mask; /* the columns of the last vector */
} epilogue;

/* sums[tiles of rows][tiles of columns] of the product, `rows` and `vectors` of them, each 1 or 2. What is
 * next of w is fetched to L1: the CPU does not guess what tiles load. */
#define PRODUCT(rows, vectors)                                                                               \
  do {                                                                                                       \
    _tile_zero(0);                                                                                           \
    if (vectors == 2) _tile_zero(1);                                                                         \
    if (rows == 2) _tile_zero(2);                                                                            \
    if (rows == 2 && vectors == 2) _tile_zero(3);                                                            \
    for (int k = call->k; k > 0; k -= TILE_WORDS, x += TILE_WORDS, w += TILE_WORDS * (vectors)*VF_LANES) {   \
      for (int line = 0; line < TILE_WORDS * (vectors); line++)                                              \
        __builtin_prefetch(w + (TILE_WORDS * (vectors) + line) * VF_LANES);                                  \
      _tile_loadd(4, x, x_bytes);                                                                            \
      _tile_loadd(6, w, w_bytes);                                                                            \
      _tile_dpbf16ps(0, 4, 6);                                                                               \
      if (vectors == 2) _tile_loadd(7, w + VF_LANES, w_bytes);                                               \
      if (vectors == 2) _tile_dpbf16ps(1, 4, 7);                                                             \
      if (rows == 2) _tile_loadd(5, x + TILE_ROWS * call->x_stride, x_bytes);                                \
      if (rows == 2) _tile_dpbf16ps(2, 5, 6);                                                                \
      if (rows == 2 && vectors == 2) _tile_dpbf16ps(3, 5, 7);                                                \
    }                                                                                                        \
    _tile_stored(0, sums, ROW_BYTES);                                                                        \
    if (vectors == 2) _tile_stored(1, sums + VF_LANES, ROW_BYTES);                                           \
    if (rows == 2) _tile_stored(2, sums + TILE_ROWS * COLUMNS, ROW_BYTES);                                   \
    if (rows == 2 && vectors == 2) _tile_stored(3, sums + TILE_ROWS * COLUMNS + VF_LANES, ROW_BYTES);        \
  } while (0)

static void product(const panel_call *call, const float *x, int rows, float *sums) {
  const float *w = call->w;
  const int vectors = call->n > VF_LANES ? 2 : 1;
  const long x_bytes = call->x_stride * (long)sizeof(float),
             w_bytes = vectors * VF_LANES * (long)sizeof(float);
  /* What the compiler does not know of: the tiles' loads read what was stored before. */
  __asm__ volatile("" ::: "memory");
  if (rows > TILE_ROWS && vectors == 2)
    PRODUCT(2, 2);
  else if (rows > TILE_ROWS)
    PRODUCT(2, 1);
  else if (vectors == 2)
    PRODUCT(1, 2);
  else
    PRODUCT(1, 1);
}

/* `rows` rows that lie evenly. Constants where this is inlined: the vectors of columns, and whether the last
 * one is whole. Roundings are written with zeros after the last column. */
static inline __attribute__((always_inline)) void finish_rows(const panel_call *call, const epilogue *e,
                                                              const float *sums, cursor *at, int rows,
                                                              int vectors, bool whole, bool plain) {
  const bool values = plain || !call->only_rounded;
  const float *residual = plain ? NULL : at->residual;
  float *y = at->y;
  uint16_t *rounded = plain ? NULL : at->rounded;
  for (int r = 0; r < rows; r++, sums += COLUMNS) {
    vf value[2] = {vf_zero(), vf_zero()};
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
      const bool full = whole || v < vectors - 1;
      value[v] = vf_add(vf_load(sums + v * VF_LANES), e->bias[v]);
      if (residual)
        value[v] = vf_add(value[v], full ? vf_load(residual + v * VF_LANES)
                                         : _mm512_maskz_loadu_ps(e->mask, residual + v * VF_LANES));
      value[v] = vf_clamp(value[v], e->low, e->high);
      if (!full) value[v] = _mm512_maskz_mov_ps(e->mask, value[v]);
      if (values && full) vf_store(y + v * VF_LANES, value[v]);
      if (values && !full) _mm512_mask_storeu_ps(y + v * VF_LANES, e->mask, value[v]);
    }
    y += call->y_stride;
    if (residual) residual += call->y_stride;
    if (rounded) {
      _mm512_storeu_si512(rounded, (__m512i)_mm512_cvtne2ps_pbh(value[1], value[0]));
      rounded += call->rounded_stride;
    }
  }
  if (!plain) at->residual = residual;
  if (!plain) at->rounded = rounded;
  at->y = y;
}

static void finish(const panel_call *call, const epilogue *e, const float *sums, cursor *at, int rows) {
  const bool plain = !at->residual && !at->rounded;
  while (rows > 0) {
    const int left = call->y_row - at->column; /* in the image's row; without a border at most 0 */
    const int run = left > 0 && left < rows ? left : rows;
    if (call->n == COLUMNS && plain)
      finish_rows(call, e, sums, at, run, 2, true, true);
    else if (call->n == COLUMNS)
      finish_rows(call, e, sums, at, run, 2, true, false);
    else if (call->n > VF_LANES)
      finish_rows(call, e, sums, at, run, 2, false, false);
    else if (call->n == VF_LANES)
      finish_rows(call, e, sums, at, run, 1, true, false);
    else
      finish_rows(call, e, sums, at, run, 1, false, false);
    at->column += run;
    if (at->column == call->y_row) {
      at->column = 0;
      at->y += call->y_gap;
    }
    sums += (ptrdiff_t)run * COLUMNS;
    rows -= run;
  }
}

void DFT_SIMD(dft_gemm_tiles)(const panel_call *call, int rows) {
  _Alignas(64) float sums[BLOCK_ROWS * COLUMNS];
  cursor at = {call->x, call->residual, call->y, call->rounded, 0};
  epilogue e = {.low = vf_set1(call->relu6 ? 0 : -INFINITY), .high = vf_set1(call->relu6 ? 6 : INFINITY)};
  const int last = call->n > VF_LANES ? call->n - VF_LANES : call->n;
  e.mask = (__mmask16)((1u << last) - 1);
  for (int v = 0; v < 2 && call->bias; v++) {
    const int lanes = call->n - v * VF_LANES;
    e.bias[v] = vf_load_n(call->bias + v * VF_LANES, lanes < 0 ? 0 : lanes < VF_LANES ? lanes : VF_LANES);
  }
  for (; rows > 0; rows -= BLOCK_ROWS, at.x += BLOCK_ROWS * call->x_stride) {
    const int block = rows < BLOCK_ROWS ? rows : BLOCK_ROWS;
    product(call, at.x, block, sums);
    finish(call, &e, sums, &at, block);
  }
}
