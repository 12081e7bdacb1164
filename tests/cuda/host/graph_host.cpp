/* Captured work. The order of capture is one that all its dependencies allow, so a graph is a list. */
#include "cuda_host.h"

struct CUgraph_st {
  std::vector<std::function<void()>> closures;
  bool urgent;
};

struct CUgraphExec_st {
  std::shared_ptr<CUgraph_st> graph;
};

cudaError_t host_misused(void) {
  if (host()->capture != nullptr) host()->capture->spoiled = true;
  return host_error(cudaErrorStreamCaptureUnsupported);
}

bool dft_host_cuda_records(const CUstream_st *stream) {
  return stream->capture != nullptr;
}

bool host_capture(CUstream_st *stream, const std::function<void()> &closure) {
  if (stream->capture == nullptr) return false;
  stream->capture->closures.push_back(closure);
  stream->capture->urgent |= stream->priority != stream->capture->origin->priority;
  stream->last = stream->capture->closures.size();
  return true;
}

/* A stream that waits for captured work is captured too; what the origin has waited for is joined. */
cudaError_t host_capture_wait(CUstream_st *stream, CUevent_st *event) {
  if (event->captured == nullptr) {
    stream->capture->spoiled = true;
    return host_error(cudaErrorStreamCaptureIsolation);
  }
  if (host()->capture != event->captured) return host_error(cudaErrorCapturedEvent);
  stream->capture = event->captured;
  if (stream == stream->capture->origin && event->from->joined < event->position)
    event->from->joined = event->position;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (host()->capture != nullptr) return host_misused();
  host()->recordings.emplace_back(new host_recording{stream, {}});
  stream->capture = host()->capture = host()->recordings.back().get();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  host_recording *recording = stream->capture;
  *graph = nullptr;
  if (recording == nullptr || recording->origin != stream) return host_error(cudaErrorInvalidValue);
  cudaError_t error = recording->spoiled ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
  {
    std::lock_guard<std::mutex> held(host()->lock);
    for (CUstream_st *other : host()->streams) {
      if (other->capture == nullptr) continue;
      if (other != stream && other->last > other->joined && error == cudaSuccess)
        error = cudaErrorStreamCaptureUnjoined;
      other->capture = nullptr;
      other->last = other->joined = 0;
    }
  }
  host()->capture = nullptr;
  if (error == cudaSuccess) *graph = new CUgraph_st{std::move(recording->closures), recording->urgent};
  recording->closures.clear();
  return host_error(error);
}

/* A device would run urgent work as the launching stream's, and say nothing. */
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags) {
  if (graph->urgent && (flags & cudaGraphInstantiateFlagUseNodePriority) == 0)
    return host_error(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{std::make_shared<CUgraph_st>(*graph)};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (stream->capture != nullptr) return host_misused();
  host_enqueue(stream, [graph = exec->graph] {
    for (const auto &closure : graph->closures) closure();
  });
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
