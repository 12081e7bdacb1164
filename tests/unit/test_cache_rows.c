/* cache.directory: later runs find the rows, with the same bits; whatever decides a row gives another file;
 * damage, no directory and no room cost work, never the run or a bit. */
#include "../../src/cache/rows.h"
#include "dft/cache.h"
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { IMAGES = 37, CHECKED = 10, PAGE = 4096, LEVELS = 2, FILES = LEVELS * DFT_SETS };

static char directory[] = "/tmp/dft-test-cache-XXXXXX";
static float *expected; /* rows without a cache */

/* One run of the head's and then the tail's phase; only what deviates is set. */
typedef struct run {
  const char *data, *cache, *more; /* more: of the config */
  dft_pooling pooling;
  dft_share *share;
  int change; /* 0; else 1 + the unit whose moving mean another start of weights has; -1: the head */
  /* results */
  int64_t decoded, there, there_then; /* there_then: when the tail's phase begins */
  bool files;
  float *rows;
} run;

static void train(run *r) {
  char text[1024], cache[128];
  snprintf(cache, sizeof cache, "{directory: %s, memory_mb: 0}", directory);
  snprintf(text, sizeof text,
           "model: {alpha: 0.35, input_shape: [32, 33, 3], classes: 3}\n"
           "data: {format: random, train: {samples: %d}, validation: {samples: 5}%s}\n"
           "phases: [{name: a, epochs: 1}, {name: b, unfreeze_last: 20, epochs: 1}]\ncache: %s\n%s",
           IMAGES, r->data != NULL ? r->data : "", r->cache != NULL ? r->cache : cache,
           r->more != NULL ? r->more : "");
  dft_config *config = NULL;
  dft_model *m = NULL;
  dft_dataset *data[DFT_SETS] = {0};
  dft_cache *c = NULL;
  dft_kernels best;
  assert_int_equal(dft_config_parse("test.yaml", text, NULL, 0, &config), DFT_OK);
  assert_int_equal(dft_model_new(0.35, 32, 33, r->pooling, 3, &m), DFT_OK);
  dft_model_init(m, 3);
  if (r->change > 0) m->params[m->units[r->change - 1].mean].data[0] += 0.25F;
  if (r->change < 0) m->params[m->head_kernel].data[0] += 0.25F;
  assert_int_equal(dft_ops_best(&best), DFT_OK);
  assert_int_equal(dft_data_open(config, dft_share_alone(), &data[0], &data[1]), DFT_OK);
  const int starts[] = {m->unit_count, dft_model_layer(m, "block_15_expand")->unit};
  const dft_share *share = r->share != NULL ? r->share : dft_share_alone();
  assert_int_equal(
      dft_cache_open(config, m, dft_ops_get(best), share, starts, 2, (const dft_dataset *const *)data, &c),
      DFT_OK);
  int64_t row[2], samples[CHECKED];
  for (int p = 0; p < 2; p++) row[p] = dft_model_boundary(m, starts[p]);
  r->rows = malloc((size_t)((row[0] + row[1]) * CHECKED) * sizeof(float));
  assert_non_null(r->rows);
  for (int i = 0; i < CHECKED; i++) samples[i] = (i * 11) % (IMAGES - 1);
  unsigned char bad[CHECKED];
  for (int p = 0; p < 2; p++) {
    assert_int_equal(dft_cache_phase(c, p), DFT_OK);
    if (p == 1) r->there_then = dft_cache_describe(c).there;
    if (p == 0) {
      r->there = dft_cache_describe(c).there;
      r->files = dft_cache_describe(c).files;
    }
    assert_int_equal(dft_cache_rows(c, DFT_SET_TRAIN, samples, CHECKED, DFT_VIEW_PLAIN, NULL,
                                    r->rows + (p == 0 ? 0 : row[0] * CHECKED), bad),
                     DFT_OK);
  }
  r->decoded = dft_cache_take_stats(c).decoded;
  if (expected != NULL && r->data == NULL && r->more == NULL && r->pooling == DFT_POOL_AVG && r->change <= 0)
    assert_memory_equal(r->rows, expected, (size_t)((row[0] + row[1]) * CHECKED) * sizeof(float));
  dft_cache_close(c);
  for (int s = 0; s < DFT_SETS; s++) dft_dataset_free(data[s]);
  dft_model_free(m);
  dft_config_free(config);
}

static run done(run r) {
  train(&r);
  free(r.rows);
  return r;
}

/* Calls `each` with every file in the directory (NULL: removes them); returns how many there were. */
static int each_file(void (*each)(const char *path)) {
  int count = 0;
  DIR *d = opendir(directory);
  if (d == NULL) return 0;
  for (struct dirent *item; (item = readdir(d)) != NULL;) {
    if (item->d_name[0] == '.') continue;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, item->d_name);
    count++;
    if (each != NULL)
      each(path);
    else
      unlink(path);
  }
  closedir(d);
  return count;
}

