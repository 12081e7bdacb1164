/* report.html: that it says what it is given, that its drawing has the right pieces, and that it needs
 * nothing else. tests/golden/test_report_tensorflow.sh parses the page of a whole run. */
#include "../../src/report/html.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/dft-page-XXXXXX";
static char path[64], page[1 << 16];

static const char *read_page(void) {
  FILE *in = fopen(path, "r");
  assert_non_null(in);
  page[fread(page, 1, sizeof page - 1, in)] = '\0';
  fclose(in);
  return page;
}

static int count(const char *text, const char *piece) {
  int found = 0;
  for (const char *at = strstr(text, piece); at != NULL; at = strstr(at + 1, piece)) found++;
  return found;
}

#define assert_has(piece)                                                                                    \
  do {                                                                                                       \
    if (strstr(page, piece) == NULL) fail_msg("no '%s' in the page", piece);                                 \
  } while (0)

static void test_page(void **state) {
  (void)state;
  const dft_fact facts[] = {{"ranks", "2", true}, {"data", "<a> & \"b\"", false}};
  const dft_epoch epochs[] = {{1, "head", .2, 1.6, .3, 1.5, 1e-3},
                              {2, "head", .4, NAN, .35, INFINITY, 1e-3},
                              {3, "<tail>", .6, .8, .5, .9, 1e-5},
                              {4, "<tail>", .7, .4, .45, .7, 1e-5}};
  assert_int_equal(dft_page_write(path, "runs/<x>", facts, 2, epochs, 4), DFT_OK);
  read_page();
  assert_has("<title>dft: runs/&lt;x></title>");
  assert_has("<th scope=\"row\">data</th><td>&lt;a> &amp; &quot;b&quot;</td>");
  assert_has("<tr><td>1</td><td>head</td><td class=\"n\">0.2000</td><td class=\"n\">1.6000</td>"
             "<td class=\"n\">0.3000</td><td class=\"n\">1.5000</td><td class=\"n\">0.001</td></tr>");
  assert_has("<tr><td>2</td><td>head</td><td class=\"n\">0.4000</td><td class=\"n\"></td>"
             "<td class=\"n\">0.3500</td><td class=\"n\">inf</td>");
  assert_has("<tr class=\"new\"><td>3</td><td>&lt;tail></td>");
  assert_has("<title>epoch 4, val_accuracy 0.45</title>");
  assert_int_equal(count(page, "<svg "), 2);
  assert_int_equal(count(page, "</svg>"), 2);
  assert_int_equal(count(page, "class=\"phase\""), 2);      /* one boundary in each plot */
  assert_int_equal(count(page, "<circle "), 2 * 2 * 4 - 2); /* all but the two that are not finite */
  assert_int_equal(count(page, ">&lt;tail></text>"), 2);
  /* loss from 0.4 to 1.6 in steps of 0.2: the axis spans the plot from 264 up to 34 */
  assert_has("cx=\"129.0\" cy=\"34.0\" r=\"3\"><title>epoch 1, loss 1.6</title>");
  assert_has("cx=\"555.0\" cy=\"264.0\" r=\"3\"><title>epoch 4, loss 0.4</title>");
  /* the line is broken where a number is missing */
  assert_has("<path class=\"train\" d=\"M129.0 34.0M413.0 187.3L555.0 264.0\"/>");
  assert_int_equal(count(page, "nan"), 0);
  static const char *const others[] = {"<script", "<link", "<img", "http", "url(", "@import", "src="};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) assert_int_equal(count(page, others[i]), 0);
}

/* Numbers that leave no span for an axis, or none at all. */
static void test_sparse(void **state) {
  (void)state;
  const dft_epoch one = {1, "head", 0, 2.5, NAN, NAN, 1e-3}, none = {1, "head", 0, NAN, NAN, INFINITY, 1e-3};
  assert_int_equal(dft_page_write(path, "one", NULL, 0, &one, 1), DFT_OK);
  read_page();
  assert_int_equal(count(page, "<circle "), 2);
  assert_int_equal(count(page, "cy=\"149.0\""), 2); /* in the middle */
  assert_int_equal(count(page, ">val_loss</span>"), 0);
  assert_int_equal(count(page, "class=\"phase\""), 0);
  assert_int_equal(dft_page_write(path, "one", NULL, 0, &none, 1), DFT_OK);
  assert_int_equal(count(read_page(), "<svg "), 1);
  assert_int_equal(dft_page_write(path, "none", NULL, 0, NULL, 0), DFT_OK);
  read_page();
  assert_has("No epoch has ended yet");
}

/* The page of a run that is opened again shows the state's epochs, each once. */
static void test_run(void **state) {
  (void)state;
  dft_epoch epochs[] = {{1, "head", .5, 1, NAN, NAN, 1e-3}, {2, "tail", .75, .5, NAN, NAN, 1e-3}};
  const dft_fact fact = {"kernels", "avx2", false};
  for (int from = 0; from < 2; from++) {
    dft_report *r = NULL;
    assert_int_equal(dft_report_open(directory, 0, false, epochs, from, from, &r), DFT_OK);
    assert_int_equal(dft_report_start(r, &fact, 1), DFT_OK);
    assert_int_equal(count(read_page(), "<tr><td>"), from);
    for (int i = from; i < 2; i++) assert_int_equal(dft_report_epoch_end(r, &epochs[i], 1, 1), DFT_OK);
    dft_report_close(r);
    read_page();
    assert_has("<td>avx2</td>");
    assert_int_equal(count(page, "<tr><td>1</td><td>head</td>"), 1);
    assert_int_equal(count(page, "<tr class=\"new\"><td>2</td><td>tail</td>"), 1);
  }
}

static void test_errors(void **state) {
  (void)state;
  assert_int_equal(dft_page_write("/nonexistent/report.html", "x", NULL, 0, NULL, 0), DFT_EIO);
  assert_non_null(strstr(dft_error(), "/nonexistent/report.html"));
}

static int make_directory(void **state) {
  (void)state;
  if (mkdtemp(directory) == NULL) return -1;
  snprintf(path, sizeof path, "%s/report.html", directory);
  return 0;
}

static int remove_directory(void **state) {
  (void)state;
  static const char *const names[] = {"report.html", "history.csv", "log.jsonl"};
  for (int i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "%s/%s", directory, names[i]);
    unlink(path);
  }
  return rmdir(directory);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_page),
      cmocka_unit_test(test_sparse),
      cmocka_unit_test(test_run),
      cmocka_unit_test(test_errors),
  };
  return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
