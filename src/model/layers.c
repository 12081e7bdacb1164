/* The table of layers: MobileNetV2(include_top=False, pooling=...) and the head. */
#include "dft/model.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 52 convolutions, each with its kernel and a BatchNorm of four; the head's two. 155 or 156 layers in the
 * base (an add more where channels match), and the head. */
enum { MAX_UNITS = 52, MAX_PARAMS = 5 * MAX_UNITS + 2, MAX_LAYERS = 160, MIN_SIZE = 32 };

static const struct {
  int filters, stride, expansion;
} blocks[] = {{16, 1, 1}, {24, 2, 6},  {24, 1, 6},  {32, 2, 6},  {32, 1, 6}, {32, 1, 6},
              {64, 2, 6}, {64, 1, 6},  {64, 1, 6},  {64, 1, 6},  {96, 1, 6}, {96, 1, 6},
              {96, 1, 6}, {160, 2, 6}, {160, 1, 6}, {160, 1, 6}, {320, 1, 6}};
enum { BLOCKS = sizeof blocks / sizeof blocks[0] };

/* Keras' _make_divisible with divisor 8. */
static int make_divisible(double v) {
  int rounded = (int)(v + 4) / 8 * 8;
  if (rounded < 8) rounded = 8;
  if (rounded < 0.9 * v) rounded += 8;
  return rounded;
}

/* Where the chain has got to while it is being built. */
typedef struct cursor {
  dft_model *m;
  int h, w, c;
} cursor;

static dft_layer *add_layer(cursor *at, dft_layer_kind kind, int unit, const char *prefix,
                            const char *suffix) {
  dft_layer *l = &at->m->layers[at->m->layer_count++];
  snprintf(l->name, sizeof l->name, "%s%s", prefix, suffix);
  l->kind = kind;
  l->out_h = at->h;
  l->out_w = at->w;
  l->out_c = at->c;
  l->unit = unit;
  l->first_param = at->m->param_count;
  return l;
}

static int add_param(dft_model *m, const char *variable, bool statistic, int rank, const int64_t *shape) {
  dft_param *p = &m->params[m->param_count];
  p->layer = m->layer_count - 1;
  p->variable = variable;
  p->statistic = statistic;
  p->rank = rank;
  p->elements = 1;
  for (int i = 0; i < rank; i++) {
    p->shape[i] = shape[i];
    p->elements *= shape[i];
  }
  m->layers[p->layer].params++;
  return m->param_count++;
}

static void add_batch_norm(cursor *at, int unit, const char *prefix, const char *suffix) {
  static const struct {
    const char *variable;
    bool statistic;
  } variables[] = {{"gamma", false}, {"beta", false}, {"moving_mean", true}, {"moving_variance", true}};
  dft_unit *u = &at->m->units[unit];
  u->bn_layer = at->m->layer_count;
  add_layer(at, DFT_LAYER_BATCH_NORM, unit, prefix, suffix);
  int first = at->m->param_count;
  for (int i = 0; i < 4; i++)
    add_param(at->m, variables[i].variable, variables[i].statistic, 1, &(int64_t){at->c});
  u->gamma = first;
  u->beta = first + 1;
  u->mean = first + 2;
  u->variance = first + 3;
}

/* A convolution and its BatchNorm (and ReLU6). The geometry of stride 2 is the same for Keras' 'same' stem
 * and for correct_pad + 'valid': an even size is padded after, an odd one on both sides. */
