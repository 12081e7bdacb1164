/* Images of samples, through the frozen prefix. */
#include "train.h"
#include <stdlib.h>

/* Images decoded before the prefix takes them: bounds memory to a few MB. */
enum { TILE = 32 };

/* Decodes in parallel. The error that is reported is that of the first failing sample in order. */
static dft_status images(const dft_dataset *data, const int64_t *samples, int count, int64_t elements,
                         float *out) {
  int failed = count;
#pragma omp parallel for num_threads(dft_ops_threads()) schedule(static) reduction(min : failed)
  for (int i = 0; i < count; i++)
    if (dft_dataset_image(data, samples[i], out + i * elements) != DFT_OK && i < failed) failed = i;
  /* the message is per thread: read the sample again here, on the thread that returns */
  return failed < count ? dft_dataset_image(data, samples[failed], out + failed * elements) : DFT_OK;
}

dft_status dft_boundary_rows(dft_run *run, const dft_dataset *data, const int64_t *samples, int count,
                             float *x) {
  int64_t image = (int64_t)run->model->height * run->model->width * 3;
  dft_folded_net *prefix = run->phase.prefix;
  if (prefix == NULL) return images(data, samples, count, image, x);
  int64_t row = dft_model_boundary(run->model, run->phase.first);
  float *tile = dft_aligned_alloc((size_t)TILE * (size_t)image * sizeof(float));
  if (tile == NULL) return dft_fail_memory("images", 0);
  dft_status status = DFT_OK;
  for (int first = 0; first < count && status == DFT_OK; first += TILE) {
    int n = count - first < TILE ? count - first : TILE;
    status = images(data, samples + first, n, image, tile);
    if (status == DFT_OK) dft_folded_run(prefix, tile, x + first * row, n);
  }
  free(tile);
  return status;
}
