/* FNV-1a of 64 bits (Fowler, Noll and Vo; RFC 9923): tells whether ranks have the same; no seal against
 * intent. Pure; any thread. */
#ifndef DFT_HASH_H
#define DFT_HASH_H

#include <stddef.h>
#include <stdint.h>

#define DFT_HASH_START 0xcbf29ce484222325u

/* The hash of `bytes` bytes, continuing from `hash` (DFT_HASH_START to start). */
uint64_t dft_hash(uint64_t hash, const void *data, size_t bytes);

#endif
