/* The graph is built as protobuf-c's structs over one arena, then packed. */
#include "dft/arena.h"
#include "dft/file.h"
#include "dft/onnx.h"
#include "dft/version.h"
#include "metadata.h"
#include "onnx.pb-c.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* IR 7 came with opset 13 (onnx 1.8, 2020): old enough for every runtime in use. */
enum { IR_VERSION = 7, OPSET = 13 };
enum { INPUTS = 5, ATTRIBUTES = 4, INTS = 4, NAME_BYTES = 128, NCHW = 4, PROPERTIES_MAX = 16 };

/* Nodes besides the layers': the transposition before them; a layer is at most pooling and flattening, or
 * product and softmax. Tensors: at most four a layer, and the clamp's bounds. */
enum { NODES_PER_LAYER = 2, TENSORS_PER_LAYER = 4, BOUNDS = 2 };

typedef struct node {
  Onnx__NodeProto proto;
  Onnx__AttributeProto attributes[ATTRIBUTES], *attribute_list[ATTRIBUTES];
  int64_t ints[ATTRIBUTES][INTS];
  char *inputs[INPUTS], *output;
} node;

typedef struct initializer {
  Onnx__TensorProto proto;
  int64_t dims[DFT_MAX_RANK];
  char name[NAME_BYTES];
} initializer;

typedef struct builder {
  const dft_weights *w;
  const dft_onnx_model *model;
  dft_arena *arena;
  node *nodes;
  Onnx__NodeProto **node_list;
  initializer *tensors;
  Onnx__TensorProto **tensor_list;
  int node_count, tensor_count;
  const char *value; /* what the next layer reads */
  int64_t channels;  /* of it */
} builder;

/* protobuf-c's texts are char *, and it does not write to them. */
static char *text(const char *constant) {
  union {
    const char *from;
    char *to;
  } same = {constant};
  return same.to;
}

/* ---- nodes ---- */

static node *add_node(builder *b, const char *op, const char *name, const char *output) {
  node *n = &b->nodes[b->node_count];
  b->node_list[b->node_count++] = &n->proto;
  onnx__node_proto__init(&n->proto);
  n->proto.name = text(name);
  n->proto.op_type = text(op);
  n->proto.input = n->inputs;
  n->output = text(output);
  n->proto.output = &n->output;
  n->proto.n_output = 1;
  n->proto.attribute = n->attribute_list;
  return n;
}

static void add_input(node *n, const char *value) {
  n->inputs[n->proto.n_input++] = text(value);
}

static Onnx__AttributeProto *add_attribute(node *n, const char *name,
                                           Onnx__AttributeProto__AttributeType type) {
  Onnx__AttributeProto *a = &n->attributes[n->proto.n_attribute];
  n->attribute_list[n->proto.n_attribute++] = a;
  onnx__attribute_proto__init(a);
  a->name = text(name);
  a->has_type = true;
  a->type = type;
  return a;
}

