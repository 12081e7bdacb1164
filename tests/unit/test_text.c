/* Characters, lines, JSON and CSV of texts that are not ours. UTF-8's edges are those of the Unicode
 * standard's table 3-7, tried exhaustively: every text of up to three bytes, against its rules. */
#include "dft/text.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* By decoding: the character that the bytes spell must spell those bytes again. */
static int reference_bytes(const unsigned char *c) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const int bytes = c[0] < 0x80 ? 1 : c[0] >> 5 == 6 ? 2 : c[0] >> 4 == 14 ? 3 : c[0] >> 3 == 30 ? 4 : 0;
  uint32_t code = bytes < 2 ? c[0] : c[0] & (0x7fU >> bytes);
  for (int i = 1; i < bytes; i++) {
    if (c[i] >> 6 != 2) return 0;
    code = code << 6 | (c[i] & 0x3f);
  }
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  return bytes == 0 || code == 0 || code < least[bytes] || code > 0x10ffff || surrogate ? 0 : bytes;
}

static void test_utf8(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 1U << 24; i++) {
    const char text[] = {(char)(i >> 16), (char)(i >> 8), (char)i, '\x80', '\0'};
    if (dft_utf8_bytes(text) != reference_bytes((const unsigned char *)text))
      fail_msg("%06x: %d bytes", i, dft_utf8_bytes(text));
  }
  assert_int_equal(dft_utf8_bytes("\xf0\x9f\x90\x88"), 4);
  assert_int_equal(dft_utf8_bytes("\xf0\x9f\x90"), 0); /* cut */
  assert_int_equal(dft_utf8_bytes(""), 0);
}

static void test_lines(void **state) {
  (void)state;
  static const struct {
    const char *text, *made;
    bool line;
  } texts[] = {
      {"", "", true},
      {"daisy", "daisy", true},
      {"G\xc3\xa4nsebl\xc3\xbcmchen \xf0\x9f\x8c\xbc", "G\xc3\xa4nsebl\xc3\xbcmchen \xf0\x9f\x8c\xbc", true},
      {"two\nlines", "two?lines", false},
      {"\x1b[2J", "?[2J", false},
      {"a\x7f", "a?", false},
      {"\xc2\x9b"
       "2J",
       "??2J", false},                /* U+009B, CSI */
      {"\xc2\xa0", "\xc2\xa0", true}, /* the first after the controls */
      {"caf\xe9", "caf\xe9", false},  /* Latin-1 */
      {"\xc2", "\xc2", false},
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    char text[64];
    strcpy(text, texts[i].text);
    assert_int_equal(dft_is_line(text), texts[i].line);
    dft_no_controls(text);
    assert_string_equal(text, texts[i].made);
  }
}

typedef void write_text(FILE *out, const char *text);

static void assert_written(write_text *write, const char *text, const char *wanted) {
  char *made = NULL;
  size_t bytes;
  FILE *out = open_memstream(&made, &bytes);
  assert_non_null(out);
  write(out, text);
  assert_int_equal(fclose(out), 0);
  assert_string_equal(made, wanted);
  free(made);
}

static void write_number(FILE *out, const char *text) {
  dft_json_number(out, strtod(text, NULL), 9);
}

static void test_json(void **state) {
  (void)state;
  assert_written(dft_json_text, "a \"b\" \\c/ \xc3\xa4", "\"a \\\"b\\\" \\\\c/ \xc3\xa4\"");
  assert_written(dft_json_text, "tab\tline\n\x1b\x7f", "\"tab\\u0009line\\u000a\\u001b\x7f\"");
  assert_written(dft_json_text, "caf\xe9 \xf0\x9f", "\"caf\\ufffd \\ufffd\\ufffd\"");
  assert_written(dft_json_text, "", "\"\"");
  assert_written(write_number, "0.1", "0.1");
  assert_written(write_number, "-1e300", "-1e+300");
  assert_written(write_number, "nan", "null");
  assert_written(write_number, "-inf", "null");
}

static void test_csv(void **state) {
  (void)state;
  assert_written(dft_csv_text, "plain text", "plain text");
  assert_written(dft_csv_text, "a,b", "\"a,b\"");
  assert_written(dft_csv_text, "12\" pizza", "\"12\"\" pizza\"");
  assert_written(dft_csv_text, "two\r\nlines", "\"two\r\nlines\"");
  assert_written(dft_csv_text, "two\nlines", "\"two\nlines\"");
  assert_written(dft_csv_text, "two\rlines", "\"two\rlines\""); /* as old Macs have them */
  assert_written(dft_csv_text, "", "");
}

static void right_8(FILE *out, const char *text) {
  dft_text_columns(out, text, 8, 8);
}
static void left_6(FILE *out, const char *text) {
  dft_text_columns(out, text, 0, -6);
}

/* A name that is an ending alone has none. */
static void test_endings(void **state) {
  (void)state;
  assert_true(dft_ends_in("a.csv", ".csv") && dft_ends_in(".a.csv", ".csv"));
  assert_false(dft_ends_in(".csv", ".csv") || dft_ends_in("csv", ".csv") || dft_ends_in("a.csv.gz", ".csv"));
}

static void test_columns(void **state) {
  (void)state;
  assert_written(right_8, "Shirt", "   Shirt");
  assert_written(right_8, "Ankle boot", "Ankle bo");
  assert_written(right_8, "G\xc3\xa4nsebl\xc3\xbcmchen", "G\xc3\xa4nsebl\xc3\xbc");
  assert_written(right_8, "a\xe5\x90\x91\xe6\x97\xa5\xe8\x91\xb5\xe8\x8a\xb1",
                 " a\xe5\x90\x91\xe6\x97\xa5\xe8\x91\xb5");
  assert_written(left_6, "e\xcc\x81t\xc3\xa9", "e\xcc\x81t\xc3\xa9   ");
  assert_written(left_6, "\xe0\xb9\x84\xe0\xb8\x81\xe0\xb9\x88",
                 "\xe0\xb9\x84\xe0\xb8\x81\xe0\xb9\x88    "); /* Thai */
  assert_written(left_6, "\xf0\x9f\x9a\x80x", "\xf0\x9f\x9a\x80x   ");
  assert_written(left_6, "longer than that", "longer than that");
  assert_written(left_6, "caf\xe9", "caf\xe9  ");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_utf8), cmocka_unit_test(test_lines),   cmocka_unit_test(test_json),
      cmocka_unit_test(test_csv),  cmocka_unit_test(test_columns), cmocka_unit_test(test_endings),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
