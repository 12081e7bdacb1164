#include "dft/share.h"
#include <stdlib.h>

static dft_status alloc(void *context, size_t bytes, void **block) {
  (void)context;
  *block = calloc(1, bytes ? bytes : 1);
  return *block == NULL ? dft_fail_memory("shared block", bytes) : DFT_OK;
}

static void release(void *context, void *block) {
  (void)context;
  free(block);
}

static dft_status fence(void *context, dft_status status) {
  (void)context;
  return status;
}

static dft_status broadcast(void *context, void *data, size_t bytes) {
  (void)context;
  (void)data;
  (void)bytes;
  return DFT_OK;
}

static void tick(void *context) {
  (void)context;
}

const dft_share *dft_share_alone(void) {
  static const dft_share alone = {
      .writer = true, .alloc = alloc, .free = release, .fence = fence, .broadcast = broadcast, .tick = tick};
  return &alone;
}
