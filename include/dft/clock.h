/* Monotonic time. Any thread. */
#ifndef DFT_CLOCK_H
#define DFT_CLOCK_H
#include <stdint.h>

double dft_now_s(void); /* seconds since an arbitrary start */
/* Seconds that the rest will take, if it goes on as the part that was done since start_s. done > 0. */
double dft_left_s(double start_s, int64_t done, int64_t all);
#endif
