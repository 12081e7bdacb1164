/* Memory for reading what others wrote: an allocator that gives so much and no more, in the form that parsers
 * (protobuf-c) take one. One thread. Not collective. */
#ifndef DFT_BUDGET_H
#define DFT_BUDGET_H

#include <stdbool.h>
#include <stddef.h>

typedef struct dft_budget {
  size_t left_bytes;
  bool exceeded;      /* more was asked for */
  bool out_of_memory; /* malloc gave none within the budget */
} dft_budget;

/* For a protobuf of so many bytes: protobuf-c's bookkeeping is at most some 50 bytes for each field of a few.
 */
dft_budget dft_budget_for_protobuf(size_t bytes);
/* malloc within the budget, else NULL; `budget` is the dft_budget. What is freed does not come back to it. */
void *dft_budget_alloc(void *budget, size_t bytes);
void dft_budget_free(void *budget, void *block);

#endif
