/* What cuda_host.cpp and graph_host.cpp share. */
#ifndef DFT_TESTS_CUDA_HOST_H
#define DFT_TESTS_CUDA_HOST_H

#include "cuda_runtime.h"
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

/* Work under way to become a graph. */
struct host_recording {
  CUstream_st *origin;
  std::vector<std::function<void()>> closures;
  bool spoiled = false, urgent = false; /* urgent: of a stream with another priority than the origin's */
};

struct CUstream_st {
  std::deque<std::function<void()>> queue;
  uint64_t enqueued = 0, done = 0;
  int priority = 0;
  host_recording *capture = nullptr;
  size_t last = 0,
         joined = 0; /* while capturing: closures up to its last one, up to what the origin waits for */
};

struct CUevent_st {
  std::shared_ptr<std::atomic<uint64_t>> happened; /* number of the last record that did */
  uint64_t recorded = 0;
  host_recording *captured = nullptr; /* recorded into it last, there: */
  CUstream_st *from = nullptr;
  size_t position = 0;
};

struct host_state {
  std::mutex lock; /* streams and events */
  std::condition_variable changed;
  std::vector<CUstream_st *> streams;
  host_recording *capture = nullptr;
  std::vector<std::unique_ptr<host_recording>> recordings; /* events may point to old ones */
  std::mutex memory_lock;
  std::map<uintptr_t, size_t> memory, locked; /* the device's blocks, and the host's that are page-locked */
  size_t memory_used = 0;
  std::atomic<int> failure{cudaSuccess};
  std::atomic<long> allocations{0}, launches{0}, products{0};
};

host_state *host(void);
bool host_fails(const char *name, std::atomic<long> *counter);
cudaError_t host_error(cudaError_t error); /* what cudaGetLastError will tell */
cudaError_t host_failure(void);
/* protect_host.cpp: memory that is there while host_open(true) has been called more often than
 * host_open(false). */
bool host_protects(void);
void *host_protected(size_t bytes);
void host_protected_free(void *memory, size_t bytes);
void host_open(bool open);
/* A call that is not for a stream under capture. */
cudaError_t host_misused(void);
void host_enqueue(CUstream_st *stream, std::function<void()> run);
/* Keeps the closure when the stream is captured. */
bool host_capture(CUstream_st *stream, const std::function<void()> &closure);
cudaError_t host_capture_wait(CUstream_st *stream, CUevent_st *event);

#endif
