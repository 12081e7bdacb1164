/* `dft predict`: probabilities for images, each once, whatever the number of ranks. */
#include "predict.h"
#include "dft/clock.h"
#include "dft/file.h"
#include "dft/log.h"
#include "dft/loss.h"
#include "train.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TILE = 64, NAME_BYTES = 8192, MESSAGE_BYTES = 1 << 30 };

/* Everything that stays open over the inputs. Only rank 0 collects. */
typedef struct prediction {
  dft_comm *comm;
  const dft_ops *ops, *host_ops; /* for the base and for the head */
  dft_state *state;
  dft_model *model;
  dft_folded_net *net;
  dft_preprocessing preprocessing;
  dft_resize resize;
  int threads;
  dft_predictions all;
  int64_t unreadable; /* of all ranks */
  FILE *errors;       /* what this rank found wrong with the present input, a line each */
} prediction;

static dft_status read_words(prediction *p, const char *path) {
  int preprocessing = 0, resize = 0;
  DFT_TRY(dft_state_word(path, "data.preprocessing", p->state->preprocessing, &preprocessing));
  DFT_TRY(dft_state_word(path, "data.resize", p->state->resize, &resize));
  p->preprocessing = (dft_preprocessing)preprocessing;
  p->resize = (dft_resize)resize;
  return DFT_OK;
}

/* ---- this rank's part ---- */

/* What became of the images of a tile, which several threads read. */
typedef struct tile {
  dft_status status[TILE];
  char errors[TILE][DFT_MESSAGE_BYTES];
} tile;

static void read_tile(const prediction *p, const dft_dataset *data, int64_t first, int n, size_t image,
                      float *x, tile *t) {
#pragma omp parallel for num_threads(p->threads) schedule(dynamic)
  for (int i = 0; i < n; i++) {
    t->status[i] = dft_dataset_image(data, first + i, x + (size_t)i * image);
    if (t->status[i] == DFT_OK) continue;
    snprintf(t->errors[i], DFT_MESSAGE_BYTES, "%s", dft_error());
    memset(x + (size_t)i * image, 0, image * sizeof *x);
  }
}

/* An array of floats can hold what gives no probabilities: no class may come out of it. */
static void refuse_nonfinite(const prediction *p, const dft_dataset *data, int64_t first, int n,
                             const float *rows, tile *t) {
  for (int i = 0; i < n; i++) {
    char name[DFT_MESSAGE_BYTES / 2];
    if (t->status[i] != DFT_OK || isfinite(rows[(size_t)i * (size_t)p->model->classes])) continue;
    dft_dataset_name(data, first + i, name, sizeof name);
    t->status[i] = DFT_EDATA;
    snprintf(t->errors[i], DFT_MESSAGE_BYTES, "%s: its values give probabilities that are not finite", name);
  }
}

/* Notes what could not be read, in order. Anything but bad data ends the prediction. */
static dft_status note_unreadable(const prediction *p, const tile *t, int n, float *out) {
  for (int i = 0; i < n; i++) {
    if (t->status[i] == DFT_OK) continue;
    if (t->status[i] != DFT_EDATA) return dft_fail(t->status[i], "%s", t->errors[i]);
    if (dft_comm_hosts(p->comm) > 1)
      fprintf(p->errors, "%s (host %s)\n", t->errors[i], dft_comm_host(p->comm, dft_comm_rank(p->comm)));
    else
      fprintf(p->errors, "%s\n", t->errors[i]);
    out[(size_t)i * (size_t)p->model->classes] = DFT_UNREADABLE;
  }
  return DFT_OK;
}

/* Of `mine` images of a rank so many are done: the other ranks have come as far with theirs, more or less. */
static void show_progress(const dft_dataset *data, int64_t done, int64_t mine, double start_s) {
  const int64_t all = dft_dataset_count(data);
  dft_progress("%lld of %lld images, %.0f s left", (long long)(all * done / mine), (long long)all,
               dft_left_s(start_s, done, mine));
}

