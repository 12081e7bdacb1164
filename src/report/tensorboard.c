#include "tensorboard.h"
#include "dft/crc.h"
#include "dft/file.h"
#include "event.pb-c.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct event_file {
  char folder[PATH_MAX], path[PATH_MAX];
  FILE *file;         /* NULL: nothing to tell yet */
  size_t at;          /* its bytes so far */
  unsigned char *old; /* what it held before, or NULL */
  size_t old_bytes;
} event_file;

struct dft_events {
  event_file train, validation;
};

static dft_status cannot_write(const char *path) {
  return dft_fail(DFT_EIO, "%s: cannot write: %s", path, strerror(errno));
}

static void little_endian(uint64_t value, unsigned char *bytes, int count) {
  for (int i = 0; i < count; i++) bytes[i] = (unsigned char)(value >> (8 * i));
}

/* The CRC of bytes that hold CRCs themselves is a weak one, so TFRecord masks them
 * (tensorflow/core/lib/hash/crc32c.h). */
static uint32_t masked_crc(const unsigned char *bytes, size_t count) {
  uint32_t crc = dft_crc32c(0, bytes, count);
  return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

/* A record of a TFRecord file: length, CRC of the length, data, CRC of the data
 * (tensorflow/core/lib/io/record_writer.h). */
enum { RECORD_HEADER = 12, RECORD_CRC = 4, RECORD_MOST = 256 };

static size_t make_record(const Dft__Events__Event *event, size_t bytes, unsigned char record[RECORD_MOST]) {
  little_endian(bytes, record, 8);
  little_endian(masked_crc(record, 8), record + 8, RECORD_CRC);
  dft__events__event__pack(event, record + RECORD_HEADER);
  little_endian(masked_crc(record + RECORD_HEADER, bytes), record + RECORD_HEADER + bytes, RECORD_CRC);
  return RECORD_HEADER + bytes + RECORD_CRC;
}

/* If the file held this very event here before: its record, with the time of then; else 0. */
static size_t make_old_record(const event_file *f, Dft__Events__Event *event, size_t bytes,
                              unsigned char record[RECORD_MOST]) {
  const size_t time_at = f->at + RECORD_HEADER + 1; /* the first field: its tag, the double */
  if (f->old == NULL || f->at + RECORD_HEADER + bytes + RECORD_CRC > f->old_bytes) return 0;
  memcpy(&event->wall_time, f->old + time_at, sizeof event->wall_time);
  const size_t whole = make_record(event, bytes, record);
  return memcmp(f->old + f->at, record, whole) == 0 ? whole : 0;
}

static dft_status write_event(event_file *f, Dft__Events__Event *event) {
  unsigned char record[RECORD_MOST];
  const size_t bytes = dft__events__event__get_packed_size(event);
  if (bytes > RECORD_MOST - RECORD_HEADER - RECORD_CRC)
    return dft_fail(DFT_EINTERNAL, "%s: an event of %zu bytes", f->path, bytes);
  size_t whole = make_old_record(f, event, bytes, record);
  if (whole == 0) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    event->wall_time = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    whole = make_record(event, bytes, record);
  }
  f->at += whole;
  return fwrite(record, 1, whole, f->file) == whole ? DFT_OK : cannot_write(f->path);
}

static dft_status write_scalar(event_file *f, char *tag, int64_t step, double number) {
  float single = (float)number;
  Dft__Events__Shape shape = DFT__EVENTS__SHAPE__INIT;
  Dft__Events__Scalar tensor = DFT__EVENTS__SCALAR__INIT;
  tensor.dtype = DFT__EVENTS__DATA_TYPE__DT_FLOAT;
  tensor.tensor_shape = &shape;
  tensor.n_float_val = 1;
  tensor.float_val = &single;
  Dft__Events__Plugin plugin = DFT__EVENTS__PLUGIN__INIT;
  plugin.plugin_name = (char[]){"scalars"};
  Dft__Events__Metadata metadata = DFT__EVENTS__METADATA__INIT;
  metadata.plugin_data = &plugin;
  Dft__Events__Value value = DFT__EVENTS__VALUE__INIT, *values = &value;
  value.tag = tag;
  value.tensor = &tensor;
  value.metadata = &metadata;
  Dft__Events__Summary summary = DFT__EVENTS__SUMMARY__INIT;
  summary.n_value = 1;
  summary.value = &values;
  Dft__Events__Event event = DFT__EVENTS__EVENT__INIT;
  event.has_step = 1;
  event.step = step;
  event.summary = &summary;
  return write_event(f, &event);
}

