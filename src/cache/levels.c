#include "dft/cache.h"

static bool contains(const int *firsts, int count, int first) {
  for (int i = 0; i < count; i++)
    if (firsts[i] == first) return true;
  return false;
}

/* A later phase's boundary belongs to this phase's levels when everything before it stays as it is until
 * then. */
int dft_cache_levels(const int *starts, int phases, int phase, int *firsts) {
  int count = 0, untouched = starts[phase];
  for (int q = phase; q < phases; q++) {
    int first = starts[q];
    if (first > 0 && first <= untouched && !contains(firsts, count, first)) {
      int at = count++;
      for (; at > 0 && firsts[at - 1] > first; at--) firsts[at] = firsts[at - 1];
      firsts[at] = first;
    }
    if (first < untouched) untouched = first;
  }
  return count;
}
