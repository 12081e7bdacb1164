/* protobuf-c takes the file apart within a memory limit; then the nodes are gone through, and every number of
 * theirs is doubted. */
#include "dft/budget.h"
#include "dft/file.h"
#include "dft/onnx.h"
#include "dft/text.h"
#include "metadata.h"
#include "onnx.pb-c.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WEIGHTS_MAX = 4096, NAME_BYTES = 256 };

typedef struct reader {
  const char *name; /* of the file */
  const Onnx__GraphProto *graph;
  Onnx__TensorProto **tensors; /* the initializers that have a name, sorted by it */
  size_t tensor_count;
  const Onnx__NodeProto *node; /* under way */
  char layer[NAME_BYTES];      /* its name */
  float epsilon;
  int64_t float_bytes;
  int batch_norms;
  dft_weights *w;
} reader;

static dft_status bad(const reader *r, const char *what) {
  return dft_fail(DFT_EDATA, "%s: %s: %s", r->name, r->layer, what);
}

/* ---- initializers ---- */

static int compare_tensors(const void *a, const void *b) {
  const Onnx__TensorProto *x = *(Onnx__TensorProto *const *)a, *y = *(Onnx__TensorProto *const *)b;
  return strcmp(x->name, y->name);
}

static dft_status sort_tensors(reader *r) {
  r->tensors = malloc((r->graph->n_initializer + 1) * sizeof(Onnx__TensorProto *));
  if (r->tensors == NULL) return dft_fail_memory("ONNX weights", r->graph->n_initializer);
  for (size_t i = 0; i < r->graph->n_initializer; i++)
    if (r->graph->initializer[i]->name != NULL) r->tensors[r->tensor_count++] = r->graph->initializer[i];
  qsort(r->tensors, r->tensor_count, sizeof(Onnx__TensorProto *), compare_tensors);
  return DFT_OK;
}

/* The initializer that is the node's input, or NULL. */
static const Onnx__TensorProto *input_tensor(const reader *r, size_t input) {
  if (input >= r->node->n_input) return NULL;
  Onnx__TensorProto wanted = {.name = r->node->input[input]}, *key = &wanted;
  Onnx__TensorProto *const *found =
      bsearch(&key, r->tensors, r->tensor_count, sizeof(Onnx__TensorProto *), compare_tensors);
  return found != NULL ? *found : NULL;
}

/* Where the numbers are: bytes, and how many of them. */
static bool numbers_of(const Onnx__TensorProto *t, dft_number *type, const void **numbers, size_t *bytes) {
  switch (t->data_type) {
  case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
    *type = DFT_NUMBER_F32;
    *numbers = t->float_data;
    *bytes = t->n_float_data * sizeof(float);
    break;
  case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
    *type = DFT_NUMBER_F64;
    *numbers = t->double_data;
    *bytes = t->n_double_data * sizeof(double);
    break;
  case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16: /* each in the lower half of a whole number, else in raw_data
                                                */
  case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
    *type = t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16 ? DFT_NUMBER_F16 : DFT_NUMBER_BF16;
    *numbers = t->int32_data;
    *bytes = t->n_int32_data * sizeof(uint16_t);
    break;
  default:
    return false;
  }
  if (t->has_raw_data) {
    *numbers = t->raw_data.data;
    *bytes = t->raw_data.len;
  }
  return true;
}

/* Adds the node's weight with its own shape. */
static dft_status add_tensor(reader *r, const Onnx__TensorProto *t, const char *variable, size_t rank) {
  dft_number type;
  const void *numbers;
  size_t bytes;
  int64_t elements = 1;
  if (r->w->count == WEIGHTS_MAX) return bad(r, "comes after more weights than a MobileNetV2 has");
  if (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
    return bad(r, "its weights are in another file: save the model as one file");
  if (t->n_dims != rank) return bad(r, "a weight has another number of dimensions than such a node's");
  for (size_t i = 0; i < rank; i++) {
    if (t->dims[i] < 1 || t->dims[i] > DFT_WEIGHTS_BYTES_MAX / elements)
      return bad(r, "a weight's shape is no shape of weights");
    elements *= t->dims[i];
  }
  if (!numbers_of(t, &type, &numbers, &bytes))
    return bad(r, "a weight is of another type than FLOAT, FLOAT16, BFLOAT16 and DOUBLE");
  if (bytes != (size_t)elements * dft_number_bytes(type))
    return bad(r, "a weight's bytes do not fit its shape");
  r->float_bytes += elements * (int64_t)sizeof(float);
  if (r->float_bytes > DFT_WEIGHTS_BYTES_MAX) return bad(r, "with it there is more than 1 GiB of weights");
  if (dft_weights_find(r->w, r->layer, variable) != NULL) return bad(r, "two such nodes have this name");
  DFT_TRY(dft_weights_add(r->w, r->layer, variable, (int)rank, t->dims, NULL));
  float *values = r->w->tensors[r->w->count - 1].data;
  const bool halves = numbers == t->int32_data;
  for (int64_t i = 0; i < elements && halves; i++)
    dft_numbers_read(type, &(uint16_t){(uint16_t)t->int32_data[i]}, 1, &values[i]);
  if (!halves) dft_numbers_read(type, numbers, elements, values);
  return DFT_OK;
}

/* ---- nodes ---- */

static const Onnx__AttributeProto *attribute(const Onnx__NodeProto *n, const char *name) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (n->attribute[i]->name != NULL && strcmp(n->attribute[i]->name, name) == 0) return n->attribute[i];
  return NULL;
}

