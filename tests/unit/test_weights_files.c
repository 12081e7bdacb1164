/* Reading files that Keras made (tests/golden/keras, by make_keras_files.py), damaged ones, and hostile ones.
 */
#include "../../src/formats/apart.h"
#include "unit/keras_sample.h"
#include <hdf5.h>
#include <signal.h>
#include <sys/mman.h>

static char directory[64], path[128];

static int setup(void **state) {
  (void)state;
  strcpy(directory, "/tmp/dft-weights-XXXXXX");
  if (!mkdtemp(directory)) return 1;
  snprintf(path, sizeof path, "%s/file.h5", directory);
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  unlink(path);
  return rmdir(directory);
}

static const char *made_by_keras(const char *name) {
  static char text[1024];
  const char *slash = strrchr(__FILE__, '/');
  snprintf(text, sizeof text, "%.*s/../golden/keras/%s", (int)(slash - __FILE__), __FILE__, name);
  return text;
}

static void expect_kind(const char *file, dft_file_kind want) {
  dft_file_kind kind;
  assert_int_equal(dft_file_sniff(file, &kind), DFT_OK);
  assert_int_equal(kind, want);
}

/* ---- what Keras saves ---- */

static void named_files_give_every_tensor_by_name(void **state) {
  (void)state;
  static const struct {
    const char *name;
    dft_file_kind kind;
  } files[] = {
      {"keras3_flat.h5", DFT_FILE_KERAS_H5},
      {"keras3_nested.h5", DFT_FILE_KERAS_H5},
      {"keras3_whole_model.h5", DFT_FILE_KERAS_H5},
      {"keras3_flat.weights.h5", DFT_FILE_KERAS_WEIGHTS_H5},
      {"keras3_nested.weights.h5", DFT_FILE_KERAS_WEIGHTS_H5},
      {"keras2_flat.h5", DFT_FILE_KERAS_H5},
      {"other_types.h5", DFT_FILE_KERAS_H5}, /* gzip'd float16, and float64 */
  };
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    const char *file = made_by_keras(files[i].name);
    dft_weights w;
    expect_kind(file, files[i].kind);
    if (dft_keras_read(file, &w) != DFT_OK) fail_msg("%s", dft_error());
    assert_sample(&w);
    dft_weights_free(&w);
  }
}

/* The n-th tensor of a kind: what model/bind.c goes by when names do not fit. */
static const dft_tensor *nth(const dft_weights *w, const char *variable, int rank, int n) {
  for (int i = 0; i < w->count; i++) {
    const dft_tensor *t = &w->tensors[i];
    if (strcmp(t->variable, variable) == 0 && t->rank == rank && n-- == 0) return t;
  }
  fail_msg("too few %s of rank %d", variable, rank);
  return NULL;
}

static bool depthwise(const dft_tensor *t) {
  return t->rank == 4 && t->shape[0] == 3 && t->shape[3] == 1;
}

static void expect_order(const dft_weights *w) {
  assert_int_equal(w->count, SAMPLE_TENSORS);
  static const struct {
    const char *variable;
    int rank;
  } kinds[] = {{"gamma", 1},           {"beta", 1},   {"moving_mean", 1},
               {"moving_variance", 1}, {"kernel", 2}, {"bias", 1}};
  for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
    for (int i = 0, n = 0; i < SAMPLE_TENSORS; i++) {
      const struct sample_tensor *s = &sample_tensors[i];
      if (strcmp(s->variable, kinds[k].variable) == 0 && s->rank == kinds[k].rank)
        assert_sample_values(s, nth(w, s->variable, s->rank, n++));
    }
  }
  const struct sample_tensor *convolutions[] = {&sample_tensors[0], &sample_tensors[10]};
  int n = 0, depth = 0;
  for (int i = 0; i < w->count; i++) {
    const dft_tensor *t = &w->tensors[i];
    if (depthwise(t)) {
      assert_string_equal(t->variable, "kernel");
      assert_sample_values(&sample_tensors[5], t);
      depth++;
    } else if (t->rank == 4) {
      assert_true(n < 2);
      assert_sample_values(convolutions[n++], t);
    }
  }
  assert_int_equal(n, 2);
  assert_int_equal(depth, 1);
}

