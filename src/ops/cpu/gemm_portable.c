/* The products by OpenBLAS, for any CPU. BLAS may choose another kernel for another shape, so the shape of
 * every call depends only on what a sample or a shard is: a sample's bits do not depend on its company. */
#include "blas.h"
#include "gemm.h"

#include <string.h>

size_t dft_gemm_packed_floats_portable(int k, int n) {
  return (size_t)k * (size_t)n;
}

void dft_gemm_pack_portable(const float *w, int k, int n, bool transposed, float *packed) {
  for (int i = 0; i < k; i++)
    for (int j = 0; j < n; j++)
      packed[(size_t)i * n + j] = transposed ? w[(size_t)j * k + i] : w[(size_t)i * n + j];
}

/* y = bias + residual: where the product is added to. */
static void prepare(float *y, const float *bias, const float *residual, int rows, int n) {
  for (int row = 0; row < rows; row++, y += n) {
    if (bias && residual)
      for (int j = 0; j < n; j++) y[j] = bias[j] + residual[(size_t)row * n + j];
    else if (bias)
      memcpy(y, bias, (size_t)n * sizeof(float));
    else if (residual)
      memmove(y, residual + (size_t)row * n, (size_t)n * sizeof(float));
  }
}

void dft_gemm_portable(const float *x, const float *packed, float *y, int samples, int pixels, int k, int n,
                       const dft_epilogue *epilogue) {
  bool onto = epilogue->bias || epilogue->residual;
#pragma omp parallel for schedule(static) num_threads(dft_ops_threads())
  for (int sample = 0; sample < samples; sample++) {
    float *out = y + (size_t)sample * pixels * n;
    const float *residual = epilogue->residual ? epilogue->residual + (out - y) : NULL;
    prepare(out, epilogue->bias, residual, pixels, n);
    dft_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, pixels, n, k, 1, x + (size_t)sample * pixels * k, k,
              packed, n, onto ? 1 : 0, out, n);
    if (epilogue->relu6)
      for (size_t at = 0; at < (size_t)pixels * n; at++)
        out[at] = out[at] < 0 ? 0 : out[at] > 6 ? 6 : out[at];
  }
}

enum { TILE = 64 }; /* dw is cut into tiles of 64x64, whatever the number of threads */

/* dw's tile at (i, j) for one node: each shard by one call, folded in the tree's order. */
static void dw_tile(const float *x, const float *dy, int pixels, int k, int n, const dft_shard_map *map,
                    int node, int i, int j, float *dw) {
  float level[DFT_GEMM_LEVELS][TILE * TILE];
  int height = k - i < TILE ? k - i : TILE, width = n - j < TILE ? n - j : TILE;
  int top = 0;
  for (int shard = map->node_first[node]; shard < map->node_first[node + 1]; shard++) {
    size_t row = (size_t)map->first[shard] * pixels;
    int rows = (map->first[shard + 1] - map->first[shard]) * pixels;
    if (rows == 0)
      memset(level[top], 0, sizeof level[top]);
    else
      dft_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, height, width, rows, 1, x + row * k + i, k,
                dy + row * n + j, n, 0, level[top], TILE);
    top++;
    for (int done = shard - map->node_first[node]; done & 1; done >>= 1, top--)
      for (int r = 0; r < height; r++)
        for (int c = 0; c < width; c++) level[top - 2][r * TILE + c] += level[top - 1][r * TILE + c];
  }
  for (int r = 0; r < height; r++)
    memcpy(dw + (size_t)(i + r) * n + j, level[0] + (size_t)r * TILE, (size_t)width * sizeof(float));
}

void dft_gemm_dw_portable(const float *x, const float *dy, int pixels, int k, int n, const dft_shard_map *map,
                          float *dw) {
  for (int node = 0; node < map->nodes; node++, dw += (size_t)k * n) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(dft_ops_threads())
    for (int i = 0; i < k; i += TILE)
      for (int j = 0; j < n; j += TILE) dw_tile(x, dy, pixels, k, n, map, node, i, j, dw);
  }
}
