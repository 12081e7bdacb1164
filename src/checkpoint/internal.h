/* Between the files of this module. */
#ifndef DFT_CHECKPOINT_INTERNAL_H
#define DFT_CHECKPOINT_INTERNAL_H

#include "dft/checkpoint.h"

/* A field's tag and value: fd 7f, then four bytes. */
enum { DFT_CRC_FIELD_BYTES = 6 };

/* Who gets a file's bytes: their number first, then piece by piece. */
typedef struct dft_sink {
  dft_status (*begin)(void *context, size_t bytes);
  void (*take)(void *context, const void *data, size_t bytes);
  void *context;
} dft_sink;
dft_status dft_state_pack(const dft_state *s, const dft_sink *sink);

#endif
