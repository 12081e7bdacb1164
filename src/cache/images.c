#include "images.h"
#include "dft/clock.h"
#include "dft/log.h"

enum { MOST_NAMED = 10 /* samples left out that get a line each */ };

dft_status dft_images_open(const dft_config *config, const dft_share *share,
                           const dft_dataset *const data[DFT_SETS], dft_images *images) {
  *images = (dft_images){.share = share, .floats = (int64_t)config->model.height * config->model.width * 3};
  dft_status status = DFT_OK;
  for (int s = 0; s < DFT_SETS && status == DFT_OK; s++) {
    images->data[s] = data[s];
    if (data[s] == NULL || !dft_dataset_can_fail(data[s]) || config->data.on_corrupt == DFT_CORRUPT_FAIL)
      continue;
    void *block = NULL;
    status = share->alloc(share->context, (size_t)dft_dataset_count(data[s]), &block);
    images->corrupt[s] = block;
  }
  return status;
}

void dft_images_close(dft_images *images) {
  for (int s = 0; s < DFT_SETS; s++)
    if (images->corrupt[s] != NULL) images->share->free(images->share->context, images->corrupt[s]);
  *images = (dft_images){0};
}

bool dft_images_corrupt(const dft_images *images, dft_set set, int64_t sample) {
  return images->corrupt[set] != NULL &&
         __atomic_load_n(&images->corrupt[set][sample], __ATOMIC_RELAXED) != 0;
}

/* A sample that could not be read, once more: the message is per thread, and wanted on the one that returns.
 * Then it is left out, where that is what people want. */
static dft_status read_again(dft_images *images, dft_set set, const dft_item *it, float *out,
                             unsigned char *bad) {
  dft_status status = dft_dataset_view(images->data[set], it->sample, it->view, it->mix, out);
  *bad = status != DFT_OK;
  if (status != DFT_EDATA || images->corrupt[set] == NULL) return status;
  __atomic_store_n(&images->corrupt[set][it->sample], 1, __ATOMIC_RELAXED);
  if (++images->named <= MOST_NAMED)
    dft_warn("left out: %s", dft_error());
  else if (images->named == MOST_NAMED + 1)
    dft_warn("further samples that cannot be read are left out without a line");
  return DFT_OK;
}

static dft_status read_one(const dft_images *images, dft_set set, const dft_item *it, float *out) {
  const dft_dataset *data = images->data[set];
  return images->ahead != NULL ? dft_prefetch_take(images->ahead, data, it->sample, it->view, it->mix, out)
                               : dft_dataset_view(data, it->sample, it->view, it->mix, out);
}

dft_status dft_images_read(dft_images *images, dft_set set, const dft_item *items, int count, float *out,
                           unsigned char *bad) {
  double start_s = dft_now_s();
#pragma omp parallel for num_threads(dft_ops_threads()) schedule(dynamic)
  for (int i = 0; i < count; i++)
    bad[i] = dft_images_corrupt(images, set, items[i].sample) ||
             read_one(images, set, &items[i], out + i * images->floats) != DFT_OK;
  dft_status status = DFT_OK;
  for (int i = 0; i < count && status == DFT_OK; i++)
    if (bad[i] && !dft_images_corrupt(images, set, items[i].sample))
      status = read_again(images, set, &items[i], out + i * images->floats, &bad[i]);
  images->waited_s += dft_now_s() - start_s;
  return status;
}
