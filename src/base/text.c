#include "dft/text.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

int dft_utf8_bytes(const char *text) {
  const unsigned char *c = (const unsigned char *)text;
  if (c[0] < 0x80) return c[0] != 0;
  if (c[0] < 0xc2 || c[0] > 0xf4) return 0;
  const int bytes = c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
  /* After these the second byte has less room: overlong forms, surrogates, the end of Unicode. */
  const unsigned char low = c[0] == 0xe0 ? 0xa0 : c[0] == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = c[0] == 0xed ? 0x9f : c[0] == 0xf4 ? 0x8f : 0xbf;
  if (c[1] < low || c[1] > high) return 0;
  for (int i = 2; i < bytes; i++)
    if ((c[i] & 0xc0) != 0x80) return 0;
  return bytes;
}

int dft_control_bytes(const char *text) {
  const unsigned char *c = (const unsigned char *)text;
  if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0) return 2;
  return c[0] != 0 && (c[0] < 0x20 || c[0] == 0x7f);
}

bool dft_is_line(const char *text) {
  for (int bytes; *text != '\0'; text += bytes)
    if (dft_control_bytes(text) > 0 || (bytes = dft_utf8_bytes(text)) == 0) return false;
  return true;
}

void dft_no_controls(char *text) {
  for (; *text != '\0'; text++)
    for (int bytes = dft_control_bytes(text); bytes > 0; bytes--) text[bytes - 1] = '?';
}

bool dft_ends_in(const char *text, const char *ending) {
  const size_t length = strlen(text), end = strlen(ending);
  return length > end && strcmp(text + length - end, ending) == 0;
}

static int columns_of(const char *text, int bytes) {
  static const struct {
    uint32_t first, last;
    int columns;
  } ranges[] = {{0x300, 0x36f, 0},     {0x591, 0x5bd, 0},     {0x64b, 0x65f, 0},     {0x900, 0x902, 0},
                {0x93c, 0x93c, 0},     {0x941, 0x948, 0},     {0x94d, 0x94d, 0},     {0xe31, 0xe31, 0},
                {0xe34, 0xe3a, 0},     {0xe47, 0xe4e, 0},     {0x1100, 0x115f, 2},   {0x1160, 0x11ff, 0},
                {0x200b, 0x200f, 0},   {0x2e80, 0xa4cf, 2},   {0xac00, 0xd7a3, 2},   {0xf900, 0xfaff, 2},
                {0xfe00, 0xfe0f, 0},   {0xfe30, 0xfe6f, 2},   {0xff00, 0xff60, 2},   {0xffe0, 0xffe6, 2},
                {0x1f300, 0x1f64f, 2}, {0x1f680, 0x1f6ff, 2}, {0x1f900, 0x1f9ff, 2}, {0x20000, 0x3fffd, 2}};
  uint32_t code = (unsigned char)text[0];
  if (bytes > 1) code &= 0x7fu >> bytes;
  for (int i = 1; i < bytes; i++) code = code << 6 | ((unsigned char)text[i] & 0x3f);
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
    if (code >= ranges[i].first && code <= ranges[i].last) return ranges[i].columns;
  return 1;
}

void dft_text_columns(FILE *out, const char *text, int most, int columns) {
  int used = 0;
  size_t end = 0;
  while (text[end] != '\0') {
    const int bytes = dft_utf8_bytes(text + end), width = columns_of(text + end, bytes);
    if (most > 0 && used + width > most) break;
    used += width;
    end += bytes == 0 ? 1 : (size_t)bytes;
  }
  if (columns > used) fprintf(out, "%*s", columns - used, "");
  fwrite(text, 1, end, out);
  if (-columns > used) fprintf(out, "%*s", -columns - used, "");
}

void dft_json_text(FILE *out, const char *text) {
  fputc('"', out);
  for (int bytes; *text != '\0'; text += bytes == 0 ? 1 : bytes) {
    bytes = dft_utf8_bytes(text);
    if (bytes == 0)
      fputs("\\ufffd", out);
    else if (*text == '"' || *text == '\\')
      fprintf(out, "\\%c", *text);
    else if ((unsigned char)*text < ' ')
      fprintf(out, "\\u%04x", *text);
    else
      fwrite(text, 1, (size_t)bytes, out);
  }
  fputc('"', out);
}

void dft_json_number(FILE *out, double value, int digits) {
  if (isfinite(value))
    fprintf(out, "%.*g", digits, value);
  else
    fputs("null", out);
}

void dft_csv_text(FILE *out, const char *text) {
  if (strpbrk(text, ",\"\r\n") == NULL) {
    fputs(text, out);
    return;
  }
  fputc('"', out);
  for (; *text != '\0'; text++) fputs(*text == '"' ? "\"\"" : (char[]){*text, '\0'}, out);
  fputc('"', out);
}
