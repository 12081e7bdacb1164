/* ONNX files: ours come back, and what cannot be weights of ours is refused. tests/golden/test_export.sh runs
 * the graphs. */
#include "dft/onnx.h"
#include "onnx.pb-c.h"
#include "unit/keras_sample.h"

static const float epsilon = 1e-3F;
static char path[] = "/tmp/dft-onnx-XXXXXX";

static int setup(void **state) {
  (void)state;
  const int fd = mkstemp(path);
  return fd < 0 ? 1 : close(fd);
}

static int teardown(void **state) {
  (void)state;
  return unlink(path);
}

static const dft_onnx_layer layers[] = {
    {"Conv1", DFT_ONNX_CONV, 2, {0, 0, 1, 1}, NULL},
    {"bn_Conv1", DFT_ONNX_BATCH_NORM, 0, {0}, NULL},
    {"Conv1_relu", DFT_ONNX_RELU6, 0, {0}, NULL},
    {"expanded_conv_depthwise", DFT_ONNX_DEPTHWISE, 1, {1, 1, 1, 1}, NULL},
    {"expanded_conv_depthwise_BN", DFT_ONNX_BATCH_NORM, 0, {0}, NULL},
    {"expanded_conv_project", DFT_ONNX_CONV, 1, {0}, NULL},
    {"expanded_conv_project_BN", DFT_ONNX_BATCH_NORM, 0, {0}, NULL},
    {"global_average_pooling2d", DFT_ONNX_POOL_AVG, 0, {0}, NULL},
    {"predictions", DFT_ONNX_DENSE, 0, {0}, NULL},
};
enum { LAYERS = sizeof layers / sizeof *layers };

static const dft_property properties[] = {{"preprocessing", "mobilenet_v2"}};
static const dft_onnx_model sample = {.name = "sample",
                                      .height = 8,
                                      .width = 8,
                                      .epsilon = 1e-3F,
                                      .layers = layers,
                                      .layer_count = LAYERS,
                                      .properties = properties,
                                      .property_count = 1};

static void written_files_read_back(void **state) {
  (void)state;
  dft_weights w, again;
  dft_file_kind kind;
  char *names[] = {"cat", "dog"};
  sample_weights(&w);
  w.class_names = names;
  w.classes = 2;
  if (dft_onnx_write(path, &sample, &w) != DFT_OK) fail_msg("%s", dft_error());
  assert_int_equal(dft_file_sniff(path, &kind), DFT_OK);
  assert_int_equal(kind, DFT_FILE_ONNX);
  if (dft_onnx_read(path, epsilon, &again) != DFT_OK) fail_msg("%s", dft_error());
  assert_sample(&again);
  assert_false(again.unordered);
  assert_int_equal(again.classes, 2);
  assert_string_equal(again.class_names[1], "dog");
  dft_weights_free(&again);
  assert_int_equal(dft_onnx_write("/nonexistent/x.onnx", &sample, &w), DFT_EIO);
  assert_message("/nonexistent/x.onnx: cannot create");
  w.class_names = NULL;
  w.count--; /* the head's bias */
  assert_int_equal(dft_onnx_write(path, &sample, &w), DFT_EINTERNAL);
  assert_message("predictions has no bias");
  w.count++;
  dft_weights_free(&w);
}

/* ---- changed files ---- */

static Onnx__NodeProto *node_named(Onnx__ModelProto *m, const char *name) {
  for (size_t i = 0; i < m->graph->n_node; i++)
    if (strcmp(m->graph->node[i]->name, name) == 0) return m->graph->node[i];
  fail_msg("no node %s", name);
  return NULL;
}

static Onnx__TensorProto *tensor_named(Onnx__ModelProto *m, const char *name) {
  for (size_t i = 0; i < m->graph->n_initializer; i++)
    if (strcmp(m->graph->initializer[i]->name, name) == 0) return m->graph->initializer[i];
  fail_msg("no tensor %s", name);
  return NULL;
}

static void rename_to(char **text, const char *to) {
  free(*text);
  *text = strdup(to);
}