static int fresh(void **state) {
  (void)state;
  each_file(NULL);
  rmdir(directory);
  return 0;
}

static void nothing(const char *path) {
  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  assert_true(info.st_blocks * 512 >= info.st_size); /* no hole to fill when the disk is full */
}

static void second_run_finds_all(void **state) {
  (void)state;
  run first = done((run){0}), second = done((run){0});
  assert_true(first.files);
  assert_int_equal(first.there, 0);
  assert_int_equal(first.there_then, CHECKED);
  assert_int_equal(first.decoded, CHECKED);
  assert_int_equal(each_file(nothing), FILES);
  assert_int_equal(second.there, CHECKED);
  assert_int_equal(second.decoded, 0);
  assert_int_equal(done((run){.change = -1}).decoded, 0); /* the head is no frozen layer */
  assert_int_equal(done((run){.cache = "{mode: off}"}).decoded, 2 * CHECKED);
  assert_int_equal(each_file(nothing), FILES);
}

static void changes_give_other_files(void **state) {
  (void)state;
  const run changed[] = {
      {.change = 1},
      {.change = 20},
      {.data = ", preprocessing: unit"},
      {.data = ", limit: 36"},
      {.data = ", resize: crop"},
      {.more = "compute: {prefix: bfloat16}\n"},
  };
  run first = {0};
  train(&first);
  for (size_t i = 0; i < sizeof changed / sizeof changed[0]; i++) {
    run r = changed[i];
    train(&r);
    assert_int_equal(r.there, 0);
    assert_int_equal(r.decoded, CHECKED);
    free(r.rows);
  }
  assert_int_equal(done((run){0}).decoded, 0); /* the first files are still good */
  free(first.rows);
}

/* Only the rows behind a changed layer are others: those before it are found. */
static void later_layers_do_not_matter(void **state) {
  (void)state;
  (void)done((run){0});
  run r = done((run){.change = 50}); /* in block 15, behind the tail's boundary */
  assert_int_equal(r.there, 0);
  assert_int_equal(r.decoded, 0);
  assert_int_equal(each_file(nothing), FILES + DFT_SETS);
}

/* Nor does the pooling matter to rows that end before it. */
static void pooling_matters_where_it_is_done(void **state) {
  (void)state;
  (void)done((run){0});
  run r = done((run){.pooling = DFT_POOL_MAX});
  assert_int_equal(r.there, 0);
  assert_int_equal(r.decoded, 0);
  assert_int_equal(each_file(nothing), FILES + DFT_SETS);
}

/* Bytes from `offset` on overwritten. */
static void overwrite(const char *path, off_t offset, const char *text) {
  int fd = open(path, O_WRONLY);
  assert_true(fd >= 0);
  assert_int_equal(pwrite(fd, text, strlen(text), offset), strlen(text));
  close(fd);
}
static void damage_row(const char *path) {
  overwrite(path, 2 * PAGE + 5, "damage"); /* in row 0 */
}
static void damage_header(const char *path) {
  overwrite(path, 30, "damage");
}
static void damage_magic(const char *path) {
  overwrite(path, 0, "damage");
}
static void truncate_file(const char *path) {
  assert_int_equal(truncate(path, 3 * PAGE), 0);
}
static void make_foreign(const char *path) {
  assert_int_equal(truncate(path, 0), 0);
  overwrite(path, 0, "a text");
}
static void make_fifo(const char *path) {
  unlink(path);
  assert_int_equal(mkfifo(path, 0666), 0);
}

static void damage_is_computed_again(void **state) {
  (void)state;
  static const struct {
    void (*damage)(const char *path);
    int64_t again;
  } cases[] = {{damage_row, 1},          {damage_header, CHECKED}, {damage_magic, CHECKED},
               {truncate_file, CHECKED}, {make_foreign, CHECKED},  {make_fifo, CHECKED}};
  (void)done((run){0});
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_int_equal(each_file(cases[i].damage), FILES);
    assert_int_equal(done((run){0}).decoded, cases[i].again);
    assert_int_equal(each_file(nothing), FILES);
    assert_int_equal(done((run){0}).decoded, 0);
  }
}

static void made_and_tidied(void **state) {
  (void)state;
  char path[256], young[256];
  assert_int_equal(mkdir(directory, 0777), 0);
  snprintf(path, sizeof path, "%s/1.rows-1-1.rows.dft-tmp", directory);
  snprintf(young, sizeof young, "%s/2.rows-2-2.rows.dft-tmp", directory);
  int old_fd = open(path, O_CREAT | O_WRONLY, 0666), young_fd = open(young, O_CREAT | O_WRONLY, 0666);
  assert_true(old_fd >= 0 && young_fd >= 0);
  const time_t now = time(NULL), hour = 3600;
  const struct timespec long_ago[2] = {{.tv_sec = now - 25 * hour}, {.tv_sec = now - 25 * hour}};
  const struct timespec today[2] = {{.tv_sec = now - 23 * hour}, {.tv_sec = now - 23 * hour}};
  assert_int_equal(futimens(old_fd, long_ago), 0);
  assert_int_equal(futimens(young_fd, today), 0);
  close(old_fd);
  close(young_fd);
  (void)done((run){0});
  assert_int_not_equal(access(path, F_OK), 0);
  assert_int_equal(access(young, F_OK), 0); /* somebody may be at it */
}

