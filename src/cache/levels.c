#include "dft/cache.h"

/* Keeps firsts[] sorted and without doubles; the image (0) is no boundary. */
static int insert(int *firsts, int count, int first) {
  if (first == 0) return count;
  int at = count;
  for (; at > 0 && firsts[at - 1] >= first; at--)
    if (firsts[at - 1] == first) return count;
  for (int i = count; i > at; i--) firsts[i] = firsts[i - 1];
  firsts[at] = first;
  return count + 1;
}

int dft_cache_levels(const int *starts, int phases, int phase, int *firsts) {
  int count = insert(firsts, 0, starts[phase]);
  /* an earlier phase's rows are a place to go on from while nothing before them has been trained since */
  int trained_from = starts[phase];
  for (int q = phase - 1; q >= 0; q--) {
    if (starts[q] <= trained_from) count = insert(firsts, count, starts[q]);
    if (starts[q] < trained_from) trained_from = starts[q];
  }
  /* a later phase's boundary is kept on the way when everything before it stays as it is until then */
  trained_from = starts[phase];
  for (int q = phase + 1; q < phases; q++) {
    if (starts[q] <= trained_from) count = insert(firsts, count, starts[q]);
    if (starts[q] < trained_from) trained_from = starts[q];
  }
  return count;
}