/* The last tensor from ONNX' [out][in][pixels] to Keras' [pixels][in][out], which gets `shape`. */
static dft_status to_keras(reader *r, int64_t out, int64_t in, int64_t pixels, const int64_t *shape) {
  dft_tensor *t = &r->w->tensors[r->w->count - 1];
  const size_t bytes = (size_t)(out * in * pixels) * sizeof(float);
  float *from = malloc(bytes);
  if (from == NULL) return dft_fail_memory("ONNX weights", bytes);
  memcpy(from, t->data, bytes);
  for (int64_t o = 0; o < out; o++)
    for (int64_t i = 0; i < in; i++)
      for (int64_t p = 0; p < pixels; p++) t->data[(p * in + i) * out + o] = from[(o * in + i) * pixels + p];
  free(from);
  memcpy(t->shape, shape, (size_t)t->rank * sizeof *shape);
  return DFT_OK;
}

/* MobileNetV2's convolutions have no bias; one of zeros is none. */
static dft_status drop_bias(reader *r, const Onnx__TensorProto *bias) {
  bool zeros = true;
  DFT_TRY(add_tensor(r, bias, "bias", 1));
  const dft_tensor *t = &r->w->tensors[r->w->count - 1];
  for (int64_t i = 0; i < t->shape[0]; i++) zeros = zeros && t->data[i] == 0;
  dft_weights_remove(r->w, r->w->count - 1);
  return zeros ? DFT_OK : bad(r, "a convolution with a bias, which MobileNetV2 has not: another network");
}

static dft_status read_convolution(reader *r) {
  const Onnx__TensorProto *kernel = input_tensor(r, 1), *bias = input_tensor(r, 2);
  const Onnx__AttributeProto *a = attribute(r->node, "group");
  const int64_t group = a != NULL ? a->i : 1;
  if (kernel == NULL) return bad(r, "its kernel is not among the graph's initializers");
  DFT_TRY(add_tensor(r, kernel, "kernel", 4));
  const int64_t *d = kernel->dims; /* [out][in][h][w] */
  if (group != 1 && (d[0] != group || d[1] != 1))
    return bad(r, "a grouped convolution that is no depthwise one");
  const int64_t conv[] = {d[2], d[3], d[1], d[0]}, depthwise[] = {d[2], d[3], d[0], 1};
  DFT_TRY(to_keras(r, d[0], d[1], d[2] * d[3], group != 1 ? depthwise : conv));
  return bias != NULL ? drop_bias(r, bias) : DFT_OK;
}

static dft_status read_batch_norm(reader *r) {
  static const char *const variables[] = {"gamma", "beta", "moving_mean", "moving_variance"};
  const Onnx__AttributeProto *a = attribute(r->node, "epsilon");
  const double epsilon = a != NULL ? (double)a->f : 1e-5; /* ONNX' default */
  if (!(fabs(epsilon - (double)r->epsilon) <= 1e-3 * (double)r->epsilon))
    return dft_fail(DFT_EDATA, "%s: %s: epsilon %g, Keras' MobileNetV2 has %g: another model's weights",
                    r->name, r->layer, epsilon, (double)r->epsilon);
  for (size_t i = 0; i < 4; i++) {
    const Onnx__TensorProto *t = input_tensor(r, i + 1);
    if (t == NULL) return bad(r, "a BatchNormalization whose weights are not among the graph's initializers");
    DFT_TRY(add_tensor(r, t, variables[i], 1));
  }
  r->batch_norms++;
  return DFT_OK;
}

static bool is_plain(const Onnx__NodeProto *gemm) {
  const Onnx__AttributeProto *alpha = attribute(gemm, "alpha"), *beta = attribute(gemm, "beta"),
                             *a = attribute(gemm, "transA");
  return (alpha == NULL || alpha->f == 1) && (beta == NULL || beta->f == 1) && (a == NULL || a->i == 0);
}

static dft_status read_dense(reader *r) {
  const Onnx__TensorProto *kernel = input_tensor(r, 1), *bias = input_tensor(r, 2);
  const Onnx__AttributeProto *a = attribute(r->node, "transB");
  if (kernel == NULL) return bad(r, "its kernel is not among the graph's initializers");
  if (!is_plain(r->node)) return bad(r, "a Gemm with alpha, beta or transA, which a Dense layer has not");
  DFT_TRY(add_tensor(r, kernel, "kernel", 2));
  const int64_t *d = kernel->dims;
  if (a != NULL && a->i != 0) DFT_TRY(to_keras(r, d[0], d[1], 1, (int64_t[]){d[1], d[0]}));
  if (bias != NULL) return add_tensor(r, bias, "bias", 1);
  const int64_t *shape = r->w->tensors[r->w->count - 1].shape;
  return dft_weights_add(r->w, r->layer, "bias", 1, &(int64_t){shape[1]}, NULL); /* zeros */
}

