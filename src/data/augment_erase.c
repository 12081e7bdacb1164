/* Random erasing (Zhong et al. 2020) as torchvision's RandomErasing. */
#include "augment.h"

void dft_augment_erase(dft_canvas *c) {
  const dft_config_augment *a = c->config;
  const double sure[2] = {0, 1};
  if (!(dft_draw_in(sure, dft_draw(c, DFT_AUGMENT_ERASING, 0).v[0]) < a->erasing)) return;
  const double ratio[2] = {1 / a->erasing_ratio[1], 1 / a->erasing_ratio[0]}; /* ours is width to height */
  dft_box box;
  if (!dft_draw_box(c, DFT_AUGMENT_ERASING, a->erasing_scale, ratio, true, &box)) return;
  dft_canvas_settle(c);
  float fill = dft_canvas_fill(c);
  for (int y = box.top; y < box.top + box.height; y++) {
    float *row = c->pixels + 3 * ((size_t)y * (size_t)c->width + (size_t)box.left);
    for (int i = 0; i < 3 * box.width; i++) row[i] = fill;
  }
}
