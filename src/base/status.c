#include "dft/status.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048 };
static _Thread_local char message[MESSAGE_BYTES];

/* A message is one line, whatever names and texts of files it quotes: no control characters, those of Latin-1
 * (U+0080 to U+009F) in UTF-8 among them. */
static void record(const char *text) {
  snprintf(message, sizeof message, "%s", text);
  for (char *c = message; *c != '\0'; c++) {
    const unsigned char here = (unsigned char)c[0], next = (unsigned char)c[1];
    if (here < ' ' || here == 0x7f) *c = '?';
    if (here == 0xc2 && next >= 0x80 && next < 0xa0) c[0] = c[1] = '?';
  }
}

dft_status dft_fail(dft_status code, const char *format, ...) {
  char text[MESSAGE_BYTES]; /* the arguments may point into `message` */
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  record(text);
  return code;
}

dft_status dft_context(dft_status code, const char *format, ...) {
  if (code == DFT_OK) return code;
  char text[MESSAGE_BYTES];
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
