#include "train.h"
#include <signal.h>

static volatile sig_atomic_t requested;

void dft_request_stop(void) {
  requested = 1;
}

bool dft_stop_requested(void) {
  return requested != 0;
}