static void other_epsilon(Onnx__ModelProto *m) {
  node_named(m, "bn_Conv1")->attribute[0]->f = 1e-5F;
}
static void no_epsilon(Onnx__ModelProto *m) {
  rename_to(&node_named(m, "bn_Conv1")->attribute[0]->name, "momentum");
}
static void folded(Onnx__ModelProto *m) {
  for (size_t i = 0; i < m->graph->n_node; i++)
    if (strcmp(m->graph->node[i]->op_type, "BatchNormalization") == 0)
      rename_to(&m->graph->node[i]->op_type, "Identity");
}
static void external(Onnx__ModelProto *m) {
  Onnx__TensorProto *t = tensor_named(m, "Conv1/kernel");
  t->has_data_location = true;
  t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
}
static void few_bytes(Onnx__ModelProto *m) {
  tensor_named(m, "Conv1/kernel")->raw_data.len -= 4;
}
static void of_integers(Onnx__ModelProto *m) {
  tensor_named(m, "Conv1/kernel")->data_type = 7;
}
static void huge(Onnx__ModelProto *m) {
  tensor_named(m, "Conv1/kernel")->dims[0] = INT64_MAX / 2;
}
static void negative(Onnx__ModelProto *m) {
  tensor_named(m, "Conv1/kernel")->dims[1] = -3;
}
static void flat(Onnx__ModelProto *m) {
  tensor_named(m, "Conv1/kernel")->n_dims = 1;
}
static void no_kernel(Onnx__ModelProto *m) {
  rename_to(&tensor_named(m, "Conv1/kernel")->name, "elsewhere");
}
static void no_statistics(Onnx__ModelProto *m) {
  rename_to(&tensor_named(m, "bn_Conv1/moving_mean")->name, "elsewhere");
}
static void grouped(Onnx__ModelProto *m) {
  Onnx__NodeProto *n = node_named(m, "Conv1");
  for (size_t i = 0; i < n->n_attribute; i++)
    if (strcmp(n->attribute[i]->name, "group") == 0) n->attribute[i]->i = 3;
}
static void grouped_by_outputs(Onnx__ModelProto *m) { /* each from all inputs */
  Onnx__NodeProto *n = node_named(m, "Conv1");
  for (size_t i = 0; i < n->n_attribute; i++)
    if (strcmp(n->attribute[i]->name, "group") == 0)
      n->attribute[i]->i = tensor_named(m, "Conv1/kernel")->dims[0];
}
static void twins(Onnx__ModelProto *m) {
  rename_to(&node_named(m, "expanded_conv_project")->name, "Conv1");
}
static void no_convolutions(Onnx__ModelProto *m) {
  for (size_t i = 0; i < m->graph->n_node; i++) rename_to(&m->graph->node[i]->op_type, "Relu");
}
static void biased(Onnx__ModelProto *m) { /* by a gamma, whose first value is not zero */
  const ProtobufCBinaryData *gamma = &tensor_named(m, "bn_Conv1/gamma")->raw_data;
  memset(gamma->data + gamma->len - sizeof(float), 0, sizeof(float));
  Onnx__NodeProto *n = node_named(m, "Conv1");
  n->input = realloc(n->input, 3 * sizeof *n->input);
  assert_non_null(n->input);
  n->input[n->n_input++] = strdup("bn_Conv1/gamma");
}
static void product_with(Onnx__ModelProto *m, const char *attribute) {
  Onnx__NodeProto *n = node_named(m, "predictions");
  n->attribute = calloc(1, sizeof *n->attribute);
  n->attribute[0] = malloc(sizeof **n->attribute);
  onnx__attribute_proto__init(n->attribute[0]);
  n->attribute[0]->name = strdup(attribute);
  n->attribute[0]->has_f = n->attribute[0]->has_i = true;
  n->attribute[0]->f = 0.5F;
  n->attribute[0]->i = 1;
  n->n_attribute = 1;
}
static void scaled_product(Onnx__ModelProto *m) {
  product_with(m, "alpha");
}
static void scaled_bias(Onnx__ModelProto *m) {
  product_with(m, "beta");
}
static void transposed_product(Onnx__ModelProto *m) {
  product_with(m, "transA");
}
static void strange_names(Onnx__ModelProto *m) {
  for (size_t i = 0; i < m->n_metadata_props; i++) rename_to(&m->metadata_props[i]->key, "dft_class_names");
}

