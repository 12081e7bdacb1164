/* HDF5 files of any structure, read as Keras files. The input is a program that builds a sound HDF5 file out
 * of the words the reader knows: groups, datasets of any type and shape, attributes, links and cycles. So
 * this tries our reader; random bytes would only try libhdf5's decoding, whose faults are known and kept in a
 * child process (src/formats/apart.h). */
#include "../../src/formats/hdf5/h5.h"
#include "fuzz_weights.h"
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct program {
  const unsigned char *bytes;
  size_t left;
} program;

static unsigned next(program *p) {
  if (p->left == 0) return 0;
  p->left--;
  return *p->bytes++;
}

static const char *word(program *p) {
  static const char *const words[] = {"layers",
                                      "vars",
                                      "model_weights",
                                      "functional",
                                      "conv2d",
                                      "conv2d_1",
                                      "conv2d_10",
                                      "dense",
                                      "re_lu",
                                      "Conv1",
                                      "0",
                                      "1",
                                      "2",
                                      "3",
                                      "kernel:0",
                                      "gamma:0",
                                      "beta:0",
                                      "moving_mean:0",
                                      "bias",
                                      "Conv1/bias",
                                      "Conv1/gamma:0",
                                      "Conv1/kernel:0",
                                      "bn/a/moving_mean",
                                      "depthwise_kernel:0",
                                      "name",
                                      "layer_names",
                                      "weight_names",
                                      "layer_names0",
                                      "layer_names1",
                                      "dft_class_names",
                                      "two\nlines",
                                      "/",
                                      "a//b",
                                      ".",
                                      "",
                                      "_layer_checkpoint_dependencies"};
  return words[next(p) % (sizeof words / sizeof words[0])];
}

static void put_dataset(program *p, hid_t group) {
  enum { VALUES_MAX = 4096 };
  static const double zeros[VALUES_MAX];
  const hid_t types[] = {H5T_IEEE_F32LE, H5T_IEEE_F64BE, H5T_STD_I32LE, H5T_NATIVE_LDOUBLE, H5T_C_S1};
  hid_t type = types[next(p) % 5];
  const char *name = word(p);
  unsigned rank = next(p) % 7, layout = next(p);
  hsize_t shape[7], elements = 1;
  for (unsigned i = 0; i < rank; i++) {
    shape[i] = next(p) % 9;
    if (shape[i] == 8) shape[i] = (hsize_t)1 << (next(p) % 40);
    if (elements < (hsize_t)1 << 60) elements *= shape[i];
  }
  hid_t create = H5Pcreate(H5P_DATASET_CREATE);
  if (layout % 3 == 1 && rank > 0) {
    hsize_t chunk[7];
    for (unsigned i = 0; i < rank; i++) chunk[i] = 1 + next(p) % 8;
    H5Pset_chunk(create, (int)rank, chunk);
    H5Pset_deflate(create, 1);
  }
  hid_t space =
      rank > 0 ? H5Screate_simple((int)rank, shape, NULL) : H5Screate(layout % 2 ? H5S_SCALAR : H5S_NULL);
  hid_t dataset = H5Dcreate2(group, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
  if (dataset >= 0 && elements <= VALUES_MAX / 2 && layout % 2 == 0)
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros);
  if (dataset >= 0) H5Dclose(dataset);
  if (space >= 0) H5Sclose(space);
  H5Pclose(create);
}

static void put_attribute(program *p, hid_t object) {
  enum { STRINGS_MAX = 3, WIDTH = 20 };
  const char *name = word(p), *variable[STRINGS_MAX];
  char fixed[STRINGS_MAX][WIDTH] = {{0}};
  unsigned kind = next(p) % 3;
  hsize_t count = next(p) % (STRINGS_MAX + 1);
  for (hsize_t i = 0; i < count; i++) {
    variable[i] = word(p);
    memcpy(fixed[i], variable[i], strnlen(variable[i], WIDTH));
  }
  hid_t type = H5Tcopy(kind == 0 ? H5T_IEEE_F64LE : H5T_C_S1);
  if (kind > 0) H5Tset_size(type, kind == 1 ? WIDTH : H5T_VARIABLE);
  hid_t space = H5Screate_simple(1, &count, NULL);
  hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  if (attribute >= 0 && kind > 0 && count > 0)
    H5Awrite(attribute, type, kind == 1 ? (void *)fixed : (void *)variable);
  if (attribute >= 0) H5Aclose(attribute);
  H5Sclose(space);
  H5Tclose(type);
}

/* Runs the program: a stack of open groups, of which the last is worked on. */
static void build(const char *path, program *p) {
  enum { DEPTH_MAX = 24 };
  hid_t access = H5Pcreate(H5P_FILE_ACCESS), stack[DEPTH_MAX];
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  H5Pset_file_locking(access, 0, 1);
  hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
  H5Pclose(access);
  if (file < 0) abort();
  int depth = 1;
  stack[0] = H5Gopen2(file, "/", H5P_DEFAULT);
  for (int steps = 0; p->left > 0 && steps < 200; steps++) {
    hid_t group = stack[depth - 1];
    switch (next(p) % 6) {
    case 0:
      if (depth < DEPTH_MAX) {
        hid_t inner = H5Gcreate2(group, word(p), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        if (inner >= 0) stack[depth++] = inner;
      }
      break;
    case 1:
      if (depth > 1) H5Gclose(stack[--depth]);
      break;
    case 2:
      put_dataset(p, group);
      break;
    case 3:
      put_attribute(p, group);
      break;
    case 4: {
      hid_t target = stack[next(p) % (unsigned)depth];
      H5Lcreate_hard(target, ".", group, word(p), H5P_DEFAULT, H5P_DEFAULT);
      break;
    }
    default:
      H5Lcreate_soft("/layers", group, word(p), H5P_DEFAULT, H5P_DEFAULT);
    }
  }
  H5Fclose(file);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  static char path[64];
  if (!path[0]) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    snprintf(path, sizeof path, "/tmp/dft-fuzz-keras-%ld.h5", (long)getpid());
  }
  program p = {data, size};
  build(path, &p);
  dft_weights w;
  dft_status status = dft_keras_read_here(path, &w);
  unlink(path);
  check_weights(status, path, &w);
  return 0;
}
