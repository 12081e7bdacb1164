#include "dft/arena.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, CHUNK_BYTES = 1 << 16, MAPPED_BYTES = 1 << 18 };

typedef struct chunk {
  struct chunk *next;
  size_t used, size;
  char *data;
  char *map; /* where it lies, when fresh from the kernel: zeros already */
  size_t map_bytes;
} chunk;

struct dft_arena {
  chunk *chunks;
  size_t bytes;
};

void *dft_aligned_alloc(size_t bytes) {
  size_t alignment = bytes >= DFT_HUGE_PAGE_BYTES ? DFT_HUGE_PAGE_BYTES : ALIGNMENT;
  if (bytes > SIZE_MAX - alignment) return NULL;
  size_t rounded = dft_aligned_bytes(bytes);
  void *block = NULL;
  if (posix_memalign(&block, alignment, rounded ? rounded : ALIGNMENT) != 0) return NULL;
  if (bytes >= DFT_HUGE_PAGE_BYTES) (void)madvise(block, rounded, MADV_HUGEPAGE); /* a wish, not a need */
  return block;
}

dft_arena *dft_arena_new(void) {
  return calloc(1, sizeof(dft_arena));
}

/* Large ones from the kernel, aligned for huge pages where they have room for one; small ones from malloc. */
static bool chunk_memory(chunk *c) {
  const size_t alignment = c->size >= DFT_HUGE_PAGE_BYTES ? DFT_HUGE_PAGE_BYTES : ALIGNMENT;
  if (c->size < MAPPED_BYTES) {
    c->data = dft_aligned_alloc(c->size);
    return c->data != NULL;
  }
  if (c->size > SIZE_MAX - alignment) return false;
  c->map_bytes = c->size + alignment;
  c->map = mmap(NULL, c->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (c->map == MAP_FAILED) return false;
  c->data = c->map + (alignment - (uintptr_t)c->map % alignment) % alignment;
  if (alignment == DFT_HUGE_PAGE_BYTES)
    (void)madvise(c->data, c->size, MADV_HUGEPAGE); /* a wish, not a need */
  return true;
}

bool dft_arena_reserve(dft_arena *a, size_t bytes) {
  chunk *c = malloc(sizeof *c);
  if (c == NULL) return false;
  *c = (chunk){.next = a->chunks, .size = bytes};
  if (!chunk_memory(c)) {
    free(c);
    return false;
  }
  a->chunks = c;
  return true;
}

void *dft_arena_alloc(dft_arena *a, size_t bytes) {
  if (bytes > SIZE_MAX - ALIGNMENT) return NULL;
  size_t need = dft_aligned_bytes(bytes);
  if (need == 0) need = ALIGNMENT;
  chunk *c = a->chunks;
  if (c == NULL || c->size - c->used < need) {
    if (!dft_arena_reserve(a, need > CHUNK_BYTES ? need : CHUNK_BYTES)) return NULL;
    c = a->chunks;
  }
  void *block = c->data + c->used;
  if (c->map == NULL) memset(block, 0, need);
  c->used += need;
  a->bytes += need;
  return block;
}

float *dft_arena_floats(dft_arena *a, size_t count) {
  return count > SIZE_MAX / sizeof(float) ? NULL : dft_arena_alloc(a, count * sizeof(float));
}

char *dft_arena_string(dft_arena *a, const char *text) {
  size_t bytes = strlen(text) + 1;
  char *copy = dft_arena_alloc(a, bytes);
  if (copy != NULL) memcpy(copy, text, bytes);
  return copy;
}

size_t dft_arena_bytes(const dft_arena *a) {
  return a->bytes;
}

void dft_arena_free(dft_arena *a) {
  if (a == NULL) return;
  for (chunk *c = a->chunks; c != NULL;) {
    chunk *next = c->next;
    if (c->map != NULL)
      munmap(c->map, c->map_bytes);
    else
      free(c->data);
    free(c);
    c = next;
  }
  free(a);
}
