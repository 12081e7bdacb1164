/* Runs the stages of a frozen forward on tiles of samples. */
#include "../gemm.h"
#include "../tasks.h"
#include "frozen.h"
#include <omp.h>

static void round_rows(const float *x, vf_bf16 *rounded, size_t rows, int channels) {
  const int padded = rounded_channels(channels);
  for (; rows > 0; rows--, x += channels, rounded += padded) {
    for (int i = 0; i < channels; i += VF_LANES) {
      const int lanes = channels - i < VF_LANES ? channels - i : VF_LANES;
      vf_store_rounded(rounded + i, vf_load_n(x + i, lanes), lanes);
    }
    for (int i = channels; i < padded; i++) rounded[i] = 0;
  }
}

/* Stages [from, to) on `samples` samples, from x to y, by way of the two buffers. `rounded` may be NULL. */
static void run_stages(const dft_frozen *f, const worker *w, int from, int to, const float *x,
                       const vf_bf16 *rounded, tensor y, const tensor buffers[NARROW], int samples) {
  for (int i = from; i < to; i++) {
    const stage *s = &f->stages[i];
    tensor out = i == to - 1 ? y : x == buffers[0].values ? buffers[1] : buffers[0];
    if (!s->product || s->layout != WIDE_ROUNDED || i == f->count - 1 || !stage_reads_rounded(s + 1))
      out.rounded = NULL;
    out.only_rounded = out.rounded && !s[1].residual;
    if (stage_reads_rounded(s) && !rounded) {
      round_rows(x, w->input, (size_t)samples * (size_t)(s->in_floats / s->in_channels), s->in_channels);
      rounded = w->input;
    }
    DFT_SIMD(dft_stage_run)(s, &w->space, x, rounded, out, samples);
    x = out.values;
    rounded = out.rounded;
  }
}

static void run_tile(const dft_frozen *f, const worker *w, const float *x, float *y, int samples) {
  tensor last = {.values = y}, handed = f->early == f->count ? last : w->tile[0];
  const vf_bf16 *rounded = NULL;
  if (f->early > 0) {
    const stage *s = &f->stages[f->early - 1];
    for (int i = 0; i < samples; i++) {
      tensor sample = handed;
      sample.values += (size_t)i * (size_t)s->out_floats;
      if (handed.rounded) sample.rounded += (size_t)i * (size_t)s->out_rounded;
      run_stages(f, w, 0, f->early, x + (size_t)i * f->in_floats, NULL, sample, w->sample, 1);
    }
    x = handed.values;
    if (s->layout == WIDE_ROUNDED) rounded = handed.rounded;
  }
  run_stages(f, w, f->early, f->count, x, rounded, last, w->tile, samples);
}

typedef struct run_job {
  const dft_frozen *f;
  const float *x;
  float *y;
  int samples, tiles, threads;
} run_job;

static void tile_task(const void *context, int tile) {
  const run_job *job = context;
  const dft_frozen *f = job->f;
  const int from = (int)((int64_t)job->samples * tile / job->tiles);
  const int to = (int)((int64_t)job->samples * (tile + 1) / job->tiles);
  const unsigned before = f->bfloat16 ? vf_begin_bfloat16() : 0;
  const int thread = job->threads > 1 ? omp_get_thread_num() : 0; /* of the tasks' own team */
  run_tile(f, &f->workers[thread], job->x + (size_t)from * f->in_floats,
           job->y + (size_t)from * f->out_floats, to - from);
  if (f->bfloat16) vf_end_bfloat16(before);
}

void DFT_SIMD(dft_frozen_run)(dft_frozen *f, const float *x, float *y, int samples) {
  int threads = dft_ops_threads() < samples ? dft_ops_threads() : samples;
  if (samples == 0) return;
  threads = DFT_SIMD(dft_frozen_workers)(f, threads);
  const int share = (samples + threads - 1) / threads;
  const run_job job = {f, x, y, samples, threads * ((share + TILE_SAMPLES - 1) / TILE_SAMPLES), threads};
  dft_run_tasks(&(dft_tasks){tile_task, &job, job.tiles}, 1, threads);
}
