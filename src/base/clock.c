#include "dft/clock.h"
#include <time.h>

double dft_now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double dft_left_s(double start_s, int64_t done, int64_t all) {
  return (dft_now_s() - start_s) * (double)(all - done) / (double)done;
}
