#include "simd.h"
int DFT_SIMD(dft_probe)(void);
int DFT_SIMD(dft_probe)(void) {
  return 1;
}
