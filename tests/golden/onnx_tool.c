/* Runs an ONNX file by plain loops over doubles, as docs/Operators.md of ONNX describes its operators, and
 * compares with predictions: what an ONNX runtime would do, independent of dft's kernels and of its writer.
 *
 *     onnx_tool MODEL.onnx IMAGES.npy PREDICTIONS.npy SPREAD
 *
 * Images are float32 and get the preprocessing that the model's metadata names. Exit code 1 when a
 * probability is off by more than 1e-6, when no class' probabilities differ by SPREAD between images, so that
 * the comparison would tell nothing, or when the file is not what it should be.
 */
#include "dft/file.h"
#include "onnx.pb-c.h"
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANK = 4, VALUES = 1024, NPY_HEADER = 10 };
static const double tolerance = 1e-6;

typedef struct value {
  const char *name;
  int64_t dims[RANK]; /* ones after the last */
  double *data;
} value;

static value values[VALUES];
static int value_count;

#define NEED(condition, ...)                                                                                 \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      printf(__VA_ARGS__);                                                                                   \
      printf("\n");                                                                                          \
      exit(1);                                                                                               \
    }                                                                                                        \
  } while (0)

static int64_t count(const value *v) {
  return v->dims[0] * v->dims[1] * v->dims[2] * v->dims[3];
}

static value *make(const char *name, int64_t a, int64_t b, int64_t c, int64_t d) {
  NEED(value_count < VALUES, "too many values");
  value *v = &values[value_count++];
  *v = (value){.name = name, .dims = {a, b, c, d}};
  v->data = calloc((size_t)count(v), sizeof *v->data);
  NEED(v->data != NULL, "no memory");
  return v;
}

static const value *find(const char *name) {
  for (int i = 0; i < value_count; i++)
    if (strcmp(values[i].name, name) == 0) return &values[i];
  NEED(false, "%s is used before it is made", name);
  return NULL;
}

static const value *in(const Onnx__NodeProto *n, size_t i) {
  NEED(i < n->n_input, "%s has too few inputs", n->name);
  return find(n->input[i]);
}

static const Onnx__AttributeProto *attribute(const Onnx__NodeProto *n, const char *name) {
  for (size_t i = 0; i < n->n_attribute; i++)
    if (strcmp(n->attribute[i]->name, name) == 0) return n->attribute[i];
  NEED(false, "%s has no %s", n->name, name);
  return NULL;
}

static void transpose(const Onnx__NodeProto *n) {
  const value *x = in(n, 0);
  const int64_t *perm = attribute(n, "perm")->ints, *d = x->dims;
  value *y = make(n->output[0], d[perm[0]], d[perm[1]], d[perm[2]], d[perm[3]]);
  const int64_t strides[RANK] = {d[1] * d[2] * d[3], d[2] * d[3], d[3], 1};
  double *to = y->data;
  for (int64_t a = 0; a < y->dims[0]; a++)
    for (int64_t b = 0; b < y->dims[1]; b++)
      for (int64_t c = 0; c < y->dims[2]; c++)
        for (int64_t e = 0; e < y->dims[3]; e++)
          *to++ = x->data[a * strides[perm[0]] + b * strides[perm[1]] + c * strides[perm[2]] +
                          e * strides[perm[3]]];
}

static double window(const value *x, const value *w, int64_t image, int64_t channel, int64_t first,
                     int64_t top, int64_t left) {
  double sum = 0;
  for (int64_t c = 0; c < w->dims[1]; c++)
    for (int64_t i = 0; i < w->dims[2]; i++)
      for (int64_t j = 0; j < w->dims[3]; j++) {
        const int64_t row = top + i, column = left + j;
        if (row < 0 || row >= x->dims[2] || column < 0 || column >= x->dims[3]) continue;
        sum += x->data[((image * x->dims[1] + first + c) * x->dims[2] + row) * x->dims[3] + column] *
               w->data[((channel * w->dims[1] + c) * w->dims[2] + i) * w->dims[3] + j];
      }
  return sum;
}

static void convolve(const Onnx__NodeProto *n) {
  const value *x = in(n, 0), *w = in(n, 1);
  const int64_t *pads = attribute(n, "pads")->ints, *strides = attribute(n, "strides")->ints;
  const int64_t group = attribute(n, "group")->i, channels = w->dims[0];
  const int64_t *size = attribute(n, "kernel_shape")->ints;
  NEED(size[0] == w->dims[2] && size[1] == w->dims[3], "%s: kernel_shape", n->name);
  NEED(x->dims[1] == w->dims[1] * group, "%s: %lld channels in", n->name, (long long)x->dims[1]);
  const int64_t h = (x->dims[2] + pads[0] + pads[2] - w->dims[2]) / strides[0] + 1;
  const int64_t wide = (x->dims[3] + pads[1] + pads[3] - w->dims[3]) / strides[1] + 1;
  value *y = make(n->output[0], x->dims[0], channels, h, wide);
  double *to = y->data;
  for (int64_t image = 0; image < x->dims[0]; image++)
    for (int64_t c = 0; c < channels; c++)
      for (int64_t i = 0; i < h; i++)
        for (int64_t j = 0; j < wide; j++)
          *to++ = window(x, w, image, c, c / (channels / group) * w->dims[1], i * strides[0] - pads[0],
                         j * strides[1] - pads[1]);
}

