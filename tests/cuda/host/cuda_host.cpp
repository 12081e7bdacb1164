/* The runtime: memory, copies, streams, events. Graphs are in graph_host.cpp. */
#include "cuda_host.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

/* ---- options ---- */

long dft_host_cuda_option(const char *name, long otherwise) {
  const char *list = getenv("DFT_HOST_CUDA");
  const size_t length = strlen(name);
  for (const char *p = list; p != nullptr && *p != '\0'; p = strchr(p, ',')) {
    if (*p == ',') p++;
    if (strncmp(p, name, length) == 0 && p[length] == '=') return atol(p + length + 1);
  }
  return otherwise;
}

host_state *host(void) {
  static host_state *state = new host_state; /* never freed: threads outlive main */
  return state;
}

/* Whether the environment has become another since this was asked last, and then counts from 1. */
static bool fails_again(void) {
  static std::string options;
  static long count;
  const char *now = getenv("DFT_HOST_CUDA");
  if (options != (now != nullptr ? now : "")) {
    options = now != nullptr ? now : "";
    count = 0;
  }
  return ++count == dft_host_cuda_option("again_alloc", 0);
}

/* True at the Nth call with this counter. */
bool host_fails(const char *name, std::atomic<long> *counter) {
  return ++*counter == dft_host_cuda_option(name, 0);
}

/* ---- errors ---- */

static thread_local cudaError_t last_error;

