#include "dft/budget.h"
#include <stdlib.h>

enum { BASE_BYTES = 1 << 16, FACTOR = 16 };

dft_budget dft_budget_for_protobuf(size_t bytes) {
  return (dft_budget){.left_bytes = BASE_BYTES + FACTOR * bytes};
}

void *dft_budget_alloc(void *budget, size_t bytes) {
  dft_budget *b = budget;
  if (bytes > b->left_bytes) {
    b->exceeded = true;
    return NULL;
  }
  b->left_bytes -= bytes;
  void *block = malloc(bytes);
  if (block == NULL && bytes > 0) b->out_of_memory = true;
  return block;
}

void dft_budget_free(void *budget, void *block) {
  (void)budget;
  free(block);
}
