/* Reading Keras' two HDF5 layouts.
 *
 * Published (Keras 1, 2, and 3 for ".h5"): the root, or /model_weights, has the attribute layer_names; each
 * layer's group has weight_names, paths of its datasets: "Conv1/kernel:0". A nested model is one layer whose
 * names are those of all its layers' variables, trainable ones first.
 *
 * Keras 3 (".weights.h5"): /layers/CLASS_N/vars/I, numbered by class in the order of model.layers, a nested
 * model as /layers/functional/layers/CLASS_N/vars/I. Since Keras 3.8 or so `vars` tells the layer's name in
 * its attribute "name". Keras 2.13 calls "layers" "_layer_checkpoint_dependencies". */
#include "h5.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 2 * DFT_H5_NAME_BYTES_MAX, NESTING_MAX = 8 };

static dft_status rename_variable(dft_tensor *t, const char *variable) {
  char *copy = strdup(variable);
  if (!copy) return dft_fail_memory("a name", strlen(variable));
  free(t->variable);
  t->variable = copy;
  return DFT_OK;
}

/* Names the variables of one layer (tensors first..end) by their shapes where the file does not say: four
 * equal vectors are a BatchNormalization in Keras' order, a matrix or filter is a kernel, a vector after it
 * its bias. Anything else stays "". */
static dft_status name_by_shape(dft_weights *w, int first) {
  static const char *const quadruple[] = {"gamma", "beta", "moving_mean", "moving_variance"};
  int count = w->count - first;
  if (count == 0) return DFT_OK;
  dft_tensor *t = w->tensors + first;
  bool norm = count == 4, weighted = count <= 2 && t[0].rank >= 2;
  for (int i = 0; i < count && norm; i++) norm = t[i].rank == 1 && t[i].shape[0] == t[0].shape[0];
  if (count == 2 && t[1].rank != 1) weighted = false;
  for (int i = 0; i < count; i++) {
    if (t[i].variable[0] == 0 && (norm || weighted))
      DFT_TRY(rename_variable(&t[i], norm ? quadruple[i] : i == 0 ? "kernel" : "bias"));
  }
  return DFT_OK;
}

/* ---- published layout ---- */

/* "block_1_depthwise/depthwise_kernel:0" gives layer "block_1_depthwise" and variable "kernel". `layer` is ""
 * when the path has one component only; `variable` is "" when it is none of Keras' words. */
static void split_weight_name(const char *name, char layer[DFT_H5_NAME_BYTES_MAX], const char **variable) {
  const char *slash = strrchr(name, '/');
  const char *last = slash ? slash + 1 : name;
  size_t bytes = strcspn(last, ":");
  *variable = "";
  for (int c = 0; c < DFT_KERAS_CLASSES; c++) {
    const dft_keras_class *k = &dft_keras_classes[c];
    for (int i = 0; i < k->count; i++) {
      const char *published = k->published[i], *modern = k->variables[i];
      if ((strlen(published) == bytes && memcmp(last, published, bytes) == 0) ||
          (strlen(modern) == bytes && memcmp(last, modern, bytes) == 0))
        *variable = modern;
    }
  }
  size_t length = slash ? (size_t)(slash - name) : 0;
  const char *start = name;
  for (const char *c = name; c < name + length; c++) {
    if (*c == '/') start = c + 1;
  }
  length -= (size_t)(start - name);
  if (length >= DFT_H5_NAME_BYTES_MAX) length = DFT_H5_NAME_BYTES_MAX - 1;
  memcpy(layer, start, length);
  layer[length] = 0;
}

/* Keras splits a list of names that is too long for one attribute into NAME0, NAME1, ... */
static dft_status chunked_strings(const dft_h5 *file, hid_t group, const char *name, dft_names *list) {
  bool found;
  DFT_TRY(dft_h5_strings(file, group, name, list, &found));
  for (int i = 0; !found && i < DFT_H5_NAMES_MAX; i++) {
    char part[64];
    bool more;
    snprintf(part, sizeof part, "%s%d", name, i);
    DFT_TRY(dft_h5_strings(file, group, part, list, &more));
    if (!more) break;
  }
  return DFT_OK;
}

/* A nested model lists all trainable variables before the others: brings each layer's together, layers in
 * the order of their first variable. Quadratic in one model's layers, which are some hundred. */