/* The same file is written anew rather than another put in its place: a TensorBoard that reads it meanwhile
 * goes on where it was, since an epoch's events are as long the second time, and keep their times. */
static dft_status begin(event_file *f) {
  enum { MOST_BYTES = 1 << 28 };
  Dft__Events__Event event = DFT__EVENTS__EVENT__INIT;
  event.file_version = (char[]){"brain.Event:2"};
  if (mkdir(f->folder, 0777) != 0 && errno != EEXIST)
    return dft_fail(DFT_EIO, "%s: cannot create: %s", f->folder, strerror(errno));
  if (access(f->path, F_OK) == 0) (void)dft_read_file(f->path, MOST_BYTES, &f->old, &f->old_bytes);
  f->file = fopen(f->path, "we");
  return f->file ? write_event(f, &event) : cannot_write(f->path);
}

static dft_status write_metrics(event_file *f, int64_t step, double accuracy, double loss) {
  if (f->file == NULL) DFT_TRY(begin(f));
  DFT_TRY(write_scalar(f, (char[]){"epoch_accuracy"}, step, accuracy));
  return write_scalar(f, (char[]){"epoch_loss"}, step, loss);
}

static dft_status write_epoch(dft_events *events, const dft_epoch *e) {
  int64_t step = e->epoch - 1; /* Keras counts from 0 here */
  DFT_TRY(write_metrics(&events->train, step, e->accuracy, e->loss));
  DFT_TRY(write_scalar(&events->train, (char[]){"epoch_learning_rate"}, step, e->learning_rate));
  if (isnan(e->val_loss) && isnan(e->val_accuracy)) return DFT_OK;
  return write_metrics(&events->validation, step, e->val_accuracy, e->val_loss);
}

/* What was written must have arrived, for whoever looks on and so that a full disk is noticed. */
static dft_status flush(event_file *f) {
  return f->file == NULL || fflush(f->file) == 0 ? DFT_OK : cannot_write(f->path);
}

dft_status dft_events_epoch(dft_events *events, const dft_epoch *epoch) {
  DFT_TRY(write_epoch(events, epoch));
  DFT_TRY(flush(&events->train));
  return flush(&events->validation);
}

static dft_status name_file(event_file *f, const char *directory, const char *folder) {
  snprintf(f->folder, sizeof f->folder, "%s/%s", directory, folder);
  int length = snprintf(f->path, sizeof f->path, "%s/%s/" DFT_EVENTS_FILE, directory, folder);
  if (length >= 0 && (size_t)length < sizeof f->path) return DFT_OK;
  return dft_fail(DFT_EIO, "%s: cannot write: %s", f->folder, strerror(ENAMETOOLONG));
}

static void forget(event_file *f) {
  free(f->old);
  f->old = NULL;
}

static dft_status write_history(dft_events *events, const char *directory, const dft_epoch *history,
                                int count) {
  DFT_TRY(name_file(&events->train, directory, "train"));
  DFT_TRY(name_file(&events->validation, directory, "validation"));
  DFT_TRY(begin(&events->train));
  for (int i = 0; i < count; i++) DFT_TRY(write_epoch(events, &history[i]));
  /* a run that was killed before its first checkpoint may have left one */
  bool stale = events->validation.file == NULL && access(events->validation.path, F_OK) == 0;
  if (stale) DFT_TRY(begin(&events->validation));
  forget(&events->train);
  forget(&events->validation);
  DFT_TRY(flush(&events->train));
  return flush(&events->validation);
}

dft_status dft_events_open(const char *directory, const dft_epoch *history, int count, dft_events **events) {
  *events = NULL;
  dft_events *fresh = calloc(1, sizeof *fresh);
  if (fresh == NULL) return dft_fail_memory("events", sizeof *fresh);
  dft_status status = write_history(fresh, directory, history, count);
  if (status == DFT_OK)
    *events = fresh;
  else
    dft_events_close(fresh);
  return status;
}

void dft_events_close(dft_events *events) {
  if (events == NULL) return;
  forget(&events->train);
  forget(&events->validation);
  if (events->train.file != NULL) fclose(events->train.file);
  if (events->validation.file != NULL) fclose(events->validation.file);
  free(events);
}
