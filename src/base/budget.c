#include "dft/budget.h"
#include <stdlib.h>

void *dft_budget_alloc(void *budget, size_t bytes) {
  dft_budget *b = budget;
  if (bytes > b->left_bytes) {
    b->exceeded = true;
    return NULL;
  }
  b->left_bytes -= bytes;
  return malloc(bytes);
}

void dft_budget_free(void *budget, void *block) {
  (void)budget;
  free(block);
}
