#include "dft/crc.h"
#include <isa-l/crc.h>

/* crc32_iscsi is the bare shift register: the standard's initial value and final xor are added here. */
uint32_t dft_crc32c(uint32_t crc, const void *data, size_t bytes) {
  enum { MOST = 1 << 30 };                   /* its length is an int */
  unsigned char *at = (unsigned char *)data; /* read only, though its prototype does not say so */
  crc = ~crc;
  while (bytes > 0) {
    int n = bytes < MOST ? (int)bytes : MOST;
    crc = crc32_iscsi(at, n, crc);
    at += n;
    bytes -= (size_t)n;
  }
  return ~crc;
}