static void add_int(node *n, const char *name, int64_t value) {
  Onnx__AttributeProto *a = add_attribute(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
  a->has_i = true;
  a->i = value;
}

static void add_ints(node *n, const char *name, int count, const int values[]) {
  int64_t *ints = n->ints[n->proto.n_attribute];
  Onnx__AttributeProto *a = add_attribute(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
  for (int i = 0; i < count; i++) ints[i] = values[i];
  a->ints = ints;
  a->n_ints = (size_t)count;
}

static void add_float(node *n, const char *name, float value) {
  Onnx__AttributeProto *a = add_attribute(n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
  a->has_f = true;
  a->f = value;
}

/* ---- tensors ---- */

static initializer *add_values(builder *b, const char *name, int rank, const int64_t *dims,
                               const float *values) {
  initializer *t = &b->tensors[b->tensor_count];
  b->tensor_list[b->tensor_count++] = &t->proto;
  onnx__tensor_proto__init(&t->proto);
  size_t bytes = sizeof *values;
  for (int i = 0; i < rank; i++) {
    t->dims[i] = dims[i];
    bytes *= (size_t)dims[i];
  }
  snprintf(t->name, sizeof t->name, "%s", name);
  t->proto.name = t->name;
  t->proto.dims = t->dims;
  t->proto.n_dims = (size_t)rank;
  t->proto.has_data_type = true;
  t->proto.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
  t->proto.has_raw_data = true;
  union {
    const float *from;
    uint8_t *to;
  } same = {values}; /* not written to either */
  t->proto.raw_data = (ProtobufCBinaryData){.len = bytes, .data = same.to};
  return t;
}

/* Keras' [h][w][in][out] to ONNX' [out][in][h][w]; depthwise [h][w][c][1] to [c][1][h][w]. */
static float *transposed(builder *b, const dft_tensor *t, bool depthwise, int64_t dims[DFT_MAX_RANK]) {
  const int64_t pixels = t->shape[0] * t->shape[1];
  const int64_t in = depthwise ? 1 : t->shape[2], out = depthwise ? t->shape[2] : t->shape[3];
  memcpy(dims, (int64_t[]){out, in, t->shape[0], t->shape[1]}, DFT_MAX_RANK * sizeof *dims);
  float *to = dft_arena_floats(b->arena, (size_t)dft_tensor_elements(t));
  for (int64_t o = 0; to != NULL && o < out; o++)
    for (int64_t i = 0; i < in; i++)
      for (int64_t p = 0; p < pixels; p++) to[(o * in + i) * pixels + p] = t->data[(p * in + i) * out + o];
  return to;
}

/* A layer's tensor as the node's next input. */
static dft_status add_weight(builder *b, node *n, const dft_onnx_layer *layer, const char *variable) {
  char name[NAME_BYTES];
  const dft_tensor *t = dft_weights_find(b->w, layer->name, variable);
  if (t == NULL) return dft_fail(DFT_EINTERNAL, "ONNX: %s has no %s", layer->name, variable);
  snprintf(name, sizeof name, "%s/%s", t->layer, t->variable);
  int64_t dims[DFT_MAX_RANK];
  memcpy(dims, t->shape, sizeof dims);
  const float *values = t->data;
  if (t->rank == 4) values = transposed(b, t, layer->op == DFT_ONNX_DEPTHWISE, dims);
  if (values == NULL) return dft_fail_memory("ONNX weights", 0);
  initializer *added = add_values(b, name, t->rank, dims, values);
  add_input(n, added->name);
  if (layer->op != DFT_ONNX_BATCH_NORM) b->channels = t->shape[t->rank - 1];
  return DFT_OK;
}

/* ---- layers ---- */

static dft_status add_convolution(builder *b, const dft_onnx_layer *l) {
  const bool depthwise = l->op == DFT_ONNX_DEPTHWISE;
  const dft_tensor *kernel = dft_weights_find(b->w, l->name, "kernel");
  if (kernel == NULL || kernel->rank != 4)
    return dft_fail(DFT_EINTERNAL, "ONNX: %s has no kernel of 4 dimensions", l->name);
  const int64_t channels = depthwise ? kernel->shape[2] : kernel->shape[3];
  const int size[] = {(int)kernel->shape[0], (int)kernel->shape[1]}, strides[] = {l->stride, l->stride};
  node *n = add_node(b, "Conv", l->name, l->name);
  add_input(n, b->value);
  add_ints(n, "kernel_shape", 2, size);
  add_ints(n, "strides", 2, strides);
  add_ints(n, "pads", 4, l->pads);
  add_int(n, "group", depthwise ? channels : 1);
  DFT_TRY(add_weight(b, n, l, "kernel"));
  b->channels = channels;
  return DFT_OK;
}

static dft_status add_batch_norm(builder *b, const dft_onnx_layer *l) {
  static const char *const variables[] = {"gamma", "beta", "moving_mean", "moving_variance"};
  node *n = add_node(b, "BatchNormalization", l->name, l->name);
  add_input(n, b->value);
  add_float(n, "epsilon", b->model->epsilon);
  for (int i = 0; i < 4; i++) DFT_TRY(add_weight(b, n, l, variables[i]));
  return DFT_OK;
}

static dft_status add_dense(builder *b, const dft_onnx_layer *l) {
  node *product = add_node(b, "Gemm", l->name, "logits");
  add_input(product, b->value);
  DFT_TRY(add_weight(b, product, l, "kernel"));
  DFT_TRY(add_weight(b, product, l, "bias"));
  node *softmax = add_node(b, "Softmax", "softmax", l->name);
  add_input(softmax, "logits");
  add_int(softmax, "axis", 1);
  return DFT_OK;
}

static void add_pooling(builder *b, const dft_onnx_layer *l) {
  node *pool =
      add_node(b, l->op == DFT_ONNX_POOL_MAX ? "GlobalMaxPool" : "GlobalAveragePool", l->name, "pooled");
  add_input(pool, b->value);
  node *flat = add_node(b, "Flatten", "flatten", l->name);
  add_input(flat, "pooled");
  add_int(flat, "axis", 1);
}

static dft_status add_layer(builder *b, const dft_onnx_layer *l) {
  node *n;
  dft_status status = DFT_OK;
  switch (l->op) {
  case DFT_ONNX_CONV:
  case DFT_ONNX_DEPTHWISE:
    status = add_convolution(b, l);
    break;
  case DFT_ONNX_BATCH_NORM:
    status = add_batch_norm(b, l);
    break;
  case DFT_ONNX_RELU6:
    n = add_node(b, "Clip", l->name, l->name);
    add_input(n, b->value);
    for (int i = 0; i < BOUNDS; i++) add_input(n, b->tensors[i].name);
    break;
  case DFT_ONNX_ADD:
    n = add_node(b, "Add", l->name, l->name);
    add_input(n, l->added);
    add_input(n, b->value);
    break;
  case DFT_ONNX_POOL_AVG:
  case DFT_ONNX_POOL_MAX:
    add_pooling(b, l);
    break;
  case DFT_ONNX_DENSE:
    status = add_dense(b, l);
    break;
  }
  b->value = l->name;
  return status;
}

static dft_status add_layers(builder *b) {
  static const float bounds[BOUNDS] = {0, 6};
  static const int to_nchw[NCHW] = {0, 3, 1, 2};
  add_values(b, "relu6/min", 0, NULL, &bounds[0]); /* tensors[0] and [1] */
  add_values(b, "relu6/max", 0, NULL, &bounds[1]);
  node *n = add_node(b, "Transpose", "to_nchw", "nchw");
  add_input(n, "image");
  add_ints(n, "perm", NCHW, to_nchw);
  b->value = "nchw";
  for (int i = 0; i < b->model->layer_count; i++) DFT_TRY(add_layer(b, &b->model->layers[i]));
  return DFT_OK;
}

/* ---- the file ---- */

/* An input or output of the graph: float32, its first dimension any number of images. */
typedef struct port {
  Onnx__ValueInfoProto proto, *list[1];
  Onnx__TypeProto type;
  Onnx__TypeProto__Tensor tensor;
  Onnx__TensorShapeProto shape;
  Onnx__TensorShapeProto__Dimension dims[NCHW], *dim_list[NCHW];
} port;

static void make_port(port *p, const char *name, const char *says, int rank, const int64_t *sizes) {
  onnx__value_info_proto__init(&p->proto);
  onnx__type_proto__init(&p->type);
  onnx__type_proto__tensor__init(&p->tensor);
  onnx__tensor_shape_proto__init(&p->shape);
  for (int i = 0; i < rank; i++) {
    onnx__tensor_shape_proto__dimension__init(&p->dims[i]);
    p->dim_list[i] = &p->dims[i];
    p->dims[i].value_case = i == 0 ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM
                                   : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    if (i == 0)
      p->dims[i].dim_param = text("batch");
    else
      p->dims[i].dim_value = sizes[i];
  }
  p->shape.dim = p->dim_list;
  p->shape.n_dim = (size_t)rank;
  p->tensor.has_elem_type = true;
  p->tensor.elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
  p->tensor.shape = &p->shape;
  p->type.value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
  p->type.tensor_type = &p->tensor;
  p->proto.name = text(name);
  p->proto.type = &p->type;
  p->proto.doc_string = text(says);
  p->list[0] = &p->proto;
}

static dft_status write_packed(const char *path, const Onnx__ModelProto *model) {
  const size_t bytes = onnx__model_proto__get_packed_size(model);
  uint8_t *packed = malloc(bytes);
  if (packed == NULL) return dft_fail_memory("ONNX file", bytes);
  onnx__model_proto__pack(model, packed);
  dft_status status = dft_write_file(path, packed, bytes);
  free(packed);
  return status;
}

static dft_status write_graph(const char *path, const builder *b, const char *class_names) {
  const dft_onnx_model *m = b->model;
  port in, out;
  make_port(&in, "image", "RGB, as the model takes it: after the preprocessing of the metadata", NCHW,
            (int64_t[]){0, m->height, m->width, 3});
  make_port(&out, b->value, "", 2, (int64_t[]){0, b->channels});
  Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
  graph.name = text(m->name);
  graph.n_node = (size_t)b->node_count;
  graph.node = b->node_list;
  graph.n_initializer = (size_t)b->tensor_count;
  graph.initializer = b->tensor_list;
  graph.n_input = graph.n_output = 1;
  graph.input = in.list;
  graph.output = out.list;
  Onnx__StringStringEntryProto entries[PROPERTIES_MAX], *entry_list[PROPERTIES_MAX];
  int count = 0;
  for (int i = 0; i < m->property_count + (class_names != NULL) && i < PROPERTIES_MAX; i++) {
    const bool ours = i < m->property_count;
    onnx__string_string_entry_proto__init(&entries[i]);
    entries[i].key = text(ours ? m->properties[i].name : DFT_CLASS_NAMES_KEY);
    entries[i].value = text(ours ? m->properties[i].value : class_names);
    entry_list[count++] = &entries[i];
  }
  Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opset_list[] = {&opset};
  opset.domain = text("");
  opset.has_version = true;
  opset.version = OPSET;
  Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
  model.has_ir_version = true;
  model.ir_version = IR_VERSION;
  model.producer_name = text("dft");
  model.producer_version = text(DFT_VERSION);
  model.graph = &graph;
  model.n_opset_import = 1;
  model.opset_import = opset_list;
  model.n_metadata_props = (size_t)count;
  model.metadata_props = entry_list;
  return write_packed(path, &model);
}

static bool open_builder(builder *b) {
  const size_t layers = (size_t)b->model->layer_count;
  const size_t nodes = 1 + NODES_PER_LAYER * layers, tensors = BOUNDS + TENSORS_PER_LAYER * layers;
  b->arena = dft_arena_new();
  if (b->arena == NULL) return false;
  b->nodes = dft_arena_alloc(b->arena, nodes * sizeof *b->nodes);
  b->node_list = dft_arena_alloc(b->arena, nodes * sizeof(Onnx__NodeProto *));
  b->tensors = dft_arena_alloc(b->arena, tensors * sizeof *b->tensors);
  b->tensor_list = dft_arena_alloc(b->arena, tensors * sizeof(Onnx__TensorProto *));
  return b->nodes != NULL && b->node_list != NULL && b->tensors != NULL && b->tensor_list != NULL;
}

dft_status dft_onnx_write(const char *path, const dft_onnx_model *model, const dft_weights *w) {
  builder b = {.w = w, .model = model};
  char *class_names = NULL;
  dft_status status = open_builder(&b) ? DFT_OK : dft_fail_memory("ONNX graph", 0);
  if (status == DFT_OK) status = dft_context(dft_class_names_json(w, &class_names), "%s", path);
  if (status == DFT_OK) status = dft_context(add_layers(&b), "%s", path);
  if (status == DFT_OK) status = write_graph(path, &b, class_names);
  free(class_names);
  dft_arena_free(b.arena);
  return status;
}