static void normalize(const Onnx__NodeProto *n) {
  const value *x = in(n, 0), *scale = in(n, 1), *shift = in(n, 2), *mean = in(n, 3), *variance = in(n, 4);
  const double epsilon = (double)attribute(n, "epsilon")->f;
  value *y = make(n->output[0], x->dims[0], x->dims[1], x->dims[2], x->dims[3]);
  const int64_t pixels = x->dims[2] * x->dims[3];
  for (int64_t i = 0; i < count(x); i++) {
    const int64_t c = i / pixels % x->dims[1];
    y->data[i] =
        (x->data[i] - mean->data[c]) / sqrt(variance->data[c] + epsilon) * scale->data[c] + shift->data[c];
  }
}

static void clip(const Onnx__NodeProto *n) {
  const value *x = in(n, 0), *low = in(n, 1), *high = in(n, 2);
  value *y = make(n->output[0], x->dims[0], x->dims[1], x->dims[2], x->dims[3]);
  for (int64_t i = 0; i < count(x); i++) y->data[i] = fmin(fmax(x->data[i], *low->data), *high->data);
}

static void add(const Onnx__NodeProto *n) {
  const value *a = in(n, 0), *b = in(n, 1);
  NEED(memcmp(a->dims, b->dims, sizeof a->dims) == 0, "%s adds different shapes", n->name);
  value *y = make(n->output[0], a->dims[0], a->dims[1], a->dims[2], a->dims[3]);
  for (int64_t i = 0; i < count(a); i++) y->data[i] = a->data[i] + b->data[i];
}

static void pool(const Onnx__NodeProto *n) {
  const value *x = in(n, 0);
  const bool average = strcmp(n->op_type, "GlobalAveragePool") == 0;
  value *y = make(n->output[0], x->dims[0], x->dims[1], 1, 1);
  const int64_t pixels = x->dims[2] * x->dims[3];
  for (int64_t i = 0; i < count(y); i++) {
    const double *from = x->data + i * pixels;
    double result = average ? 0 : from[0];
    for (int64_t p = 0; p < pixels; p++)
      result = average ? result + from[p] / (double)pixels : fmax(result, from[p]);
    y->data[i] = result;
  }
}

static void flatten(const Onnx__NodeProto *n) {
  const value *x = in(n, 0);
  NEED(attribute(n, "axis")->i == 1, "%s: axis", n->name);
  value *y = make(n->output[0], x->dims[0], x->dims[1] * x->dims[2] * x->dims[3], 1, 1);
  memcpy(y->data, x->data, (size_t)count(x) * sizeof *x->data);
}

static void multiply(const Onnx__NodeProto *n) {
  const value *x = in(n, 0), *w = in(n, 1), *bias = in(n, 2);
  NEED(x->dims[1] == w->dims[0] && bias->dims[0] == w->dims[1], "%s: shapes", n->name);
  value *y = make(n->output[0], x->dims[0], w->dims[1], 1, 1);
  for (int64_t i = 0; i < x->dims[0]; i++)
    for (int64_t j = 0; j < w->dims[1]; j++) {
      double sum = bias->data[j];
      for (int64_t k = 0; k < x->dims[1]; k++)
        sum += x->data[i * x->dims[1] + k] * w->data[k * w->dims[1] + j];
      y->data[i * w->dims[1] + j] = sum;
    }
}

static void softmax(const Onnx__NodeProto *n) {
  const value *x = in(n, 0);
  NEED(attribute(n, "axis")->i == 1, "%s: axis", n->name);
  value *y = make(n->output[0], x->dims[0], x->dims[1], 1, 1);
  for (int64_t i = 0; i < x->dims[0]; i++) {
    const double *from = x->data + i * x->dims[1];
    double *to = y->data + i * x->dims[1], most = from[0], sum = 0;
    for (int64_t j = 0; j < x->dims[1]; j++) most = fmax(most, from[j]);
    for (int64_t j = 0; j < x->dims[1]; j++) sum += to[j] = exp(from[j] - most);
    for (int64_t j = 0; j < x->dims[1]; j++) to[j] /= sum;
  }
}

static void run_node(const Onnx__NodeProto *n) {
  static const struct {
    const char *op;
    void (*run)(const Onnx__NodeProto *);
  } ops[] = {{"Transpose", transpose}, {"Conv", convolve},   {"BatchNormalization", normalize},
             {"Clip", clip},           {"Add", add},         {"GlobalAveragePool", pool},
             {"GlobalMaxPool", pool},  {"Flatten", flatten}, {"Gemm", multiply},
             {"Softmax", softmax}};
  for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
    if (strcmp(n->op_type, ops[i].op) == 0) {
      ops[i].run(n);
      return;
    }
  NEED(false, "%s: operator %s", n->name, n->op_type);
}

