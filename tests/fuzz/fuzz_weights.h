/* What every reader of weights owes: tensors with shapes and clean names, or one line that names the file. */
#ifndef DFT_FUZZ_WEIGHTS_H
#define DFT_FUZZ_WEIGHTS_H

#include "dft/weights.h"
#include <stdlib.h>
#include <string.h>

static inline void check_name(const char *name) {
  for (; *name; name++)
    if ((unsigned char)*name < ' ' || *name == 0x7f) abort();
}

/* Frees them. */
static inline void check_weights(dft_status status, const char *file, dft_weights *w) {
  if (status == DFT_EDATA) {
    if (strncmp(dft_error(), file, strlen(file)) != 0 || w->count != 0) abort();
    check_name(dft_error());
    return;
  }
  if (status != DFT_OK || w->count < 1) abort();
  for (int i = 0; i < w->count; i++) {
    const dft_tensor *t = &w->tensors[i];
    if (t->rank < 0 || t->rank > DFT_MAX_RANK || dft_tensor_elements(t) < 1) abort();
    check_name(t->layer);
    check_name(t->variable);
  }
  for (int i = 0; i < w->classes; i++) check_name(w->class_names[i]);
  dft_weights_free(w);
}

#endif
