/* Monotonic time. Any thread. */
#ifndef DFT_CLOCK_H
#define DFT_CLOCK_H
double dft_now_s(void); /* seconds since an arbitrary start */
#endif
