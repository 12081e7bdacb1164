#include "dft/model.h"
#include <stdio.h>
#include <string.h>

static bool same_shape(const dft_param *p, const dft_tensor *t) {
  if (p->rank != t->rank) return false;
  for (int i = 0; i < p->rank; i++)
    if (p->shape[i] != t->shape[i]) return false;
  return true;
}

static void shape_text(int rank, const int64_t *shape, char *text, size_t bytes) {
  size_t used = (size_t)snprintf(text, bytes, "[");
  for (int i = 0; i < rank && used < bytes; i++)
    used += (size_t)snprintf(text + used, bytes - used, "%s%lld", i ? "," : "", (long long)shape[i]);
  if (used < bytes) snprintf(text + used, bytes - used, "]");
}

static dft_status misshapen(const dft_model *m, const dft_param *p, const dft_tensor *t, const char *path) {
  char want[64], got[64];
  shape_text(p->rank, p->shape, want, sizeof want);
  shape_text(t->rank, t->shape, got, sizeof got);
  return dft_fail(DFT_EDATA, "%s: %s/%s has shape %s, the model needs %s: check model.alpha", path,
                  m->layers[p->layer].name, p->variable, got, want);
}

static bool is_head(const dft_model *m, const dft_param *p) {
  return p->layer == m->base_layers;
}

/* Kinds of tensors for binding by order: within one kind, the n-th of the file is the n-th of the model. */
enum {
  CONV_KERNEL,
  DEPTHWISE_KERNEL,
  BN_GAMMA,
  BN_BETA,
  BN_MEAN,
  BN_VARIANCE,
  DENSE_KERNEL,
  DENSE_BIAS,
  KINDS
};

static int kind_of(const char *variable, int rank, const int64_t *shape) {
  if (rank == 4) return shape[0] == 3 && shape[3] == 1 ? DEPTHWISE_KERNEL : CONV_KERNEL;
  if (rank == 2) return DENSE_KERNEL;
  static const struct {
    const char *variable;
    int kind;
  } vectors[] = {{"gamma", BN_GAMMA},
                 {"beta", BN_BETA},
                 {"moving_mean", BN_MEAN},
                 {"moving_variance", BN_VARIANCE},
                 {"bias", DENSE_BIAS}};
  for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
    if (strcmp(variable, vectors[i].variable) == 0) return vectors[i].kind;
  return -1;
}

static const dft_tensor *nth_of_kind(const dft_weights *file, int kind, int n) {
  for (int i = 0; i < file->count; i++) {
    const dft_tensor *t = &file->tensors[i];
    if (kind_of(t->variable, t->rank, t->shape) == kind && n-- == 0) return t;
  }
  return NULL;
}

/* Whether a file goes by names: most of the base's are there. A few may be chance ("Conv_1"), or what is
 * missing from a file that does. */
static bool names_fit(const dft_model *m, const dft_weights *file) {
  int found = 0, wanted = 0;
  for (int i = 0; i < m->param_count; i++) {
    if (is_head(m, &m->params[i])) continue;
    wanted++;
    found += dft_weights_find(file, m->layers[m->params[i].layer].name, m->params[i].variable) != NULL;
  }
  return 2 * found > wanted;
}

static const dft_tensor *find(const dft_model *m, const dft_param *p, const dft_weights *file, bool by_order,
                              int nth[KINDS]) {
  if (!by_order) return dft_weights_find(file, m->layers[p->layer].name, p->variable);
  int kind = kind_of(p->variable, p->rank, p->shape);
  return nth_of_kind(file, kind, nth[kind]++);
}

/* A file with classes of its own fits only when they are ours, in our order. */
static bool classes_fit(const dft_model *m, const dft_weights *file, const char *const *class_names) {
  if (file->class_names == NULL || class_names == NULL) return true;
  if (file->classes != m->classes) return false;
  for (int i = 0; i < m->classes; i++)
    if (strcmp(file->class_names[i], class_names[i]) != 0) return false;
  return true;
}

/* The layer of the head's name; else, as Keras names a Dense that has none given "dense" or "dense_4", the
 * last one of the file, or its only one where order means nothing. */
