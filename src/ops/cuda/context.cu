/* The open device: its memory, the errors of everything enqueued, and waiting for it. */
#include "device.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

dft_cuda cuda;

/* ---- errors ---- */

void dft_cuda_keep(const char *format, ...) {
  if (cuda.error != DFT_OK) return;
  cuda.error = DFT_EINTERNAL;
  va_list args;
  va_start(args, format);
  vsnprintf(cuda.message, sizeof cuda.message, format, args);
  va_end(args);
}

bool dft_cuda_check(cudaError_t error, const char *what) {
  if (error == cudaSuccess) return true;
  dft_cuda_keep("GPU %d (%s): %s: %s (%s)", cuda.device.index, cuda.device.name, what,
                cudaGetErrorString(error), cudaGetErrorName(error));
  (void)cudaGetLastError(); /* it is ours now */
  return false;
}

bool dft_cuda_check_blas(cublasStatus_t error, const char *what) {
  if (error == CUBLAS_STATUS_SUCCESS) return true;
  dft_cuda_keep("GPU %d (%s): %s: cuBLASLt status %d", cuda.device.index, cuda.device.name, what, (int)error);
  return false;
}

dft_status dft_cuda_take(void) {
  const dft_status error = cuda.error;
  cuda.error = DFT_OK;
  return error == DFT_OK ? DFT_OK : dft_fail(error, "%s", cuda.message);
}

/* ---- waiting ---- */

static void while_waiting(void (*look)(void *context, bool first), void *context) {
  cuda.look = look;
  cuda.look_context = context;
}

template <typename H>
static bool wait_for(cudaError_t (*wait)(H), cudaError_t (*ask)(H), H handle, const char *what) {
  if (cuda.look == nullptr) return dft_cuda_check(wait(handle), what);
  cudaError_t state;
  for (bool first = true; (state = ask(handle)) == cudaErrorNotReady; first = false) {
    (void)cudaGetLastError();
    cuda.look(cuda.look_context, first);
  }
  return dft_cuda_check(state, what);
}

bool dft_cuda_wait(cudaStream_t stream, const char *what) {
  return wait_for(cudaStreamSynchronize, cudaStreamQuery, stream, what);
}

bool dft_cuda_wait_event(cudaEvent_t event, const char *what) {
  return wait_for(cudaEventSynchronize, cudaEventQuery, event, what);
}

/* ---- memory ---- */

static size_t free_bytes(void) {
  size_t available = 0, total = 0;
  dft_cuda_check(cudaMemGetInfo(&available, &total), "asking for free memory");
  return available;
}

dft_status dft_cuda_alloc(size_t bytes, void **memory) {
  *memory = nullptr;
  if (cuda.recording)
    return dft_fail(DFT_EINTERNAL, "GPU %d: memory wanted while a step is recorded", cuda.device.index);
  const cudaError_t error = cudaMalloc(memory, bytes > 0 ? bytes : 1);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return dft_fail(
        DFT_EINTERNAL,
        "GPU %d (%s): out of memory: %zu bytes wanted, %zu free; lower data.batch_size, or end what else "
        "runs there",
        cuda.device.index, cuda.device.name, bytes, free_bytes());
  }
  if (!dft_cuda_check(error, "allocating memory")) return dft_cuda_take();
  dft_cuda_check(cudaMemsetAsync(*memory, 0, bytes, cuda.stream), "clearing memory");
  /* Other streams may be the first to use it. */
  if (dft_cuda_wait(cuda.stream, "clearing memory")) return DFT_OK;
  cudaFree(*memory);
  *memory = nullptr;
  return dft_cuda_take();
}

/* CUDA's own frees may wait for the whole device, and then look after nobody; that they wait is promised for
 * neither. */
static void wait_for_all(const char *what) {
  for (cudaStream_t stream : {cuda.stream, cuda.exchange, cuda.up, cuda.down}) dft_cuda_wait(stream, what);
}

static void free_memory(void *memory) {
  if (memory == nullptr) return;
  wait_for_all("freeing memory");
  dft_cuda_check(cudaFree(memory), "freeing memory");
}

dft_status dft_cuda_host_alloc(size_t bytes, void **memory) {
  *memory = nullptr;
  const cudaError_t error = cudaHostAlloc(memory, bytes > 0 ? bytes : 1, cudaHostAllocDefault);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    return dft_fail(DFT_EINTERNAL, "GPU %d (%s): %zu bytes of page-locked memory: %s", cuda.device.index,
                    cuda.device.name, bytes, cudaGetErrorString(error));
  }
  memset(*memory, 0, bytes);
  return DFT_OK;
}

bool dft_cuda_event(cudaEvent_t *event) {
  return dft_cuda_check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "making an event");
}

/* A copy may still be reading or writing there: a batch that was sent ahead for a step that does not come. */
static void host_free(void *memory) {
  if (memory == nullptr) return;
  wait_for_all("freeing page-locked memory");
  dft_cuda_check(cudaFreeHost(memory), "freeing page-locked memory");
}

static void move(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, const char *what) {
  if (bytes > 0) dft_cuda_check(cudaMemcpyAsync(to, from, bytes, kind, cuda.stream), what);
}

static void upload(void *device, const void *host, size_t bytes) {
  move(device, host, bytes, cudaMemcpyHostToDevice, "upload");
}

static void download(void *host, const void *device, size_t bytes) {
  move(host, device, bytes, cudaMemcpyDeviceToHost, "download");
}

static void upload_beside(void *device, const void *host, size_t bytes) {
  if (bytes > 0)
    dft_cuda_check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda.up),
                   "upload beside the step");
}

static void wait_beside(void) {
  dft_cuda_check(cudaEventRecord(cuda.mark, cuda.up), "upload beside the step");
  dft_cuda_check(cudaStreamWaitEvent(cuda.stream, cuda.mark, 0), "upload beside the step");
}

static void copy(void *to, const void *from, size_t bytes) {
  move(to, from, bytes, cudaMemcpyDeviceToDevice, "copy");
}

void dft_cuda_table_memory(void) {
  dft_device *d = &cuda.device;
  d->alloc = dft_cuda_alloc;
  d->free = free_memory;
  d->host_alloc = dft_cuda_host_alloc;
  d->host_free = host_free;
  d->free_bytes = free_bytes;
  d->upload = upload;
  d->download = download;
  d->copy = copy;
  d->upload_beside = upload_beside;
  d->wait_beside = wait_beside;
  d->while_waiting = while_waiting;
}