static void files_without_our_names_give_roles_in_order(void **state) {
  (void)state;
  static const struct {
    const char *name, *layer; /* a layer that it has */
  } files[] = {
      {"keras2_unnamed.weights.h5", "depthwise_conv2d"},
      {"keras2_nested_unnamed.weights.h5", "functional/batch_normalization_2"},
      {"keras2_other_names.h5", "mobl_conv_0_depthwise"},
  };
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    dft_weights w;
    if (dft_keras_read(made_by_keras(files[i].name), &w) != DFT_OK) fail_msg("%s", dft_error());
    expect_order(&w);
    bool found = false;
    for (int t = 0; t < w.count; t++) found = found || strcmp(w.tensors[t].layer, files[i].layer) == 0;
    assert_true(found);
    assert_null(dft_weights_find(&w, "Conv1", "kernel"));
    dft_weights_free(&w);
  }
}

/* conv2d_10 comes after conv2d_2. */
static void layers_come_in_natural_order(void **state) {
  (void)state;
  enum { LAYERS = 12 };
  dft_weights w = {0}, again;
  dft_keras_layer layers[LAYERS];
  char names[LAYERS][8];
  for (int i = 0; i < LAYERS; i++) {
    snprintf(names[i], sizeof names[i], "L%d", i);
    layers[i] = (dft_keras_layer){names[i], "Conv2D"};
    float value = (float)i;
    assert_int_equal(dft_weights_add(&w, names[i], "kernel", 4, (const int64_t[]){1, 1, 1, 1}, &value),
                     DFT_OK);
  }
  assert_int_equal(dft_keras_write(path, DFT_FILE_KERAS_WEIGHTS_H5, &w, layers, LAYERS), DFT_OK);
  assert_int_equal(dft_keras_read(path, &again), DFT_OK);
  for (int i = 0; i < LAYERS; i++) {
    assert_string_equal(again.tensors[i].layer, names[i]);
    assert_float_equal(again.tensors[i].data[0], i, 0);
  }
  dft_weights_free(&w);
  dft_weights_free(&again);
}

/* ---- damaged files ---- */

static const char *const some_files[] = {"keras3_flat.weights.h5", "keras2_other_names.h5", "other_types.h5"};

static void a_truncated_file_is_refused_at_every_length(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    size_t bytes;
    unsigned char *data = slurp(made_by_keras(some_files[i]), &bytes);
    for (size_t length = 0; length < bytes; length += length < 256 ? 1 : 211) {
      dft_weights w;
      dft_file_kind kind;
      spit(path, data, length);
      assert_int_equal(dft_keras_read(path, &w), DFT_EDATA);
      assert_message(path);
      dft_file_sniff(path, &kind);
    }
    free(data);
  }
}

/* A changed byte in a gzip'd kernel breaks its checksum. */
static void damaged_compressed_values_are_found(void **state) {
  (void)state;
  size_t bytes;
  unsigned char *data = slurp(made_by_keras("other_types.h5"), &bytes);
  int chunks = 0;
  for (size_t i = 0; i + 8 < bytes; i++) {
    if (data[i] != 0x78 || data[i + 1] != 0x5e) continue; /* zlib header of level 4 */
    data[i + 6] ^= 0x10;
    spit(path, data, bytes);
    data[i + 6] ^= 0x10;
    dft_weights w;
    assert_int_equal(dft_keras_read(path, &w), DFT_EDATA);
    assert_message("kernel: its values cannot be read");
    chunks++;
  }
  assert_int_equal(chunks, 4);
  free(data);
}

/* Damage to HDF5's own structures is libhdf5's to find. Whatever it makes of it, even a crash (1.10.8 has
 * them), is an error or other values. */
