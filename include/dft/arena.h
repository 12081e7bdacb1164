/* Memory planned once and released together. Every block is aligned to 64 bytes and zeroed. Growing is
 * allowed (chunks), so pointers stay valid until dft_arena_free. Not thread-safe. Not collective. */
#ifndef DFT_ARENA_H
#define DFT_ARENA_H

#include <stdbool.h>
#include <stddef.h>

typedef struct dft_arena dft_arena;

dft_arena *dft_arena_new(void); /* NULL when out of memory */
/* NULL when out of memory; bytes 0 gives a valid pointer. */
void *dft_arena_alloc(dft_arena *a, size_t bytes);
/* Reserves one block: allocations that follow, each rounded up to 64 bytes, lie in it side by side. One large
 * block gets huge pages where many small ones get none: from DFT_HUGE_PAGE_BYTES on the kernel is asked for
 * those, as many as are whole. False when out of memory. */
enum { DFT_HUGE_PAGE_BYTES = 1 << 21 };
bool dft_arena_reserve(dft_arena *a, size_t bytes);
float *dft_arena_floats(dft_arena *a, size_t count);
char *dft_arena_string(dft_arena *a, const char *text);
size_t dft_arena_bytes(const dft_arena *a); /* handed out so far */
void dft_arena_free(dft_arena *a);          /* NULL is fine */

/* `bytes` rounded up to the alignment: where the next of several parts of a block begins. */
static inline size_t dft_aligned_bytes(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

/* 64-byte aligned, not zeroed; release with free(). Large blocks ask for huge pages. NULL when out of memory.
 */
void *dft_aligned_alloc(size_t bytes);

#endif
