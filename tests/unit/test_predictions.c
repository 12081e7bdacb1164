/* Predictions as a table: what cannot be read has an empty row of as many fields, of equal classes the first
 * comes first. */
#include "../../src/train/predict.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { IMAGES = 3, CLASSES = 4 };

static char path[] = "/tmp/dft-predictions-XXXXXX.csv";

static const char *table(int top, char **class_names) {
  static char text[1024];
  char *names[] = {(char[]){"a,b.png"}, (char[]){"cut.png"}, (char[]){"c.png"}};
  static float rows[IMAGES * CLASSES] = {.125F, .375F, .375F, .125F, DFT_UNREADABLE, 0,
                                         0,     0,     .25F,  .25F,  .25F,           .25F};
  const dft_predictions p = {
      .count = IMAGES, .classes = CLASSES, .names = names, .class_names = class_names, .probabilities = rows};
  assert_int_equal(dft_predictions_write(&p, top, path), DFT_OK);
  FILE *f = fopen(path, "r");
  assert_non_null(f);
  text[fread(text, 1, sizeof text - 1, f)] = '\0';
  (void)fclose(f);
  return text;
}

static void all_probabilities(void **state) {
  (void)state;
  char *names[] = {(char[]){"ant"}, (char[]){"bee, wild"}, (char[]){"cat"}, (char[]){"dog"}};
  assert_string_equal(table(0, names), "input,predicted,probability,ant,\"bee, wild\",cat,dog\n"
                                       "\"a,b.png\",\"bee, wild\",0.375,0.125,0.375,0.375,0.125\n"
                                       "cut.png,,,,,,\n"
                                       "c.png,ant,0.25,0.25,0.25,0.25,0.25\n");
}

static void the_most_probable(void **state) {
  (void)state;
  assert_string_equal(table(3, NULL),
                      "input,predicted,probability,predicted_2,probability_2,predicted_3,probability_3\n"
                      "\"a,b.png\",1,0.375,2,0.375,0,0.125\n"
                      "cut.png,,,,,,\n"
                      "c.png,0,0.25,1,0.25,2,0.25\n");
  assert_string_equal(table(1, NULL), "input,predicted,probability\n"
                                      "\"a,b.png\",1,0.375\n"
                                      "cut.png,,\n"
                                      "c.png,0,0.25\n");
}

static int make_path(void **state) {
  (void)state;
  const int fd = mkstemps(path, 4);
  return fd < 0 ? 1 : close(fd);
}

static int remove_path(void **state) {
  (void)state;
  return unlink(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_probabilities),
      cmocka_unit_test(the_most_probable),
  };
  return cmocka_run_group_tests(tests, make_path, remove_path);
}
