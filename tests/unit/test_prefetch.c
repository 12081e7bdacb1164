/* Images read ahead are those read now, in whatever order they are asked for, taken, dropped or left. */
#include "dft/prefetch.h"
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { SAMPLES = 60, FLOATS = 32 * 33 * 3, TAKERS = 4 };

static dft_config *config;
static dft_dataset *data[2];
static float expected[2][SAMPLES][FLOATS];

static int open_data(void **state) {
  (void)state;
  const char text[] = "model: {input_shape: [32, 33, 3], classes: 3}\n"
                      "data: {format: random, train: {samples: 60}, validation: {samples: 60}}\n"
                      "phases: [{name: a, epochs: 1}]\n";
  if (dft_config_parse("test.yaml", text, NULL, 0, &config) != DFT_OK) return -1;
  if (dft_data_open(config, dft_share_alone(), &data[0], &data[1]) != DFT_OK) return -1;
  for (int d = 0; d < 2; d++)
    for (int i = 0; i < SAMPLES; i++)
      if (dft_dataset_image(data[d], i, expected[d][i]) != DFT_OK) return -1;
  return 0;
}

static int close_data(void **state) {
  (void)state;
  dft_dataset_free(data[0]);
  dft_dataset_free(data[1]);
  dft_config_free(config);
  return 0;
}

static void takes(dft_prefetch *p, int d, int sample) {
  float out[FLOATS];
  assert_int_equal(dft_prefetch_take(p, data[d], sample, DFT_VIEW_PLAIN, NULL, out), DFT_OK);
  assert_memory_equal(out, expected[d][sample], sizeof out);
}

static void until_full(dft_prefetch *p, int64_t turn, int from) {
  for (int i = from; !dft_prefetch_full(p); i++)
    dft_prefetch_ask(p, turn, data[0], i % SAMPLES, DFT_VIEW_PLAIN, NULL);
}

/* In order, through a ring much smaller than the list; two datasets in turn. */
static void in_order(void **state) {
  (void)state;
  for (int threads = 1; threads <= 3; threads++) {
    dft_prefetch *p = NULL;
    assert_int_equal(dft_prefetch_open(threads, 7, FLOATS, &p), DFT_OK);
    int asked = 0;
    for (int i = 0; i < 2 * SAMPLES; i++) {
      for (; asked < 2 * SAMPLES && !dft_prefetch_full(p); asked++)
        dft_prefetch_ask(p, asked, data[asked % 2], asked / 2, DFT_VIEW_PLAIN, NULL);
      assert_true(asked > i);
      takes(p, i % 2, i / 2);
    }
    assert_false(dft_prefetch_full(p));
    dft_prefetch_close(p);
  }
}

/* Against the order, twice the same, what nobody asked for, and what has been dropped. */
static void out_of_order(void **state) {
  (void)state;
  dft_prefetch *p = NULL;
  assert_int_equal(dft_prefetch_open(2, 8, FLOATS, &p), DFT_OK);
  until_full(p, 1, 0);
  dft_prefetch_ask(p, 1, data[0], 40, DFT_VIEW_PLAIN, NULL); /* no room: nothing happens */
  for (int i = 7; i >= 0; i--) takes(p, 0, i);
  takes(p, 0, 3);
  takes(p, 1, 40);
  for (int i = 0; i < 4; i++) dft_prefetch_ask(p, 2, data[0], 9, DFT_VIEW_PLAIN, NULL);
  for (int i = 0; i < 3; i++) takes(p, 0, 9);
  dft_prefetch_ask(p, 3, data[0], 11, DFT_VIEW_PLAIN, NULL);
  dft_prefetch_turn(p, 4);
  takes(p, 0, 11);
  takes(p, 0, 9);
  until_full(p, 4, 20);
  dft_prefetch_turn(p, 5);
  for (int i = 0; i < 5000 && dft_prefetch_full(p);
       i++) /* one that is under way keeps its place until it is done */
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  assert_false(dft_prefetch_full(p));
  takes(p, 0, 21);
  dft_prefetch_close(p);
}

typedef struct taker {
  pthread_t id;
  dft_prefetch *prefetch;
  int first, wrong;
} taker;

static void *take_some(void *context) {
  taker *t = context;
  float out[FLOATS];
  for (int i = t->first; i < SAMPLES; i += TAKERS)
    for (int again = 0; again < 2; again++) /* each was asked for once: the second time it is read now */
      t->wrong += dft_prefetch_take(t->prefetch, data[0], i, DFT_VIEW_PLAIN, NULL, out) != DFT_OK ||
                  memcmp(out, expected[0][i], sizeof out) != 0;
  return NULL;
}

static void several_take(void **state) {
  (void)state;
  for (int round = 0; round < 5; round++) {
    dft_prefetch *p = NULL;
    assert_int_equal(dft_prefetch_open(2, SAMPLES, FLOATS, &p), DFT_OK);
    until_full(p, 1, 0);
    taker takers[TAKERS];
    for (int i = 0; i < TAKERS; i++) {
      takers[i] = (taker){.prefetch = p, .first = i};
      assert_int_equal(pthread_create(&takers[i].id, NULL, take_some, &takers[i]), 0);
    }
    for (int i = 0; i < TAKERS; i++) {
      assert_int_equal(pthread_join(takers[i].id, NULL), 0);
      assert_int_equal(takers[i].wrong, 0);
    }
    dft_prefetch_close(p);
  }
}