/* Images [begin, end) of a dataset into out[end-begin][classes]. */
static dft_status predict_range(prediction *p, const dft_dataset *data, int64_t begin, int64_t end,
                                float *out) {
  const dft_model *m = p->model;
  size_t image = (size_t)m->height * (size_t)m->width * 3, classes = (size_t)m->classes;
  dft_arena *arena = dft_arena_new();
  if (arena == NULL) return dft_fail_memory("prediction", 0);
  tile *t = malloc(sizeof *t);
  float *x = dft_arena_floats(arena, TILE * image),
        *features = dft_arena_floats(arena, TILE * (size_t)m->features);
  float *packed = dft_arena_floats(arena, dft_model_head_packed_floats(m, p->host_ops));
  float *logits = dft_arena_floats(arena, TILE * classes);
  dft_status status = !t || !x || !features || !packed || !logits ? dft_fail_memory("prediction", 0) : DFT_OK;
  const double start_s = dft_now_s();
  for (int64_t first = begin; first < end && status == DFT_OK; first += TILE) {
    int n = (int)(end - first < TILE ? end - first : TILE);
    float *rows = out + (size_t)(first - begin) * classes;
    read_tile(p, data, first, n, image, x, t);
    if ((status = dft_folded_run(p->net, x, features, n)) != DFT_OK) break;
    dft_model_head(m, p->host_ops, features, packed, logits, n);
    dft_softmax(logits, n, m->classes, rows);
    refuse_nonfinite(p, data, first, n, rows, t);
    status = note_unreadable(p, t, n, rows);
    dft_comm_tick(p->comm);
    show_progress(data, first + n - begin, end - begin, start_s);
  }
  dft_progress_end();
  free(t);
  dft_arena_free(arena);
  return status;
}

/* ---- to rank 0 ---- */

/* Rank 0 makes room for `more` images and names them. */
static dft_status grow(prediction *p, const dft_dataset *data, int64_t more) {
  dft_predictions *all = &p->all;
  size_t total = (size_t)(all->count + more), classes = (size_t)p->model->classes;
  float *probabilities = realloc(all->probabilities, (total ? total : 1) * classes * sizeof *probabilities);
  if (probabilities != NULL) all->probabilities = probabilities;
  char **names = realloc(all->names, (total ? total : 1) * sizeof *names);
  if (names != NULL) all->names = names;
  if (names == NULL || probabilities == NULL)
    return dft_fail_memory("predictions", total * classes * sizeof(float));
  for (int64_t i = 0; i < more; i++) {
    char name[NAME_BYTES];
    dft_dataset_name(data, i, name, sizeof name);
    if ((all->names[all->count] = strdup(name)) == NULL) return dft_fail_memory("names", 0);
    all->count++;
  }
  return DFT_OK;
}

/* MPI counts the bytes of a message in an int. */
static size_t piece(size_t bytes) {
  return bytes < MESSAGE_BYTES ? bytes : MESSAGE_BYTES;
}

static dft_status send_to_first(prediction *p, const void *data, size_t bytes) {
  const char *at = data;
  for (size_t n; bytes > 0; at += n, bytes -= n) {
    dft_message m = {0};
    n = piece(bytes);
    DFT_TRY(dft_comm_isend(p->comm, 0, DFT_TAG_PREDICTIONS, at, n, &m));
    DFT_TRY(dft_comm_wait(p->comm, &m));
  }
  return DFT_OK;
}

static dft_status receive(prediction *p, int rank, void *data, size_t bytes) {
  char *at = data;
  for (size_t n; bytes > 0; at += n, bytes -= n) {
    dft_message m = {0};
    n = piece(bytes);
    DFT_TRY(dft_comm_irecv(p->comm, rank, DFT_TAG_PREDICTIONS, at, n, &m));
    DFT_TRY(dft_comm_wait(p->comm, &m));
  }
  return DFT_OK;
}

static dft_status gather_rows(prediction *p, int64_t n, float *mine) {
  int rank = dft_comm_rank(p->comm), ranks = dft_comm_size(p->comm);
  size_t row = (size_t)p->model->classes * sizeof(float);
  if (rank != 0) return send_to_first(p, mine, (size_t)(n * (rank + 1) / ranks - n * rank / ranks) * row);
  for (int r = 1; r < ranks; r++) {
    int64_t begin = n * r / ranks, end = n * (r + 1) / ranks;
    DFT_TRY(receive(p, r, mine + begin * p->model->classes, (size_t)(end - begin) * row));
  }
  return DFT_OK;
}

/* One warning for each line; returns their number. */
static int64_t warn_lines(char *text) {
  int64_t lines = 0;
  for (char *end; (end = strchr(text, '\n')) != NULL; text = end + 1, lines++) {
    *end = '\0';
    dft_warn("%s", text);
  }
  return lines;
}

