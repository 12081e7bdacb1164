/* Speed of the loader alone: the training images of a config, in order, without any other work.
 *
 *     bench_loader CONFIG [key=value ...]
 *
 * Prints images per second of CPU time (all threads together) and of wall time, read by the thread that wants
 * them, and ahead of it by data.threads threads (auto: 2). The best of three rounds over at most 1000 images.
 * Not a test.
 */
#include "dft/arena.h"
#include "dft/clock.h"
#include "dft/prefetch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 1000, ROUNDS = 3, AHEAD = 128 };

static void must(dft_status status) {
  if (status == DFT_OK) return;
  fprintf(stderr, "bench_loader: %s\n", dft_error());
  exit(1);
}

static double cpu_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Each epoch has its own views. Images that cannot be read count as well. */
static void one_round(const dft_dataset *data, int64_t n, int64_t epoch, dft_prefetch *p, float *image) {
  int64_t view = dft_dataset_view_of(data, epoch), asked = 0;
  for (int64_t i = 0; i < n; i++) {
    for (; p != NULL && asked < n && !dft_prefetch_full(p); asked++)
      dft_prefetch_ask(p, asked, data, asked, view, NULL);
    (void)(p != NULL ? dft_prefetch_take(p, data, i, view, NULL, image)
                     : dft_dataset_view(data, i, view, NULL, image));
  }
}

static void measure(const dft_dataset *data, int64_t n, int threads, int64_t floats, float *image) {
  dft_prefetch *p = NULL;
  double best_cpu_s = INFINITY, best_wall_s = INFINITY;
  if (threads > 0) must(dft_prefetch_open(threads, AHEAD, floats, &p));
  for (int64_t round = 0; round < ROUNDS; round++) {
    double cpu = cpu_s(), wall = dft_now_s();
    one_round(data, n, round, p, image);
    best_cpu_s = fmin(best_cpu_s, cpu_s() - cpu);
    best_wall_s = fmin(best_wall_s, dft_now_s() - wall);
  }
  dft_prefetch_close(p);
  printf("%2d thread%s ahead: %8.0f images per CPU second, %8.0f per second\n", threads,
         threads == 1 ? " " : "s", (double)n / best_cpu_s, (double)n / best_wall_s);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: bench_loader CONFIG [key=value ...]\n");
    return 2;
  }
  char *text = NULL;
  dft_config *config = NULL;
  dft_dataset *train = NULL, *validation = NULL;
  must(dft_config_read(argv[1], &text));
  must(dft_config_parse(argv[1], text, (const char *const *)argv + 2, argc - 2, &config));
  must(dft_data_open(config, dft_share_alone(), &train, &validation));
  int64_t n = dft_dataset_count(train) < MOST ? dft_dataset_count(train) : MOST;
  int64_t floats = (int64_t)config->model.height * config->model.width * 3;
  float *image = dft_aligned_alloc((size_t)floats * sizeof *image);
  if (image == NULL) return 1;
  one_round(train, n, 0, NULL, image); /* files into the page cache, images into data.decoded_cache */
  measure(train, n, 0, floats, image);
  measure(train, n, config->data.threads > 0 ? config->data.threads : 2, floats, image);
  free(image);
  dft_dataset_free(validation);
  dft_dataset_free(train);
  dft_config_free(config);
  free(text);
  return 0;
}