/* Views and mixes of a sample are told apart; a mix is given back as the dataset leaves it. */
static void views_and_mixes(void **state) {
  (void)state;
  const char text[] =
      "model: {input_shape: [32, 33, 3], classes: 3}\n"
      "data: {format: random, train: {samples: 20}, augment: {flip: horizontal, brightness: 0.3, "
      "cutmix: 1}}\n"
      "phases: [{name: a, epochs: 1}]\n";
  dft_config *augmented = NULL;
  dft_dataset *train = NULL, *none = NULL;
  dft_prefetch *p = NULL;
  assert_int_equal(dft_config_parse("test.yaml", text, NULL, 0, &augmented), DFT_OK);
  assert_int_equal(dft_data_open(augmented, dft_share_alone(), &train, &none), DFT_OK);
  assert_int_equal(dft_prefetch_open(2, 12, FLOATS, &p), DFT_OK);
  dft_mix mixes[4];
  for (int i = 0; i < 4; i++) mixes[i] = dft_dataset_mix(train, 0, i);
  assert_true(mixes[1].partner >= 0);
  for (int i = 0; i < 12; i++) dft_prefetch_ask(p, 1, train, 3, i / 4 - 1, i % 4 < 3 ? &mixes[i % 4] : NULL);
  for (int i = 11; i >= 0; i--) {
    float out[FLOATS], now[FLOATS];
    dft_mix a = mixes[i % 4], b = a, *mix = i % 4 < 3 ? &a : NULL;
    assert_int_equal(dft_prefetch_take(p, train, 3, i / 4 - 1, mix, out), DFT_OK);
    assert_int_equal(dft_dataset_view(train, 3, i / 4 - 1, mix != NULL ? &b : NULL, now), DFT_OK);
    assert_memory_equal(out, now, sizeof out);
    assert_memory_equal(&a, &b, sizeof a);
  }
  assert_false(dft_prefetch_full(p));
  dft_prefetch_close(p);
  dft_dataset_free(train);
  dft_config_free(augmented);
}

/* The error is raised where the image is taken, and keeps its place from the others. */
static void errors(void **state) {
  (void)state;
  dft_prefetch *p = NULL;
  float out[FLOATS];
  assert_int_equal(dft_prefetch_open(2, 8, FLOATS, &p), DFT_OK);
  for (int i = 0; i < 3; i++) dft_prefetch_ask(p, 1, data[0], i == 1 ? SAMPLES : i, DFT_VIEW_PLAIN, NULL);
  takes(p, 0, 0);
  dft_fail(DFT_OK, "another");
  assert_int_equal(dft_prefetch_take(p, data[0], SAMPLES, DFT_VIEW_PLAIN, NULL, out), DFT_EINTERNAL);
  assert_string_equal(dft_error(), "sample 60 of 60");
  takes(p, 0, 2);
  dft_prefetch_close(p);
}

/* Threads of this process (some are OpenBLAS's) that do not block the signal; proc(5), SigBlk. */
static int threads_open_to(int signal_number) {
  int count = 0;
  DIR *tasks = opendir("/proc/self/task");
  assert_non_null(tasks);
  for (const struct dirent *e = readdir(tasks); e != NULL; e = readdir(tasks)) {
    char path[300], line[256];
    unsigned long long blocked = ~0ull;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
    FILE *status = e->d_name[0] == '.' ? NULL : fopen(path, "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
      if (strncmp(line, "SigBlk:", 7) == 0) blocked = strtoull(line + 7, NULL, 16);
    if (status != NULL) fclose(status);
    count += !(blocked >> (signal_number - 1) & 1);
  }
  closedir(tasks);
  return count;
}

/* At any moment, also before the first ask; a signal goes to the thread that was there before. */
static void closing(void **state) {
  (void)state;
  dft_prefetch *p = NULL;
  dft_prefetch_close(p);
  for (int asked = 0; asked <= 8; asked++) {
    assert_int_equal(dft_prefetch_open(2, 8, FLOATS, &p), DFT_OK);
    for (int i = 0; i < asked; i++) dft_prefetch_ask(p, 1, data[0], i, DFT_VIEW_PLAIN, NULL);
    if (asked == 5) dft_prefetch_turn(p, 2);
    dft_prefetch_close(p);
  }
  const int before = threads_open_to(SIGUSR1);
  assert_true(before >= 1);
  assert_int_equal(dft_prefetch_open(2, 8, FLOATS, &p), DFT_OK);
  assert_int_equal(threads_open_to(SIGUSR1), before);
  dft_prefetch_ask(p, 1, data[0], 0, DFT_VIEW_PLAIN, NULL);
  takes(p, 0, 0);
  assert_int_equal(threads_open_to(SIGUSR1), before);
  dft_prefetch_close(p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(in_order),        cmocka_unit_test(out_of_order), cmocka_unit_test(several_take),
      cmocka_unit_test(views_and_mixes), cmocka_unit_test(errors),       cmocka_unit_test(closing),
  };
  return cmocka_run_group_tests(tests, open_data, close_data);
}
