#include "train.h"
#include <signal.h>

static volatile sig_atomic_t pending;

static void note(int signal_number) {
  (void)signal_number;
  pending = 1;
}

void dft_signals_install(void) {
  struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  static const int signals[] = {SIGUSR1, SIGTERM, SIGINT};
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) sigaction(signals[i], &action, NULL);
}

bool dft_signals_pending(void) {
  return pending != 0;
}