static void add_unit(cursor *at, dft_conv_kind kind, int channels, int stride, const char *prefix,
                     const char *const names[3], bool block_start) {
  dft_model *m = at->m;
  int unit = m->unit_count++;
  dft_unit *u = &m->units[unit];
  u->kind = kind;
  u->block_start = block_start;
  u->relu6 = names[2] != NULL;
  dft_conv *g = &u->conv;
  *g = (dft_conv){.in_h = at->h, .in_w = at->w, .in_channels = at->c, .channels = channels, .stride = stride};
  if (kind != DFT_POINTWISE) {
    g->pad_top = stride == 1 ? 1 : at->h % 2;
    g->pad_left = stride == 1 ? 1 : at->w % 2;
  }
  if (kind == DFT_DEPTHWISE && stride == 2) {
    at->h += 1 + g->pad_top;
    at->w += 1 + g->pad_left;
    add_layer(at, DFT_LAYER_PAD, unit, prefix, "pad");
  }
  u->in_elements = g->in_h * g->in_w * g->in_channels;
  at->h = g->out_h = (g->in_h + stride - 1) / stride;
  at->w = g->out_w = (g->in_w + stride - 1) / stride;
  at->c = channels;
  u->out_elements = at->h * at->w * at->c;
  u->conv_layer = m->layer_count;
  add_layer(at, kind == DFT_DEPTHWISE ? DFT_LAYER_DEPTHWISE : DFT_LAYER_CONV, unit, prefix, names[0]);
  int64_t size = kind == DFT_POINTWISE ? 1 : 3;
  u->kernel = kind == DFT_DEPTHWISE
                  ? add_param(m, "kernel", false, 4, (int64_t[]){3, 3, channels, 1})
                  : add_param(m, "kernel", false, 4, (int64_t[]){size, size, g->in_channels, channels});
  add_batch_norm(at, unit, prefix, names[1]);
  if (names[2] != NULL) add_layer(at, DFT_LAYER_RELU, unit, prefix, names[2]);
}

static void add_block(cursor *at, int id) {
  char prefix[24];
  if (id == 0)
    snprintf(prefix, sizeof prefix, "expanded_conv_");
  else
    snprintf(prefix, sizeof prefix, "block_%d_", id);
  int in = at->c;
  int out = make_divisible((int)(blocks[id].filters * at->m->alpha));
  if (id > 0)
    add_unit(at, DFT_POINTWISE, blocks[id].expansion * in, 1, prefix,
             (const char *[]){"expand", "expand_BN", "expand_relu"}, true);
  add_unit(at, DFT_DEPTHWISE, at->c, blocks[id].stride, prefix,
           (const char *[]){"depthwise", "depthwise_BN", "depthwise_relu"}, id == 0);
  add_unit(at, DFT_POINTWISE, out, 1, prefix, (const char *[]){"project", "project_BN", NULL}, false);
  if (in == out && blocks[id].stride == 1) {
    at->m->units[at->m->unit_count - 1].residual = true;
    add_layer(at, DFT_LAYER_ADD, at->m->unit_count - 1, prefix, "add");
  }
}

static void add_head(cursor *at) {
  dft_model *m = at->m;
  m->features = at->c;
  m->feature_pixels = at->h * at->w;
  at->h = at->w = 1;
  add_layer(at, DFT_LAYER_POOL, -1,
            m->pooling == DFT_POOL_AVG ? "global_average_pooling2d" : "global_max_pooling2d", "");
  m->base_layers = m->layer_count;
  at->c = m->classes;
  add_layer(at, DFT_LAYER_DENSE, -1, "predictions", "");
  m->head_kernel = add_param(m, "kernel", false, 2, (int64_t[]){m->features, m->classes});
  m->head_bias = add_param(m, "bias", false, 1, (int64_t[]){m->classes});
}

