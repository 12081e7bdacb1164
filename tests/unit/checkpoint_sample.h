/* A small state with something in every field, for the tests of src/checkpoint. */
#ifndef DFT_TESTS_CHECKPOINT_SAMPLE_H
#define DFT_TESTS_CHECKPOINT_SAMPLE_H

#include "dft/checkpoint.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static inline char *sample_text(const char *text) {
  char *copy = strdup(text);
  assert(copy != NULL);
  return copy;
}

static inline void sample_state(dft_state *s) {
  static const char *const names[] = {"Pullover", "Coat", "Shirt"};
  static const float values[] = {0.0f, -0.0f, 1.5f, -3.25e-7f, INFINITY, 16777216.0f};
  *s = (dft_state){.model_name = sample_text("mobilenet_v2"),
                   .alpha = 0.35,
                   .height = 33,
                   .width = 35,
                   .classes = 3,
                   .pooling = sample_text("avg"),
                   .preprocessing = sample_text("unit"),
                   .resize = sample_text("pad"),
                   .iterations = 7,
                   .shards = 8,
                   .at.phase = 1,
                   .at.phase_epoch = 1,
                   .at.epoch = 2,
                   .at.step = 27,
                   .at.position = 40,
                   .at.loss_sum = 12.5,
                   .at.correct_sum = 31.0,
                   .at.count_sum = 39.0,
                   .seed = -42,
                   .at.best = 0.75,
                   .at.best_epoch = 1,
                   .history_count = 2,
                   .deciding = sample_text("seed=-42\ndata.batch_size=10\n"),
                   .data_fingerprint = 0xfedcba9876543210u,
                   .validation_fingerprint = 0x0123456789abcdefu,
                   .train_count = 100};
  s->history = calloc(2, sizeof *s->history);
  assert(s->history != NULL);
  s->history[0] = (dft_epoch){1, sample_text("head"), 0.5, 1.25, 0.375, 0.75, 1e-3};
  s->history[1] = (dft_epoch){2, sample_text("tail"), 0.625, 1.0, NAN, NAN, 1e-5};
  dft_status status = dft_weights_add(&s->weights, "Conv1", "kernel", 2, (int64_t[]){2, 3}, values);
  status |= dft_weights_add(&s->weights, "bn_Conv1", "gamma", 1, (int64_t[]){3}, values);
  status |= dft_weights_add(&s->weights, "predictions", "bias", 1, (int64_t[]){3}, values + 1);
  status |= dft_weights_add(&s->slots, "predictions", "bias/momentum", 1, (int64_t[]){3}, values);
  assert(status == DFT_OK);
  s->weights.class_names = calloc(3, sizeof(char *));
  assert(s->weights.class_names != NULL);
  s->weights.classes = 3;
  for (int i = 0; i < 3; i++) s->weights.class_names[i] = sample_text(names[i]);
}

#endif
