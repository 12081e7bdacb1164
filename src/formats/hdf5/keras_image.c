/* Writing Keras' two HDF5 layouts (keras_read.c describes them). The file is built in memory, to be written
 * in one go, so a full disk is our error and not libhdf5's. Equal weights give equal bytes: no times are
 * stored. */
#include "h5.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "BatchNormalization" gives "batch_normalization", "ReLU" "re_lu", "Conv2D" "conv2d": Keras'
 * naming.to_snake_case for names of letters and digits. */
static void snake_case(const char *name, char out[DFT_H5_NAME_BYTES_MAX]) {
  size_t n = 0;
  for (const char *c = name; *c && n + 2 < DFT_H5_NAME_BYTES_MAX; c++) {
    bool upper = *c >= 'A' && *c <= 'Z';
    bool after_lower = c > name && c[-1] >= 'a' && c[-1] <= 'z';
    bool before_lower = c > name && c[1] >= 'a' && c[1] <= 'z';
    if (upper && (after_lower || before_lower)) out[n++] = '_';
    out[n++] = upper ? (char)(*c - 'A' + 'a') : *c;
  }
  out[n] = 0;
}

typedef struct writer {
  hid_t file;
  hid_t group_plist, dataset_plist; /* without modification times */
  const dft_weights *weights;
  bool good;   /* no libhdf5 call has failed */
  int written; /* tensors */
} writer;

static hid_t checked(writer *wr, hid_t id) {
  if (id < 0) wr->good = false;
  return id;
}

static hid_t make_group(writer *wr, hid_t parent, const char *name) {
  return checked(wr, H5Gcreate2(parent, name, H5P_DEFAULT, wr->group_plist, H5P_DEFAULT));
}

/* An attribute of `count` strings, padded to `width` as numpy does it; a scalar when count is -1. */
static void put_padded(writer *wr, hid_t object, const char *name, const char *const *strings, int count,
                       size_t width) {
  int n = count < 0 ? 1 : count;
  hsize_t size = (hsize_t)n;
  char *text = calloc((size_t)n + 1, width);
  hid_t type = checked(wr, H5Tcopy(H5T_C_S1));
  hid_t space = checked(wr, count < 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &size, NULL));
  if (!text || H5Tset_size(type, width) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0) wr->good = false;
  if (wr->good) {
    for (int i = 0; i < n; i++) memcpy(text + (size_t)i * width, strings[i], strlen(strings[i]));
    hid_t attribute = checked(wr, H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT));
    if (attribute >= 0 && n > 0 && H5Awrite(attribute, type, text) < 0) wr->good = false;
    dft_h5_free(attribute);
  }
  dft_h5_free(space);
  dft_h5_free(type);
  free(text);
}

/* HDF5 holds at most 64 KiB in an attribute: Keras splits longer lists into NAME0, NAME1, ... */
static void put_strings(writer *wr, hid_t object, const char *name, const char *const *strings, int count) {
  enum { ATTRIBUTE_BYTES_MAX = 64512 };
  size_t width = 1;
  for (int i = 0; i < count; i++) width = strlen(strings[i]) > width ? strlen(strings[i]) : width;
  if (width >= DFT_H5_NAME_BYTES_MAX) wr->good = false; /* our own reader would refuse it */
  int each = (int)(ATTRIBUTE_BYTES_MAX / width);
  if (count <= each) {
    put_padded(wr, object, name, strings, count, width);
    return;
  }
  for (int start = 0, part = 0; start < count && wr->good; start += each, part++) {
    char numbered[64];
    snprintf(numbered, sizeof numbered, "%s%d", name, part);
    put_padded(wr, object, numbered, strings + start, count - start < each ? count - start : each, width);
  }
}

static void put_string(writer *wr, hid_t object, const char *name, const char *string) {
  put_padded(wr, object, name, &string, -1, strlen(string) + 1);
}