dft_status dft_model_new(double alpha, int height, int width, dft_pooling pooling, int classes,
                         dft_model **model) {
  *model = NULL;
  if (height < MIN_SIZE || width < MIN_SIZE)
    return dft_fail(DFT_EUSAGE, "model.input_shape: %dx%d is too small, MobileNetV2 needs at least %dx%d",
                    height, width, MIN_SIZE, MIN_SIZE);
  /* what block_1 expands to is the largest tensor of an image */
  const int channels = blocks[1].expansion * make_divisible(blocks[0].filters * alpha);
  const int64_t pixels = ((int64_t)height + 1) / 2 * (((int64_t)width + 1) / 2);
  if (pixels > INT_MAX / channels)
    return dft_fail(
        DFT_EUSAGE,
        "model.input_shape: %dx%d is too large: with model.alpha %g a layer would have %.2g values "
        "per image, at most %d are possible",
        height, width, alpha, (double)pixels * channels, INT_MAX);
  dft_model *m = calloc(1, sizeof *m);
  if (m == NULL) return dft_fail_memory("model", sizeof *m);
  m->arena = dft_arena_new();
  if (m->arena != NULL) {
    m->layers = dft_arena_alloc(m->arena, MAX_LAYERS * sizeof *m->layers);
    m->params = dft_arena_alloc(m->arena, MAX_PARAMS * sizeof *m->params);
    m->units = dft_arena_alloc(m->arena, MAX_UNITS * sizeof *m->units);
  }
  if (m->arena == NULL || m->layers == NULL || m->params == NULL || m->units == NULL) {
    dft_model_free(m);
    return dft_fail_memory("model", MAX_PARAMS * sizeof *m->params);
  }
  m->alpha = alpha;
  m->height = height;
  m->width = width;
  m->pooling = pooling;
  m->classes = classes;
  cursor at = {m, height, width, 3};
  add_layer(&at, DFT_LAYER_INPUT, -1, "input_layer", "");
  add_unit(&at, DFT_STEM, make_divisible(32 * alpha), 2, "",
           (const char *[]){"Conv1", "bn_Conv1", "Conv1_relu"}, true);
  for (int id = 0; id < BLOCKS; id++) add_block(&at, id);
  add_unit(&at, DFT_POINTWISE, alpha > 1.0 ? make_divisible(1280 * alpha) : 1280, 1, "",
           (const char *[]){"Conv_1", "Conv_1_bn", "out_relu"}, true);
  add_head(&at);
  size_t bytes = 0;
  for (int i = 0; i < m->param_count; i++) bytes += dft_param_floats(&m->params[i]) * sizeof(float);
  if (!dft_arena_reserve(m->arena, bytes)) {
    dft_model_free(m);
    return dft_fail_memory("parameters", bytes);
  }
  for (int i = 0; i < m->param_count; i++) {
    m->params[i].data = m->params[i].live = dft_arena_floats(m->arena, (size_t)m->params[i].elements);
    if (m->params[i].data == NULL) {
      dft_model_free(m);
      return dft_fail_memory("parameters", 0);
    }
  }
  *model = m;
  return DFT_OK;
}

void dft_model_free(dft_model *model) {
  if (model == NULL) return;
  dft_arena_free(model->arena);
  free(model);
}

const dft_layer *dft_model_layer(const dft_model *model, const char *name) {
  for (int i = 0; i < model->layer_count; i++)
    if (strcmp(model->layers[i].name, name) == 0) return &model->layers[i];
  return NULL;
}

int64_t dft_model_count(const dft_model *model, bool trainable_only) {
  int64_t count = 0;
  for (int i = 0; i < model->param_count; i++)
    if (!trainable_only || model->params[i].trainable) count += model->params[i].elements;
  return count;
}

int dft_model_first_param(const dft_model *model, int unit) {
  return unit == model->unit_count ? model->head_kernel : model->units[unit].kernel;
}

float *dft_model_values(const dft_model *model, int first, size_t *count) {
  const dft_param *last = &model->params[model->param_count - 1];
  *count = (size_t)(last->data + last->elements - model->params[first].data);
  return model->params[first].data;
}

void dft_model_place(dft_model *model, int first, float *values) {
  const float *from = model->params[first].data;
  for (int i = first; i < model->param_count; i++) {
    dft_param *p = &model->params[i];
    p->data = p->live = values + (p->data - from);
  }
}

const char *dft_layer_class(dft_layer_kind kind) {
  static const char *const names[] = {[DFT_LAYER_INPUT] = "InputLayer",
                                      [DFT_LAYER_CONV] = "Conv2D",
                                      [DFT_LAYER_DEPTHWISE] = "DepthwiseConv2D",
                                      [DFT_LAYER_BATCH_NORM] = "BatchNormalization",
                                      [DFT_LAYER_RELU] = "ReLU",
                                      [DFT_LAYER_PAD] = "ZeroPadding2D",
                                      [DFT_LAYER_ADD] = "Add",
                                      [DFT_LAYER_POOL] = "GlobalAveragePooling2D",
                                      [DFT_LAYER_DENSE] = "Dense"};
  return names[kind];
}

int64_t dft_model_boundary(const dft_model *model, int first) {
  return first == model->unit_count ? model->features : model->units[first].in_elements;
}
