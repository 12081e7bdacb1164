/* The container, sniffing, and writing Keras files. That Keras itself loads what is written is shown by
 * tests/golden/test_keras_files.sh; here the files are read back, and their objects looked at with libhdf5.
 */
#include "unit/keras_sample.h"
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>

static char directory[64], path[128];

static int setup(void **state) {
  (void)state;
  strcpy(directory, "/tmp/dft-weights-XXXXXX");
  if (!mkdtemp(directory)) return 1;
  snprintf(path, sizeof path, "%s/file", directory);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  unlink(path);
  return rmdir(directory); /* fails when anything else was left behind */
}

static const dft_file_kind kinds[] = {DFT_FILE_KERAS_H5, DFT_FILE_KERAS_WEIGHTS_H5};

static void the_container_keeps_what_it_is_given(void **state) {
  (void)state;
  dft_weights w = {0};
  const float values[] = {1, 2, 3, 4, 5, 6};
  assert_int_equal(dft_weights_add(&w, "a", "kernel", 2, (const int64_t[]){2, 3}, values), DFT_OK);
  for (int i = 0; i < 20; i++)
    assert_int_equal(dft_weights_add(&w, "b", "bias", 1, (const int64_t[]){i + 1}, NULL), DFT_OK);
  assert_int_equal(w.count, 21);
  dft_tensor *t = dft_weights_find(&w, "a", "kernel");
  assert_ptr_equal(t, &w.tensors[0]);
  assert_int_equal(dft_tensor_elements(t), 6);
  assert_memory_equal(t->data, values, sizeof values);
  assert_ptr_equal(dft_weights_find(&w, "b", "bias"), &w.tensors[1]);
  for (int i = 0; i < 20; i++) assert_float_equal(w.tensors[20].data[i], 0, 0);
  assert_null(dft_weights_find(&w, "a", "bias"));
  dft_weights_free(&w);
  assert_int_equal(w.count, 0);
  dft_weights_free(&w);
  dft_weights_free(NULL);
}

static void the_container_refuses_what_is_no_shape(void **state) {
  (void)state;
  dft_weights w = {0};
  const int64_t shapes[][4] = {{0, 1}, {-1, 2}, {INT64_MAX, 2}, {(int64_t)1 << 40, (int64_t)1 << 40}};
  for (int i = 0; i < 4; i++) {
    assert_int_equal(dft_weights_add(&w, "layer", "kernel", 2, shapes[i], NULL), DFT_EDATA);
    assert_message("layer/kernel");
  }
  assert_int_equal(dft_weights_add(&w, "layer", "kernel", DFT_MAX_RANK + 1, shapes[0], NULL), DFT_EDATA);
  assert_int_equal(w.count, 0);
}

static void both_layouts_read_back(void **state) {
  (void)state;
  for (int k = 0; k < 2; k++) {
    dft_weights w, again;
    dft_file_kind kind;
    sample_weights(&w);
    assert_int_equal(dft_keras_write(path, kinds[k], &w, sample_layers, SAMPLE_LAYERS), DFT_OK);
    assert_int_equal(dft_file_sniff(path, &kind), DFT_OK);
    assert_int_equal(kind, kinds[k]);
    assert_int_equal(dft_keras_read(path, &again), DFT_OK);
    assert_sample(&again);
    assert_null(again.class_names);
    assert_int_equal(again.classes, 0);
    dft_weights_free(&again);

    size_t first_bytes, second_bytes; /* equal weights, equal file */
    unsigned char *first = slurp(path, &first_bytes);
    assert_int_equal(dft_keras_write(path, kinds[k], &w, sample_layers, SAMPLE_LAYERS), DFT_OK);
    unsigned char *second = slurp(path, &second_bytes);
    assert_int_equal(first_bytes, second_bytes);
    assert_memory_equal(first, second, first_bytes);
    free(first);
    free(second);
    dft_weights_free(&w);
  }
}

/* Keras 2.13 has another name for a model's layers. */
static void layers_of_keras_2_13_are_read(void **state) {
  (void)state;
  dft_weights w, again;
  dft_file_kind kind;
  sample_weights(&w);
  assert_int_equal(dft_keras_write(path, kinds[1], &w, sample_layers, SAMPLE_LAYERS), DFT_OK);
  const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
  assert_true(H5Lmove(file, "layers", file, "_layer_checkpoint_dependencies", H5P_DEFAULT, H5P_DEFAULT) >= 0);
  H5Fclose(file);
  assert_int_equal(dft_file_sniff(path, &kind), DFT_OK);
  assert_int_equal(kind, kinds[1]);
  if (dft_keras_read(path, &again) != DFT_OK) fail_msg("%s", dft_error());
  assert_sample(&again);
  dft_weights_free(&again);
  dft_weights_free(&w);
}

