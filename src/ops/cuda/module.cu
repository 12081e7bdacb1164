/* What the module exports. */
#include "device.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

extern "C" {
extern const struct dft_nccl dft_nccl_table; /* src/comm/nccl, where it is built with NCCL */
const dft_cuda_interface *dft_cuda_module(dft_fail_function fail);
}

static dft_fail_function program_fail;

/* The module's own dft_fail, which hands on to the program's. */
extern "C" dft_status dft_fail(dft_status code, const char *format, ...) {
  char text[2048];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return program_fail(code, "%s", text);
}

extern "C" dft_status dft_fail_memory(const char *what, unsigned long long bytes) {
  return dft_fail(DFT_EINTERNAL, "out of memory (%s, %llu bytes)", what, bytes);
}

static int devices(void) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error == cudaSuccess ? count : 0;
}

/* Slices of one GPU (MIG) have UUIDs of their own, but NCCL refuses two ranks on one bus address. */
static void identity(int index, unsigned char uuid[16]) {
  cudaDeviceProp properties;
  memset(uuid, 0, 16);
  if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) {
    (void)cudaGetLastError();
    return;
  }
  const int bus[4] = {-1, properties.pciDomainID, properties.pciBusID, properties.pciDeviceID};
  const bool slice = strstr(properties.name, " MIG ") != nullptr;
  memcpy(uuid, slice ? (const void *)bus : &properties.uuid, 16);
}

static dft_status describe(int index, dft_precision precision) {
  cudaDeviceProp properties;
  dft_device *d = &cuda.device;
  memset(&properties, 0, sizeof properties);
  d->index = index;
  if (!dft_cuda_check(cudaSetDevice(index), "choosing it") ||
      !dft_cuda_check(cudaGetDeviceProperties(&properties, index), "asking what it is"))
    return dft_cuda_take();
  snprintf(d->name, sizeof d->name, "%.120s", properties.name);
  if (properties.major < 8)
    return dft_fail(
        DFT_EUSAGE,
        "GPU %d (%s): of compute capability %d.%d, older than the 8.0 (Ampere) that dft needs; hide it by "
        "CUDA_VISIBLE_DEVICES= to compute on the CPU",
        index, d->name, properties.major, properties.minor);
  d->precision = precision;
  d->activation_bytes = precision == DFT_PRECISION_BFLOAT16 ? 2 : 4;
  cuda.processors = properties.multiProcessorCount;
  return DFT_OK;
}

static bool stream(cudaStream_t *made) {
  return dft_cuda_check(cudaStreamCreateWithFlags(made, cudaStreamNonBlocking), "making a stream");
}

/* Before the training stream's kernels that wait for a place on the GPU: peers wait for this one. */
static bool urgent_stream(cudaStream_t *made) {
  int lowest = 0, highest = 0;
  return dft_cuda_check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "making a stream") &&
         dft_cuda_check(cudaStreamCreateWithPriority(made, cudaStreamNonBlocking, highest),
                        "making a stream");
}

static dft_status prepare(void) {
  void *flag;
  if (!stream(&cuda.stream) || !urgent_stream(&cuda.exchange) || !stream(&cuda.up) || !stream(&cuda.down) ||
      !dft_cuda_event(&cuda.mark) || !dft_cuda_check_blas(cublasLtCreate(&cuda.lt), "opening cuBLASLt"))
    return dft_cuda_take();
  DFT_TRY(dft_cuda_alloc(DFT_CUDA_WORKSPACE_BYTES, &cuda.workspace));
  DFT_TRY(dft_cuda_alloc(sizeof *cuda.flag, &flag));
  cuda.flag = (int *)flag;
  return DFT_OK;
}

static dft_status open(int index, dft_precision precision, const dft_ops **ops) {
  if (cuda.open) return dft_fail(DFT_EINTERNAL, "GPU %d is open already: one per process", cuda.device.index);
  DFT_TRY(describe(index, precision));
  DFT_TRY(prepare());
  const bool half = precision == DFT_PRECISION_BFLOAT16;
  cuda.ops.name = "cuda";
  cuda.ops.device = &cuda.device;
  dft_cuda_table_memory();
  dft_cuda_table_order();
  dft_cuda_table_reduce();
  dft_cuda_table_batchnorm(half);
  dft_cuda_table_depthwise(half);
  dft_cuda_table_stem(half);
  dft_cuda_table_pool(half);
  dft_cuda_table_vectors(half);
  dft_cuda_table_loss();
  dft_cuda_table_update();
  dft_cuda_table_product();
  dft_cuda_table_train();
  dft_cuda_table_frozen();
  cuda.open = true;
  *ops = &cuda.ops;
  return DFT_OK;
}

extern "C" const dft_cuda_interface *dft_cuda_module(dft_fail_function fail) {
#ifdef DFT_HAVE_NCCL
  const struct dft_nccl *nccl = &dft_nccl_table;
#else
  const struct dft_nccl *nccl = nullptr;
#endif
  static dft_cuda_interface module;
  program_fail = fail;
  module = dft_cuda_interface{DFT_CUDA_INTERFACE_VERSION, devices, identity, open, nccl};
  return &module;
}
