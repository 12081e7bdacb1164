/* A state's bytes and their CRC, from and to files. */
#include "dft/file.h"
#include "dft/checkpoint.h"
#include "internal.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct written {
  const char *path;
  dft_output *output;
} written;

static dft_status begin_file(void *context, size_t bytes) {
  written *w = context;
  return dft_output_open(w->path, bytes, &w->output);
}

static void take_file(void *context, const void *data, size_t bytes) {
  dft_output_add(((written *)context)->output, data, bytes);
}

dft_status dft_state_write(const dft_state *s, const char *path) {
  written w = {.path = path};
  DFT_TRY(dft_state_pack(s, &(dft_sink){begin_file, take_file, &w}));
  return dft_output_close(w.output);
}

dft_status dft_state_read(const char *path, dft_state *s) {
  unsigned char *bytes = NULL;
  size_t count = 0;
  memset(s, 0, sizeof *s);
  DFT_TRY(dft_read_file(path, INT32_MAX, &bytes, &count));
  dft_status status = dft_state_decode(path, bytes, count, s);
  free(bytes);
  return status;
}
