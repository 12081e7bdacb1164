/* Packing of a product's matrix by panels (gemm_panel.h). */
#include "../gemm.h"
#include "gemm_panel.h"
#include "lanes.h"
#include <string.h>

size_t DFT_SIMD(dft_gemm_packed_floats)(int k, int n) {
  return (size_t)k * ((size_t)(n + VF_LANES - 1) / VF_LANES * VF_LANES);
}

/* to[i][j] = from[j][i] for VF_LANES x VF_LANES values. */
static void transpose_block(const float *from, ptrdiff_t from_stride, float *to, ptrdiff_t to_stride) {
  vf row[VF_LANES];
#pragma GCC unroll 16
  for (int j = 0; j < VF_LANES; j++) row[j] = vf_load(from + j * from_stride);
  vf_transpose(row);
#pragma GCC unroll 16
  for (int i = 0; i < VF_LANES; i++) vf_store(to + i * to_stride, row[i]);
}

/* One panel of the transposed matrix w[n][k]: its columns are `columns` rows of w. */
static void pack_transposed(const float *w, int k, int columns, int width, float *packed) {
  if (columns < width) memset(packed, 0, (size_t)k * (size_t)width * sizeof *packed);
  const int blocks_k = k / VF_LANES * VF_LANES, blocks_j = columns / VF_LANES * VF_LANES;
  for (int j = 0; j < blocks_j; j += VF_LANES)
    for (int i = 0; i < blocks_k; i += VF_LANES)
      transpose_block(w + (ptrdiff_t)j * k + i, k, packed + (ptrdiff_t)i * width + j, width);
  for (int j = 0; j < columns; j++)
    for (int i = j < blocks_j ? blocks_k : 0; i < k; i++)
      packed[(ptrdiff_t)i * width + j] = w[(ptrdiff_t)j * k + i];
}

/* `columns` columns of w, whose rows are `stride` apart. */
static void pack_columns(const float *w, int k, int stride, int columns, int width, float *packed) {
  for (int i = 0; i < k; i++, w += stride, packed += width)
    for (int j = 0; j < width; j += VF_LANES) {
      const int left = columns - j;
      vf_store(packed + j, left >= VF_LANES ? vf_load(w + j) : vf_load_n(w + j, left > 0 ? left : 0));
    }
}

int DFT_SIMD(dft_gemm_pack_panel)(const float *w, int k, int n, bool transposed, int first, float *packed) {
  const int columns = panel_columns(n - first, false), width = panel_vectors(n - first, false) * VF_LANES;
  if (transposed)
    pack_transposed(w + (ptrdiff_t)first * k, k, columns, width, packed);
  else
    pack_columns(w + first, k, n, columns, width, packed);
  return width;
}

void DFT_SIMD(dft_gemm_pack)(const float *w, int k, int n, bool transposed, float *packed) {
  for (int first = 0; first < n; first += panel_columns(n - first, false))
    packed += (ptrdiff_t)k * DFT_SIMD(dft_gemm_pack_panel)(w, k, n, transposed, first, packed);
}

void DFT_SIMD(dft_gemm_pack_columns)(const float *w, int k, int stride, int from, int n, bool pairs,
                                     float *packed) {
  for (int first = 0; first < n; first += panel_columns(n - first, pairs)) {
    const int width = panel_vectors(n - first, pairs) * VF_LANES;
    pack_columns(w + from + first, k, stride, panel_columns(n - first, pairs), width, packed);
    packed += (ptrdiff_t)k * width;
  }
}