static void group_by_layer(dft_weights *w, int first) {
  for (int i = first; i < w->count; i++) {
    int place = i + 1;
    for (int j = i + 1; j < w->count; j++) {
      if (strcmp(w->tensors[j].layer, w->tensors[i].layer) != 0) continue;
      dft_tensor t = w->tensors[j];
      memmove(w->tensors + place + 1, w->tensors + place, (size_t)(j - place) * sizeof t);
      w->tensors[place++] = t;
    }
    i = place - 1;
  }
}

static dft_status read_published_layer(dft_h5 *file, hid_t group, const char *layer, dft_weights *w) {
  dft_names names = {0};
  int first = w->count;
  char inner[DFT_H5_NAME_BYTES_MAX], label[PATH_BYTES], outer[DFT_H5_NAME_BYTES_MAX] = "";
  bool nested = false;
  dft_status status = chunked_strings(file, group, "weight_names", &names);
  for (int i = 0; i < names.count && !nested; i++) {
    const char *variable;
    split_weight_name(names.names[i], inner, &variable);
    if (i == 0) memcpy(outer, inner, sizeof outer);
    nested = strcmp(outer, inner) != 0;
  }
  for (int i = 0; i < names.count && status == DFT_OK; i++) {
    const char *variable;
    bool taken;
    split_weight_name(names.names[i], inner, &variable);
    snprintf(label, sizeof label, "%s/%s", layer, names.names[i]);
    hid_t dataset = dft_h5_child(group, names.names[i]);
    status = dft_h5_tensor(file, dataset, label, w, nested && inner[0] ? inner : layer, variable, &taken);
    dft_h5_free(dataset);
  }
  dft_names_free(&names);
  if (status != DFT_OK) return status;
  if (nested) {
    group_by_layer(w, first);
    return DFT_OK;
  }
  return name_by_shape(w, first);
}

static dft_status read_published(dft_h5 *file, hid_t root, dft_weights *w) {
  dft_names layers = {0};
  dft_status status = chunked_strings(file, root, "layer_names", &layers);
  for (int i = 0; i < layers.count && status == DFT_OK; i++) {
    hid_t group = dft_h5_group(root, layers.names[i]);
    if (group < 0)
      status =
          dft_fail(DFT_EDATA, "%s: %s: listed in layer_names, but has no group", file->path, layers.names[i]);
    else
      status = read_published_layer(file, group, layers.names[i], w);
    dft_h5_free(group);
  }
  dft_names_free(&layers);
  return status;
}

/* ---- Keras 3 layout ---- */

static const char *const containers[] = {"layers", "_layer_checkpoint_dependencies"};

static hid_t open_container(hid_t parent) {
  hid_t id = dft_h5_group(parent, containers[0]);
  return id >= 0 ? id : dft_h5_group(parent, containers[1]);
}

/* The groups read so far, by address: dft's own files reach each layer by two names (keras_image.c). */
typedef struct visited {
  haddr_t *addresses;
  int count;
} visited;

static dft_status visit(visited *v, hid_t group, bool *again) {
  H5O_info_t info;
  *again = false;
  if (H5Oget_info2(group, &info, H5O_INFO_BASIC) < 0) return DFT_OK;
  for (int i = 0; i < v->count && !*again; i++) *again = v->addresses[i] == info.addr;
  if (*again) return DFT_OK;
  haddr_t *grown = realloc(v->addresses, ((size_t)v->count + 1) * sizeof *grown);
  if (!grown) return dft_fail_memory("groups", (size_t)v->count * sizeof *grown);
  v->addresses = grown;
  v->addresses[v->count++] = info.addr;
  return DFT_OK;
}

/* One vars group. `path` names the layer where the file does not. */
static dft_status read_vars(dft_h5 *file, hid_t vars, const char *path, dft_weights *w) {
  dft_names own = {0}, members = {0};
  int first = w->count;
  dft_status status = dft_h5_strings(file, vars, "name", &own, NULL);
  if (status == DFT_OK) status = dft_h5_members(file, vars, &members);
  const char *layer = own.count == 1 && own.names[0][0] ? own.names[0] : path;
  for (int i = 0; i < members.count && status == DFT_OK; i++) {
    char label[PATH_BYTES];
    bool taken;
    snprintf(label, sizeof label, "%s/vars/%s", path, members.names[i]);
    hid_t dataset = dft_h5_child(vars, members.names[i]);
    status = dft_h5_tensor(file, dataset, label, w, layer, "", &taken);
    dft_h5_free(dataset);
  }
  dft_names_free(&own);
  dft_names_free(&members);
  return status == DFT_OK ? name_by_shape(w, first) : status;
}

