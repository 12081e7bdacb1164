/* dft_state -> bytes. The message borrows every array of the state, and protobuf-c hands them on as they lie:
 * a file is written without a copy of it in memory. */
#include "dft.pb-c.h"
#include "dft/checkpoint.h"
#include "dft/crc.h"
#include "internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The message and everything it points to that is not the state's own. */
typedef struct message {
  Dft__Checkpoint top;
  Dft__Model model;
  Dft__Optimizer optimizer;
  Dft__Position position;
  Dft__Run run;
  Dft__Tensor *tensors; /* the model's, then the slots */
  Dft__Tensor **tensor_pointers;
  Dft__Epoch *epochs;
  Dft__Epoch **epoch_pointers;
} message;

static char *text(char *s) {
  static char empty[1];
  return s != NULL ? s : empty;
}

static void message_free(message *m) {
  free(m->tensors);
  free(m->tensor_pointers);
  free(m->epochs);
  free(m->epoch_pointers);
}

static dft_status message_alloc(message *m, size_t tensors, size_t epochs) {
  memset(m, 0, sizeof *m);
  m->tensors = calloc(tensors + 1, sizeof *m->tensors);
  m->tensor_pointers = calloc(tensors + 1, sizeof(Dft__Tensor *));
  m->epochs = calloc(epochs + 1, sizeof *m->epochs);
  m->epoch_pointers = calloc(epochs + 1, sizeof(Dft__Epoch *));
  if (m->tensors == NULL || m->tensor_pointers == NULL || m->epochs == NULL || m->epoch_pointers == NULL) {
    message_free(m);
    return dft_fail_memory("checkpoint", (tensors + epochs) * sizeof *m->tensors);
  }
  return DFT_OK;
}

static void set_tensors(Dft__Tensor *out, Dft__Tensor **pointers, const dft_weights *w) {
  for (int i = 0; i < w->count; i++) {
    dft_tensor *t = &w->tensors[i];
    dft__tensor__init(&out[i]);
    out[i].layer = text(t->layer);
    out[i].variable = text(t->variable);
    out[i].n_shape = (size_t)t->rank;
    out[i].shape = t->shape;
    out[i].n_data = (size_t)dft_tensor_elements(t);
    out[i].data = t->data;
    pointers[i] = &out[i];
  }
}

static void set_epochs(message *m, const dft_state *s) {
  for (int i = 0; i < s->history_count; i++) {
    const dft_epoch *e = &s->history[i];
    Dft__Epoch *out = &m->epochs[i];
    dft__epoch__init(out);
    out->epoch = e->epoch;
    out->phase = text(e->phase);
    out->accuracy = e->accuracy;
    out->loss = e->loss;
    out->has_val_accuracy = !isnan(e->val_accuracy);
    out->val_accuracy = e->val_accuracy;
    out->has_val_loss = !isnan(e->val_loss);
    out->val_loss = e->val_loss;
    out->learning_rate = e->learning_rate;
    m->epoch_pointers[i] = out;
  }
}

static void set_model(Dft__Model *m, const dft_state *s) {
  dft__model__init(m);
  m->name = text(s->model_name);
  m->alpha = s->alpha;
  m->height = s->height;
  m->width = s->width;
  m->classes = s->classes;
  m->n_class_names = s->weights.class_names != NULL ? (size_t)s->weights.classes : 0;
  m->class_names = s->weights.class_names;
  m->pooling = text(s->pooling);
  m->preprocessing = text(s->preprocessing);
  m->resize = text(s->resize);
}

static void set_position(Dft__Position *p, const dft_state *s) {
  dft__position__init(p);
  p->phase = s->at.phase;
  p->phase_epoch = s->at.phase_epoch;
  p->epoch = s->at.epoch;
  p->step = s->at.step;
  p->samples = s->at.position;
  p->loss_sum = s->at.loss_sum;
  p->correct_sum = s->at.correct_sum;
  p->count_sum = s->at.count_sum;
  p->finished = s->at.finished;
  p->has_skipped = s->at.skipped > 0;
  p->skipped = s->at.skipped;
  p->has_left_out = s->at.left_out > 0;
  p->left_out = s->at.left_out;
}

