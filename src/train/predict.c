/* `dft predict`: probabilities for images, each once, whatever the number of ranks. */
#include "dft/file.h"
#include "dft/loss.h"
#include "train.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 64, TAG = 1 };

/* Everything that stays open over the inputs. Only rank 0 collects probabilities[count][classes]. */
typedef struct prediction {
  dft_comm *comm;
  const dft_ops *ops;
  dft_state *state;
  dft_model *model;
  dft_folded_net *net;
  dft_preprocessing preprocessing;
  dft_resize resize;
  char **names; /* rank 0: a name per image */
  float *probabilities;
  int64_t count;
} prediction;

static dft_status read_words(prediction *p, const char *path) {
  int preprocessing = 0, resize = 0;
  DFT_TRY(dft_word_value(path, p->state->preprocessing, dft_preprocessing_words, &preprocessing));
  DFT_TRY(dft_word_value(path, p->state->resize, dft_resize_words, &resize));
  p->preprocessing = (dft_preprocessing)preprocessing;
  p->resize = (dft_resize)resize;
  return DFT_OK;
}

/* Images [begin, end) of a dataset into out[end-begin][classes]. */
static dft_status predict_range(prediction *p, const dft_dataset *data, int64_t begin, int64_t end,
                                float *out) {
  const dft_model *m = p->model;
  size_t image = (size_t)m->height * (size_t)m->width * 3, classes = (size_t)m->classes;
  dft_arena *arena = dft_arena_new();
  if (arena == NULL) return dft_fail_memory("prediction", 0);
  float *x = dft_arena_floats(arena, TILE * image),
        *features = dft_arena_floats(arena, TILE * (size_t)m->features);
  float *packed = dft_arena_floats(arena, dft_model_head_packed_floats(m, p->ops));
  float *logits = dft_arena_floats(arena, TILE * classes);
  dft_status status = !x || !features || !packed || !logits ? dft_fail_memory("prediction", 0) : DFT_OK;
  for (int64_t first = begin; first < end && status == DFT_OK; first += TILE) {
    int n = (int)(end - first < TILE ? end - first : TILE);
    for (int i = 0; i < n && status == DFT_OK; i++)
      status = dft_dataset_image(data, first + i, x + (size_t)i * image);
    if (status != DFT_OK) break;
    dft_folded_run(p->net, x, features, n);
    dft_model_head(m, p->ops, features, packed, logits, n);
    dft_softmax(logits, n, m->classes, out + (size_t)(first - begin) * classes);
  }
  dft_arena_free(arena);
  return status;
}

/* Rank 0 makes room for `more` images and names them. */
static dft_status grow(prediction *p, const dft_dataset *data, int64_t more) {
  size_t total = (size_t)(p->count + more), classes = (size_t)p->model->classes;
  float *probabilities = realloc(p->probabilities, (total ? total : 1) * classes * sizeof *probabilities);
  if (probabilities != NULL) p->probabilities = probabilities;
  char **names = realloc(p->names, (total ? total : 1) * sizeof *names);
  if (names != NULL) p->names = names;
  if (names == NULL || probabilities == NULL)
    return dft_fail_memory("predictions", total * classes * sizeof(float));
  for (int64_t i = 0; i < more; i++) {
    char name[512];
    dft_dataset_name(data, i, name, sizeof name);
    if ((p->names[p->count] = strdup(name)) == NULL) return dft_fail_memory("names", 0);
    p->count++;
  }
  return DFT_OK;
}

static dft_status gather(prediction *p, int64_t n, float *mine, float *all) {
  int rank = dft_comm_rank(p->comm), ranks = dft_comm_size(p->comm);
  size_t row = (size_t)p->model->classes * sizeof(float);
  dft_message m = {0};
  if (rank != 0) {
    int64_t begin = n * rank / ranks, end = n * (rank + 1) / ranks;
    if (end == begin) return DFT_OK;
    DFT_TRY(dft_comm_isend(p->comm, 0, TAG, mine, (size_t)(end - begin) * row, &m));
    return dft_comm_wait(p->comm, &m);
  }
  for (int r = 1; r < ranks; r++) {
    int64_t begin = n * r / ranks, end = n * (r + 1) / ranks;
    if (end == begin) continue;
    DFT_TRY(
        dft_comm_irecv(p->comm, r, TAG, all + begin * p->model->classes, (size_t)(end - begin) * row, &m));
    DFT_TRY(dft_comm_wait(p->comm, &m));
  }
  return DFT_OK;
}

