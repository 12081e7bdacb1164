/* One panel of a bfloat16 product by AMX tiles: 32 rows x 32 columns at a time in four tiles, from +0
 * upwards; bias, residual and clamp follow from a buffer in L1. A panel packed for pairs (gemm_panel.h),
 * words of two neighbours in k, is what TDPBF16PS takes as its second factor. */
#include "gemm_panel.h"

#include <math.h>

enum { TILE_ROWS = 16, TILE_WORDS = 16, BLOCK_ROWS = 2 * TILE_ROWS, ROW_BYTES = PANEL * sizeof(float) };

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
  __mmask16 mask[2]; /* the columns there are */
} epilogue;

/* sums[tiles of rows][tiles of columns] of the product, `rows` and `vectors` of them, each 1 or 2. */
#define PRODUCT(rows, vectors)                                                                               \
  do {                                                                                                       \
    _tile_zero(0);                                                                                           \
    if (vectors == 2) _tile_zero(1);                                                                         \
    if (rows == 2) _tile_zero(2);                                                                            \
    if (rows == 2 && vectors == 2) _tile_zero(3);                                                            \
    for (int k = call->k; k > 0; k -= TILE_WORDS, x += TILE_WORDS, w += TILE_WORDS * (vectors)*VF_LANES) {   \
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
    if (rows == 2) _tile_stored(2, sums + TILE_ROWS * PANEL, ROW_BYTES);                                     \
    if (rows == 2 && vectors == 2) _tile_stored(3, sums + TILE_ROWS * PANEL + VF_LANES, ROW_BYTES);          \
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

/* `rows` rows that lie evenly. `whole`, a constant where this is inlined: all columns are there. Roundings
 * are written with zeros after the last column. */
static inline __attribute__((always_inline)) void
finish_rows(const panel_call *call, const epilogue *e, const float *sums, cursor *at, int rows, bool whole) {
  const bool add = at->residual != NULL, round = at->rounded != NULL;
  const float *residual = at->residual;
  float *y = at->y;
  uint16_t *rounded = at->rounded;
  for (int r = 0; r < rows; r++, sums += PANEL, y += call->y_stride) {
    vf value[2];
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) {
      const int lane = v * VF_LANES;
      value[v] = vf_add(vf_load(sums + lane), e->bias[v]);
      if (add) value[v] = vf_add(value[v], _mm512_maskz_loadu_ps(e->mask[v], residual + lane));
      value[v] = vf_clamp(value[v], e->low, e->high);
      if (whole)
        vf_store(y + lane, value[v]);
      else
        _mm512_mask_storeu_ps(y + lane, e->mask[v], value[v]);
      if (!whole) value[v] = _mm512_maskz_mov_ps(e->mask[v], value[v]);
    }
    if (round) {
      _mm512_storeu_si512(rounded, (__m512i)_mm512_cvtne2ps_pbh(value[1], value[0]));
      rounded += call->rounded_stride;
    }
    if (add) residual += call->y_stride;
  }
  at->residual = residual;
  at->y = y;
  at->rounded = rounded;
}

static void finish(const panel_call *call, const epilogue *e, const float *sums, cursor *at, int rows) {
  while (rows > 0) {
    const int left = call->y_row - at->column; /* in the image's row; without a border at most 0 */
    const int run = left > 0 && left < rows ? left : rows;
    if (call->n == PANEL)
      finish_rows(call, e, sums, at, run, true);
    else
      finish_rows(call, e, sums, at, run, false);
    at->column += run;
    if (at->column == call->y_row) {
      at->column = 0;
      at->y += call->y_gap;
    }
    sums += (ptrdiff_t)run * PANEL;
    rows -= run;
  }
}

void DFT_SIMD(dft_gemm_tiles)(const panel_call *call, int rows) {
  _Alignas(64) float sums[BLOCK_ROWS * PANEL];
  cursor at = {call->x, call->residual, call->y, call->rounded, 0};
  epilogue e = {.low = vf_set1(call->relu6 ? 0 : -INFINITY), .high = vf_set1(call->relu6 ? 6 : INFINITY)};
  for (int v = 0; v < 2; v++) {
    const int left = call->n - v * VF_LANES, lanes = left < 0 ? 0 : left < VF_LANES ? left : VF_LANES;
    e.mask[v] = (__mmask16)((1u << lanes) - 1);
    e.bias[v] = call->bias ? _mm512_maskz_loadu_ps(e.mask[v], call->bias + v * VF_LANES) : vf_zero();
  }
  for (; rows > 0; rows -= BLOCK_ROWS, at.x += BLOCK_ROWS * call->x_stride) {
    const int block = rows < BLOCK_ROWS ? rows : BLOCK_ROWS;
    product(call, at.x, block, sums);
    finish(call, &e, sums, &at, block);
  }
}
