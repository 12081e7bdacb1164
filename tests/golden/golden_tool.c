/* The C side of test_trajectory.sh.
 *
 *   golden_tool inputs ALPHA SIZE DIR       writes DIR/weights.pb, and train_ and validation_ images and
 *                                           labels (.npy), as make_goldens.py gave them to Keras
 *   golden_tool compare GOLDEN ALPHA SIZE HISTORY.csv WEIGHTS PREDICTIONS.npy
 *                                           holds a run against tests/golden/data/GOLDEN.bin; exit 1 and a
 *                                           line for each thing that is further from Keras than allowed
 */
#include "dft/checkpoint.h"
#include "golden.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
  fprintf(stderr, "golden_tool: %s\n", what);
  return 1;
}

/* --- inputs --------------------------------------------------------------------------------------------- */

/* The .npy header: version 1.0, padded to 64 bytes with a newline at the end. */
static void npy_header(FILE *f, const char *type, const char *shape) {
  char text[119];
  int n =
      snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", type, shape);
  memset(text + n, ' ', sizeof text - (size_t)n);
  text[sizeof text - 2] = '\n';
  fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, f);
  fwrite(text, 1, 118, f);
}

static int write_split(const char *dir, const char *split, int first, int count, int size) {
  char path[512], shape[64];
  size_t bytes = (size_t)size * (size_t)size * 3;
  unsigned char *picture = malloc(bytes);
  snprintf(path, sizeof path, "%s/%s_images.npy", dir, split);
  FILE *images = fopen(path, "wb");
  snprintf(path, sizeof path, "%s/%s_labels.npy", dir, split);
  FILE *labels = fopen(path, "wb");
  if (picture == NULL || images == NULL || labels == NULL) return fail(path);
  snprintf(shape, sizeof shape, "%d, %d, %d, 3", count, size, size);
  npy_header(images, "|u1", shape);
  snprintf(shape, sizeof shape, "%d,", count);
  npy_header(labels, "<i4", shape);
  for (int i = first; i < first + count; i++) {
    int label = golden_label(i);
    golden_picture(i, size, picture);
    fwrite(picture, 1, bytes, images);
    fwrite(&label, 4, 1, labels);
  }
  free(picture);
  return (fclose(images) | fclose(labels)) ? fail(path) : 0;
}

static int write_weights(const char *dir, double alpha, int size) {
  dft_model *model = NULL;
  char path[512];
  if (golden_model(alpha, size, &model)) return 1;
  dft_state state = {.model_name = strdup("mobilenet_v2"),
                     .alpha = alpha,
                     .height = size,
                     .width = size,
                     .classes = GOLDEN_CLASSES,
                     .pooling = strdup("avg"),
                     .preprocessing = strdup("mobilenet_v2"),
                     .resize = strdup("stretch"),
                     .shards = 8,
                     .at.best = NAN,
                     .deciding = strdup(""),
                     .at.finished = true};
  snprintf(path, sizeof path, "%s/weights.pb", dir);
  dft_status status = dft_model_export(model, 0, &state.weights);
  if (status == DFT_OK) status = dft_state_write(&state, path);
  dft_state_free(&state);
  dft_model_free(model);
  return status == DFT_OK ? 0 : fail(dft_error());
}

static int inputs(double alpha, int size, const char *dir) {
  return write_weights(dir, alpha, size) || write_split(dir, "train", 0, GOLDEN_TRAIN, size) ||
         write_split(dir, "validation", GOLDEN_TRAIN, GOLDEN_VALIDATION, size);
}

/* --- compare -------------------------------------------------------------------------------------------- */

/* Allowed: some times what Keras' float32 is from its own float64 (one draw of a random thing), but at least
 * `least` and at most the largest distance that two builds of Keras were seen to have (design section 5).
 * With all layers training, some activation always falls on the other side of ReLU6's kink in one of the two:
 * there `most` is what is asked. */
typedef struct limits {
  double times, least, most;
} limits;
static const limits LOSS = {8, 1e-5, 7e-4}, PROBABILITY = {8, 5e-5, 4e-3}, UPDATE = {4, 1e-3, 3.5e-3},
                    TENSOR = {8, 5e-2, 0.5};
static bool all_layers;

static double allowed(limits l, double noise) {
  return all_layers ? l.most : fmin(fmax(l.times * noise, l.least), l.most);
}

static int hold(const char *what, double distance, double limit) {
  bool good = distance <= limit;
  printf("%s %-44s %.2g (allowed %.2g)\n", good ? "  " : "!!", what, distance, limit);
  return good ? 0 : 1;
}

/* history.csv: epoch,phase,accuracy,loss,val_accuracy,val_loss,learning_rate; golden [epochs][4]. */
static int compare_history(const golden_file *golden, const char *path) {
  const golden_record *want = golden_find(golden, "history#"), *about = golden_find(golden, "history");
  FILE *f = fopen(path, "r");
  char line[512];
  if (f == NULL || want == NULL || about == NULL || fgets(line, sizeof line, f) == NULL) return fail(path);
  double loss = 0.0, accuracy = 0.0;
  size_t row = 0;
  for (; fgets(line, sizeof line, f) != NULL; row++) {
    double got[4];
    if (sscanf(line, "%*d,%*[^,],%lf,%lf,%lf,%lf", &got[0], &got[1], &got[2], &got[3]) != 4) break;
    if (4 * row + 4 > want->count) break;
    for (int i = 0; i < 4; i++) {
      double *worst = i % 2 ? &loss : &accuracy, apart = fabs(got[i] - want->values[4 * row + (size_t)i]);
      if (!(apart <= *worst)) *worst = apart;
    }
  }
  fclose(f);
  if (4 * row != want->count) return fail("history.csv has another number of epochs");
  return hold("accuracies, largest difference", accuracy, 1e-6) +
         hold("losses, largest difference", loss, allowed(LOSS, about->values[3]));
}

