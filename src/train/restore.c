/* A model out of a checkpoint, for evaluation, prediction and export. */
#include "dft/file.h"
#include "train.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

dft_status dft_state_word(const char *path, const char *key, const char *word, int *value) {
  *value = dft_config_word_value(key, word);
  if (*value >= 0) return DFT_OK;
  return dft_fail(DFT_EDATA, "%s: %s: '%s' is not known to this version", path, key, word);
}

dft_status dft_model_of_state(const dft_state *s, const char *path, bool head, dft_model **model) {
  int pooling = 0;
  DFT_TRY(dft_state_word(path, "model.pooling", s->pooling, &pooling));
  DFT_TRY(dft_context(dft_model_new(s->alpha, s->height, s->width, (dft_pooling)pooling, s->classes, model),
                      "%s", path));
  dft_bind_result bound = {0};
  dft_status status = dft_model_bind(*model, &s->weights, path, NULL, &bound);
  if (status == DFT_OK && head && !bound.head) status = dft_fail(DFT_EDATA, "%s: %s", path, bound.head_why);
  if (status != DFT_OK) {
    dft_model_free(*model);
    *model = NULL;
  }
  return status;
}

dft_status dft_read_checkpoint(dft_comm *comm, const char *path, dft_state *state) {
  unsigned char *bytes = NULL;
  size_t count = 0;
  const bool reads = dft_comm_rank(comm) == 0;
  dft_status status = dft_comm_agree(comm, reads ? dft_read_file(path, INT32_MAX, &bytes, &count) : DFT_OK);
  if (status == DFT_OK) status = dft_comm_bcast(comm, 0, &count, sizeof count);
  if (status == DFT_OK && !reads && (bytes = malloc(count + 1)) == NULL)
    status = dft_fail_memory("checkpoint", count);
  status = dft_comm_agree(comm, status);
  if (status == DFT_OK) status = dft_comm_bcast(comm, 0, bytes, count);
  if (status == DFT_OK) status = dft_state_decode(path, bytes, count, state);
  free(bytes);
  return dft_comm_agree(comm, status);
}
