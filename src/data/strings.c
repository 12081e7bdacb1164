#include "manifest.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dft_strings_free(dft_strings *l) {
  for (int64_t i = 0; i < l->count; i++) free(l->items[i]);
  free(l->items);
  *l = (dft_strings){0};
}

dft_status dft_strings_take(dft_strings *l, char *item) {
  if (item == NULL) return dft_fail_memory("file name", 0);
  if (l->count == l->room) {
    int64_t room = l->room < 64 ? 64 : 2 * l->room;
    char **bigger = reallocarray(l->items, (size_t)room, sizeof *bigger);
    if (bigger == NULL) {
      free(item);
      return dft_fail_memory("file names", (unsigned long long)room * sizeof *bigger);
    }
    l->items = bigger;
    l->room = room;
  }
  l->items[l->count++] = item;
  return DFT_OK;
}

dft_status dft_strings_join(dft_strings *l, const char *directory, const char *name) {
  char *item = NULL;
  const char *slash = directory[0] != '\0' ? "/" : "";
  return dft_strings_take(l, asprintf(&item, "%s%s%s", directory, slash, name) < 0 ? NULL : item);
}

static int compare_bytes(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

void dft_strings_sort(dft_strings *l, int64_t from, int (*compare)(const void *, const void *)) {
  if (l->count > from)
    qsort(l->items + from, (size_t)(l->count - from), sizeof *l->items, compare ? compare : compare_bytes);
}

bool dft_strings_have(const dft_strings *sorted, const char *item) {
  return sorted->count > 0 &&
         bsearch(&item, sorted->items, (size_t)sorted->count, sizeof *sorted->items, compare_bytes) != NULL;
}