static void put_tensor(writer *wr, hid_t group, const char *name, const dft_tensor *t) {
  hsize_t shape[DFT_MAX_RANK];
  for (int i = 0; i < t->rank; i++) shape[i] = (hsize_t)t->shape[i];
  hid_t space = checked(wr, H5Screate_simple(t->rank, shape, NULL));
  hid_t dataset = checked(
      wr, H5Dcreate2(group, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, wr->dataset_plist, H5P_DEFAULT));
  if (dataset >= 0 && H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, t->data) < 0)
    wr->good = false;
  dft_h5_free(dataset);
  dft_h5_free(space);
  wr->written++;
}

/* The layer's tensors in Keras' order, the count in *count, and their published names. */
static dft_status layer_tensors(const writer *wr, const dft_keras_layer *layer, const dft_tensor **tensors,
                                const char **published, int *count) {
  *count = 0;
  for (int c = 0; c < DFT_KERAS_CLASSES; c++) {
    const dft_keras_class *k = &dft_keras_classes[c];
    if (strcmp(k->name, layer->keras_class) != 0) continue;
    for (int i = 0; i < k->count; i++) {
      const dft_tensor *t = dft_weights_find(wr->weights, layer->name, k->variables[i]);
      if (!t && i < k->optional)
        return dft_fail(DFT_EDATA, "%s: the %s layer has no %s to write", layer->name, k->name,
                        k->variables[i]);
      if (!t) continue;
      tensors[*count] = t;
      published[(*count)++] = k->published[i];
    }
  }
  return DFT_OK;
}

static dft_status put_published(writer *wr, const dft_keras_layer *layers, int layer_count) {
  const char **names = calloc((size_t)layer_count + 1, sizeof *names);
  if (!names) return dft_fail_memory("layer names", (size_t)layer_count * sizeof *names);
  for (int i = 0; i < layer_count; i++) names[i] = layers[i].name;
  put_strings(wr, wr->file, "layer_names", names, layer_count);
  free(names);
  put_string(wr, wr->file, "backend", "tensorflow");
  put_string(wr, wr->file, "keras_version", "3.0.0");
  for (int i = 0; i < layer_count && wr->good; i++) {
    const dft_tensor *tensors[DFT_KERAS_VARIABLES_MAX];
    const char *published[DFT_KERAS_VARIABLES_MAX], *paths[DFT_KERAS_VARIABLES_MAX];
    char text[DFT_KERAS_VARIABLES_MAX][DFT_H5_NAME_BYTES_MAX];
    int count;
    DFT_TRY(layer_tensors(wr, &layers[i], tensors, published, &count));
    hid_t group = make_group(wr, wr->file, layers[i].name);
    hid_t inner = count > 0 ? make_group(wr, group, layers[i].name) : -1;
    for (int v = 0; v < count; v++) {
      snprintf(text[v], sizeof text[v], "%s/%s:0", layers[i].name, published[v]);
      put_tensor(wr, inner, strchr(text[v], '/') + 1, tensors[v]);
      paths[v] = text[v];
    }
    put_strings(wr, group, "weight_names", paths, count);
    dft_h5_free(inner);
    dft_h5_free(group);
  }
  return DFT_OK;
}

/* The group's name: the class, and how many of its kind came before. */
static void group_name(const dft_keras_layer *layers, int index, char out[DFT_H5_NAME_BYTES_MAX]) {
  int before = 0;
  for (int i = 0; i < index; i++) before += strcmp(layers[i].keras_class, layers[index].keras_class) == 0;
  snake_case(layers[index].keras_class, out);
  size_t length = strlen(out);
  if (before > 0) snprintf(out + length, DFT_H5_NAME_BYTES_MAX - length, "_%d", before);
}

/* Every layer lies in /layers, where a model that contains it directly looks, and is linked again under
 * /layers/functional/layers, where a model looks that contains the base as one layer. */