/* A name's length without the last part, which '/' or '.' begins. */
static size_t stem_length(const char *name) {
  const size_t length = strlen(name);
  for (size_t i = length; i > 0; i--)
    if (name[i - 1] == '/' || name[i - 1] == '.') return i - 1;
  return length;
}

static bool layer_is_taken(const reader *r) {
  for (int i = 0; i < r->w->count; i++)
    if (strcmp(r->w->tensors[i].layer, r->layer) == 0) return true;
  return false;
}

static void set_layer(reader *r, const char *name, size_t length, const char *end) {
  const size_t room = NAME_BYTES - 1 - strlen(end);
  snprintf(r->layer, NAME_BYTES, "%.*s%s", (int)(length < room ? length : room), name, end);
  dft_no_controls(r->layer);
}

/* The node's name, or its weight's without the last part, and where that is taken (nodes that share a weight)
 * with the node's number. */
static void name_layer(reader *r, size_t number) {
  const Onnx__NodeProto *n = r->node;
  const bool named = n->name != NULL && n->name[0] != '\0';
  const char *name = named ? n->name : n->n_input > 1 ? n->input[1] : "";
  const size_t length = named ? strlen(name) : stem_length(name);
  char end[24];
  set_layer(r, name, length, "");
  if (named || !layer_is_taken(r)) return;
  snprintf(end, sizeof end, "#%zu", number);
  set_layer(r, name, length, end);
}

static dft_status read_nodes(reader *r) {
  static const struct {
    const char *op;
    dft_status (*read)(reader *);
  } kinds[] = {{"Conv", read_convolution}, {"BatchNormalization", read_batch_norm}, {"Gemm", read_dense}};
  for (size_t i = 0; i < r->graph->n_node; i++) {
    r->node = r->graph->node[i];
    name_layer(r, i);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
      if (r->node->op_type != NULL && strcmp(r->node->op_type, kinds[k].op) == 0) DFT_TRY(kinds[k].read(r));
  }
  if (r->w->count == 0) return dft_fail(DFT_EDATA, "%s: an ONNX graph without convolutions", r->name);
  if (r->batch_norms > 0) return DFT_OK;
  return dft_fail(
      DFT_EDATA,
      "%s: its BatchNormalization is folded into the convolutions, where training cannot go on from: "
      "export the model without that (in training mode)",
      r->name);
}

static dft_status read_model(reader *r, const Onnx__ModelProto *model) {
  if (model->graph == NULL) return dft_fail(DFT_EDATA, "%s: an ONNX file without a graph", r->name);
  r->graph = model->graph;
  DFT_TRY(sort_tensors(r));
  DFT_TRY(read_nodes(r));
  for (size_t i = 0; i < model->n_metadata_props; i++) {
    const Onnx__StringStringEntryProto *p = model->metadata_props[i];
    if (p->key != NULL && p->value != NULL && strcmp(p->key, DFT_CLASS_NAMES_KEY) == 0 &&
        r->w->class_names == NULL)
      DFT_TRY(dft_class_names_parse(r->name, p->value, r->w));
  }
  return DFT_OK;
}

dft_status dft_onnx_decode(const char *name, const unsigned char *bytes, size_t count, float epsilon,
                           dft_weights *w) {
  *w = (dft_weights){0};
  if (count > INT32_MAX) return dft_fail(DFT_EDATA, "%s: %zu bytes are too many for a protobuf", name, count);
  dft_budget memory = dft_budget_for_protobuf(count);
  ProtobufCAllocator allocator = {dft_budget_alloc, dft_budget_free, &memory};
  Onnx__ModelProto *model = onnx__model_proto__unpack(&allocator, count, bytes);
  if (model == NULL && memory.out_of_memory) return dft_fail_memory(name, 0);
  if (model == NULL) return dft_fail(DFT_EDATA, "%s: truncated or damaged, or no ONNX file", name);
  reader r = {.name = name, .epsilon = epsilon, .w = w};
  dft_status status = read_model(&r, model);
  free(r.tensors);
  onnx__model_proto__free_unpacked(model, &allocator);
  if (status != DFT_OK) dft_weights_free(w);
  return status;
}

dft_status dft_onnx_read(const char *path, float epsilon, dft_weights *w) {
  unsigned char *bytes;
  size_t count;
  *w = (dft_weights){0};
  DFT_TRY(dft_read_file(path, INT32_MAX, &bytes, &count));
  dft_status status = dft_onnx_decode(path, bytes, count, epsilon, w);
  free(bytes);
  return status;
}
