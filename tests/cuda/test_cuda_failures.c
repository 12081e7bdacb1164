/* What goes wrong on a device, as the host plays it (host/host_cuda.h): each case in a process of its own,
 * for a device stays open and its failures stay with it. */
#include "kernels/device_set.h"
#include "kernels/kernel_test.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const dft_cuda_interface *module;
static const dft_ops *ops;
static const dft_device *dev;

#define REQUIRE(condition)                                                                                   \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      fprintf(stderr, "line %d: %s; last error: %s\n", __LINE__, #condition, dft_error());                   \
      return false;                                                                                          \
    }                                                                                                        \
  } while (0)

static bool says(const char *words) {
  return strstr(dft_error(), words) != NULL;
}

static bool opened(void) {
  module = dft_device_module(NULL);
  if (module == NULL || module->open(0, DFT_PRECISION_FLOAT32, &ops) != DFT_OK) return false;
  dev = ops->device;
  return true;
}

/* ---- cases ---- */

static bool no_device(void) {
  const char *why;
  REQUIRE(dft_device_module(&why) == NULL);
  REQUIRE(strstr(why, "sees no GPU") != NULL);
  return true;
}

static bool open_without_memory(void) {
  REQUIRE(!opened());
  REQUIRE(says("33554432 bytes wanted, 8388608 free"));
  return true;
}

static bool open_first_allocation(void) {
  REQUIRE(!opened());
  REQUIRE(says("out of memory"));
  return true;
}

static bool open_twice(void) {
  REQUIRE((module = dft_device_module(NULL)) != NULL);
  REQUIRE(module->devices() == 2);
  REQUIRE(module->open(7, DFT_PRECISION_FLOAT32, &ops) == DFT_EINTERNAL && says("invalid device ordinal"));
  REQUIRE(opened());
  REQUIRE(module->open(1, DFT_PRECISION_FLOAT32, &ops) == DFT_EINTERNAL && says("GPU 0 is open already"));
  unsigned char first[16], second[16];
  module->identity(0, first), module->identity(1, second);
  REQUIRE(memcmp(first, second, sizeof first) != 0);
  return true;
}

/* Slices of a GPU are one GPU to NCCL. */
static bool slices(void) {
  unsigned char first[16], second[16], none[16] = {0};
  REQUIRE((module = dft_device_module(NULL)) != NULL);
  module->identity(0, first), module->identity(1, second);
  REQUIRE(memcmp(first, second, sizeof first) == 0 && memcmp(first, none, sizeof first) != 0);
  return true;
}

static void crashed(int signal) {
  (void)signal;
  _exit(0);
}

/* What protect=1 is for: the host has no way into a device's memory. */
static bool out_of_reach(void) {
  void *x;
  float host[4] = {1, 2, 3, 4};
  REQUIRE(opened());
  REQUIRE(dev->alloc(sizeof host, &x) == DFT_OK);
  dev->upload(x, host, sizeof host);
  dev->to_activations(x, x, 4);
  REQUIRE(dev->finish() == DFT_OK);
  signal(SIGSEGV, crashed);
  REQUIRE(*(volatile float *)x < 0);
  return false;
}

/* A kernel that reads where it may not: everything after fails too, in words. */
static bool lost_device(void) {
  void *x;
  bool finished = false;
  REQUIRE(opened());
  REQUIRE(dev->alloc(400, &x) == DFT_OK);
  REQUIRE(dev->finish() == DFT_OK);
  dev->to_activations(x, x, 100);
  REQUIRE(dev->finish() == DFT_EINTERNAL);
  REQUIRE(says("GPU 0 (") && says("an illegal memory access was encountered (cudaErrorIllegalAddress)"));
  REQUIRE(dev->finish() == DFT_EINTERNAL && dev->poll(&finished) == DFT_EINTERNAL && finished);
  REQUIRE(dev->alloc(400, &x) == DFT_EINTERNAL);
  return true;
}

static dft_status product(const float *x, const float *w, float *y) {
  ops->gemm(x, w, y, 4, 1, 8, 8, &(dft_epilogue){0});
  return dev->finish();
}