/* The sample's file, changed; what reading it gives. */
static dft_status decode_changed(void (*change)(Onnx__ModelProto *), dft_weights *w) {
  dft_weights sample_w;
  size_t bytes;
  sample_weights(&sample_w);
  assert_int_equal(dft_onnx_write(path, &sample, &sample_w), DFT_OK);
  dft_weights_free(&sample_w);
  unsigned char *file = slurp(path, &bytes);
  Onnx__ModelProto *m = onnx__model_proto__unpack(NULL, bytes, file);
  assert_non_null(m);
  free(file);
  change(m);
  bytes = onnx__model_proto__get_packed_size(m);
  file = malloc(bytes);
  assert_non_null(file);
  onnx__model_proto__pack(m, file);
  onnx__model_proto__free_unpacked(m, NULL);
  dft_status status = dft_onnx_decode("x.onnx", file, bytes, epsilon, w);
  free(file);
  return status;
}

static void bad_files_are_refused(void **state) {
  (void)state;
  static const struct {
    void (*change)(Onnx__ModelProto *);
    const char *message;
  } files[] = {
      {other_epsilon, "x.onnx: bn_Conv1: epsilon 1e-05, Keras' MobileNetV2 has 0.001"},
      {no_epsilon, "bn_Conv1: epsilon 1e-05"},
      {folded, "x.onnx: its BatchNormalization is folded"},
      {external, "Conv1: its weights are in another file"},
      {few_bytes, "Conv1: a weight's bytes do not fit its shape"},
      {of_integers, "Conv1: a weight is of another type than FLOAT"},
      {huge, "Conv1: a weight's shape is no shape of weights"},
      {negative, "Conv1: a weight's shape is no shape of weights"},
      {flat, "Conv1: a weight has another number of dimensions"},
      {no_kernel, "Conv1: its kernel is not among the graph's initializers"},
      {no_statistics, "bn_Conv1: a BatchNormalization whose weights are not"},
      {grouped, "Conv1: a grouped convolution that is no depthwise one"},
      {grouped_by_outputs, "Conv1: a grouped convolution that is no depthwise one"},
      {twins, "Conv1: two such nodes have this name"},
      {no_convolutions, "x.onnx: an ONNX graph without convolutions"},
      {biased, "Conv1: a convolution with a bias"},
      {scaled_product, "predictions: a Gemm with alpha, beta or transA"},
      {scaled_bias, "predictions: a Gemm with alpha, beta or transA"},
      {transposed_product, "predictions: a Gemm with alpha, beta or transA"},
      {strange_names, "x.onnx: dft_class_names is no list of 1 to 100000 names"},
  };
  dft_weights w;
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    assert_int_equal(decode_changed(files[i].change, &w), DFT_EDATA);
    assert_message(files[i].message);
    assert_int_equal(w.count, 0);
  }
  assert_int_equal(dft_onnx_decode("x.onnx", (const unsigned char *)"\x08\x07\x12\x7f", 4, epsilon, &w),
                   DFT_EDATA);
  assert_message("x.onnx: truncated or damaged, or no ONNX file");
  assert_int_equal(dft_onnx_decode("x.onnx", (const unsigned char *)"\x08\x07", 2, epsilon, &w), DFT_EDATA);
  assert_message("x.onnx: an ONNX file without a graph");
}

/* ---- others' files ---- */