/* Rank 0 says what all ranks found wrong, in the order of the images. */
static dft_status gather_errors(prediction *p, char *mine, size_t bytes) {
  int rank = dft_comm_rank(p->comm), ranks = dft_comm_size(p->comm);
  void *gathered;
  DFT_TRY(dft_comm_allgather_new(p->comm, &bytes, sizeof bytes, &gathered));
  const size_t *sizes = gathered;
  size_t most = 0;
  int64_t lines = 0;
  for (int r = 1; r < ranks; r++) most = sizes[r] > most ? sizes[r] : most;
  char *text = rank == 0 ? malloc(most + 1) : NULL;
  dft_status status =
      dft_comm_agree(p->comm, rank != 0 || text != NULL ? DFT_OK : dft_fail_memory("messages", most + 1));
  if (status == DFT_OK && rank != 0) status = send_to_first(p, mine, bytes);
  if (status == DFT_OK && rank == 0) lines = warn_lines(mine);
  for (int r = 1; r < ranks && rank == 0 && status == DFT_OK; r++) {
    status = receive(p, r, text, sizes[r]);
    text[sizes[r]] = '\0';
    if (status == DFT_OK) lines += warn_lines(text);
  }
  free(text);
  free(gathered);
  if (status == DFT_OK) status = dft_comm_bcast(p->comm, 0, &lines, sizeof lines);
  p->unreadable += lines;
  return dft_comm_agree(p->comm, status);
}

/* ---- an input ---- */

static dft_status predict_rows(prediction *p, const dft_dataset *data) {
  int rank = dft_comm_rank(p->comm), ranks = dft_comm_size(p->comm);
  int64_t n = dft_dataset_count(data), begin = n * rank / ranks, end = n * (rank + 1) / ranks;
  int64_t before = p->all.count;
  float *mine = NULL;
  dft_status status = DFT_OK;
  if (rank == 0) {
    status = grow(p, data, n);
    if (status == DFT_OK) mine = p->all.probabilities + before * p->model->classes;
  } else if ((mine = malloc((size_t)(end - begin + 1) * (size_t)p->model->classes * sizeof *mine)) == NULL) {
    status = dft_fail_memory("predictions", 0);
  }
  if (status == DFT_OK) status = predict_range(p, data, begin, end, mine);
  status = dft_comm_agree_hosts(p->comm, status);
  if (status == DFT_OK) status = gather_rows(p, n, mine);
  if (rank != 0) free(mine);
  return status;
}

static dft_status predict_dataset(prediction *p, const dft_dataset *data) {
  char *text = NULL;
  size_t bytes = 0;
  p->errors = open_memstream(&text, &bytes);
  dft_status status = p->errors != NULL ? DFT_OK : dft_fail_memory("messages", 0);
  status = dft_comm_agree(p->comm, status);
  if (status == DFT_OK) status = predict_rows(p, data);
  if (p->errors != NULL && fclose(p->errors) != 0 && status == DFT_OK)
    status = dft_fail_memory("messages", 0);
  status = dft_comm_agree(p->comm, status);
  if (status == DFT_OK) status = gather_errors(p, text, bytes);
  free(text);
  return status;
}

/* `count` paths of one kind: an array, or any number of image files. */
static dft_status predict_input(prediction *p, char kind, const char *const *paths, int64_t count) {
  const dft_share *share = dft_comm_share(p->comm);
  int height = p->model->height, width = p->model->width;
  dft_dataset *data = NULL;
  dft_status status =
      kind == DFT_INPUT_ARRAY
          ? dft_data_open_images(paths[0], height, width, p->preprocessing, p->resize, share, &data)
          : dft_data_open_files(paths, count, height, width, p->preprocessing, p->resize, share, &data);
  status = dft_comm_agree_hosts(p->comm, status);
  if (status == DFT_OK && dft_comm_rank(p->comm) == 0) dft_tell_data(data, false);
  if (status == DFT_OK) status = predict_dataset(p, data);
  dft_dataset_free(data);
  return status;
}

/* Rank 0 lists, the others are told: standard input is its alone, and folders may look different elsewhere.
 */
static dft_status list_inputs(prediction *p, const dft_prediction_request *request, dft_inputs *inputs) {
  bool lists = dft_comm_rank(p->comm) == 0;
  dft_status status = DFT_OK;
  for (int i = 0; i < request->input_count && lists && status == DFT_OK; i++)
    status = dft_inputs_add(inputs, request->inputs[i], dft_comm_share(p->comm));
  DFT_TRY(dft_comm_agree(p->comm, status));
  DFT_TRY(dft_comm_bcast(p->comm, 0, &inputs->count, sizeof inputs->count));
  DFT_TRY(dft_comm_bcast(p->comm, 0, &inputs->bytes, sizeof inputs->bytes));
  if (!lists) inputs->text = malloc(inputs->bytes);
  DFT_TRY(dft_comm_agree(p->comm, inputs->text != NULL ? DFT_OK : dft_fail_memory("paths", inputs->bytes)));
  return dft_comm_bcast(p->comm, 0, inputs->text, inputs->bytes);
}