static dft_status read_container(dft_h5 *file, hid_t container, const char *path, int depth, visited *v,
                                 dft_weights *w);

/* One member of a container: first pass its own variables, second pass the models nested in it. */
static dft_status read_member(dft_h5 *file, hid_t member, const char *path, bool nested, int depth,
                              visited *v, dft_weights *w) {
  bool again = false;
  hid_t inner = nested ? open_container(member) : dft_h5_group(member, "vars");
  if (inner < 0) return DFT_OK;
  dft_status status = visit(v, inner, &again);
  if (status == DFT_OK && !again)
    status = nested ? read_container(file, inner, path, depth + 1, v, w) : read_vars(file, inner, path, w);
  dft_h5_free(inner);
  return status;
}

static dft_status read_container(dft_h5 *file, hid_t container, const char *path, int depth, visited *v,
                                 dft_weights *w) {
  if (depth > NESTING_MAX)
    return dft_fail(DFT_EDATA, "%s: %s: models are nested more than %d deep", file->path, path, NESTING_MAX);
  dft_names members = {0};
  dft_status status = dft_h5_members(file, container, &members);
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; i < members.count && status == DFT_OK; i++) {
      char name[PATH_BYTES];
      snprintf(name, sizeof name, "%s%s%s", path, *path ? "/" : "", members.names[i]);
      hid_t member = dft_h5_group(container, members.names[i]);
      if (member >= 0) status = read_member(file, member, name, pass == 1, depth, v, w);
      dft_h5_free(member);
    }
  }
  dft_names_free(&members);
  return status;
}

static dft_status read_keras3(dft_h5 *file, hid_t container, dft_weights *w) {
  visited v = {0};
  dft_status status = read_container(file, container, "", 0, &v, w);
  free(v.addresses);
  return status;
}

/* ---- both ---- */

/* The group with layer_names; negative when this is no published file. Release it. */
static hid_t published_root(hid_t file) {
  static const char *const roots[] = {"/", "model_weights"};
  for (int i = 0; i < 2; i++) {
    hid_t root = i == 0 ? H5Gopen2(file, roots[i], H5P_DEFAULT) : dft_h5_group(file, roots[i]);
    if (root >= 0 && (H5Aexists(root, "layer_names") > 0 || H5Aexists(root, "layer_names0") > 0)) return root;
    dft_h5_free(root);
  }
  return -1;
}

static dft_status read_class_names(const dft_h5 *file, dft_weights *w) {
  dft_names names = {0};
  dft_status status = chunked_strings(file, file->id, DFT_H5_CLASS_NAMES, &names);
  if (status != DFT_OK || names.count == 0) {
    dft_names_free(&names);
    return status;
  }
  w->class_names = names.names;
  w->classes = names.count;
  return DFT_OK;
}

static dft_status read_file(dft_h5 *file, dft_weights *w) {
  hid_t published = published_root(file->id);
  hid_t container = published < 0 ? open_container(file->id) : -1;
  dft_status status;
  if (published >= 0)
    status = read_published(file, published, w);
  else if (container >= 0)
    status = read_keras3(file, container, w);
  else
    status =
        dft_fail(DFT_EDATA, "%s: an HDF5 file without Keras weights: it has neither layer_names nor layers",
                 file->path);
  dft_h5_free(published);
  dft_h5_free(container);
  if (status == DFT_OK && w->count == 0)
    status = dft_fail(DFT_EDATA, "%s: a Keras file without any weights", file->path);
  return status == DFT_OK ? read_class_names(file, w) : status;
}

dft_status dft_keras_read_here(const char *path, dft_weights *w) {
  dft_h5 file;
  *w = (dft_weights){0};
  DFT_TRY(dft_h5_open(path, &file));
  dft_status status = read_file(&file, w);
  dft_h5_close(&file);
  if (status != DFT_OK) dft_weights_free(w);
  return status;
}

dft_status dft_keras_layout(const char *path, dft_file_kind *kind) {
  dft_h5 file;
  DFT_TRY(dft_h5_open(path, &file));
  hid_t published = published_root(file.id);
  hid_t container = open_container(file.id);
  *kind = published >= 0 ? DFT_FILE_KERAS_H5 : container >= 0 ? DFT_FILE_KERAS_WEIGHTS_H5 : DFT_FILE_UNKNOWN;
  dft_h5_free(published);
  dft_h5_free(container);
  dft_h5_close(&file);
  return DFT_OK;
}