/* A file where the directory should be; no room; neither costs more than the rows' place. */
static void without_the_directory(void **state) {
  (void)state;
  int fd = open(directory, O_CREAT | O_WRONLY, 0666);
  assert_true(fd >= 0);
  close(fd);
  char cache[128];
  snprintf(cache, sizeof cache, "{directory: %s/below}", directory);
  run r = done((run){.cache = cache});
  assert_false(r.files);
  assert_int_equal(r.decoded, CHECKED); /* kept in memory */
  assert_int_equal(unlink(directory), 0);
}

static void without_room(void **state) {
  (void)state;
  struct rlimit old, low;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  low = old;
  low.rlim_cur = 2 * PAGE;
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
  char cache[128];
  snprintf(cache, sizeof cache, "{directory: %s}", directory);
  run r = done((run){.cache = cache});
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
  assert_false(r.files);
  assert_int_equal(r.decoded, CHECKED);
  assert_int_equal(each_file(nothing), 0); /* nothing half made is left */
}

static dft_status no_memory(void *context, size_t bytes, void **block) {
  (void)context;
  *block = NULL;
  return dft_fail_memory("shared block", bytes);
}

static dft_status little_memory(void *context, size_t bytes, void **block) {
  if (bytes > 5000) return no_memory(context, bytes, block); /* the words, not the rows */
  return dft_share_alone()->alloc(context, bytes, block);
}

static dft_status lost_peer(void *context, size_t bytes, void **block) {
  (void)context;
  (void)bytes;
  *block = NULL;
  return dft_fail(DFT_EPEER, "a peer is lost");
}

static void without_memory(void **state) {
  (void)state;
  dft_share share = *dft_share_alone();
  share.alloc = no_memory;
  assert_int_equal(done((run){.cache = "{memory_mb: 100}", .share = &share}).decoded, 2 * CHECKED);
  share.alloc = little_memory;
  assert_int_equal(done((run){.cache = "{memory_mb: 100}", .share = &share}).decoded, 2 * CHECKED);
}

/* What no directory and no memory can explain ends the run. */
static void a_lost_peer_is_an_error(void **state) {
  (void)state;
  dft_config *config = NULL;
  dft_model *m = NULL;
  dft_dataset *data[DFT_SETS] = {0};
  dft_cache *c = NULL;
  dft_kernels best;
  dft_share share = *dft_share_alone();
  share.alloc = lost_peer;
  assert_int_equal(dft_config_parse("test.yaml",
                                    "model: {alpha: 0.35, input_shape: [32, 33, 3], classes: 3}\n"
                                    "data: {format: random, train: {samples: 5}}\n"
                                    "phases: [{name: a, epochs: 1}]\n",
                                    NULL, 0, &config),
                   DFT_OK);
  assert_int_equal(dft_model_new(0.35, 32, 33, DFT_POOL_AVG, 3, &m), DFT_OK);
  assert_int_equal(dft_ops_best(&best), DFT_OK);
  assert_int_equal(dft_data_open(config, dft_share_alone(), &data[0], &data[1]), DFT_OK);
  assert_int_equal(dft_cache_open(config, m, dft_ops_get(best), &share, (const int[]){m->unit_count}, 1,
                                  (const dft_dataset *const *)data, &c),
                   DFT_OK);
  assert_int_equal(dft_cache_phase(c, 0), DFT_EPEER);
  dft_cache_close(c);
  dft_dataset_free(data[0]);
  dft_model_free(m);
  dft_config_free(config);
}

static int open_tests(void **state) {
  (void)state;
  if (mkdtemp(directory) == NULL) return 1;
  rmdir(directory);
  run r = {.cache = "{mode: off}"};
  train(&r);
  expected = r.rows;
  return 0;
}

static int close_tests(void **state) {
  free(expected);
  return fresh(state);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(second_run_finds_all, fresh),
      cmocka_unit_test_teardown(changes_give_other_files, fresh),
      cmocka_unit_test_teardown(later_layers_do_not_matter, fresh),
      cmocka_unit_test_teardown(pooling_matters_where_it_is_done, fresh),
      cmocka_unit_test_teardown(damage_is_computed_again, fresh),
      cmocka_unit_test_teardown(made_and_tidied, fresh),
      cmocka_unit_test_teardown(without_the_directory, fresh),
      cmocka_unit_test_teardown(without_room, fresh),
      cmocka_unit_test_teardown(without_memory, fresh),
      cmocka_unit_test(a_lost_peer_is_an_error),
  };
  return cmocka_run_group_tests(tests, open_tests, close_tests);
}
