/* Bytes -> dft_state, believing nothing: first the marks and the CRC, then protobuf-c with a memory limit,
 * then every number. */
#include "dft.pb-c.h"
#include "dft/budget.h"
#include "dft/checkpoint.h"
#include "dft/crc.h"
#include "dft/text.h"
#include "internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_BYTES = DFT_CHECKPOINT_MAGIC_BYTES + DFT_CRC_FIELD_BYTES, MOST_ALPHA = 8 /* as model.alpha */ };

static dft_status check_envelope(const char *name, const unsigned char *bytes, size_t count) {
  if (count == 0) return dft_fail(DFT_EDATA, "%s: the file is empty", name);
  size_t head = count < DFT_CHECKPOINT_MAGIC_BYTES ? count : DFT_CHECKPOINT_MAGIC_BYTES;
  if (memcmp(bytes, DFT_CHECKPOINT_MAGIC, head) != 0)
    return dft_fail(DFT_EDATA, "%s: not a dft checkpoint", name);
  if (count < MIN_BYTES) return dft_fail(DFT_EDATA, "%s: truncated after %zu bytes", name, count);
  const unsigned char *end = bytes + count - DFT_CRC_FIELD_BYTES;
  if (end[0] != 0xfd || end[1] != 0x7f)
    return dft_fail(DFT_EDATA, "%s: truncated or damaged: it does not end with a CRC", name);
  uint32_t stored = 0;
  for (int i = 0; i < 4; i++) stored |= (uint32_t)end[2 + i] << (8 * i);
  uint32_t computed = dft_crc32c(0, bytes, count - DFT_CRC_FIELD_BYTES);
  if (stored != computed)
    return dft_fail(DFT_EDATA, "%s: truncated or damaged: its CRC32C is %08x, its bytes give %08x", name,
                    stored, computed);
  return DFT_OK;
}

static dft_status copy_text(const char *from, char **to) {
  *to = strdup(from);
  return *to == NULL ? dft_fail_memory("checkpoint", strlen(from) + 1) : DFT_OK;
}

/* A name, which goes into tables and messages. */
static dft_status copy_name(const char *file, const char *from, char **to) {
  if (!dft_is_line(from)) return dft_fail(DFT_EDATA, "%s: the name '%s' is not text in one line", file, from);
  return copy_text(from, to);
}

static dft_status check_tensor(const char *name, const Dft__Tensor *t) {
  if (!dft_is_line(t->layer) || !dft_is_line(t->variable))
    return dft_fail(DFT_EDATA, "%s: the tensor's name '%s/%s' is not text in one line", name, t->layer,
                    t->variable);
  if (t->n_shape > DFT_MAX_RANK)
    return dft_fail(DFT_EDATA, "%s: tensor %s/%s has %zu dimensions, at most %d are known", name, t->layer,
                    t->variable, t->n_shape, DFT_MAX_RANK);
  size_t elements = 1;
  for (size_t d = 0; d < t->n_shape; d++) {
    int64_t n = t->shape[d];
    if (n < 1 || (uint64_t)n > t->n_data / elements) /* so the product cannot overflow */
      return dft_fail(DFT_EDATA, "%s: tensor %s/%s: its shape does not fit its %zu values", name, t->layer,
                      t->variable, t->n_data);
    elements *= (size_t)n;
  }
  if (elements != t->n_data)
    return dft_fail(DFT_EDATA, "%s: tensor %s/%s: shape for %zu values, but %zu are there", name, t->layer,
                    t->variable, elements, t->n_data);
  return DFT_OK;
}

static int compare_names(const void *a, const void *b) {
  const Dft__Tensor *x = *(Dft__Tensor *const *)a, *y = *(Dft__Tensor *const *)b;
  int order = strcmp(x->layer, y->layer);
  return order != 0 ? order : strcmp(x->variable, y->variable);
}