/* A product that cuBLASLt refuses is told once; the next is done. */
static bool refused_product(void) {
  void *x, *w, *y;
  REQUIRE(opened());
  REQUIRE(dev->alloc(4 * 8 * 4, &x) == DFT_OK && dev->alloc(8 * 8 * 4, &w) == DFT_OK);
  REQUIRE(dev->alloc(4 * 8 * 4, &y) == DFT_OK);
  REQUIRE(product(x, w, y) == DFT_OK);
  REQUIRE(product(x, w, y) == DFT_EINTERNAL && says("a product (m 8, n 4, k 8, 1 of them, float32 to ") &&
          says("): cuBLASLt status 13"));
  REQUIRE(product(x, w, y) == DFT_OK);
  return true;
}

/* Asking too early is no failure, not of the next launch either. */
static bool asked_early(void) {
  void *x;
  bool finished = true;
  REQUIRE(opened());
  REQUIRE(dev->alloc(400, &x) == DFT_OK);
  dev->to_activations(x, x, 100);
  REQUIRE(dev->poll(&finished) == DFT_OK && !finished);
  dev->to_activations(x, x, 100);
  REQUIRE(dev->finish() == DFT_OK && dev->poll(&finished) == DFT_OK && finished);
  return true;
}

/* The first failure is told, not what follows from it. */
static bool wrong_sides(void) {
  void *x;
  float host[4] = {0};
  REQUIRE(opened());
  REQUIRE(dev->alloc(sizeof host, &x) == DFT_OK);
  dev->upload(host, x, sizeof host);
  dev->copy(x, host, sizeof host);
  REQUIRE(dev->finish() == DFT_EINTERNAL && says("upload: invalid argument"));
  REQUIRE(dev->finish() == DFT_OK);
  dev->upload((char *)x + 4, host, sizeof host); /* beyond the end */
  REQUIRE(dev->finish() == DFT_EINTERNAL);
#ifndef __clang__
  float *kept = calloc(4, sizeof *kept);
  dev->to_activations(kept, x, 4);
  REQUIRE(dev->finish() == DFT_EINTERNAL && says("illegal memory access"));
  free(kept);
#endif
  return true;
}

/* What the exchange's stream was given while recording has to be waited for. */
static bool unjoined(void) {
  void *x, *event;
  dft_graph *graph;
  REQUIRE(opened());
  REQUIRE(dev->alloc(40, &x) == DFT_OK && dev->event_new(&event) == DFT_OK);
  for (int joined = 0; joined < 2; joined++) {
    REQUIRE(dev->record() == DFT_OK);
    dev->exchange_begin();
    dev->exchange_add_f32(x, x, x, 10);
    dev->exchange_mark(event);
    if (joined) dev->exchange_wait(event);
    REQUIRE(dev->recorded(&graph) == (joined ? DFT_OK : DFT_EINTERNAL));
    REQUIRE(joined || says("recording a step: capturing stream has unjoined work"));
    REQUIRE((graph != NULL) == joined);
  }
  dev->graph_free(graph);
  REQUIRE(dev->finish() == DFT_OK);
  /* and nothing is copied from or to pageable memory in there */
  float pageable[10];
  REQUIRE(dev->record() == DFT_OK);
  dev->download(pageable, x, sizeof pageable);
  REQUIRE(dev->recorded(&graph) == DFT_EINTERNAL && graph == NULL && says("not permitted"));
  /* and nothing waits in there */
  REQUIRE(dev->record() == DFT_OK);
  dev->finish();
  REQUIRE(dev->recorded(&graph) == DFT_EINTERNAL && graph == NULL);
  REQUIRE(dev->finish() == DFT_OK);
  return true;
}

