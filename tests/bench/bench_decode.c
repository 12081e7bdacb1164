/* Image files -> model-ready floats, on threads. Used by decode.sh.
 *   bench_decode THREADS SECONDS HEIGHT WIDTH FILE...
 * prints images/s, and CPU microseconds per image. */
#include "../../src/data/decode.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

typedef struct image_file {
  const char *name;
  void *bytes;
  size_t count;
} image_file;

static image_file *files;
static int file_count, height, width;
static double end_s;
static atomic_long next, done;

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu_s(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void *work(void *unused) {
  (void)unused;
  dft_image_reader r = dft_image_reader_make(DFT_RESIZE_STRETCH, height, width, DFT_PREPROCESS_MOBILENET_V2);
  float *out = malloc((size_t)height * (size_t)width * 3 * sizeof *out);
  while (out != NULL && now_s() < end_s) {
    const image_file *f = &files[atomic_fetch_add(&next, 1) % file_count];
    if (dft_image_reader_file(&r, f->bytes, f->count, f->name, out) != DFT_OK) {
      fprintf(stderr, "%s\n", dft_error());
      exit(1);
    }
    atomic_fetch_add(&done, 1);
  }
  free(out);
  dft_image_reader_free(&r);
  return NULL;
}

static void read_files(char **paths) {
  files = calloc((size_t)file_count, sizeof *files);
  for (int i = 0; files != NULL && i < file_count; i++) {
    FILE *f = fopen(paths[i], "rb");
    if (f == NULL || fseek(f, 0, SEEK_END) != 0) exit(1);
    files[i] = (image_file){.name = paths[i], .count = (size_t)ftell(f)};
    files[i].bytes = malloc(files[i].count);
    rewind(f);
    if (files[i].bytes == NULL || fread(files[i].bytes, 1, files[i].count, f) != files[i].count) exit(1);
    (void)fclose(f);
  }
}

int main(int argc, char **argv) {
  enum { MOST_THREADS = 64 };
  if (argc < 6) return 2;
  int threads = atoi(argv[1]);
  height = atoi(argv[3]);
  width = atoi(argv[4]);
  file_count = argc - 5;
  if (threads < 1 || threads > MOST_THREADS) return 2;
  read_files(argv + 5);
  pthread_t ids[MOST_THREADS];
  double start = now_s(), cpu = cpu_s();
  end_s = start + atof(argv[2]);
  for (int i = 0; i < threads; i++)
    if (pthread_create(&ids[i], NULL, work, NULL) != 0) return 1;
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  double images = (double)atomic_load(&done);
  printf("%.1f %.1f\n", images / (now_s() - start), 1e6 * (cpu_s() - cpu) / images);
  return 0;
}
