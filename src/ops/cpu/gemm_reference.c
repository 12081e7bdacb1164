/* The products as plain loops, summed in double: what the other sets are tested against. */
#include "gemm.h"

#include <string.h>

size_t dft_gemm_packed_floats_reference(int k, int n) {
  return (size_t)k * (size_t)n;
}

void dft_gemm_pack_reference(const float *w, int k, int n, bool transposed, float *packed) {
  for (int i = 0; i < k; i++)
    for (int j = 0; j < n; j++)
      packed[(size_t)i * n + j] = transposed ? w[(size_t)j * k + i] : w[(size_t)i * n + j];
}

enum { COLUMNS = 64 }; /* of a row at a time */

void dft_gemm_reference(const float *x, const float *packed, float *y, int samples, int pixels, int k, int n,
                        const dft_epilogue *epilogue) {
  int64_t rows = (int64_t)samples * pixels;
  for (int64_t row = 0; row < rows; row++)
    for (int first = 0; first < n; first += COLUMNS) {
      int columns = n - first < COLUMNS ? n - first : COLUMNS;
      double sum[COLUMNS];
      for (int j = 0; j < columns; j++) sum[j] = epilogue->bias ? epilogue->bias[first + j] : 0;
      for (int i = 0; i < k; i++)
        for (int j = 0; j < columns; j++)
          sum[j] += (double)x[row * k + i] * packed[(size_t)i * n + first + j];
      for (int j = 0; j < columns; j++) {
        size_t at = (size_t)row * n + first + j;
        float value = (float)(sum[j] + (epilogue->residual ? epilogue->residual[at] : 0));
        if (epilogue->relu6) value = value < 0 ? 0 : value > 6 ? 6 : value;
        y[at] = value;
      }
    }
}

/* The sum of one shard's rows for one row of dw, some columns. */
static void shard_sum(const float *x, const float *dy, int64_t rows, int k, int n, int columns, float *out) {
  double sum[COLUMNS] = {0};
  for (int64_t row = 0; row < rows; row++)
    for (int j = 0; j < columns; j++) sum[j] += (double)x[row * k] * dy[row * n + j];
  for (int j = 0; j < columns; j++) out[j] = (float)sum[j];
}

void dft_gemm_dw_reference(const float *x, const float *dy, int pixels, int k, int n,
                           const dft_shard_map *map, float *dw) {
  float level[DFT_GEMM_LEVELS][COLUMNS];
  for (int node = 0; node < map->nodes; node++, dw += (size_t)k * n)
    for (int i = 0; i < k; i++)
      for (int first = 0; first < n; first += COLUMNS) {
        int columns = n - first < COLUMNS ? n - first : COLUMNS;
        int top = 0;
        for (int shard = map->node_first[node]; shard < map->node_first[node + 1]; shard++) {
          int64_t row = (int64_t)map->first[shard] * pixels;
          int64_t rows = (int64_t)map->first[shard + 1] * pixels - row;
          shard_sum(x + row * k + i, dy + row * n + first, rows, k, n, columns, level[top++]);
          for (int done = shard - map->node_first[node]; done & 1; done >>= 1, top--)
            for (int j = 0; j < columns; j++) level[top - 2][j] += level[top - 1][j];
        }
        memcpy(dw + (size_t)i * n + first, level[0], (size_t)columns * sizeof(float));
      }
}