static void find_head(const dft_model *m, const dft_weights *file, const dft_tensor *head[2]) {
  const char *layer = m->layers[m->base_layers].name;
  int dense = 0;
  head[0] = dft_weights_find(file, layer, "kernel");
  head[1] = dft_weights_find(file, layer, "bias");
  if (head[0] != NULL || head[1] != NULL) return;
  for (int i = 0; i < file->count; i++) {
    const dft_tensor *t = &file->tensors[i];
    if (kind_of(t->variable, t->rank, t->shape) != DENSE_KERNEL) continue;
    head[0] = t;
    dense++;
  }
  if (file->unordered && dense > 1) head[0] = NULL;
  if (head[0] != NULL) head[1] = dft_weights_find(file, head[0]->layer, "bias");
}

static bool makes_features(const dft_model *m, const char *variable, int rank, const int64_t *shape) {
  return kind_of(variable, rank, shape) >= 0 && shape[rank - 1] == m->features;
}

/* Whether the file has layers as wide as the features beside the base's: the head was trained on what they
 * make of these. (Another head beside it is none.) */
static bool has_layers_between(const dft_model *m, const dft_weights *file, const dft_tensor *head) {
  int more = 0;
  for (int i = 0; i < file->count; i++) {
    const dft_tensor *t = &file->tensors[i];
    more += strcmp(t->layer, head->layer) != 0 && makes_features(m, t->variable, t->rank, t->shape);
  }
  for (int i = 0; i < m->param_count; i++) {
    const dft_param *p = &m->params[i];
    more -= !is_head(m, p) && makes_features(m, p->variable, p->rank, p->shape);
  }
  return more > 0;
}

static void bind_head(dft_model *m, const dft_weights *file, const char *const *class_names,
                      const dft_tensor *kernel, const dft_tensor *bias, dft_bind_result *result) {
  dft_param *k = &m->params[m->head_kernel], *b = &m->params[m->head_bias];
  if (kernel == NULL)
    result->head_why = "the file has no head";
  else if (bias == NULL)
    result->head_why = "the file's head has no bias";
  else if (!same_shape(k, kernel) || !same_shape(b, bias))
    result->head_why = "the file's head has another shape";
  else if (!classes_fit(m, file, class_names))
    result->head_why = "the file's head is for other classes";
  else if (has_layers_between(m, file, kernel))
    result->head_why = "the file's head was trained with layers that this network lacks";
  else {
    memcpy(k->data, kernel->data, (size_t)k->elements * sizeof(float));
    memcpy(b->data, bias->data, (size_t)b->elements * sizeof(float));
    snprintf(result->head_layer, sizeof result->head_layer, "%s", kernel->layer);
    result->head = true;
  }
}

dft_status dft_model_bind(dft_model *model, const dft_weights *file, const char *path,
                          const char *const *class_names, dft_bind_result *result) {
  *result = (dft_bind_result){.by_order = !names_fit(model, file)};
  if (result->by_order && file->unordered)
    return dft_fail(DFT_EDATA, "%s: no tensor is named like one of MobileNetV2's in Keras, as Conv1/kernel",
                    path);
  int nth[KINDS] = {0};
  const dft_tensor *head[2];
  for (int i = 0; i < model->param_count; i++) {
    dft_param *p = &model->params[i];
    if (is_head(model, p)) continue;
    const dft_tensor *t = find(model, p, file, result->by_order, nth);
    if (t == NULL)
      return dft_fail(DFT_EDATA, "%s: no tensor for %s/%s: not the weights of a MobileNetV2", path,
                      model->layers[p->layer].name, p->variable);
    if (!same_shape(p, t)) return misshapen(model, p, t, path);
    memcpy(p->data, t->data, (size_t)p->elements * sizeof(float));
    result->bound++;
  }
  find_head(model, file, head);
  bind_head(model, file, class_names, head[0], head[1], result);
  return DFT_OK;
}

dft_status dft_model_export(const dft_model *model, int first, dft_weights *weights) {
  size_t floats = 0;
  for (int i = first; i < model->param_count; i++) floats += dft_param_floats(&model->params[i]);
  if (weights->count == 0) DFT_TRY(dft_weights_reserve(weights, floats * sizeof(float)));
  for (int i = 0; i < model->param_count; i++) {
    const dft_param *p = &model->params[i];
    const char *layer = model->layers[p->layer].name;
    DFT_TRY(dft_weights_put(weights, i, layer, p->variable, p->rank, p->shape, p->data, i < first));
  }
  return DFT_OK;
}