/* Memory that ends at any of its allocations: no object, nothing lost, and a second try works. */
static bool frozen_without_memory(void) {
  static const float weight[9 * 16], bias[16]; /* of either layer */
  const dft_folded layers[] = {
      {.kind = DFT_POINTWISE,
       .conv = {2, 2, 2, 2, 8, 16, 1, 0, 0},
       .weight = weight,
       .bias = bias,
       .block_start = true},
      {.kind = DFT_DEPTHWISE, .conv = {2, 2, 2, 2, 16, 16, 1, 1, 1}, .weight = weight, .bias = bias}};
  int failed = 0;
  REQUIRE(opened());
  const size_t before = dev->free_bytes();
  for (int n = 1; n <= 16; n++) {
    dft_frozen *frozen = NULL;
    char options[32];
    snprintf(options, sizeof options, "again_alloc=%d", n);
    setenv("DFT_HOST_CUDA", options, 1);
    const dft_status status = ops->frozen_new(layers, 2, &frozen);
    setenv("DFT_HOST_CUDA", "again_alloc=0", 1);
    failed += status != DFT_OK;
    REQUIRE((status == DFT_OK) == (frozen != NULL) && (status == DFT_OK || status == DFT_EINTERNAL));
    ops->frozen_free(frozen);
    REQUIRE(dev->free_bytes() == before && dev->finish() == DFT_OK);
  }
  REQUIRE(failed == 13); /* parameters, staging, three buffers, four to each of two tiles */
  return true;
}

/* A run on a lost device comes back, and the error is there. */
static bool frozen_on_lost_device(void) {
  static const float weight[8 * 16], bias[16];
  static float x[40 * 32], y[40 * 64];
  const dft_folded layer = {.kind = DFT_POINTWISE,
                            .conv = {2, 2, 2, 2, 8, 16, 1, 0, 0},
                            .weight = weight,
                            .bias = bias,
                            .block_start = true};
  dft_frozen *frozen;
  REQUIRE(opened());
  REQUIRE(ops->frozen_new(&layer, 1, &frozen) == DFT_OK);
  ops->frozen_run(frozen, x, y, 40);
  REQUIRE(dev->finish() == DFT_EINTERNAL && says("illegal memory access"));
  return true;
}

/* Page-locked memory goes when all copies have done with it. */
static bool freed_early(void) {
  enum { COUNT = 4096 };
  static float got[COUNT];
  void *x, *locked;
  REQUIRE(opened());
  REQUIRE(dev->alloc(sizeof got, &x) == DFT_OK);
  for (int beside = 0; beside < 2; beside++) {
    REQUIRE(dev->host_alloc(sizeof got, &locked) == DFT_OK);
    for (int i = 0; i < COUNT; i++) ((float *)locked)[i] = (float)(i + beside);
    (beside ? dev->upload_beside : dev->upload)(x, locked, sizeof got);
    dev->host_free(locked);
    if (beside) dev->wait_beside();
    dev->download(got, x, sizeof got);
    REQUIRE(dev->finish() == DFT_OK);
    for (int i = 0; i < COUNT; i++) REQUIRE(got[i] == (float)(i + beside));
  }
  return true;
}

static const struct {
  const char *name, *options;
  bool (*run)(void);
} cases[] = {
    {"no device", "devices=0", no_device},
    {"no memory to open", "memory_mb=8", open_without_memory},
    {"the first allocation", "fail_alloc=1", open_first_allocation},
    {"opened twice", "devices=2", open_twice},
    {"slices of a device", "devices=2,slices=1", slices},
    {"memory out of reach", "protect=1", out_of_reach},
    {"a lost device", "fail_launch=1", lost_device},
    {"asked too early", "slow_us=100000", asked_early},
    {"a refused product", "fail_gemm=2", refused_product},
    {"freed early", "slow_us=20000", freed_early},
    {"pointers of the wrong side", "", wrong_sides},
    {"an exchange left alone", "", unjoined},
    {"frozen work without memory", "", frozen_without_memory},
    {"frozen work on a lost device", "fail_launch=1", frozen_on_lost_device},
};

int main(void) {
  int failed = 0;
  if (getenv("DFT_TEST_DEVICE") == NULL) {
    puts("skipped: DFT_TEST_DEVICE is not set");
    return 77;
  }
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int status = 0;
    setenv("DFT_HOST_CUDA", cases[i].options, 1);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) _exit(cases[i].run() ? 0 : 1);
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) failed++, printf("FAILED: ");
    printf("%s\n", cases[i].name);
  }
  return failed > 0;
}
