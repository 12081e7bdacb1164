/* A BatchNorm's vectors, compiled for the set's instructions. */
#include "simd.h"

#define VECTORS(name) DFT_SIMD(name)
#include "../batchnorm_vectors.h"