static dft_status try_output(const dft_prediction_request *request, const dft_inputs *inputs) {
  DFT_TRY(dft_no_overwrite_input(request->output, request->checkpoint));
  const bool there = access(request->output, F_OK) == 0; /* else it can be none of them */
  const char *record = inputs->text;
  for (int64_t i = 0; i < inputs->count && there; i++, record += strlen(record) + 1)
    DFT_TRY(dft_no_overwrite_input(request->output, record + 1));
  DFT_TRY(dft_no_overwrite_checkpoint(request->output));
  return dft_try_result(request->output);
}

/* Image files that follow one another are one input, so that all ranks have some of them. */
static dft_status predict_inputs(prediction *p, const dft_inputs *inputs) {
  const char **paths = malloc((size_t)inputs->count * sizeof *paths);
  dft_status status = dft_comm_agree(p->comm, paths != NULL ? DFT_OK : dft_fail_memory("paths", 0));
  const char *record = inputs->text;
  int64_t collected = 0;
  for (int64_t i = 0; i < inputs->count && status == DFT_OK; i++) {
    paths[collected++] = record + 1;
    char kind = record[0];
    record += strlen(record) + 1;
    bool last = i + 1 == inputs->count;
    if (kind == DFT_INPUT_IMAGE && !last && record[0] == DFT_INPUT_IMAGE) continue;
    status = predict_input(p, kind, paths, collected);
    collected = 0;
  }
  free(paths);
  return status;
}

static dft_status open_prediction(prediction *p, const char *checkpoint) {
  dft_compute compute;
  dft_config defaults = {0}; /* compute.threads auto */
  DFT_TRY(dft_read_checkpoint(p->comm, checkpoint, p->state));
  DFT_TRY(read_words(p, checkpoint));
  DFT_TRY(dft_setup_compute(p->comm, &defaults, false, &compute));
  p->threads = compute.threads;
  p->ops = compute.ops;
  p->host_ops = compute.host_ops;
  dft_status status = dft_model_of_state(p->state, checkpoint, true, &p->model);
  if (status == DFT_OK)
    status = dft_folded_new(p->model, p->ops, 0, p->model->unit_count, DFT_PREFIX_FLOAT32, &p->net);
  return dft_comm_agree(p->comm, status);
}

static dft_status check_top(const prediction *p, const dft_prediction_request *request) {
  if (request->top <= p->model->classes) return DFT_OK;
  return dft_fail(DFT_EUSAGE, "--top %d: %s has %d classes", request->top, request->checkpoint,
                  p->model->classes);
}

/* Writes what there is, then tells of what is missing. */
static dft_status finish(prediction *p, const dft_prediction_request *request) {
  p->all.classes = p->model->classes;
  p->all.class_names = p->state->weights.class_names;
  bool writes = dft_comm_rank(p->comm) == 0;
  int64_t images = p->all.count;
  DFT_TRY(dft_comm_agree(p->comm,
                         writes ? dft_predictions_write(&p->all, request->top, request->output) : DFT_OK));
  DFT_TRY(dft_comm_bcast(p->comm, 0, &images, sizeof images));
  if (p->unreadable == 0) return DFT_OK;
  if (p->unreadable == images)
    return dft_fail(DFT_EDATA, "none of the images could be read (%lld)", (long long)images);
  return dft_fail(DFT_EDATA, "%lld of %lld images could not be read; the others are predicted",
                  (long long)p->unreadable, (long long)images);
}

dft_status dft_predict(dft_comm *comm, const dft_prediction_request *request) {
  dft_state state = {0};
  dft_inputs inputs = {0};
  prediction p = {.comm = comm, .state = &state};
  dft_status status = open_prediction(&p, request->checkpoint);
  if (status == DFT_OK) status = check_top(&p, request);
  if (status == DFT_OK) status = list_inputs(&p, request, &inputs);
  const bool writes = request->output != NULL && dft_comm_rank(comm) == 0;
  if (status == DFT_OK) status = dft_comm_agree(comm, writes ? try_output(request, &inputs) : DFT_OK);
  if (status == DFT_OK) status = predict_inputs(&p, &inputs);
  if (status == DFT_OK) status = finish(&p, request);
  dft_inputs_free(&inputs);
  dft_folded_free(p.net);
  dft_model_free(p.model);
  for (int64_t i = 0; i < p.all.count; i++) free(p.all.names[i]);
  free(p.all.names);
  free(p.all.probabilities);
  dft_state_free(&state);
  return status;
}
