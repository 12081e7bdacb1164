#include "dft/model.h"
#include <fnmatch.h>
#include <string.h>

static bool may_train(const dft_layer *l, dft_batch_norm batch_norm) {
  return !(batch_norm == DFT_BN_FROZEN && l->kind == DFT_LAYER_BATCH_NORM);
}

static dft_status unfreeze_from(dft_model *m, int first) {
  for (int i = first; i < m->base_layers; i++) m->layers[i].trainable = true;
  return DFT_OK;
}

static dft_status unfreeze_named(dft_model *m, const dft_config_phase *phase) {
  const dft_layer *from = dft_model_layer(m, phase->unfreeze_from);
  if (from == NULL)
    return dft_fail(DFT_EUSAGE, "phase %s: unfreeze_from: no layer is named '%s' (dft plan lists them)",
                    phase->name, phase->unfreeze_from);
  return unfreeze_from(m, (int)(from - m->layers));
}

static dft_status unfreeze_globs(dft_model *m, const dft_config_phase *phase) {
  for (int g = 0; g < phase->unfreeze_count; g++) {
    int fits = 0;
    for (int i = 0; i < m->layer_count; i++) {
      if (fnmatch(phase->unfreeze[g], m->layers[i].name, 0) != 0) continue;
      m->layers[i].trainable = true;
      fits++;
    }
    if (fits == 0)
      return dft_fail(
          DFT_EUSAGE, "phase %s: unfreeze: '%s' fits no layer (%s)", phase->name, phase->unfreeze[g],
          strcmp(phase->unfreeze[g], "all") == 0 ? "for all of them write unfreeze: all, without [ ]"
                                                 : "dft plan lists them");
  }
  return DFT_OK;
}

dft_status dft_model_freeze(dft_model *model, const dft_config_phase *phase, dft_batch_norm batch_norm) {
  for (int i = 0; i < model->layer_count; i++) model->layers[i].trainable = false;
  if (phase->unfreeze_last > model->base_layers)
    return dft_fail(DFT_EUSAGE, "phase %s: unfreeze_last: %lld, but the base has %d layers", phase->name,
                    (long long)phase->unfreeze_last, model->base_layers);
  if (phase->unfreeze_last > 0) DFT_TRY(unfreeze_from(model, model->base_layers - (int)phase->unfreeze_last));
  if (phase->unfreeze_from != NULL) DFT_TRY(unfreeze_named(model, phase));
  DFT_TRY(unfreeze_globs(model, phase));
  model->layers[model->layer_count - 1].trainable = true; /* the head always trains */
  for (int i = 0; i < model->layer_count; i++)
    model->layers[i].trainable = model->layers[i].trainable && may_train(&model->layers[i], batch_norm);
  for (int i = 0; i < model->param_count; i++)
    model->params[i].trainable =
        model->layers[model->params[i].layer].trainable && !model->params[i].statistic;
  return DFT_OK;
}

int dft_model_tail_start(const dft_model *model) {
  for (int u = 0; u < model->unit_count; u++) {
    const dft_unit *unit = &model->units[u];
    if (!model->layers[unit->conv_layer].trainable && !model->layers[unit->bn_layer].trainable) continue;
    while (!model->units[u].block_start) u--;
    return u;
  }
  return model->unit_count;
}
