/* Microseconds of one thread per 96x96 image for the steps of data.augment: the least of several rounds.
 *
 *   build/tests/bench_augment */
#include "../../src/data/augment.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SIDE = 96, VALUES = SIDE * SIDE * 3, IMAGES = 100, ROUNDS = 9 };

static double cpu_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static double measure(const char *augment) {
  static const char text[] = "data: {format: random, train: {samples: 1}}\nphases: [{epochs: 1}]\n";
  static float image[VALUES];
  const char *overrides[] = {augment, "data.augment.value_range=[0, 255]"};
  dft_config *c = NULL;
  double best = 0;
  if (dft_config_parse("bench.yaml", text, overrides, 2, &c) != DFT_OK) return -1;
  for (int round = 0; round < ROUNDS; round++) {
    double spent = 0;
    for (int i = 0; i < IMAGES; i++) {
      for (int v = 0; v < VALUES; v++) image[v] = (float)((uint32_t)(v + i) * 2654435761u >> 24);
      double start = cpu_us();
      if (dft_augment(&c->data.augment, 1, i, round, SIDE, SIDE, image) != DFT_OK) return -1;
      spent += cpu_us() - start;
    }
    if (round == 0 || spent < best) best = spent;
  }
  dft_config_free(c);
  return best / IMAGES;
}

int main(void) {
  static const char *const setups[] = {
      "{}",
      "{flip: horizontal}",
      "{crop: {scale: [0.3, 1]}}",
      "{rotation: 0.1}",
      "{flip: horizontal, crop: {scale: [0.3, 1]}, rotation: 0.1, zoom: 0.2, translation: 0.1}",
      "{brightness: 0.2}",
      "{contrast: 0.2}",
      "{saturation: 0.2}",
      "{erasing: {probability: 1}}",
      "{rand_augment: {num_ops: 2}}",
      "{flip: horizontal, crop: {scale: [0.3, 1]}, brightness: 0.2, contrast: 0.2, saturation: 0.2, erasing: "
      "{probability: 0.25}}",
  };
  for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
    char text[300];
    snprintf(text, sizeof text, "data.augment=%s", setups[i]);
    printf("%7.1f us  %s\n", measure(text), setups[i]);
  }
  return 0;
}
