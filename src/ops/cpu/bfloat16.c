#include "bfloat16.h"

#include <float.h>
#include <math.h>
#include <string.h>

uint16_t dft_bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint32_t cut = bits >> 16;
  if ((bits & 0x7f800000u) == 0) return (uint16_t)(cut & 0x8000u);
  if (isnan(value)) return (uint16_t)(cut | 0x40u);
  return (uint16_t)((bits + 0x7fffu + (cut & 1u)) >> 16);
}

float dft_bfloat16_rounded(float value) {
  uint32_t bits = (uint32_t)dft_bfloat16(value) << 16;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static float flushed(float value) {
  return fabsf(value) < FLT_MIN ? copysignf(0, value) : value;
}

/* a*b + c, rounded once, denormals flushed before and after. The hardware asks whether a result is denormal
 * after rounding it to 24 bits as if exponents had no end: what fmaf rounds up to FLT_MIN is so where it lies
 * below FLT_MIN - 2^-151. Near FLT_MIN a double holds the sum but for its last bits. */
static float fused(float a, float b, float c) {
  a = flushed(a), b = flushed(b), c = flushed(c);
  float value = fmaf(a, b, c);
  if (fabsf(value) != FLT_MIN) return flushed(value);
  const double product = (double)a * b, sum = product + c, limit = (double)FLT_MIN - 0x1p-151;
  const double part = sum - product, lost = (product - (sum - part)) + (c - part);
  bool tiny = fabs(sum) < limit || (fabs(sum) == limit && (sum < 0 ? -lost : lost) < 0);
  return tiny ? copysignf(0, value) : value;
}

static float element(const float *x, const float *w, int k, int n, float sum) {
  for (int i = 0; i < k; i += 2) {
    sum = fused(x[i + 1], w[(size_t)(i + 1) * n], sum);
    sum = fused(x[i], w[(size_t)i * n], sum);
  }
  return sum;
}

/* Both terms are floats, so that a sum below FLT_MIN is exact. */
static float added(float a, float b) {
  return flushed(flushed(a) + flushed(b));
}

static float tile_element(const float *x, const float *w, int k, int n) {
  enum { TILE_DEPTH = 32 };
  float sum = 0;
  for (int first = 0; first < k; first += TILE_DEPTH) {
    float even = 0, odd = 0;
    for (int i = first; i < k && i < first + TILE_DEPTH; i += 2) {
      even = fused(x[i], w[(size_t)i * n], even);
      odd = fused(x[i + 1], w[(size_t)(i + 1) * n], odd);
    }
    sum = added(sum, added(even, odd));
  }
  return sum;
}

static float finished(const dft_epilogue *epilogue, float value, size_t at) {
  if (epilogue->residual) value += epilogue->residual[at];
  if (epilogue->relu6) value = value < 0 ? 0 : value > 6 ? 6 : value;
  return value;
}

void dft_gemm_bfloat16(const float *x, const float *w, float *y, int samples, int pixels, int k, int n,
                       const dft_epilogue *epilogue) {
  int64_t rows = (int64_t)samples * pixels;
#pragma omp parallel for schedule(static) num_threads(dft_ops_threads())
  for (int64_t row = 0; row < rows; row++)
    for (int j = 0; j < n; j++) {
      size_t at = (size_t)row * n + j;
      float value = element(x + row * k, w + j, k, n, epilogue->bias ? epilogue->bias[j] : 0);
      y[at] = finished(epilogue, value, at);
    }
}

void dft_gemm_bfloat16_tiles(const float *x, const float *w, float *y, int samples, int pixels, int k, int n,
                             const dft_epilogue *epilogue) {
  int64_t rows = (int64_t)samples * pixels;
#pragma omp parallel for schedule(static) num_threads(dft_ops_threads())
  for (int64_t row = 0; row < rows; row++)
    for (int j = 0; j < n; j++) {
      size_t at = (size_t)row * n + j;
      float value = added(tile_element(x + row * k, w + j, k, n), epilogue->bias ? epilogue->bias[j] : 0);
      y[at] = finished(epilogue, value, at);
    }
}
