#include "lines.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { BAR_COLUMNS = 20, INFO_BYTES = 1024 };

/* Appends to text that is cut off, not overrun, when it is full. */
__attribute__((format(printf, 2, 3))) static void append(char text[INFO_BYTES], const char *format, ...) {
  size_t used = strlen(text);
  va_list args;
  va_start(args, format);
  vsnprintf(text + used, INFO_BYTES - used, format, args);
  va_end(args);
}

static void append_per_step(char text[INFO_BYTES], double seconds) {
  if (seconds >= 1 || seconds == 0)
    append(text, " %.0fs/step", seconds);
  else if (seconds >= 1e-3)
    append(text, " %.0fms/step", seconds * 1e3);
  else
    append(text, " %.0fus/step", seconds * 1e6);
}

/* Python prints NaN without its sign. */
static void append_metric(char text[INFO_BYTES], const dft_metric *m, bool size) {
  if (isnan(m->value))
    append(text, " - %s: nan", m->name);
  else
    append(text, size ? " - %s: %.4f" : " - %s: %.4e", m->name, m->value);
}

static void append_time_left(char text[INFO_BYTES], double seconds) {
  if (!(seconds < 1e9)) seconds = 1e9;
  long long s = (long long)seconds;
  if (seconds > 3600)
    append(text, "%lld:%02lld:%02lld", s / 3600, s % 3600 / 60, s % 60);
  else if (seconds > 60)
    append(text, "%lld:%02lld", s / 60, s % 60);
  else
    append(text, "%llds", s);
}

static int digits(long long n) {
  int count = 1;
  for (; n >= 10; n /= 10) count++;
  return count;
}

void dft_print_bar(FILE *out, const dft_bar *bar, int *width) {
  char time[INFO_BYTES] = "", info[INFO_BYTES] = "", count[64];
  for (int i = 0; i < *width; i++) fputc('\b', out);
  fputc('\r', out);
  snprintf(count, sizeof count, "%*lld/%lld", digits(bar->target), bar->current, bar->target);
  fprintf(out, "\x1b[1m%s\x1b[0m ", count);
  int filled = (int)(BAR_COLUMNS * ((double)bar->current / (double)bar->target));
  if (filled > BAR_COLUMNS) filled = BAR_COLUMNS;
  if (filled > 0) fputs("\x1b[32m", out);
  for (int i = 0; i < filled; i++) fputs("━", out);
  fputs(filled > 0 ? "\x1b[0m\x1b[37m" : "\x1b[37m", out);
  for (int i = filled; i < BAR_COLUMNS; i++) fputs("━", out);
  fputs("\x1b[0m", out);
  if (bar->final)
    append(time, "%.0fs", bar->elapsed_s);
  else
    append_time_left(time, bar->per_step_s * (double)(bar->target - bar->current));
  append_per_step(info, bar->per_step_s);
  for (int i = 0; i < bar->metric_count; i++)
    append_metric(info, &bar->metrics[i], fabs(bar->metrics[i].value) > 1e-3);
  fprintf(out, " \x1b[1m%s\x1b[0m%s", time, info);
  int now = (int)(strlen(count) + 1 + BAR_COLUMNS + 1 + strlen(time) + strlen(info));
  if (*width > now) fprintf(out, "%*s", *width - now, "");
  if (bar->final) fputc('\n', out);
  *width = bar->final ? 0 : now;
}

void dft_print_line(FILE *out, const dft_bar *bar) {
  char info[INFO_BYTES] = "";
  append(info, "%*lld/%lld - %.0fs -", digits(bar->target), bar->current, bar->target, bar->elapsed_s);
  append_per_step(info, bar->per_step_s);
  for (int i = 0; i < bar->metric_count; i++)
    append_metric(info, &bar->metrics[i], bar->metrics[i].value > 1e-3);
  fprintf(out, "%s\n", info);
}
