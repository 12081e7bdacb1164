/* Keras files by way of the module that knows libhdf5. They are read apart: the module works in a child
 * process, which hands its tensors on as plain records. */
#include "apart.h"
#include "dft/file.h"
#include "dft/module.h"
#include "keras.h"
#include <stdlib.h>
#include <string.h>

static dft_module module = {.file = "dft_hdf5.so",
                            .variable = "DFT_HDF5_MODULE",
                            .symbol = DFT_HDF5_MODULE_SYMBOL,
                            .library = "libhdf5",
                            .package = "libhdf5-103-1",
                            .lock = PTHREAD_MUTEX_INITIALIZER};

static dft_status need_module(const char *path) {
  return dft_module_need(&module, path, "a Keras file");
}

static const dft_hdf5 *hdf5(void) {
  return module.object;
}

static dft_status told(dft_status status) {
  return status == DFT_OK ? DFT_OK : dft_fail(status, "%s", hdf5()->error());
}

/* ---- the child writes ---- */

static void put(FILE *out, const void *data, size_t bytes) {
  fwrite(data, 1, bytes, out); /* what fails is found by fflush */
}

static void put_text(FILE *out, const char *text) {
  const uint32_t bytes = (uint32_t)strlen(text);
  put(out, &bytes, sizeof bytes);
  put(out, text, bytes);
}

static dft_status write_weights(const char *path, FILE *out) {
  dft_weights w;
  DFT_TRY(told(hdf5()->read(path, &w)));
  const int32_t counts[2] = {w.count, w.classes};
  put(out, counts, sizeof counts);
  for (int i = 0; i < w.classes; i++) put_text(out, w.class_names[i]);
  for (int i = 0; i < w.count; i++) {
    const dft_tensor *t = &w.tensors[i];
    const int32_t rank = t->rank;
    put_text(out, t->layer);
    put_text(out, t->variable);
    put(out, &rank, sizeof rank);
    put(out, t->shape, (size_t)rank * sizeof *t->shape);
    put(out, t->data, (size_t)dft_tensor_elements(t) * sizeof *t->data);
  }
  return DFT_OK; /* the process ends: nothing to free */
}

static dft_status write_layout(const char *path, FILE *out) {
  dft_file_kind kind;
  DFT_TRY(told(hdf5()->layout(path, &kind)));
  put(out, &kind, sizeof kind);
  return DFT_OK;
}

/* ---- the parent reads: the child may have lost its mind before it answered, so nothing is believed ---- */

static bool take(FILE *in, void *data, size_t bytes) {
  return fread(data, 1, bytes, in) == bytes;
}

static char *take_text(FILE *in) {
  uint32_t bytes;
  if (!take(in, &bytes, sizeof bytes) || bytes >= 4 * DFT_H5_NAME_BYTES_MAX) return NULL;
  char *text = calloc(bytes + 1, 1);
  if (text == NULL || take(in, text, bytes)) return text;
  free(text);
  return NULL;
}

static bool take_tensor(FILE *in, dft_weights *w) {
  int32_t rank;
  int64_t shape[DFT_MAX_RANK];
  char *layer = take_text(in), *variable = take_text(in);
  bool good = layer != NULL && variable != NULL && take(in, &rank, sizeof rank) && rank >= 0 &&
              rank <= DFT_MAX_RANK && take(in, shape, (size_t)rank * sizeof *shape);
  int64_t elements = 1, most = DFT_WEIGHTS_BYTES_MAX / (int64_t)sizeof(float);
  for (int i = 0; good && i < rank; i++) {
    good = shape[i] >= 1 && shape[i] <= most / elements;
    if (good) elements *= shape[i];
  }
  good = good && dft_weights_add(w, layer, variable, rank, shape, NULL) == DFT_OK &&
         take(in, w->tensors[w->count - 1].data, (size_t)elements * sizeof(float));
  free(layer);
  free(variable);
  return good;
}

static bool take_class_names(FILE *in, int32_t classes, dft_weights *w) {
  if (classes < 0 || classes > DFT_H5_NAMES_MAX) return false;
  if (classes == 0) return true;
  w->class_names = calloc((size_t)classes, sizeof *w->class_names);
  if (w->class_names == NULL) return false;
  for (w->classes = 0; w->classes < classes; w->classes++)
    if ((w->class_names[w->classes] = take_text(in)) == NULL) return false;
  return true;
}

dft_status dft_keras_read(const char *path, dft_weights *w) {
  FILE *in;
  int32_t counts[2];
  *w = (dft_weights){0};
  DFT_TRY(need_module(path));
  DFT_TRY(dft_apart(path, module.library, write_weights, &in));
  bool good = take(in, counts, sizeof counts) && counts[0] <= DFT_H5_TENSORS_MAX &&
              take_class_names(in, counts[1], w);
  for (int i = 0; good && i < counts[0]; i++) good = take_tensor(in, w);
  fclose(in);
  if (good) return DFT_OK;
  dft_weights_free(w);
  return dft_fail(DFT_EDATA, "%s: %s gave no sound answer: the file is damaged, or memory is short", path,
                  module.library);
}

dft_status dft_keras_sniff(const char *path, dft_file_kind *kind) {
  FILE *in;
  DFT_TRY(need_module(path));
  DFT_TRY(dft_apart(path, module.library, write_layout, &in));
  const bool good = take(in, kind, sizeof *kind);
  fclose(in);
  return good ? DFT_OK
              : dft_fail(DFT_EDATA, "%s: %s gave no sound answer: the file is damaged", path, module.library);
}

/* ---- and written ---- */

dft_status dft_keras_write(const char *path, dft_file_kind kind, const dft_weights *w,
                           const dft_keras_layer *layers, int layer_count) {
  if (kind != DFT_FILE_KERAS_H5 && kind != DFT_FILE_KERAS_WEIGHTS_H5)
    return dft_fail(DFT_EINTERNAL, "%s: not one of Keras' layouts", path);
  DFT_TRY(need_module(path));
  void *image = NULL;
  size_t bytes = 0;
  DFT_TRY(dft_context(told(hdf5()->image(kind, w, layers, layer_count, &image, &bytes)), "%s", path));
  dft_status status = dft_write_file(path, image, bytes);
  free(image);
  return status;
}