static int compare_predictions(const golden_file *golden, const char *path) {
  enum { COUNT = GOLDEN_VALIDATION * GOLDEN_CLASSES };
  float got[COUNT];
  unsigned char head[10];
  FILE *f = fopen(path, "rb");
  if (f == NULL || fread(head, 1, sizeof head, f) != sizeof head) return fail(path);
  fseek(f, 10 + head[8] + 256 * head[9], SEEK_SET);
  size_t n = fread(got, sizeof(float), COUNT, f);
  bool more = fgetc(f) != EOF;
  fclose(f);
  if (n != COUNT || more) return fail("the predictions have another size");
  golden_difference d = golden_compare(golden, "predictions", got, COUNT);
  return hold("probabilities, largest difference", d.largest, allowed(PROBABILITY, d.noise_largest));
}

static int read_weights(const char *path, dft_state *state) {
  dft_file_kind kind;
  *state = (dft_state){0};
  dft_status status = dft_file_sniff(path, &kind);
  if (status == DFT_OK && kind == DFT_FILE_CHECKPOINT)
    status = dft_state_read(path, state);
  else if (status == DFT_OK)
    status = dft_keras_read(path, &state->weights);
  return status == DFT_OK ? 0 : fail(dft_error());
}

typedef struct update_sums {
  double apart, size; /* over all tensors, squared */
  double noise;
  int frozen, rounding, compared, bad;
} update_sums;

/* A beta whose gradient is zero in exact arithmetic may move by its last bit, or not at all as in Keras: its
 * BatchNorm trains when gamma does. */
static bool only_rounding(const golden_file *golden, const char *layer, const char *variable,
                          const float *update, int64_t count) {
  char gamma[GOLDEN_MAX_NAME];
  snprintf(gamma, sizeof gamma, "update/%s/gamma", layer);
  bool small = strcmp(variable, "beta") == 0 && golden_find(golden, gamma) != NULL;
  for (int64_t i = 0; i < count; i++) small = small && fabsf(update[i]) <= 1e-6F;
  return small;
}

static void compare_update(const golden_file *golden, const dft_model *m, const dft_param *p, float *w,
                           update_sums *sums) {
  char name[GOLDEN_MAX_NAME];
  snprintf(name, sizeof name, "update/%s/%s", m->layers[p->layer].name, p->variable);
  bool moved = memcmp(w, p->data, (size_t)p->elements * sizeof(float)) != 0;
  for (int64_t i = 0; i < p->elements; i++) w[i] -= p->data[i];
  golden_difference d = golden_compare(golden, name, w, p->elements);
  sums->frozen += d.presence == GOLDEN_ABSENT;
  sums->rounding += d.presence == GOLDEN_ZERO;
  if (d.presence == GOLDEN_ABSENT && moved &&
      !only_rounding(golden, m->layers[p->layer].name, p->variable, w, p->elements))
    sums->bad += hold(name, 1.0, 0.0);
  if (d.presence != GOLDEN_VALUES) return;
  sums->compared++;
  double norm = golden_find(golden, name)->values[1];
  sums->apart += pow(d.relative * norm, 2);
  sums->noise += pow(d.noise * norm, 2);
  sums->size += norm * norm;
  double limit = allowed(TENSOR, d.noise);
  if (!(d.relative <= limit)) sums->bad += hold(name, d.relative, limit);
  if (!(d.norm <= limit)) sums->bad += hold(name, d.norm, limit);
}

static int compare_weights(const golden_file *golden, double alpha, int size, const char *path) {
  dft_model *start = NULL;
  dft_state state;
  if (golden_model(alpha, size, &start) || read_weights(path, &state)) return 1;
  update_sums sums = {0};
  for (int i = 0; i < start->param_count; i++) {
    const dft_param *p = &start->params[i];
    dft_tensor *t = dft_weights_find(&state.weights, start->layers[p->layer].name, p->variable);
    if (t == NULL || dft_tensor_elements(t) != p->elements) return fail("a tensor is missing");
    compare_update(golden, start, p, t->data, &sums);
  }
  printf("   %d tensors compared, %d frozen, %d only rounding\n", sums.compared, sums.frozen, sums.rounding);
  dft_state_free(&state);
  dft_model_free(start);
  return sums.bad + hold("update, relative L2 distance", sqrt(sums.apart / sums.size),
                         allowed(UPDATE, sqrt(sums.noise / sums.size)));
}

static int compare(const char *name, double alpha, int size, char **paths) {
  char file[GOLDEN_MAX_NAME];
  golden_file golden;
  snprintf(file, sizeof file, "%s.bin", name);
  if (golden_read(file, &golden)) return 1;
  all_layers = strstr(name, "_all") != NULL;
  int bad = compare_history(&golden, paths[0]);
  bad += compare_weights(&golden, alpha, size, paths[1]);
  bad += compare_predictions(&golden, paths[2]);
  golden_free(&golden);
  return bad > 0;
}

int main(int argc, char **argv) {
  if (argc == 5 && strcmp(argv[1], "inputs") == 0) return inputs(atof(argv[2]), atoi(argv[3]), argv[4]);
  if (argc == 8 && strcmp(argv[1], "compare") == 0)
    return compare(argv[2], atof(argv[3]), atoi(argv[4]), argv + 5);
  return fail("usage: inputs ALPHA SIZE DIR | compare GOLDEN ALPHA SIZE HISTORY WEIGHTS PREDICTIONS");
}
