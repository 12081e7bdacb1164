/* What signals mean to a run: USR1, TERM, INT and HUP (its terminal is gone; but for nohup, which has it
 * ignored) ask it to save and stop. A launcher sends them more than once for one wish, so only one at least 2
 * s after the first means "at once"; USR1, which batch systems send as a warning, never does. */
#include "cli.h"
#include "dft/clock.h"
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

static const double patience_s = 2.0;
/* When the first of them came; 0: none has. Two threads may be in handlers at once. */
static _Atomic double told_s;

static void ask(int number) {
  dft_request_stop();
  if (number == SIGUSR1) return;
  const double now_s = dft_now_s();
  double first_s = 0;
  if (atomic_compare_exchange_strong(&told_s, &first_s, now_s)) return;
  if (now_s - first_s >= patience_s) _exit(128 + number);
}

void dft_cli_signals(void) {
  static const int numbers[] = {SIGUSR1, SIGTERM, SIGINT, SIGHUP};
  struct sigaction action = {.sa_handler = ask, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) sigaddset(&action.sa_mask, numbers[i]);
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    struct sigaction before;
    if (numbers[i] == SIGHUP && sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler == SIG_IGN)
      continue;
    sigaction(numbers[i], &action, NULL);
  }
}
