#include "dft/version.h"
#include "rows.h"
#include <isa-l/crc64.h>
#include <string.h>

/* A struct of ints, then doubles: no padding between that a hash would see. */
_Static_assert(sizeof(dft_config_augment) == 4 * sizeof(int) + 26 * sizeof(double),
               "dft_config_augment has padding");

static void add(dft_rows_key *key, const void *data, size_t bytes) {
  key->hash[0] = crc64_ecma_refl(key->hash[0], data, bytes);
  key->hash[1] = crc64_jones_refl(key->hash[1], data, bytes);
}

static void add_text(dft_rows_key *key, const char *text) {
  add(key, text, strlen(text) + 1);
}

static void add_param(dft_rows_key *key, const dft_model *model, int param) {
  const dft_param *p = &model->params[param];
  add(key, p->data, (size_t)p->elements * sizeof *p->data);
}

dft_rows_key dft_rows_key_of(const dft_config *config, const dft_model *model, const dft_ops *ops,
                             const int *firsts, int level, uint64_t contents, int64_t count, bool augmented) {
  int last = firsts[level];
  dft_rows_key key = {.count = count, .row_bytes = dft_model_boundary(model, last) * (int64_t)sizeof(float)};
  /* kernels may change from build to build, and with them the last bits */
  add_text(&key, DFT_VERSION " " DFT_GIT);
  add_text(&key, ops->name);
  if (ops->device != NULL) { /* its libraries choose kernels by the model of the device */
    add_text(&key, ops->device->name);
    add(&key, &ops->device->precision, sizeof ops->device->precision);
  }
  const int64_t numbers[] = {count,
                             (int64_t)contents,
                             model->height,
                             model->width,
                             config->data.preprocessing,
                             config->data.resize,
                             config->compute.prefix,
                             last == model->unit_count ? (int64_t)model->pooling : -1};
  add(&key, numbers, sizeof numbers);
  if (augmented) {
    add(&key, &config->seed, sizeof config->seed);
    add(&key, &config->data.augment, sizeof config->data.augment);
  }
  add(&key, &model->alpha, sizeof model->alpha);
  /* where the chain of computations is cut must not matter to the bits; if it ever does, it is in the key */
  add(&key, firsts, (size_t)(level + 1) * sizeof *firsts);
  for (int u = 0; u < last; u++) {
    const dft_unit *unit = &model->units[u];
    const int params[] = {unit->kernel, unit->gamma, unit->beta, unit->mean, unit->variance};
    for (int i = 0; i < 5; i++) add_param(&key, model, params[i]);
  }
  return key;
}