static dft_status predict_input(prediction *p, const char *path) {
  dft_dataset *data = NULL;
  DFT_TRY(
      dft_comm_agree(p->comm, dft_data_open_images(path, p->model->height, p->model->width, p->preprocessing,
                                                   p->resize, dft_comm_share(p->comm), &data)));
  int rank = dft_comm_rank(p->comm), ranks = dft_comm_size(p->comm);
  int64_t n = dft_dataset_count(data), begin = n * rank / ranks, end = n * (rank + 1) / ranks;
  int64_t before = p->count;
  float *mine = NULL;
  dft_status status = DFT_OK;
  if (rank == 0) {
    status = grow(p, data, n);
    if (status == DFT_OK) mine = p->probabilities + before * p->model->classes;
  } else if ((mine = malloc((size_t)(end - begin + 1) * (size_t)p->model->classes * sizeof *mine)) == NULL) {
    status = dft_fail_memory("predictions", 0);
  }
  if (status == DFT_OK) status = predict_range(p, data, begin, end, mine);
  status = dft_comm_agree(p->comm, status);
  if (status == DFT_OK) status = gather(p, n, mine, mine);
  if (rank != 0) free(mine);
  dft_dataset_free(data);
  return status;
}

/* A CSV field, quoted where it must be (RFC 4180). */
static void csv_field(FILE *f, const char *text) {
  if (strpbrk(text, ",\"\r\n") == NULL) {
    fputs(text, f);
    return;
  }
  fputc('"', f);
  for (; *text; text++) fprintf(f, *text == '"' ? "\"\"" : "%c", *text);
  fputc('"', f);
}

static void class_name(const prediction *p, int c, char *text, size_t bytes) {
  char **names = p->state->weights.class_names;
  if (names != NULL)
    snprintf(text, bytes, "%s", names[c]);
  else
    snprintf(text, bytes, "%d", c);
}

static void write_csv(const prediction *p, FILE *f) {
  char name[256];
  int classes = p->model->classes;
  fprintf(f, "input,predicted,probability");
  for (int c = 0; c < classes; c++) {
    class_name(p, c, name, sizeof name);
    fputc(',', f);
    csv_field(f, name);
  }
  fputc('\n', f);
  for (int64_t i = 0; i < p->count; i++) {
    const float *row = p->probabilities + i * classes;
    int best = dft_argmax(row, classes);
    class_name(p, best, name, sizeof name);
    csv_field(f, p->names[i]);
    fputc(',', f);
    csv_field(f, name);
    fprintf(f, ",%.9g", row[best]);
    for (int c = 0; c < classes; c++) fprintf(f, ",%.9g", row[c]);
    fputc('\n', f);
  }
}

/* NumPy's format 1.0: magic, header padded to a multiple of 64, values. */
static void write_npy(const prediction *p, FILE *f) {
  char header[128];
  int used =
      snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %d), }",
               (long long)p->count, p->model->classes);
  int padded = (10 + used + 1 + 63) / 64 * 64 - 10;
  fwrite("\x93NUMPY\x01\x00", 1, 8, f);
  fputc(padded & 0xff, f);
  fputc(padded >> 8, f);
  fprintf(f, "%s%*s\n", header, padded - used - 1, "");
  fwrite(p->probabilities, sizeof(float), (size_t)p->count * (size_t)p->model->classes, f);
}

static dft_status write_output(const prediction *p, const char *output) {
  if (output == NULL) {
    write_csv(p, stdout);
    return fflush(stdout) == 0 ? DFT_OK : dft_fail(DFT_EIO, "cannot write to standard output");
  }
  size_t length = strlen(output);
  bool npy = length > 4 && strcmp(output + length - 4, ".npy") == 0;
  char *text = NULL;
  size_t bytes = 0;
  FILE *f = open_memstream(&text, &bytes);
  if (f == NULL) return dft_fail_memory("predictions", 0);
  if (npy)
    write_npy(p, f);
  else
    write_csv(p, f);
  dft_status status =
      fclose(f) == 0 ? dft_write_file(output, text, bytes) : dft_fail_memory("predictions", 0);
  free(text);
  return status;
}

static dft_status open_prediction(prediction *p, const char *checkpoint) {
  dft_kernels kernels;
  int threads = 1;
  dft_config defaults = {0}; /* compute.threads auto */
  DFT_TRY(dft_read_checkpoint(p->comm, checkpoint, p->state));
  DFT_TRY(read_words(p, checkpoint));
  DFT_TRY(dft_setup_compute(p->comm, &defaults, &kernels, &p->ops, &threads));
  dft_status status = dft_model_of_state(p->state, checkpoint, &p->model);
  if (status == DFT_OK)
    status = dft_folded_new(p->model, p->ops, 0, p->model->unit_count, DFT_PREFIX_FLOAT32, &p->net);
  return dft_comm_agree(p->comm, status);
}

dft_status dft_predict(dft_comm *comm, const char *checkpoint, const char *const *inputs, int input_count,
                       const char *output) {
  dft_state state = {0};
  prediction p = {.comm = comm, .state = &state};
  dft_status status = open_prediction(&p, checkpoint);
  for (int i = 0; i < input_count && status == DFT_OK; i++) status = predict_input(&p, inputs[i]);
  if (status == DFT_OK)
    status = dft_comm_agree(comm, dft_comm_rank(comm) == 0 ? write_output(&p, output) : DFT_OK);
  dft_folded_free(p.net);
  dft_model_free(p.model);
  for (int64_t i = 0; i < p.count; i++) free(p.names[i]);
  free(p.names);
  free(p.probabilities);
  dft_state_free(&state);
  return status;
}