/* A layer of two matrices is no Dense: its variables have no names of ours. */
static void two_matrices_are_no_kernel_and_bias(void **state) {
  (void)state;
  const hsize_t shape[] = {2, 3};
  static const float values[6] = {1, 2, 3};
  dft_weights w;
  hid_t links = H5Pcreate(H5P_LINK_CREATE), file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  H5Pset_create_intermediate_group(links, 1);
  hid_t space = H5Screate_simple(2, shape, NULL);
  for (int i = 0; i < 2; i++) {
    const hid_t set = H5Dcreate2(file, i == 0 ? "layers/other/vars/0" : "layers/other/vars/1", H5T_IEEE_F32LE,
                                 space, links, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(set >= 0 && H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(set);
  }
  H5Sclose(space);
  H5Pclose(links);
  H5Fclose(file);
  if (dft_keras_read(path, &w) != DFT_OK) fail_msg("%s", dft_error());
  assert_int_equal(w.count, 2);
  for (int i = 0; i < 2; i++) assert_string_equal(w.tensors[i].variable, "");
  dft_weights_free(&w);
}

static void a_model_without_head_can_be_written(void **state) {
  (void)state;
  for (int k = 0; k < 2; k++) {
    dft_weights w, again;
    sample_weights(&w);
    w.count -= 2; /* the head's */
    assert_int_equal(dft_keras_write(path, kinds[k], &w, sample_layers, SAMPLE_LAYERS - 1), DFT_OK);
    assert_int_equal(dft_keras_read(path, &again), DFT_OK);
    assert_int_equal(again.count, SAMPLE_TENSORS - 2);
    assert_null(dft_weights_find(&again, "predictions", "kernel"));
    w.count += 2;
    dft_weights_free(&again);
    dft_weights_free(&w);
  }
}

/* 900 names of 100 bytes are more than one HDF5 attribute holds. */
static void class_names_are_kept_however_many(void **state) {
  (void)state;
  static const int counts[] = {2, 900};
  for (int k = 0; k < 2; k++) {
    for (int c = 0; c < 2; c++) {
      dft_weights w, again;
      sample_weights(&w);
      w.classes = counts[c];
      w.class_names = calloc((size_t)counts[c], sizeof *w.class_names);
      for (int i = 0; i < counts[c]; i++) {
        char name[128];
        snprintf(name, sizeof name,
                 "kla\xc3\x9f"
                 "e %d %0*d",
                 i, i % 2 ? 90 : 1, i);
        w.class_names[i] = strdup(name);
      }
      assert_int_equal(dft_keras_write(path, kinds[k], &w, sample_layers, SAMPLE_LAYERS), DFT_OK);
      assert_int_equal(dft_keras_read(path, &again), DFT_OK);
      assert_int_equal(again.classes, counts[c]);
      for (int i = 0; i < counts[c]; i++) assert_string_equal(again.class_names[i], w.class_names[i]);
      dft_weights_free(&again);
      dft_weights_free(&w);
    }
  }
}

static void assert_exists(hid_t file, const char *object) {
  hid_t id = H5Oopen(file, object, H5P_DEFAULT);
  if (id < 0) fail_msg("no %s", object);
  H5Oclose(id);
}

/* What Keras' loaders look for, in a model that holds the base's layers and in one that holds the base. */
static void objects_are_where_keras_looks(void **state) {
  (void)state;
  static const char *const keras3[] = {"layers/conv2d/vars/0",
                                       "layers/functional/layers/conv2d/vars/0",
                                       "layers/conv2d_1/vars/0",
                                       "layers/functional/layers/batch_normalization_2/vars/3",
                                       "layers/dense/vars/1",
                                       "layers/functional/layers/depthwise_conv2d/vars/0",
                                       "layers/re_lu/vars",
                                       "layers/input_layer/vars",
                                       "layers/global_average_pooling2d/vars"};
  static const char *const published[] = {
      "Conv1/Conv1/kernel:0", "expanded_conv_depthwise/expanded_conv_depthwise/depthwise_kernel:0",
      "bn_Conv1/bn_Conv1/moving_variance:0", "predictions/predictions/bias:0", "Conv1_relu"};
  dft_weights w;
  sample_weights(&w);
  assert_int_equal(dft_keras_write(path, kinds[1], &w, sample_layers, SAMPLE_LAYERS), DFT_OK);
  hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  for (size_t i = 0; i < sizeof keras3 / sizeof keras3[0]; i++) assert_exists(file, keras3[i]);
  H5Fclose(file);
  assert_int_equal(dft_keras_write(path, kinds[0], &w, sample_layers, SAMPLE_LAYERS), DFT_OK);
  file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) assert_exists(file, published[i]);
  H5Fclose(file);
  dft_weights_free(&w);
}

static void a_file_that_would_be_wrong_is_not_written(void **state) {
  (void)state;
  dft_weights w;
  sample_weights(&w);
  for (int k = 0; k < 2; k++) {
    assert_int_equal(dft_keras_write(path, kinds[k], &w, sample_layers, SAMPLE_LAYERS - 1), DFT_EINTERNAL);
    assert_message("15 of 17 tensors");
    w.count -= 3;
    assert_int_equal(dft_keras_write(path, kinds[k], &w, sample_layers, SAMPLE_LAYERS), DFT_EDATA);
    assert_message("expanded_conv_project_BN: the BatchNormalization layer has no moving_variance");
    assert_message(path);
    w.count += 3;
  }
  assert_int_equal(dft_keras_write(path, DFT_FILE_CHECKPOINT, &w, sample_layers, SAMPLE_LAYERS),
                   DFT_EINTERNAL);
  assert_int_not_equal(access(path, F_OK), 0);
  dft_weights_free(&w);
}

/* RLIMIT_FSIZE stands for the full disk. The old file stays, and teardown finds no temporary one. */
static void a_full_disk_leaves_the_old_file(void **state) {
  (void)state;
  dft_weights w, again;
  sample_weights(&w);
  assert_int_equal(dft_keras_write(path, kinds[1], &w, sample_layers, SAMPLE_LAYERS), DFT_OK);
  struct rlimit old, small;
  getrlimit(RLIMIT_FSIZE, &old);
  small = (struct rlimit){.rlim_cur = 8192, .rlim_max = old.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  dft_status status = dft_keras_write(path, kinds[0], &w, sample_layers, SAMPLE_LAYERS);
  setrlimit(RLIMIT_FSIZE, &old);
  assert_int_equal(status, DFT_EIO);
  assert_message(path);
  assert_message("File too large");
  assert_int_equal(dft_keras_read(path, &again), DFT_OK);
  assert_sample(&again);
  dft_weights_free(&again);
  assert_int_equal(dft_keras_write("/nonexistent/x.h5", kinds[0], &w, sample_layers, SAMPLE_LAYERS), DFT_EIO);
  assert_message("/nonexistent/x.h5: cannot create: No such file or directory");
  dft_weights_free(&w);
}

static void sniffing_goes_by_content(void **state) {
  (void)state;
  static const struct {
    const char *bytes;
    size_t count;
    dft_file_kind kind;
  } files[] = {
      {"", 0, DFT_FILE_UNKNOWN},
      {"\x0a\x0e"
       "dft.Checkpoint\x10\x01",
       18, DFT_FILE_CHECKPOINT},
      {"\x0a\x0e"
       "dft.Checkpoin",
       15, DFT_FILE_UNKNOWN},
      {"version https://git-lfs.github.com/spec/v1", 42, DFT_FILE_UNKNOWN},
  };
  dft_file_kind kind;
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    spit(path, files[i].bytes, files[i].count);
    assert_int_equal(dft_file_sniff(path, &kind), DFT_OK);
    assert_int_equal(kind, files[i].kind);
  }
  spit(path, "\x89HDF\r\n\x1a\nand then nothing", 24);
  assert_int_equal(dft_file_sniff(path, &kind), DFT_EDATA);
  assert_message("damaged or truncated");
  assert_int_equal(dft_file_sniff("/nonexistent", &kind), DFT_EDATA);
  assert_message("/nonexistent: cannot read: No such file or directory");
  assert_int_equal(dft_file_sniff(directory, &kind), DFT_EDATA);
  assert_message("Is a directory");
  unlink(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_container_keeps_what_it_is_given),
      cmocka_unit_test(the_container_refuses_what_is_no_shape),
      cmocka_unit_test_setup_teardown(both_layouts_read_back, setup, teardown),
      cmocka_unit_test_setup_teardown(layers_of_keras_2_13_are_read, setup, teardown),
      cmocka_unit_test_setup_teardown(two_matrices_are_no_kernel_and_bias, setup, teardown),
      cmocka_unit_test_setup_teardown(a_model_without_head_can_be_written, setup, teardown),
      cmocka_unit_test_setup_teardown(class_names_are_kept_however_many, setup, teardown),
      cmocka_unit_test_setup_teardown(objects_are_where_keras_looks, setup, teardown),
      cmocka_unit_test_setup_teardown(a_file_that_would_be_wrong_is_not_written, setup, teardown),
      cmocka_unit_test_setup_teardown(a_full_disk_leaves_the_old_file, setup, teardown),
      cmocka_unit_test_setup_teardown(sniffing_goes_by_content, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
