/* CRC32C (Castagnoli; RFC 3720 appendix B.4), by ISA-L: seals checkpoints and rows of the cache. Pure; any
 * thread. */
#ifndef DFT_CRC_H
#define DFT_CRC_H

#include <stddef.h>
#include <stdint.h>

/* CRC32C of `bytes` bytes, continuing from `crc` (0 to start). */
uint32_t dft_crc32c(uint32_t crc, const void *data, size_t bytes);

#endif
