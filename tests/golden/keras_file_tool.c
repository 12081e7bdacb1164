/* Gives the Python side of test_keras_files.sh what dft reads from a Keras file, and what dft writes.
 *
 *   keras_file_tool read FILE OUT               every tensor: a line "layer<TAB>variable<TAB>sizes", then its
 *                                               float32 values; before them "kind<TAB>N" and the class names
 *   keras_file_tool write LAYOUT FILE LAYERS OUT    FILE's tensors in LAYOUT (h5 | weights.h5); LAYERS has
 *                                               lines "name class", in the model's order
 */
#include "dft/weights.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
  fprintf(stderr, "keras_file_tool: %s\n", what);
  return 1;
}

static int read_to(const char *path, const char *out) {
  dft_weights w;
  dft_file_kind kind;
  if (dft_file_sniff(path, &kind) || dft_keras_read(path, &w)) return fail(dft_error());
  FILE *f = fopen(out, "wb");
  if (!f) return fail(out);
  fprintf(f, "%d\t%d\n", (int)kind, w.classes);
  for (int i = 0; i < w.classes; i++) fprintf(f, "%s\n", w.class_names[i]);
  for (int i = 0; i < w.count; i++) {
    const dft_tensor *t = &w.tensors[i];
    fprintf(f, "%s\t%s\t", t->layer, t->variable);
    for (int d = 0; d < t->rank; d++) fprintf(f, "%s%lld", d ? "," : "", (long long)t->shape[d]);
    fputc('\n', f);
    fwrite(t->data, sizeof(float), (size_t)dft_tensor_elements(t), f);
  }
  dft_weights_free(&w);
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
  return fail("usage: read FILE OUT | write LAYOUT FILE LAYERS OUT");
}
