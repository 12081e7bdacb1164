/* From dft_begin_flush to dft_end_flush, on the same thread, arithmetic takes and gives denormals as zero.
 * CPUs take a hundred cycles and more for one. On CPUs other than x86-64 and arm64 denormals stay. */
#ifndef DFT_OPS_CPU_DENORMALS_H
#define DFT_OPS_CPU_DENORMALS_H

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>

static inline uint64_t dft_begin_flush(void) {
  enum { FTZ_DAZ = 0x8040 };
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | FTZ_DAZ);
  return before;
}
static inline void dft_end_flush(uint64_t before) {
  _mm_setcsr((unsigned)before);
}

#elif defined(__aarch64__)

static inline uint64_t dft_begin_flush(void) {
  enum { FZ = 1 << 24 };
  uint64_t before;
  __asm__ volatile("mrs %0, fpcr" : "=r"(before)::"memory");
  __asm__ volatile("msr fpcr, %0" ::"r"(before | FZ) : "memory");
  return before;
}
static inline void dft_end_flush(uint64_t before) {
  __asm__ volatile("msr fpcr, %0" ::"r"(before) : "memory");
}

#else

static inline uint64_t dft_begin_flush(void) {
  return 0;
}
static inline void dft_end_flush(uint64_t before) {
  (void)before;
}

#endif
#endif
