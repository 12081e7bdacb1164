/* `dft export`: a checkpoint's model in other programs' formats, by the output's name. */
#include "dft/onnx.h"
#include "dft/safetensors.h"
#include "dft/text.h"
#include "train.h"
#include <stdlib.h>
#include <string.h>

static const struct {
  const char *suffix;
  dft_file_kind kind;
} formats[] = {{".weights.h5", DFT_FILE_KERAS_WEIGHTS_H5}, /* before .h5, whose suffix it has */
               {".h5", DFT_FILE_KERAS_H5},
               {".pb", DFT_FILE_CHECKPOINT},
               {".safetensors", DFT_FILE_SAFETENSORS},
               {".onnx", DFT_FILE_ONNX}};

static dft_status kind_of(const char *output, dft_file_kind *kind) {
  for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
    if (!dft_ends_in(output, formats[i].suffix)) continue;
    *kind = formats[i].kind;
    return DFT_OK;
  }
  return dft_fail(DFT_EUSAGE, "%s: the name must end in .weights.h5, .h5, .safetensors, .onnx or .pb",
                  output);
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

/* What the tensors do not say: how the model's input is made. */
enum { PROPERTIES = 3 };
static void properties_of(const dft_state *s, dft_property properties[PROPERTIES]) {
  properties[0] = (dft_property){"model", s->model_name};
  properties[1] = (dft_property){"preprocessing", s->preprocessing};
  properties[2] = (dft_property){"resize", s->resize};
}

static dft_status export_safetensors(const dft_state *s, const char *output) {
  dft_property properties[PROPERTIES];
  properties_of(s, properties);
  return dft_safetensors_write(output, &s->weights, properties, PROPERTIES);
}

/* A convolution with its zeros around, those that the pad layer before it adds among them. */
static void describe_convolution(const dft_conv *c, bool pointwise, dft_onnx_layer *to) {
  to->stride = c->stride;
  if (pointwise) return;
  const int pads[] = {c->pad_top, c->pad_left, (c->out_h - 1) * c->stride + 3 - c->in_h - c->pad_top,
                      (c->out_w - 1) * c->stride + 3 - c->in_w - c->pad_left};
  memcpy(to->pads, pads, sizeof pads);
}

/* The layer that made what a residual block began with. */
static const char *block_input(const dft_model *m, int unit) {
  while (!m->units[unit].block_start) unit--;
  return m->layers[m->units[unit].conv_layer - 1].name;
}

/* False for what is no node: the input, and padding, which belongs to the convolution after it. */
static bool describe_layer(const dft_model *m, const dft_layer *l, dft_onnx_layer *to) {
  static const int ops[] = {
      [DFT_LAYER_INPUT] = -1,
      [DFT_LAYER_PAD] = -1,
      [DFT_LAYER_CONV] = DFT_ONNX_CONV,
      [DFT_LAYER_DEPTHWISE] = DFT_ONNX_DEPTHWISE,
      [DFT_LAYER_BATCH_NORM] = DFT_ONNX_BATCH_NORM,
      [DFT_LAYER_RELU] = DFT_ONNX_RELU6,
      [DFT_LAYER_ADD] = DFT_ONNX_ADD,
      [DFT_LAYER_POOL] = DFT_ONNX_POOL_AVG,
      [DFT_LAYER_DENSE] = DFT_ONNX_DENSE,
  };
  if (ops[l->kind] < 0) return false;
  *to = (dft_onnx_layer){.name = l->name, .op = (dft_onnx_op)ops[l->kind]};
  if (l->kind == DFT_LAYER_CONV || l->kind == DFT_LAYER_DEPTHWISE)
    describe_convolution(&m->units[l->unit].conv, m->units[l->unit].kind == DFT_POINTWISE, to);
  if (l->kind == DFT_LAYER_ADD) to->added = block_input(m, l->unit);
  if (l->kind == DFT_LAYER_POOL && m->pooling == DFT_POOL_MAX) to->op = DFT_ONNX_POOL_MAX;
  return true;
}

static dft_status export_onnx(const dft_state *s, const dft_model *m, const char *output, int layers) {
  dft_property properties[PROPERTIES];
  dft_onnx_layer *list = calloc((size_t)layers, sizeof *list);
  if (list == NULL) return dft_fail_memory("layers", 0);
  int count = 0;
  for (int i = 0; i < layers; i++) count += describe_layer(m, &m->layers[i], &list[count]);
  properties_of(s, properties);
  const dft_onnx_model onnx = {.name = s->model_name,
                               .height = m->height,
                               .width = m->width,
                               .epsilon = DFT_BN_EPSILON,
                               .layers = list,
                               .layer_count = count,
                               .properties = properties,
                               .property_count = PROPERTIES};
  dft_status status = dft_onnx_write(output, &onnx, &s->weights);
  free(list);
  return status;
}

/* The model alone: no optimizer, no position, no history. */
static dft_status export_checkpoint(dft_state *s, const char *output) {
  dft_weights_free(&s->slots);
  s->slots = (dft_weights){0};
  for (int i = 0; i < s->history_count; i++) free(s->history[i].phase);
  s->history_count = 0;
  s->iterations = s->at.step = s->at.position = 0;
  s->at.loss_sum = s->at.correct_sum = s->at.count_sum = 0;
  s->at.left_out = s->at.skipped = 0;
  return dft_state_write(s, output);
}

static void drop_head(dft_weights *w, const dft_model *m) {
  for (int i = w->count - 1; i >= 0; i--)
    if (strcmp(w->tensors[i].layer, m->layers[m->base_layers].name) == 0) dft_weights_remove(w, i);
}

static dft_status export_as(dft_file_kind kind, dft_state *s, const dft_model *m, const char *output,
                            int layers) {
  switch (kind) {
  case DFT_FILE_CHECKPOINT:
    return export_checkpoint(s, output);
  case DFT_FILE_SAFETENSORS:
    return export_safetensors(s, output);
  case DFT_FILE_ONNX:
    return export_onnx(s, m, output, layers);
  default:
    return export_keras(s, m, output, kind, layers);
  }
}

dft_status dft_export(const char *checkpoint, const char *output, bool head) {
  dft_file_kind kind = DFT_FILE_UNKNOWN;
  DFT_TRY(kind_of(output, &kind));
  DFT_TRY(dft_no_overwrite_input(output, checkpoint));
  DFT_TRY(dft_no_overwrite_checkpoint(output));
  dft_state state = {0};
  dft_model *model = NULL;
  dft_status status = dft_state_read(checkpoint, &state);
  if (status == DFT_OK) status = dft_model_of_state(&state, checkpoint, head, &model);
  if (status == DFT_OK && !head) drop_head(&state.weights, model);
  if (status == DFT_OK)
    status = export_as(kind, &state, model, output, head ? model->layer_count : model->base_layers);
  dft_model_free(model);
  dft_state_free(&state);
  return status;
}
