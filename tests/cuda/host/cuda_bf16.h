/* bfloat16 as CUDA's header of this name has it: rounding to nearest even, NaN stays one, denormals kept. */
#ifndef DFT_TESTS_CUDA_BF16_H
#define DFT_TESTS_CUDA_BF16_H

#include <stdint.h>
#include <string.h>

struct __nv_bfloat16 {
  uint16_t bits;
};

static inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value != value) return __nv_bfloat16{0x7fff};
  return __nv_bfloat16{(uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

static inline float __bfloat162float(__nv_bfloat16 value) {
  uint32_t bits = (uint32_t)value.bits << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

#endif