static dft_status check_unique(const char *name, Dft__Tensor **tensors, size_t count) {
  Dft__Tensor **sorted = malloc((count + 1) * sizeof(Dft__Tensor *));
  if (sorted == NULL) return dft_fail_memory("checkpoint", count * sizeof(Dft__Tensor *));
  for (size_t i = 0; i < count; i++) sorted[i] = tensors[i];
  qsort(sorted, count, sizeof(Dft__Tensor *), compare_names);
  dft_status status = DFT_OK;
  for (size_t i = 1; i < count && status == DFT_OK; i++)
    if (compare_names(&sorted[i - 1], &sorted[i]) == 0)
      status =
          dft_fail(DFT_EDATA, "%s: tensor %s/%s is there twice", name, sorted[i]->layer, sorted[i]->variable);
  free(sorted);
  return status;
}

static dft_status get_tensors(const char *name, Dft__Tensor **tensors, size_t count, dft_weights *w) {
  DFT_TRY(check_unique(name, tensors, count));
  for (size_t i = 0; i < count; i++) {
    const Dft__Tensor *t = tensors[i];
    DFT_TRY(check_tensor(name, t));
    DFT_TRY(dft_weights_add(w, t->layer, t->variable, (int)t->n_shape, t->shape, t->data));
  }
  return DFT_OK;
}

static dft_status get_model(const char *name, const Dft__Model *m, dft_state *s) {
  if (!(m->alpha > 0 && m->alpha <= MOST_ALPHA) || m->height < 1 || m->width < 1 || m->classes < 0)
    return dft_fail(DFT_EDATA, "%s: impossible model: alpha %g, input %dx%d, %d classes", name, m->alpha,
                    m->height, m->width, m->classes);
  if (m->n_class_names != 0 && m->n_class_names != (size_t)m->classes)
    return dft_fail(DFT_EDATA, "%s: %zu class names for %d classes", name, m->n_class_names, m->classes);
  s->alpha = m->alpha;
  s->height = m->height;
  s->width = m->width;
  s->classes = m->classes;
  DFT_TRY(copy_name(name, m->name, &s->model_name));
  DFT_TRY(copy_name(name, m->pooling, &s->pooling));
  DFT_TRY(copy_name(name, m->preprocessing, &s->preprocessing));
  DFT_TRY(copy_name(name, m->resize, &s->resize));
  if (m->n_class_names == 0) return DFT_OK;
  s->weights.class_names = calloc(m->n_class_names, sizeof(char *));
  if (s->weights.class_names == NULL) return dft_fail_memory("class names", m->n_class_names);
  s->weights.classes = m->classes;
  for (int i = 0; i < m->classes; i++)
    DFT_TRY(copy_name(name, m->class_names[i], &s->weights.class_names[i]));
  return DFT_OK;
}

static dft_status get_position(const char *name, const Dft__Position *p, int64_t iterations, dft_state *s) {
  if (p->phase < 0 || p->phase_epoch < 0 || p->epoch < 0 || p->step < 0 || p->samples < 0 || p->skipped < 0 ||
      p->left_out < 0 || iterations < 0)
    return dft_fail(DFT_EDATA, "%s: a position is negative (phase %d, epoch %d, step %lld)", name, p->phase,
                    p->epoch, (long long)p->step);
  s->at.phase = p->phase;
  s->at.phase_epoch = p->phase_epoch;
  s->at.epoch = p->epoch;
  s->at.step = p->step;
  s->at.position = p->samples;
  s->at.loss_sum = p->loss_sum;
  s->at.correct_sum = p->correct_sum;
  s->at.count_sum = p->count_sum;
  s->at.finished = p->finished;
  s->at.skipped = p->skipped;
  s->at.left_out = p->left_out;
  s->iterations = iterations;
  return DFT_OK;
}

static dft_status get_run(const char *name, const Dft__Run *r, dft_state *s) {
  if (r->shards < 0 || (r->shards & (r->shards - 1)) != 0)
    return dft_fail(DFT_EDATA, "%s: %d shards: not a power of two", name, r->shards);
  if (r->train_count < 0 || r->best_epoch < 0)
    return dft_fail(DFT_EDATA, "%s: a count is negative (%lld samples, best epoch %d)", name,
                    (long long)r->train_count, r->best_epoch);
  for (const char *c = r->deciding; *c != '\0'; c++)
    if (*c != '\n' && dft_control_bytes(c) > 0)
      return dft_fail(DFT_EDATA, "%s: a control character in the run's config", name);
  s->seed = r->seed;
  s->shards = r->shards;
  s->data_fingerprint = r->data_fingerprint;
  s->train_count = r->train_count;
  s->validation_fingerprint = r->has_validation_fingerprint ? r->validation_fingerprint : 0;
  s->at.best = r->has_best ? r->best : NAN;
  s->at.best_epoch = r->best_epoch;
  return copy_text(r->deciding, &s->deciding);
}