/* "Not ready" is kept as well: as on a device, the next launch finds it if nobody takes it. */
cudaError_t host_error(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

void dft_host_cuda_failed(int error) {
  int none = cudaSuccess;
  host()->failure.compare_exchange_strong(none, error);
}

cudaError_t host_failure(void) {
  return host_error((cudaError_t)host()->failure.load());
}

cudaError_t cudaGetLastError(void) {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

const char *cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
         : error == cudaErrorIllegalAddress ? "cudaErrorIllegalAddress"
                                            : "cudaError";
}

const char *cudaGetErrorString(cudaError_t error) {
  static const struct {
    cudaError_t error;
    const char *words;
  } table[] = {{cudaSuccess, "no error"},
               {cudaErrorInvalidValue, "invalid argument"},
               {cudaErrorMemoryAllocation, "out of memory"},
               {cudaErrorNoDevice, "no CUDA-capable device is detected"},
               {cudaErrorInvalidDevice, "invalid device ordinal"},
               {cudaErrorNotReady, "device not ready"},
               {cudaErrorIllegalAddress, "an illegal memory access was encountered"},
               {cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"},
               {cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"},
               {cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"},
               {cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"}};
  for (const auto &entry : table)
    if (entry.error == error) return entry.words;
  return "unknown error";
}

/* ---- devices ---- */

/* The devices that CUDA_VISIBLE_DEVICES leaves, as the host numbers them. */
static std::vector<int> visible(void) {
  std::vector<int> found;
  const int all = (int)dft_host_cuda_option("devices", 1);
  const char *list = getenv("CUDA_VISIBLE_DEVICES");
  for (int i = 0; i < all && list == nullptr; i++) found.push_back(i);
  while (list != nullptr && *list != '\0') {
    char *end;
    const long number = strtol(list, &end, 10);
    if (end == list || number < 0 || number >= all) break;
    found.push_back((int)number);
    list = *end == ',' ? end + 1 : end;
  }
  return found;
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = (int)visible().size();
  return host_error(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  return host_error(device >= 0 && device < (int)visible().size() ? cudaSuccess : cudaErrorInvalidDevice);
}

static size_t device_bytes(void) {
  return (size_t)dft_host_cuda_option("memory_mb", 4096) << 20;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  const std::vector<int> devices = visible();
  memset(properties, 0, sizeof *properties);
  if (device < 0 || device >= (int)devices.size()) return host_error(cudaErrorInvalidDevice);
  const int number = devices[(size_t)device];
  const bool slices = dft_host_cuda_option("slices", 0) != 0;
  snprintf(properties->name, sizeof properties->name, "GPU played on the host%s", slices ? " MIG 1g" : "");
  properties->pciBusID = slices ? 1 : number + 1;
  memset(properties->uuid.bytes, number + 1, sizeof properties->uuid.bytes);
  properties->major = 9;
  properties->multiProcessorCount = 2;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
  std::lock_guard<std::mutex> held(host()->memory_lock);
  *total = device_bytes();
  *free_bytes = *total - host()->memory_used;
  return cudaSuccess;
}

/* ---- memory ---- */

static bool is_in(const std::map<uintptr_t, size_t> &blocks, const void *memory, size_t bytes) {
  std::lock_guard<std::mutex> held(host()->memory_lock);
  auto after = blocks.upper_bound((uintptr_t)memory);
  if (after == blocks.begin()) return false;
  const auto &block = *--after;
  return (uintptr_t)memory + bytes <= block.first + block.second;
}

bool dft_host_cuda_is_device(const void *memory, size_t bytes) {
  return is_in(host()->memory, memory, bytes);
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
  if (host()->capture != nullptr) return host_misused();
  std::lock_guard<std::mutex> held(host()->memory_lock);
  *memory = nullptr;
  if (host_fails("fail_alloc", &host()->allocations) || fails_again() ||
      bytes > device_bytes() - host()->memory_used)
    return host_error(cudaErrorMemoryAllocation);
  if (host_protects()) {
    *memory = host_protected(bytes);
  } else if (posix_memalign(memory, 256, bytes) != 0) {
    *memory = nullptr; /* bytes, exactly: what goes beyond is for the address sanitizer to see */
    return host_error(cudaErrorMemoryAllocation);
  }
  host_open(true);
  memset(*memory, 0xa5, bytes); /* a device's memory is not zero either */
  host_open(false);
  host()->memory[(uintptr_t)*memory] = bytes;
  host()->memory_used += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
  if (memory == nullptr) return cudaSuccess;
  if (host()->capture != nullptr) return host_misused();
  cudaDeviceSynchronize();
  std::lock_guard<std::mutex> held(host()->memory_lock);
  auto block = host()->memory.find((uintptr_t)memory);
  if (block == host()->memory.end()) return host_error(cudaErrorInvalidValue);
  host()->memory_used -= block->second;
  if (host_protects())
    host_protected_free(memory, block->second);
  else
    free(memory);
  host()->memory.erase(block);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned) {
  if (host()->capture != nullptr) return host_misused();
  *memory = host_fails("fail_alloc", &host()->allocations) || fails_again() ? nullptr
                                                                            : malloc(bytes > 0 ? bytes : 1);
  if (*memory == nullptr) return host_error(cudaErrorMemoryAllocation);
  std::lock_guard<std::mutex> held(host()->memory_lock);
  host()->locked[(uintptr_t)*memory] = bytes;
  return cudaSuccess;
}

/* Without waiting: that the driver does is promised nowhere. Who reads there late shall see it. */
cudaError_t cudaFreeHost(void *memory) {
  if (host()->capture != nullptr) return host_misused();
  std::lock_guard<std::mutex> held(host()->memory_lock);
  const auto block = host()->locked.find((uintptr_t)memory);
  if (block == host()->locked.end()) return host_error(cudaErrorInvalidValue);
  memset(memory, 0xa5, block->second);
  host()->locked.erase(block);
  free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (bytes > 0 && (dft_host_cuda_is_device(to, bytes) != to_device ||
                    dft_host_cuda_is_device(from, bytes) != from_device)) {
    fprintf(stderr, "host CUDA: a copy's pointers are not on the sides that it says\n");
    return host_error(cudaErrorInvalidValue);
  }
  /* What is pageable goes through the driver's own buffers, which a graph has none of. */
  if (stream->capture != nullptr && bytes > 0 &&
      ((!to_device && !is_in(host()->locked, to, bytes)) ||
       (!from_device && !is_in(host()->locked, from, bytes))))
    return host_misused();
  dft_host_cuda_run(stream, false, [=] { memmove(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
  if (bytes > 0 && !dft_host_cuda_is_device(memory, bytes)) return host_error(cudaErrorInvalidValue);
  dft_host_cuda_run(stream, false, [=] { memset(memory, value, bytes); });
  return cudaSuccess;
}

/* Where Linux puts heaps, stacks and mappings (sanitizers' too), and something is there: numbers beside
 * padding can look like such an address, but hardly like one in use. */
static bool is_host(uintptr_t word) {
  const uintptr_t region = word >> 40;
  bool likely = region == 0x55 || region == 0x56 || (region >= 0x60 && region <= 0x64) || region >= 0x7b;
  if (word >> 47 != 0 || !likely) return false;
  unsigned char resident;
  void *page = (void *)(word & ~(uintptr_t)(sysconf(_SC_PAGESIZE) - 1));
  return mincore(page, 1, &resident) == 0 && !dft_host_cuda_is_device((void *)word, 0);
}

bool dft_host_cuda_arguments(const void *arguments, size_t bytes, const char *name) {
  for (size_t at = 0; at + sizeof(uintptr_t) <= bytes; at += sizeof(uintptr_t)) {
    uintptr_t word;
    memcpy(&word, (const char *)arguments + at, sizeof word);
    if (!is_host(word)) continue;
    fprintf(stderr, "host CUDA: %s gets a pointer of the host, at byte %zu of its arguments\n", name, at);
    dft_host_cuda_failed(cudaErrorIllegalAddress);
    return false;
  }
  return true;
}

/* ---- streams ---- */

static void serve(CUstream_st *stream) {
  const long slow_us = dft_host_cuda_option("slow_us", 0);
  std::unique_lock<std::mutex> held(host()->lock);
  for (;;) {
    while (stream->queue.empty()) host()->changed.wait(held);
    {
      std::function<void()> run = std::move(stream->queue.front());
      stream->queue.pop_front();
      held.unlock();
      if (slow_us > 0) usleep((useconds_t)slow_us);
      host_open(true);
      run();
      host_open(false);
    } /* what the closure held is freed before it counts as done */
    held.lock();
    stream->done++;
    host()->changed.notify_all();
  }
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  if (host()->capture != nullptr) return host_misused();
  *stream = new CUstream_st;
  std::lock_guard<std::mutex> held(host()->lock);
  host()->streams.push_back(*stream);
  std::thread(serve, *stream).detach();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *lowest, int *highest) {
  *lowest = 0;
  *highest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
  const cudaError_t error = cudaStreamCreateWithFlags(stream, flags);
  if (error == cudaSuccess) (*stream)->priority = priority;
  return error;
}

void host_enqueue(CUstream_st *stream, std::function<void()> run) {
  std::unique_lock<std::mutex> held(host()->lock);
  stream->queue.push_back(std::move(run));
  const uint64_t number = ++stream->enqueued;
  host()->changed.notify_all();
  while (host_protects() && stream->done < number) host()->changed.wait(held);
}

void dft_host_cuda_run(CUstream_st *stream, bool kernel, std::function<void()> run) {
  auto closure = [kernel, run] {
    if (host()->failure != cudaSuccess) return;
    if (kernel && host_fails("fail_launch", &host()->launches))
      dft_host_cuda_failed(cudaErrorIllegalAddress);
    else
      run();
  };
  if (!host_capture(stream, closure)) host_enqueue(stream, closure);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capture != nullptr) return host_misused();
  std::unique_lock<std::mutex> held(host()->lock);
  const uint64_t until = stream->enqueued;
  while (stream->done < until) host()->changed.wait(held);
  return host_failure();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (stream->capture != nullptr) return host_misused();
  std::lock_guard<std::mutex> held(host()->lock);
  cudaError_t failure = host_failure();
  if (failure != cudaSuccess) return failure;
  return host_error(stream->done < stream->enqueued ? cudaErrorNotReady : cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void) {
  std::vector<CUstream_st *> streams;
  {
    std::lock_guard<std::mutex> held(host()->lock);
    streams = host()->streams;
  }
  for (CUstream_st *stream : streams) cudaStreamSynchronize(stream);
  return host_failure();
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  *event = new CUevent_st;
  (*event)->happened = std::make_shared<std::atomic<uint64_t>>(0);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->captured = stream->capture;
  if (stream->capture != nullptr) {
    event->from = stream;
    event->position = stream->capture->closures.size();
    return cudaSuccess;
  }
  const uint64_t number = ++event->recorded;
  host_enqueue(stream, [happened = event->happened, number] {
    std::lock_guard<std::mutex> held(host()->lock);
    *happened = number;
  });
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event->captured != nullptr || stream->capture != nullptr) return host_capture_wait(stream, event);
  host_enqueue(stream, [happened = event->happened, number = event->recorded] {
    std::unique_lock<std::mutex> held(host()->lock);
    while (*happened < number) host()->changed.wait(held);
  });
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->captured != nullptr) return host_error(cudaErrorCapturedEvent);
  std::unique_lock<std::mutex> held(host()->lock);
  while (*event->happened < event->recorded) host()->changed.wait(held);
  return host_failure();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->captured != nullptr) return host_error(cudaErrorCapturedEvent);
  cudaError_t failure = host_failure();
  if (failure != cudaSuccess) return failure;
  return host_error(*event->happened < event->recorded ? cudaErrorNotReady : cudaSuccess);
}
