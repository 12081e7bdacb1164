#include "dft/status.h"
#include "dft/text.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[DFT_MESSAGE_BYTES];

/* A message is one line, whatever names and texts of files it quotes. */
static void record(const char *text) {
  snprintf(message, sizeof message, "%s", text);
  dft_no_controls(message);
}

dft_status dft_fail(dft_status code, const char *format, ...) {
  char text[DFT_MESSAGE_BYTES]; /* the arguments may point into `message` */
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  record(text);
  return code;
}

dft_status dft_context(dft_status code, const char *format, ...) {
  if (code == DFT_OK) return code;
  char text[DFT_MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  int used = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (used < 0 || (size_t)used >= sizeof text - 3) return code;
  snprintf(text + used, sizeof text - (size_t)used, ": %s", message);
  record(text);
  return code;
}

const char *dft_error(void) {
  return message;
}

dft_status dft_fail_memory(const char *what, unsigned long long bytes) {
  if (bytes == 0)
    return dft_fail(DFT_EINTERNAL, "out of memory (%s)", what); /* the caller does not know how many */
  return dft_fail(DFT_EINTERNAL, "out of memory (%s, %llu bytes)", what, bytes);
}