static void damage_anywhere_is_survived(void **state) {
  (void)state;
  int crashes = 0, refused = 0, tries = 0;
  for (int i = 0; i < 3; i++) {
    size_t bytes;
    unsigned char *data = slurp(made_by_keras(some_files[i]), &bytes);
    for (size_t at = (size_t)i; at < bytes; at += 239) {
      dft_weights w;
      data[at] ^= 0xff;
      spit(path, data, bytes);
      data[at] ^= 0xff;
      tries++;
      dft_status status = dft_keras_read(path, &w);
      if (status == DFT_OK) {
        dft_weights_free(&w);
        continue;
      }
      assert_int_equal(status, DFT_EDATA);
      assert_message(path);
      refused++;
      crashes += strstr(dft_error(), "crashed") != NULL;
    }
    free(data);
  }
  assert_true(refused > 0);
  print_message("%d of %d damaged files refused, %d of them crashed libhdf5\n", refused, tries, crashes);
}

static dft_status crash(const char *file, FILE *out) {
  (void)file, (void)out;
  return raise(SIGSEGV) == 0 ? DFT_OK : DFT_EINTERNAL;
}

static dft_status run_on(const char *file, FILE *out) {
  (void)file, (void)out;
  return raise(SIGXCPU) == 0 ? DFT_OK : DFT_EINTERNAL; /* what its limit of processor time sends it */
}

static dft_status killed(const char *file, FILE *out) {
  (void)file, (void)out;
  return raise(SIGKILL) == 0 ? DFT_OK : DFT_EINTERNAL; /* as the kernel does when memory is short */
}

static dft_status greedy(const char *file, FILE *out) {
  (void)out;
  const size_t bytes = (size_t)4 << 30;
  void *memory = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? dft_fail(DFT_EDATA, "%s: no memory for it", file) : DFT_OK;
}

static dft_status refuse(const char *file, FILE *out) {
  fputs("half", out);
  return dft_fail(DFT_EIO, "%s: refused", file);
}

static dft_status answer(const char *file, FILE *out) {
  fputs(file, out);
  return DFT_OK;
}

static void what_happens_apart_stays_apart(void **state) {
  (void)state;
  FILE *found;
  char text[16] = "";
  assert_int_equal(dft_apart("a.h5", "libtest", crash, &found), DFT_EDATA);
  assert_message("a.h5: libtest crashed on it (Segmentation fault): the file is damaged");
  assert_int_equal(dft_apart("a.h5", "libtest", run_on, &found), DFT_EDATA);
  assert_message("a.h5: libtest did not come to an end with it");
  assert_int_equal(dft_apart("a.h5", "libtest", killed, &found), DFT_EINTERNAL);
  assert_message("a.h5: the process that reads it was killed");
  assert_int_equal(dft_apart("a.h5", "libtest", greedy, &found), DFT_EDATA);
  assert_message("a.h5: no memory for it");
  assert_int_equal(dft_apart("a.h5", "libtest", refuse, &found), DFT_EIO);
  assert_message("a.h5: refused");
  assert_null(found);
  assert_int_equal(dft_apart("a.h5", "libtest", answer, &found), DFT_OK);
  assert_int_equal(fread(text, 1, sizeof text - 1, found), 4);
  assert_string_equal(text, "a.h5");
  fclose(found);
}

/* ---- hostile files ---- */

static hid_t new_file(void) {
  hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  assert_true(file >= 0);
  return file;
}

static hid_t new_group(hid_t parent, const char *name) {
  hid_t links = H5Pcreate(H5P_LINK_CREATE);
  H5Pset_create_intermediate_group(links, 1);
  hid_t group = H5Gcreate2(parent, name, links, H5P_DEFAULT, H5P_DEFAULT);
  H5Pclose(links);
  assert_true(group >= 0);
  return group;
}