static void set_run(Dft__Run *r, const dft_state *s) {
  dft__run__init(r);
  r->seed = s->seed;
  r->shards = s->shards;
  r->deciding = text(s->deciding);
  r->data_fingerprint = s->data_fingerprint;
  r->train_count = s->train_count;
  r->has_validation_fingerprint = s->validation_fingerprint != 0;
  r->validation_fingerprint = s->validation_fingerprint;
  r->has_best = !isnan(s->at.best);
  r->best = s->at.best;
  r->best_epoch = s->at.best_epoch;
}

static void set_top(message *m, const dft_state *s) {
  static char format[] = "dft.Checkpoint";
  Dft__Checkpoint *top = &m->top;
  size_t tensors = (size_t)s->weights.count;
  dft__checkpoint__init(top);
  top->format = format;
  top->format_version = DFT_CHECKPOINT_VERSION;
  set_model(&m->model, s);
  top->model = &m->model;
  set_tensors(m->tensors, m->tensor_pointers, &s->weights);
  top->n_tensors = tensors;
  top->tensors = m->tensor_pointers;
  dft__optimizer__init(&m->optimizer);
  m->optimizer.iterations = s->iterations;
  top->optimizer = &m->optimizer;
  set_tensors(m->tensors + tensors, m->tensor_pointers + tensors, &s->slots);
  top->n_slots = (size_t)s->slots.count;
  top->slots = m->tensor_pointers + tensors;
  set_position(&m->position, s);
  top->position = &m->position;
  set_run(&m->run, s);
  top->run = &m->run;
  set_epochs(m, s);
  top->n_history = (size_t)s->history_count;
  top->history = m->epoch_pointers;
}

/* Where protobuf-c puts the message: the sink, by way of the CRC. */
typedef struct stream {
  ProtobufCBuffer buffer; /* the first member: protobuf-c knows only this */
  const dft_sink *sink;
  uint32_t crc;
  size_t left; /* of what the CRC is of */
} stream;

static void append(ProtobufCBuffer *buffer, size_t bytes, const uint8_t *data) {
  enum { CACHED = 1 << 18 }; /* read twice, for the CRC and by the sink */
  stream *s = (stream *)buffer;
  if (bytes > s->left) bytes = s->left; /* the last field, for which the CRC is not known yet */
  s->left -= bytes;
  for (size_t n; bytes > 0; data += n, bytes -= n) {
    n = bytes < CACHED ? bytes : CACHED;
    s->crc = dft_crc32c(s->crc, data, n);
    s->sink->take(s->sink->context, data, n);
  }
}

dft_status dft_state_pack(const dft_state *s, const dft_sink *sink) {
  message m;
  DFT_TRY(message_alloc(&m, (size_t)s->weights.count + (size_t)s->slots.count, (size_t)s->history_count));
  set_top(&m, s);
  size_t size = dft__checkpoint__get_packed_size(&m.top);
  dft_status status =
      size > INT32_MAX /* protobuf's own limit */
          ? dft_fail(DFT_EINTERNAL, "a checkpoint of %zu bytes is beyond protobuf's 2 GiB", size)
          : sink->begin(sink->context, size);
  if (status == DFT_OK) {
    stream to = {.buffer = {append}, .sink = sink, .left = size - DFT_CRC_FIELD_BYTES};
    dft__checkpoint__pack_to_buffer(&m.top, &to.buffer);
    unsigned char field[DFT_CRC_FIELD_BYTES] = {0xfd, 0x7f};
    for (int i = 0; i < 4; i++) field[2 + i] = (unsigned char)(to.crc >> (8 * i));
    sink->take(sink->context, field, sizeof field);
  }
  message_free(&m);
  return status;
}

typedef struct memory {
  unsigned char *bytes;
  size_t used;
} memory;

static dft_status begin_memory(void *context, size_t bytes) {
  memory *m = context;
  m->bytes = malloc(bytes);
  return m->bytes != NULL ? DFT_OK : dft_fail_memory("checkpoint", bytes);
}

static void take_memory(void *context, const void *data, size_t bytes) {
  memory *m = context;
  memcpy(m->bytes + m->used, data, bytes);
  m->used += bytes;
}

dft_status dft_state_encode(const dft_state *s, unsigned char **bytes, size_t *count) {
  memory m = {0};
  dft_status status = dft_state_pack(s, &(dft_sink){begin_memory, take_memory, &m});
  *bytes = m.bytes;
  *count = m.used;
  return status;
}
