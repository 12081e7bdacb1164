/* The order of work: waiting, graphs, and the exchange's stream. */
#include "device.h"

#include <stdlib.h>

struct dft_graph {
  cudaGraphExec_t exec;
};

static dft_status finish(void) {
  dft_cuda_wait(cuda.stream, "waiting for the GPU");
  return dft_cuda_take();
}

static dft_status poll(bool *finished) {
  const cudaError_t state = cudaStreamQuery(cuda.stream);
  *finished = state != cudaErrorNotReady;
  if (*finished)
    dft_cuda_check(state, "asking the GPU");
  else
    (void)cudaGetLastError(); /* "not ready" too is kept, and the next launch would be blamed for it */
  return dft_cuda_take();
}

static dft_status record(void) {
  DFT_TRY(dft_cuda_take());
  if (!dft_cuda_check(cudaStreamBeginCapture(cuda.stream, cudaStreamCaptureModeThreadLocal),
                      "recording a step"))
    return dft_cuda_take();
  cuda.recording = true;
  return DFT_OK;
}

static dft_status recorded(dft_graph **graph) {
  cudaGraph_t captured = nullptr;
  dft_graph *g = (dft_graph *)calloc(1, sizeof *g);
  *graph = nullptr;
  cuda.recording = false;
  bool good = dft_cuda_check(cudaStreamEndCapture(cuda.stream, &captured), "recording a step");
  if (g == nullptr) dft_cuda_keep("out of memory (a recorded step)");
  /* Else all of it would run at the launching stream's priority, the exchange too (urgent_stream). */
  if (good && cuda.error == DFT_OK)
    dft_cuda_check(cudaGraphInstantiate(&g->exec, captured, cudaGraphInstantiateFlagUseNodePriority),
                   "making a recorded step");
  if (captured != nullptr) cudaGraphDestroy(captured);
  if (cuda.error != DFT_OK) {
    free(g);
    return dft_cuda_take();
  }
  *graph = g;
  return DFT_OK;
}

static void replay(dft_graph *graph) {
  dft_cuda_check(cudaGraphLaunch(graph->exec, cuda.stream), "replaying a step");
}

static void graph_free(dft_graph *graph) {
  if (graph == nullptr) return;
  dft_cuda_wait(cuda.stream, "freeing a recorded step");
  dft_cuda_check(cudaGraphExecDestroy(graph->exec), "freeing a recorded step");
  free(graph);
}

/* ---- the exchange's stream ---- */

static dft_status event_new(void **event) {
  cudaEvent_t made = nullptr;
  *event = nullptr;
  if (!dft_cuda_event(&made)) return dft_cuda_take();
  *event = made;
  return DFT_OK;
}

static void event_free(void *event) {
  if (event != nullptr) dft_cuda_check(cudaEventDestroy((cudaEvent_t)event), "freeing an event");
}

static void exchange_begin(void) {
  dft_cuda_check(cudaEventRecord(cuda.mark, cuda.stream), "beginning an exchange");
  dft_cuda_check(cudaStreamWaitEvent(cuda.exchange, cuda.mark, 0), "beginning an exchange");
}

static void exchange_mark(void *event) {
  dft_cuda_check(cudaEventRecord((cudaEvent_t)event, cuda.exchange), "marking an exchange");
}

static void exchange_wait(void *event) {
  dft_cuda_check(cudaStreamWaitEvent(cuda.stream, (cudaEvent_t)event, 0), "waiting for an exchange");
}

template <typename T> struct exchange_add_kernel {
  T *to;
  const T *left, *right;
  __device__ void operator()(int64_t i) const { to[i] = left[i] + right[i]; }
};

static void exchange_add_f32(float *to, const float *left, const float *right, int64_t count) {
  dft_launch_on(cuda.exchange, "exchange_add_f32", count, exchange_add_kernel<float>{to, left, right});
}

static void exchange_add_f64(double *to, const double *left, const double *right, int64_t count) {
  dft_launch_on(cuda.exchange, "exchange_add_f64", count, exchange_add_kernel<double>{to, left, right});
}

void dft_cuda_table_order(void) {
  dft_device *d = &cuda.device;
  d->finish = finish;
  d->poll = poll;
  d->failed = dft_cuda_take;
  d->record = record;
  d->recorded = recorded;
  d->replay = replay;
  d->graph_free = graph_free;
  d->exchange_stream = cuda.exchange;
  d->event_new = event_new;
  d->event_free = event_free;
  d->exchange_begin = exchange_begin;
  d->exchange_mark = exchange_mark;
  d->exchange_wait = exchange_wait;
  d->exchange_add_f32 = exchange_add_f32;
  d->exchange_add_f64 = exchange_add_f64;
}