/* Without node names, the head as [out][in], weights as PyTorch calls them, as floats or doubles. */
static void like_others(Onnx__ModelProto *m) {
  for (size_t i = 0; i < m->graph->n_node; i++) rename_to(&m->graph->node[i]->name, "");
  Onnx__TensorProto *t = tensor_named(m, "predictions/kernel"); /* [3][2] */
  float *values = malloc(6 * sizeof *values);
  assert_non_null(values);
  for (int i = 0; i < 3; i++)
    for (int o = 0; o < 2; o++)
      memcpy(&values[o * 3 + i], t->raw_data.data + 4 * (i * 2 + o), sizeof *values);
  t->dims[0] = 2;
  t->dims[1] = 3;
  t->has_raw_data = false;
  t->float_data = values;
  t->n_float_data = 6;
  for (size_t i = 0; i < m->graph->n_node; i++) {
    Onnx__NodeProto *n = m->graph->node[i];
    if (strcmp(n->op_type, "Gemm") != 0) continue;
    n->attribute = calloc(1, sizeof *n->attribute);
    n->attribute[0] = malloc(sizeof **n->attribute);
    onnx__attribute_proto__init(n->attribute[0]);
    n->attribute[0]->name = strdup("transB");
    n->attribute[0]->has_i = true;
    n->attribute[0]->i = 1;
    n->n_attribute = 1;
  }
  t = tensor_named(m, "bn_Conv1/gamma");
  double *doubles = malloc(2 * sizeof *doubles);
  assert_non_null(doubles);
  for (int i = 0; i < 2; i++) {
    float value;
    memcpy(&value, t->raw_data.data + 4 * i, sizeof value);
    doubles[i] = (double)value;
  }
  t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE;
  t->has_raw_data = false;
  t->double_data = doubles;
  t->n_double_data = 2;
}

static void others_files_are_understood(void **state) {
  (void)state;
  dft_weights w;
  if (decode_changed(like_others, &w) != DFT_OK) fail_msg("%s", dft_error());
  assert_sample(&w);
  dft_weights_free(&w);
}

/* 1 and -2 in the lower halves of whole numbers. */
static void in_halves(Onnx__ModelProto *m, int32_t type, int32_t one, int32_t minus_two) {
  Onnx__TensorProto *t = tensor_named(m, "bn_Conv1/gamma");
  t->data_type = type;
  t->has_raw_data = false;
  t->n_int32_data = 2;
  t->int32_data = malloc(2 * sizeof *t->int32_data);
  assert_non_null(t->int32_data);
  t->int32_data[0] = one;
  t->int32_data[1] = minus_two;
}
static void as_float16(Onnx__ModelProto *m) {
  in_halves(m, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16, 0x3c00, 0xc000);
}
static void as_bfloat16(Onnx__ModelProto *m) {
  in_halves(m, ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16, 0x3f80, 0xc000);
}

static void both_kinds_of_halves_are_read(void **state) {
  (void)state;
  static void (*const kinds[])(Onnx__ModelProto *) = {as_float16, as_bfloat16};
  for (int i = 0; i < 2; i++) {
    dft_weights w;
    if (decode_changed(kinds[i], &w) != DFT_OK) fail_msg("%s", dft_error());
    const dft_tensor *gamma = dft_weights_find(&w, "bn_Conv1", "gamma");
    assert_non_null(gamma);
    assert_true(gamma->data[0] == 1 && gamma->data[1] == -2);
    dft_weights_free(&w);
  }
}

/* By tests/fuzz/corpus/make_export_seeds.py, with ONNX' own library. The sample's values are whole 512ths,
 * which float16 has too. */
static void files_of_the_library_give_the_sample(void **state) {
  (void)state;
  static const char *const names[] = {"sample", "fields", "doubles", "halves"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char made[1024];
    dft_weights w;
    snprintf(made, sizeof made, "%.*s/../fuzz/corpus/onnx/%s.onnx", (int)(strrchr(__FILE__, '/') - __FILE__),
             __FILE__, names[i]);
    if (dft_onnx_read(made, epsilon, &w) != DFT_OK) fail_msg("%s", dft_error());
    assert_sample(&w);
    dft_weights_free(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(written_files_read_back),       cmocka_unit_test(files_of_the_library_give_the_sample),
      cmocka_unit_test(bad_files_are_refused),         cmocka_unit_test(others_files_are_understood),
      cmocka_unit_test(both_kinds_of_halves_are_read),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
