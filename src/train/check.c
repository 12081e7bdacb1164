/* `dft check`: reads every sample once. */
#include "train.h"
#include <stdio.h>
#include <stdlib.h>

static dft_status check_dataset(const dft_config *c, const dft_dataset *data, const char *what,
                                int64_t *bad) {
  float *image = malloc((size_t)c->model.height * (size_t)c->model.width * 3 * sizeof *image);
  if (image == NULL) return dft_fail_memory("image", 0);
  int64_t n = dft_dataset_count(data), unreadable = 0;
  for (int64_t i = 0; i < n; i++) {
    if (dft_dataset_image(data, i, image) == DFT_OK) continue;
    unreadable++;
    printf("%s\n", dft_error());
  }
  printf("%s: %lld samples, %lld unreadable\n", what, (long long)n, (long long)unreadable);
  *bad += unreadable;
  free(image);
  return DFT_OK;
}

dft_status dft_check(const dft_source *source) {
  dft_config *c = NULL;
  dft_dataset *train = NULL, *validation = NULL;
  int64_t bad = 0;
  DFT_TRY(dft_load_config(dft_comm_alone(), source, &c));
  dft_status status = dft_data_open(c, dft_share_alone(), &train, &validation);
  if (status == DFT_OK) status = check_dataset(c, train, "training", &bad);
  if (status == DFT_OK && validation != NULL) status = check_dataset(c, validation, "validation", &bad);
  if (status == DFT_OK && bad > 0)
    status = dft_fail(DFT_EDATA, "%lld samples are unreadable, listed above", (long long)bad);
  dft_dataset_free(validation);
  dft_dataset_free(train);
  dft_config_free(c);
  return status;
}