static dft_status put_keras3(writer *wr, const dft_keras_layer *layers, int layer_count) {
  hid_t container = make_group(wr, wr->file, "layers");
  hid_t base = make_group(wr, container, "functional");
  hid_t nested = make_group(wr, base, "layers");
  dft_status status = DFT_OK;
  for (int i = 0; i < layer_count && wr->good && status == DFT_OK; i++) {
    const dft_tensor *tensors[DFT_KERAS_VARIABLES_MAX];
    const char *published[DFT_KERAS_VARIABLES_MAX];
    char name[DFT_H5_NAME_BYTES_MAX];
    int count;
    status = layer_tensors(wr, &layers[i], tensors, published, &count);
    if (status != DFT_OK) break;
    group_name(layers, i, name);
    hid_t group = make_group(wr, container, name);
    hid_t vars = make_group(wr, group, "vars");
    put_string(wr, vars, "name", layers[i].name);
    for (int v = 0; v < count; v++) {
      const char index[] = {(char)('0' + v), 0};
      put_tensor(wr, vars, index, tensors[v]);
    }
    if (wr->good && H5Lcreate_hard(container, name, nested, name, H5P_DEFAULT, H5P_DEFAULT) < 0)
      wr->good = false;
    dft_h5_free(vars);
    dft_h5_free(group);
  }
  dft_h5_free(nested);
  dft_h5_free(base);
  dft_h5_free(container);
  return status;
}

static dft_status put_all(writer *wr, dft_file_kind kind, const dft_keras_layer *layers, int layer_count) {
  const dft_weights *w = wr->weights;
  if (w->classes > 0)
    put_strings(wr, wr->file, DFT_H5_CLASS_NAMES, (const char *const *)w->class_names, w->classes);
  DFT_TRY(kind == DFT_FILE_KERAS_H5 ? put_published(wr, layers, layer_count)
                                    : put_keras3(wr, layers, layer_count));
  if (!wr->good) return dft_fail(DFT_EINTERNAL, "libhdf5 cannot build the file");
  if (wr->written != w->count)
    return dft_fail(DFT_EINTERNAL, "%d of %d tensors belong to a layer of the model", wr->written, w->count);
  return DFT_OK;
}

/* The finished file's bytes; release with free(). */
static dft_status take_image(hid_t file, void **image, size_t *bytes) {
  if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) return dft_fail(DFT_EINTERNAL, "libhdf5 cannot finish the file");
  ssize_t size = H5Fget_file_image(file, NULL, 0);
  if (size <= 0) return dft_fail(DFT_EINTERNAL, "libhdf5 cannot finish the file");
  *image = malloc((size_t)size);
  if (!*image) return dft_fail_memory("a file image", (unsigned long long)size);
  *bytes = (size_t)size;
  if (H5Fget_file_image(file, *image, (size_t)size) == size) return DFT_OK;
  free(*image);
  *image = NULL;
  return dft_fail(DFT_EINTERNAL, "libhdf5 cannot finish the file");
}

dft_status dft_keras_image(dft_file_kind kind, const dft_weights *w, const dft_keras_layer *layers,
                           int layer_count, void **image, size_t *bytes) {
  enum { GROWTH_BYTES = 1 << 20 };
  dft_h5_quiet();
  hid_t access = H5Pcreate(H5P_FILE_ACCESS), create = H5Pcreate(H5P_FILE_CREATE);
  writer wr = {.file = -1,
               .group_plist = H5Pcreate(H5P_GROUP_CREATE),
               .dataset_plist = H5Pcreate(H5P_DATASET_CREATE),
               .weights = w};
  wr.good = access >= 0 && create >= 0 && H5Pset_fapl_core(access, GROWTH_BYTES, false) >= 0 &&
            H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
            H5Pset_obj_track_times(create, false) >= 0 &&
            H5Pset_obj_track_times(wr.group_plist, false) >= 0 &&
            H5Pset_obj_track_times(wr.dataset_plist, false) >= 0;
  if (wr.good) wr.file = checked(&wr, H5Fcreate("memory", H5F_ACC_TRUNC, create, access));
  dft_status status =
      wr.good ? put_all(&wr, kind, layers, layer_count) : dft_fail(DFT_EINTERNAL, "libhdf5 does not start");
  if (status == DFT_OK) status = take_image(wr.file, image, bytes);
  if (wr.file >= 0) H5Fclose(wr.file);
  dft_h5_free(wr.dataset_plist);
  dft_h5_free(wr.group_plist);
  dft_h5_free(create);
  dft_h5_free(access);
  return status;
}
