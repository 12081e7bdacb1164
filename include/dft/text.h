/* Texts that come from outside (names in files, paths, messages that quote them) and go into lines, JSON and
 * CSV. Everywhere a text is a C string, UTF-8 if its author kept to it. No allocation, no errors: a full disk
 * shows when the file is closed. Any thread; not collective.
 */
#ifndef DFT_TEXT_H
#define DFT_TEXT_H

#include <stdbool.h>
#include <stdio.h>

/* Bytes (1 to 4) of the UTF-8 character that begins at `text`; 0 where there is none (RFC 3629, section 4: no
 * overlong forms, no surrogates, nothing above U+10FFFF), and at the end. */
int dft_utf8_bytes(const char *text);

/* Bytes (1 or 2) of the control character that begins at `text` (U+0001 to U+001F, U+007F to U+009F:
 * Unicode's category Cc, line breaks among them); 0 where there is none, and at the end. */
int dft_control_bytes(const char *text);

/* Whether a text is UTF-8 in one line: no control characters. Such texts go into checkpoints and tables. */
bool dft_is_line(const char *text);

/* Makes every byte of a control character a '?', so that the text stays one line and no terminal's command.
 */
void dft_no_controls(char *text);

/* Whether a text ends in `ending` and is more than that. */
bool dft_ends_in(const char *text, const char *ending);

/* At most `most` columns of a terminal's (0: all), with spaces before them up to `columns`, or after them up
 * to -columns, as printf does it by bytes; characters stay whole. East Asian characters and emoji take two
 * columns, the common combining marks none (a short form of the ranges in M. Kuhn's wcwidth and in Unicode's
 * EastAsianWidth.txt): for tables, not for typesetting. */
void dft_text_columns(FILE *out, const char *text, int most, int columns);

/* "text" with JSON's quotes and escapes (RFC 8259); a byte that is not UTF-8 becomes U+FFFD. */
void dft_json_text(FILE *out, const char *text);

/* A number of so many significant digits; JSON has no word for what is not finite: null. */
void dft_json_number(FILE *out, double value, int digits);

/* A field of CSV, quoted where it must be (RFC 4180). */
void dft_csv_text(FILE *out, const char *text);

#endif
