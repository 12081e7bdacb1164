/* `dft export`: a checkpoint's model in other programs' formats, by the output's name. */
#include "train.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
  const char *suffix;
  dft_file_kind kind;                                      /* DFT_FILE_UNKNOWN: planned */
} formats[] = {{".weights.h5", DFT_FILE_KERAS_WEIGHTS_H5}, /* before .h5, whose suffix it has */
               {".h5", DFT_FILE_KERAS_H5},
               {".pb", DFT_FILE_CHECKPOINT},
               {".safetensors", DFT_FILE_UNKNOWN},
               {".onnx", DFT_FILE_UNKNOWN}};

static dft_status kind_of(const char *output, dft_file_kind *kind) {
  size_t length = strlen(output);
  for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
    size_t suffix = strlen(formats[i].suffix);
    if (length <= suffix || strcmp(output + length - suffix, formats[i].suffix) != 0) continue;
    *kind = formats[i].kind;
    if (*kind == DFT_FILE_UNKNOWN)
      return dft_fail(DFT_EUSAGE, "%s: export to %s is not in this version; .weights.h5, .h5 and .pb are",
                      output, formats[i].suffix);
    return DFT_OK;
  }
  return dft_fail(DFT_EUSAGE, "%s: the name must end in .weights.h5, .h5 or .pb", output);
}

static dft_status export_keras(dft_state *s, const dft_model *m, const char *output, dft_file_kind kind,
                               int layers) {
  dft_keras_layer *list = calloc((size_t)layers, sizeof *list);
  if (list == NULL) return dft_fail_memory("layers", 0);
  for (int i = 0; i < layers; i++)
    list[i] =
        (dft_keras_layer){m->layers[i].name, m->layers[i].kind == DFT_LAYER_POOL && m->pooling == DFT_POOL_MAX
                                                 ? "GlobalMaxPooling2D"
                                                 : dft_layer_class(m->layers[i].kind)};
  dft_status status = dft_keras_write(output, kind, &s->weights, list, layers);
  free(list);
  return status;
}

/* The model alone: no optimizer, no position, no history. */
static dft_status export_checkpoint(dft_state *s, const char *output) {
  dft_weights_free(&s->slots);
  s->slots = (dft_weights){0};
  for (int i = 0; i < s->history_count; i++) free(s->history[i].phase);
  s->history_count = 0;
  s->iterations = s->step = s->position = 0;
  s->loss_sum = s->correct_sum = s->count_sum = 0;
  return dft_state_write(s, output);
}

/* The head's tensors are the last two. */
static void drop_head(dft_weights *w, const dft_model *m) {
  dft_weights base = *w;
  base.count = 0;
  for (int i = 0; i < w->count; i++) {
    if (strcmp(w->tensors[i].layer, m->layers[m->base_layers].name) != 0) {
      base.tensors[base.count++] = w->tensors[i];
      continue;
    }
    free(w->tensors[i].layer);
    free(w->tensors[i].variable);
    if (w->arena == NULL) free(w->tensors[i].data);
  }
  *w = base;
}

dft_status dft_export(const char *checkpoint, const char *output, bool head) {
  dft_file_kind kind = DFT_FILE_UNKNOWN;
  struct stat from, to;
  DFT_TRY(kind_of(output, &kind));
  if (stat(checkpoint, &from) == 0 && stat(output, &to) == 0 && from.st_dev == to.st_dev &&
      from.st_ino == to.st_ino)
    return dft_fail(DFT_EUSAGE,
                    "%s is the checkpoint itself, and an export has no optimizer: name another file", output);
  dft_state state = {0};
  dft_model *model = NULL;
  dft_status status = dft_state_read(checkpoint, &state);
  if (status == DFT_OK) status = dft_model_of_state(&state, checkpoint, &model);
  if (status == DFT_OK) {
    if (!head) drop_head(&state.weights, model);
    status = kind == DFT_FILE_CHECKPOINT
                 ? export_checkpoint(&state, output)
                 : export_keras(&state, model, output, kind, head ? model->layer_count : model->base_layers);
  }
  dft_model_free(model);
  dft_state_free(&state);
  return status;
}
