/* Gives the Python side of test_keras_files.sh what dft reads from a Keras file, and what dft writes.
 *
 * keras_file_tool read FILE OUT
 *     a line "kind<TAB>N" and the N class names, then every tensor: a line "layer<TAB>variable<TAB>sizes" and
 *     its float32 values
 *
 * keras_file_tool write LAYOUT FILE LAYERS OUT
 *     FILE's tensors in LAYOUT (h5 | weights.h5); LAYERS has lines "name class", in the model's order
 *
 * keras_file_tool bind ALPHA SIZE CLASSES FILE OUT
 *     the tensors of dft's model after binding FILE, as `read` gives them
 *
 * keras_file_tool layers ALPHA SIZE CLASSES OUT
 *     the layers of dft's model, as `write` takes them
 */
#include "dft/model.h"
#include "dft/weights.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
  fprintf(stderr, "keras_file_tool: %s\n", what);
  return 1;
}

static int put(const char *out, dft_file_kind kind, const dft_weights *w) {
  FILE *f = fopen(out, "wb");
  if (!f) return fail(out);
  fprintf(f, "%d\t%d\n", (int)kind, w->classes);
  for (int i = 0; i < w->classes; i++) fprintf(f, "%s\n", w->class_names[i]);
  for (int i = 0; i < w->count; i++) {
    const dft_tensor *t = &w->tensors[i];
    fprintf(f, "%s\t%s\t", t->layer, t->variable);
    for (int d = 0; d < t->rank; d++) fprintf(f, "%s%lld", d ? "," : "", (long long)t->shape[d]);
    fputc('\n', f);
    fwrite(t->data, sizeof(float), (size_t)dft_tensor_elements(t), f);
  }
  return fclose(f) ? fail(out) : 0;
}

static int read_to(const char *path, const char *out) {
  dft_weights w;
  dft_file_kind kind;
  if (dft_file_sniff(path, &kind) || dft_keras_read(path, &w)) return fail(dft_error());
  int result = put(out, kind, &w);
  dft_weights_free(&w);
  return result;
}

static int bind_to(dft_model *model, const char *path, const char *out) {
  dft_weights file, bound = {0};
  dft_file_kind kind;
  dft_bind_result how;
  if (dft_file_sniff(path, &kind) || dft_keras_read(path, &file) ||
      dft_model_bind(model, &file, path, NULL, &how) || dft_model_export(model, 0, &bound))
    return fail(dft_error());
  printf("%s: %d tensors bound by %s, %s\n", path, how.bound, how.by_order ? "order" : "name",
         how.head ? "with its head" : how.head_why);
  int result = put(out, kind, &bound);
  dft_weights_free(&file);
  dft_weights_free(&bound);
  return result;
}

static int layers_to(const dft_model *model, const char *out) {
  FILE *f = fopen(out, "w");
  if (!f) return fail(out);
  for (int i = 0; i < model->layer_count; i++)
    fprintf(f, "%s %s\n", model->layers[i].name, dft_layer_class(model->layers[i].kind));
  return fclose(f) ? fail(out) : 0;
}

static int write_to(const char *layout, const char *path, const char *layers_path, const char *out) {
  enum { LAYERS_MAX = 512, TEXT = 128 };
  static char names[LAYERS_MAX][TEXT], classes[LAYERS_MAX][TEXT];
  static dft_keras_layer layers[LAYERS_MAX];
  dft_weights w;
  if (dft_keras_read(path, &w)) return fail(dft_error());
  FILE *f = fopen(layers_path, "r");
  if (!f) return fail(layers_path);
  int count = 0;
  while (count < LAYERS_MAX && fscanf(f, "%127s %127s", names[count], classes[count]) == 2) {
    layers[count] = (dft_keras_layer){names[count], classes[count]};
    count++;
  }
  fclose(f);
  dft_file_kind kind = strcmp(layout, "h5") == 0 ? DFT_FILE_KERAS_H5 : DFT_FILE_KERAS_WEIGHTS_H5;
  dft_status status = dft_keras_write(out, kind, &w, layers, count);
  dft_weights_free(&w);
  return status ? fail(dft_error()) : 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "read") == 0) return read_to(argv[2], argv[3]);
  if (argc == 6 && strcmp(argv[1], "write") == 0) return write_to(argv[2], argv[3], argv[4], argv[5]);
  if (argc > 5 && (strcmp(argv[1], "bind") == 0 || strcmp(argv[1], "layers") == 0)) {
    dft_model *model;
    int size = atoi(argv[3]);
    if (dft_model_new(atof(argv[2]), size, size, DFT_POOL_AVG, atoi(argv[4]), &model))
      return fail(dft_error());
    int result = argc == 7 ? bind_to(model, argv[5], argv[6]) : layers_to(model, argv[5]);
    dft_model_free(model);
    return result;
  }
  return fail("usage: read FILE OUT | write LAYOUT FILE LAYERS OUT | bind ... | layers ...");
}
