/* The stub of MobileNetV2 that tests/golden/make_keras_files.py saves: its layers, tensors and values. */
#ifndef DFT_TESTS_KERAS_SAMPLE_H
#define DFT_TESTS_KERAS_SAMPLE_H

#include "dft/weights.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
// cmocka.h needs the headers above it
#include <cmocka.h>

static const dft_keras_layer sample_layers[] = {
    {"input_layer", "InputLayer"},
    {"Conv1", "Conv2D"},
    {"bn_Conv1", "BatchNormalization"},
    {"Conv1_relu", "ReLU"},
    {"expanded_conv_depthwise", "DepthwiseConv2D"},
    {"expanded_conv_depthwise_BN", "BatchNormalization"},
    {"expanded_conv_project", "Conv2D"},
    {"expanded_conv_project_BN", "BatchNormalization"},
    {"global_average_pooling2d", "GlobalAveragePooling2D"},
    {"predictions", "Dense"},
};
enum { SAMPLE_LAYERS = sizeof sample_layers / sizeof sample_layers[0] };

static const struct sample_tensor {
  const char *layer, *variable;
  int rank;
  int64_t shape[DFT_MAX_RANK];
} sample_tensors[] = {
    {"Conv1", "kernel", 4, {3, 3, 3, 2}},
    {"bn_Conv1", "gamma", 1, {2}},
    {"bn_Conv1", "beta", 1, {2}},
    {"bn_Conv1", "moving_mean", 1, {2}},
    {"bn_Conv1", "moving_variance", 1, {2}},
    {"expanded_conv_depthwise", "kernel", 4, {3, 3, 2, 1}},
    {"expanded_conv_depthwise_BN", "gamma", 1, {2}},
    {"expanded_conv_depthwise_BN", "beta", 1, {2}},
    {"expanded_conv_depthwise_BN", "moving_mean", 1, {2}},
    {"expanded_conv_depthwise_BN", "moving_variance", 1, {2}},
    {"expanded_conv_project", "kernel", 4, {1, 1, 2, 3}},
    {"expanded_conv_project_BN", "gamma", 1, {3}},
    {"expanded_conv_project_BN", "beta", 1, {3}},
    {"expanded_conv_project_BN", "moving_mean", 1, {3}},
    {"expanded_conv_project_BN", "moving_variance", 1, {3}},
    {"predictions", "kernel", 2, {3, 2}},
    {"predictions", "bias", 1, {2}},
};
enum { SAMPLE_TENSORS = sizeof sample_tensors / sizeof sample_tensors[0] };

/* Value i of a tensor, as make_keras_files.py computes it. */
static inline float sample_value(const struct sample_tensor *t, int64_t i) {
  char name[256];
  int length = snprintf(name, sizeof name, "%s/%s", t->layer, t->variable);
  unsigned long seed = crc32(0, (const unsigned char *)name, (unsigned)length);
  return (float)(((long long)seed + 389 * i) % 1024) / 512.0f - 1.0f;
}

static inline void assert_sample_values(const struct sample_tensor *want, const dft_tensor *got) {
  assert_int_equal(got->rank, want->rank);
  for (int d = 0; d < want->rank; d++) assert_int_equal(got->shape[d], want->shape[d]);
  for (int64_t i = 0; i < dft_tensor_elements(got); i++)
    assert_float_equal(got->data[i], sample_value(want, i), 0);
}

/* Every tensor of the stub is there by name, and nothing else. */
static inline void assert_sample(const dft_weights *w) {
  assert_int_equal(w->count, SAMPLE_TENSORS);
  for (int i = 0; i < SAMPLE_TENSORS; i++) {
    const dft_tensor *t = dft_weights_find(w, sample_tensors[i].layer, sample_tensors[i].variable);
    if (t)
      assert_sample_values(&sample_tensors[i], t);
    else
      fail_msg("no %s/%s", sample_tensors[i].layer, sample_tensors[i].variable);
  }
}

static inline void sample_weights(dft_weights *w) {
  *w = (dft_weights){0};
  for (int i = 0; i < SAMPLE_TENSORS; i++) {
    const struct sample_tensor *s = &sample_tensors[i];
    assert_int_equal(dft_weights_add(w, s->layer, s->variable, s->rank, s->shape, NULL), DFT_OK);
    dft_tensor *t = &w->tensors[i];
    for (int64_t k = 0; k < dft_tensor_elements(t); k++) t->data[k] = sample_value(s, k);
  }
}

static inline void assert_message(const char *part) {
  if (!strstr(dft_error(), part)) fail_msg("'%s' lacks '%s'", dft_error(), part);
  assert_null(strchr(dft_error(), '\n'));
}

/* The bytes of a file; release with free(). */
static inline unsigned char *slurp(const char *path, size_t *bytes) {
  FILE *f = fopen(path, "rb");
  if (!f) fail_msg("no file %s", path);
  fseek(f, 0, SEEK_END);
  *bytes = (size_t)ftell(f);
  rewind(f);
  unsigned char *data = malloc(*bytes + 1);
  assert_int_equal(fread(data, 1, *bytes, f), *bytes);
  fclose(f);
  return data;
}

static inline void spit(const char *path, const void *data, size_t bytes) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, bytes, f), bytes);
  assert_int_equal(fclose(f), 0);
}

#endif