static dft_status get_history(const char *name, Dft__Epoch **epochs, size_t count, dft_state *s) {
  if (count == 0) return DFT_OK;
  s->history = calloc(count, sizeof *s->history);
  if (s->history == NULL) return dft_fail_memory("history", count * sizeof *s->history);
  for (size_t i = 0; i < count; i++) {
    const Dft__Epoch *e = epochs[i];
    s->history[i] = (dft_epoch){.epoch = e->epoch,
                                .accuracy = e->accuracy,
                                .loss = e->loss,
                                .val_accuracy = e->has_val_accuracy ? e->val_accuracy : NAN,
                                .val_loss = e->has_val_loss ? e->val_loss : NAN,
                                .learning_rate = e->learning_rate};
    s->history_count++;
    DFT_TRY(copy_name(name, e->phase, &s->history[i].phase));
  }
  return DFT_OK;
}

static dft_status get_state(const char *name, const Dft__Checkpoint *c, dft_state *s) {
  DFT_TRY(get_model(name, c->model, s));
  DFT_TRY(get_position(name, c->position, c->optimizer->iterations, s));
  DFT_TRY(get_run(name, c->run, s));
  DFT_TRY(get_history(name, c->history, c->n_history, s));
  DFT_TRY(get_tensors(name, c->tensors, c->n_tensors, &s->weights));
  return get_tensors(name, c->slots, c->n_slots, &s->slots);
}

/* The version stands before everything that a later format may have changed: field 2, a varint. */
static uint32_t version_of(const unsigned char *bytes, size_t count) {
  uint32_t version = 0;
  size_t at = DFT_CHECKPOINT_MAGIC_BYTES;
  if (bytes[at++] != 0x10) return 0;
  for (int shift = 0; shift < 28 && at < count; shift += 7) {
    version |= (uint32_t)(bytes[at] & 0x7f) << shift;
    if ((bytes[at++] & 0x80) == 0) return version;
  }
  return UINT32_MAX;
}

dft_status dft_state_decode(const char *name, const unsigned char *bytes, size_t count, dft_state *s) {
  memset(s, 0, sizeof *s);
  DFT_TRY(check_envelope(name, bytes, count));
  uint32_t version = version_of(bytes, count);
  if (version == 0) return dft_fail(DFT_EDATA, "%s: is not a valid dft.Checkpoint: no format version", name);
  if (version > DFT_CHECKPOINT_VERSION)
    return dft_fail(DFT_EDATA, "%s: written by a newer dft (format %u, this one reads %d)", name, version,
                    DFT_CHECKPOINT_VERSION);
  if (count > INT32_MAX)
    return dft_fail(DFT_EDATA, "%s: %zu bytes are too many for a checkpoint", name, count);
  dft_budget memory = dft_budget_for_protobuf(count);
  ProtobufCAllocator allocator = {dft_budget_alloc, dft_budget_free, &memory};
  Dft__Checkpoint *c = dft__checkpoint__unpack(&allocator, count, bytes);
  if (c == NULL && memory.out_of_memory) return dft_fail_memory(name, 0);
  if (c == NULL)
    return dft_fail(DFT_EDATA, "%s: %s", name,
                    memory.exceeded ? "holds more parts than a checkpoint has"
                                    : "is not a valid dft.Checkpoint");
  dft_status status = get_state(name, c, s);
  dft__checkpoint__free_unpacked(c, &allocator);
  if (status != DFT_OK) dft_state_free(s);
  return status;
}

void dft_state_free(dft_state *s) {
  if (s == NULL) return;
  dft_weights_free(&s->weights);
  dft_weights_free(&s->slots);
  for (int i = 0; i < s->history_count; i++) free(s->history[i].phase);
  free(s->history);
  free(s->model_name);
  free(s->pooling);
  free(s->preprocessing);
  free(s->resize);
  free(s->deciding);
  memset(s, 0, sizeof *s);
}
