/* Initial weights: from a file, told apart by content, or Keras' initialisers. */
#include "dft/log.h"
#include "dft/onnx.h"
#include "dft/safetensors.h"
#include "dft/text.h"
#include "train.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The file that keras.applications.MobileNetV2(weights='imagenet', include_top=False) caches. Only square
 * inputs of these sizes have weights of their own; all others use 224's
 * (keras/src/applications/mobilenet_v2.py). */
static void imagenet_path(const dft_config *config, char *path, size_t bytes) {
  static const int sizes[] = {96, 128, 160, 192, 224};
  int size = 224;
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
    if (config->model.height == sizes[i] && config->model.width == sizes[i]) size = sizes[i];
  char alpha[32];
  snprintf(alpha, sizeof alpha, "%g", config->model.alpha);
  if (strchr(alpha, '.') == NULL) strcat(alpha, ".0"); /* as Python prints a float */
  const char *keras = getenv("KERAS_HOME"), *home = getenv("HOME");
  snprintf(path, bytes, "%s%s/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_%s_%d_no_top.h5",
           keras != NULL ? keras : home, keras != NULL ? "" : "/.keras", alpha, size);
}

/* The widths that keras.applications has weights for; with another one its line below would fail. */
static dft_status check_published(double alpha) {
  static const double published[] = {0.35, 0.5, 0.75, 1.0, 1.3, 1.4};
  for (size_t i = 0; i < sizeof published / sizeof published[0]; i++)
    if (alpha == published[i]) return DFT_OK;
  return dft_fail(DFT_EUSAGE,
                  "model.weights: imagenet: there are weights for model.alpha 0.35, 0.5, 0.75, 1.0, 1.3 and "
                  "1.4, not for %g",
                  alpha);
}

static dft_status resolve(const dft_config *config, char *path, size_t bytes) {
  if (strcmp(config->model.weights, "imagenet") != 0) {
    snprintf(path, bytes, "%s", config->model.weights);
    return DFT_OK;
  }
  if (getenv("KERAS_HOME") == NULL && getenv("HOME") == NULL)
    return dft_fail(DFT_EDATA,
                    "model.weights: imagenet: neither KERAS_HOME nor HOME is set; give the file's path");
  imagenet_path(config, path, bytes);
  if (access(path, F_OK) == 0) return DFT_OK;
  DFT_TRY(check_published(config->model.alpha));
  return dft_fail(DFT_EDATA,
                  "model.weights: imagenet: %s is not there; dft downloads nothing, Keras fetches it: "
                  "python3 -c \"import keras; "
                  "keras.applications.MobileNetV2(input_shape=(%d,%d,3), alpha=%g, include_top=False)\"",
                  path, config->model.height, config->model.width, config->model.alpha);
}

/* A checkpoint as a weights file: its tensors and class names move out of the state. */
static dft_status read_checkpoint(const char *path, dft_weights *weights) {
  dft_state state = {0};
  dft_status status = dft_state_read(path, &state);
  if (status == DFT_OK) {
    *weights = state.weights;
    state.weights = (dft_weights){0};
  }
  dft_state_free(&state);
  return status;
}

static dft_status read_any(const char *path, dft_weights *weights) {
  dft_file_kind kind = DFT_FILE_UNKNOWN;
  DFT_TRY(dft_file_sniff(path, &kind));
  switch (kind) {
  case DFT_FILE_KERAS_H5:
  case DFT_FILE_KERAS_WEIGHTS_H5:
    return dft_keras_read(path, weights);
  case DFT_FILE_CHECKPOINT:
    return read_checkpoint(path, weights);
  case DFT_FILE_SAFETENSORS:
    return dft_safetensors_read(path, weights);
  case DFT_FILE_ONNX:
    return dft_onnx_read(path, DFT_BN_EPSILON, weights);
  case DFT_FILE_UNKNOWN:
    break;
  }
  if (dft_ends_in(path, ".keras"))
    return dft_fail(DFT_EDATA, "%s: an archive of Keras: let it write model.save_weights(\"x.weights.h5\")",
                    path);
  return dft_fail(
      DFT_EDATA,
      "%s: no weights: neither Keras' (.h5, .weights.h5) nor a dft checkpoint (.pb), safetensors or "
      "ONNX",
      path);
}

dft_status dft_load_weights(const dft_config *config, dft_model *model, const char *const *class_names) {
  dft_model_init(model, (uint64_t)config->seed);
  if (config->model.weights == NULL) {
    dft_note("weights: none: every layer starts from Keras' initialisers");
    return DFT_OK;
  }
  char path[4096];
  DFT_TRY(resolve(config, path, sizeof path));
  dft_weights file = {0};
  dft_bind_result bound = {0};
  dft_status status = dft_context(read_any(path, &file), "model.weights");
  if (status == DFT_OK) status = dft_model_bind(model, &file, path, class_names, &bound);
  dft_weights_free(&file);
  DFT_TRY(status);
  dft_note("weights: %s: %d tensors by %s; head: %s%s", path, bound.bound, bound.by_order ? "order" : "name",
           bound.head ? "from the file's " : "starts fresh, ",
           bound.head ? bound.head_layer : bound.head_why);
  return DFT_OK;
}

dft_status dft_broadcast_model(dft_comm *comm, dft_model *model) {
  size_t count = 0;
  float *values = dft_model_values(model, 0, &count);
  return dft_comm_bcast(comm, 0, values, count * sizeof *values);
}