static void put_dataset(hid_t group, const char *name, hid_t type, int rank, const hsize_t *shape,
                        hid_t create, const void *values) {
  hid_t space = H5Screate_simple(rank, shape, NULL);
  hid_t dataset = H5Dcreate2(group, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
  assert_true(dataset >= 0);
  if (values) assert_true(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
  H5Dclose(dataset);
  H5Sclose(space);
}

static void put_names(hid_t object, const char *attribute, const char *name) {
  hsize_t one = 1;
  hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &one, NULL);
  H5Tset_size(type, strlen(name));
  hid_t a = H5Acreate2(object, attribute, type, space, H5P_DEFAULT, H5P_DEFAULT);
  assert_true(H5Awrite(a, type, name) >= 0);
  H5Aclose(a);
  H5Sclose(space);
  H5Tclose(type);
}

static void expect_refusal(hid_t file, const char *message) {
  dft_weights w;
  H5Fclose(file);
  assert_int_equal(dft_keras_read(path, &w), DFT_EDATA);
  assert_message(path);
  assert_message(message);
}

static const float floats[16] = {1, 2, 3};

static void hostile_datasets_are_refused_by_name(void **state) {
  (void)state;
  const hsize_t four[] = {2, 2, 2, 2, 2}, huge[] = {1 << 20, 1 << 20}, chunk[] = {4, 4}, none[] = {0};
  const hsize_t big_chunk[] = {1 << 14, 1 << 14};
  hid_t plain = H5P_DEFAULT, chunked = H5Pcreate(H5P_DATASET_CREATE), early = H5Pcreate(H5P_DATASET_CREATE),
        outside = H5Pcreate(H5P_DATASET_CREATE), wide = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(chunked, 2, chunk);
  H5Pset_deflate(chunked, 9);
  H5Pset_chunk(wide, 2, big_chunk);
  H5Pset_alloc_time(early, H5D_ALLOC_TIME_LATE);
  H5Pset_external(outside, "/etc/passwd", 0, 64);
  hid_t text = H5Tcopy(H5T_C_S1);
  H5Tset_size(text, 8);
  const struct {
    hid_t type, create;
    int rank;
    const hsize_t *shape;
    const void *values;
    const char *message;
  } cases[] = {
      {H5T_IEEE_F32LE, plain, 5, four, NULL, "conv2d/vars/0: has rank 5, weights have at most 4"},
      {H5T_IEEE_F32LE, chunked, 2, huge, NULL, "conv2d/vars/0: is too large"},
      {H5T_IEEE_F32LE, early, 2, four, NULL, "conv2d/vars/0: declares 16 bytes but 0 are stored"},
      {H5T_IEEE_F32LE, outside, 1, four, NULL, "conv2d/vars/0: is stored outside this file"},
      {H5T_IEEE_F32LE, wide, 2, big_chunk, NULL, "conv2d/vars/0: is too large"},
      {H5T_IEEE_F32LE, plain, 1, none, NULL, "conv2d/vars/0: is empty"},
      {text, plain, 1, four, floats, "conv2d/vars/0: does not hold float16, float32 or float64"},
      {H5T_STD_I32LE, plain, 2, four, floats, "without any weights"}, /* a seed is no weight */
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    hid_t file = new_file(), vars = new_group(file, "layers/conv2d/vars");
    put_dataset(vars, "0", cases[i].type, cases[i].rank, cases[i].shape, cases[i].create, cases[i].values);
    H5Gclose(vars);
    expect_refusal(file, cases[i].message);
  }
  H5Tclose(text);
  H5Pclose(chunked);
  H5Pclose(early);
  H5Pclose(outside);
  H5Pclose(wide);
}

static void hostile_structure_is_refused(void **state) {
  (void)state;
  const hsize_t one[] = {1};
  expect_refusal(new_file(), "neither layer_names nor layers");

  hid_t file = new_file(), group;
  put_names(file, "layer_names", "A\nB"); /* the message stays one line */
  expect_refusal(file, "A?B: listed in layer_names, but has no group");

  file = new_file();
  put_names(file, "layer_names", "A");
  group = new_group(file, "A");
  put_names(group, "weight_names", "A/kernel:0");
  H5Gclose(group);
  expect_refusal(file, "A/A/kernel:0: missing");

  file = new_file();
  hid_t space = H5Screate_simple(1, one, NULL);
  hid_t attribute = H5Acreate2(file, "layer_names", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT);
  H5Aclose(attribute);
  H5Sclose(space);
  expect_refusal(file, "layer_names is not a readable list of names");

  file = new_file();
  char deep[256];
  int used = snprintf(deep, sizeof deep, "layers");
  for (int i = 0; i < 12; i++)
    used += snprintf(deep + used, sizeof deep - (size_t)used, "/functional/layers");
  H5Gclose(new_group(file, deep));
  expect_refusal(file, "nested more than");
}

static void links_out_of_the_file_are_not_followed(void **state) {
  (void)state;
  for (int external = 0; external < 2; external++) {
    hid_t file = new_file(), vars = new_group(file, "layers/conv2d/vars");
    const hsize_t one[] = {1};
    put_dataset(file, "target", H5T_IEEE_F32LE, 1, one, H5P_DEFAULT, floats);
    if (external)
      H5Lcreate_external(made_by_keras("keras3_flat.weights.h5"), "/layers/conv2d/vars/0", vars, "0",
                         H5P_DEFAULT, H5P_DEFAULT);
    else
      H5Lcreate_soft("/target", vars, "0", H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(vars);
    expect_refusal(file, "conv2d/vars/0: missing");
  }
}

static void a_cycle_is_read_once(void **state) {
  (void)state;
  const hsize_t shape[] = {2, 3};
  hid_t file = new_file(), vars = new_group(file, "layers/dense/vars");
  put_dataset(vars, "0", H5T_IEEE_F32LE, 2, shape, H5P_DEFAULT, floats);
  H5Gclose(new_group(file, "layers/functional"));
  H5Lcreate_hard(file, "layers", file, "layers/functional/layers", H5P_DEFAULT, H5P_DEFAULT);
  H5Gclose(vars);
  H5Fclose(file);
  dft_weights w;
  assert_int_equal(dft_keras_read(path, &w), DFT_OK);
  assert_int_equal(w.count, 1);
  assert_string_equal(w.tensors[0].layer, "dense");
  assert_string_equal(w.tensors[0].variable, "kernel");
  assert_float_equal(w.tensors[0].data[2], 3, 0);
  dft_weights_free(&w);
}

static void what_is_not_there_is_named(void **state) {
  (void)state;
  dft_weights w;
  assert_int_equal(dft_keras_read("/nonexistent/a.h5", &w), DFT_EDATA);
  assert_message("/nonexistent/a.h5: cannot read: No such file or directory");
  assert_int_equal(dft_keras_read(directory, &w), DFT_EDATA);
  assert_message("not a regular file");
  spit(path, "<html>404</html>", 16);
  assert_int_equal(dft_keras_read(path, &w), DFT_EDATA);
  assert_message("not an HDF5 file");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(named_files_give_every_tensor_by_name),
      cmocka_unit_test(files_without_our_names_give_roles_in_order),
      cmocka_unit_test(layers_come_in_natural_order),
      cmocka_unit_test(a_truncated_file_is_refused_at_every_length),
      cmocka_unit_test(damaged_compressed_values_are_found),
      cmocka_unit_test(damage_anywhere_is_survived),
      cmocka_unit_test(what_happens_apart_stays_apart),
      cmocka_unit_test(hostile_datasets_are_refused_by_name),
      cmocka_unit_test(hostile_structure_is_refused),
      cmocka_unit_test(links_out_of_the_file_are_not_followed),
      cmocka_unit_test(a_cycle_is_read_once),
      cmocka_unit_test(what_is_not_there_is_named),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