static void load_initializers(const Onnx__GraphProto *g) {
  for (size_t i = 0; i < g->n_initializer; i++) {
    const Onnx__TensorProto *t = g->initializer[i];
    int64_t dims[RANK] = {1, 1, 1, 1};
    NEED(t->n_dims <= RANK && t->has_raw_data, "%s: dimensions or data", t->name);
    for (size_t d = 0; d < t->n_dims; d++) dims[d] = t->dims[d];
    value *v = make(t->name, dims[0], dims[1], dims[2], dims[3]);
    NEED(t->raw_data.len == (size_t)count(v) * sizeof(float), "%s: bytes", t->name);
    for (int64_t j = 0; j < count(v); j++) {
      float number;
      memcpy(&number, t->raw_data.data + 4 * j, sizeof number);
      v->data[j] = (double)number;
    }
  }
}

/* The numbers of a float32 npy file of version 1. */
static const unsigned char *read_npy(const char *path, size_t *numbers) {
  unsigned char *bytes;
  size_t bytes_count;
  NEED(dft_read_file(path, SIZE_MAX, &bytes, &bytes_count) == DFT_OK, "%s", dft_error());
  NEED(bytes_count > NPY_HEADER && memcmp(bytes, "\x93NUMPY\x01", 7) == 0, "%s: no npy", path);
  const size_t header = NPY_HEADER + bytes[8] + 256U * bytes[9];
  NEED(bytes_count >= header, "%s: short", path);
  *numbers = (bytes_count - header) / sizeof(float);
  return bytes + header;
}

static double number_at(const unsigned char *bytes, size_t i) {
  float number;
  memcpy(&number, bytes + 4 * i, sizeof number);
  return (double)number;
}

static const char *property(const Onnx__ModelProto *m, const char *key) {
  for (size_t i = 0; i < m->n_metadata_props; i++)
    if (strcmp(m->metadata_props[i]->key, key) == 0) return m->metadata_props[i]->value;
  NEED(false, "no %s in the metadata", key);
  return NULL;
}

static void load_images(const Onnx__ModelProto *m, const char *path) {
  const Onnx__ValueInfoProto *input = m->graph->input[0];
  const Onnx__TensorShapeProto *shape = input->type->tensor_type->shape;
  NEED(shape->n_dim == RANK && shape->dim[3]->dim_value == 3, "the input is no batch of RGB images");
  size_t numbers;
  const unsigned char *bytes = read_npy(path, &numbers);
  const int64_t h = shape->dim[1]->dim_value, w = shape->dim[2]->dim_value;
  value *v = make(input->name, (int64_t)numbers / (h * w * 3), h, w, 3);
  NEED(count(v) == (int64_t)numbers && numbers > 0, "%s: not whole images", path);
  const char *preprocessing = property(m, "preprocessing");
  const bool none = strcmp(preprocessing, "none") == 0, unit = strcmp(preprocessing, "unit") == 0;
  for (size_t i = 0; i < numbers; i++) {
    const double x = number_at(bytes, i);
    v->data[i] = none ? x : unit ? x / 255 : x / 127.5 - 1;
  }
}

/* The most that a class' probability differs between images. */
static double spread_of(const value *y) {
  double most = 0;
  for (int64_t c = 0; c < y->dims[1]; c++) {
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < y->dims[0]; i++) {
      low = fmin(low, y->data[i * y->dims[1] + c]);
      high = fmax(high, y->data[i * y->dims[1] + c]);
    }
    most = fmax(most, high - low);
  }
  return most;
}

int main(int argc, char **argv) {
  unsigned char *bytes;
  size_t bytes_count, expected_count;
  NEED(argc == 5, "usage: onnx_tool MODEL.onnx IMAGES.npy PREDICTIONS.npy SPREAD");
  NEED(dft_read_file(argv[1], SIZE_MAX, &bytes, &bytes_count) == DFT_OK, "%s", dft_error());
  Onnx__ModelProto *m = onnx__model_proto__unpack(NULL, bytes_count, bytes);
  NEED(m != NULL, "%s: no ONNX", argv[1]);
  load_initializers(m->graph);
  load_images(m, argv[2]);
  for (size_t i = 0; i < m->graph->n_node; i++) run_node(m->graph->node[i]);
  const value *y = find(m->graph->output[0]->name);
  const unsigned char *expected = read_npy(argv[3], &expected_count);
  NEED((int64_t)expected_count == count(y), "%zu predictions, %lld numbers", expected_count,
       (long long)count(y));
  double worst = 0;
  for (size_t i = 0; i < expected_count; i++) worst = fmax(worst, fabs(y->data[i] - number_at(expected, i)));
  const double spread = spread_of(y);
  printf("%lld images whose probabilities differ by %.3g; the worst is off by %.2g\n", (long long)y->dims[0],
         spread, worst);
  NEED(spread >= strtod(argv[4], NULL), "the images are too much alike to tell anything");
  NEED(worst <= tolerance, "that is more than %g", tolerance);
  return 0;
}
