/* Which samples a dataset has: subset, split, limits; the random source; the sampler. */
#include "../../src/data/source.h"
#include "data_files.h"
#include <fcntl.h>
#include <sys/stat.h>

enum { SAMPLES = 103, SIDE = 32, VALUES = 3 * SIDE * SIDE };

/* Pixel 0 of image k of "images.idx" is k, so a sample tells where it came from. */
static int setup(void **state) {
  if (enter_directory(state) != 0) return -1;
  bytes b = idx_header(8, 3, (uint32_t[]){SAMPLES, 1, 1});
  for (int k = 0; k < SAMPLES; k++) append(&b, (uint8_t[]){(uint8_t)k}, 1);
  save("images.idx", b);
  b = idx_header(8, 3, (uint32_t[]){SAMPLES, 1, 1});
  for (int k = 0; k < SAMPLES; k++) append(&b, (uint8_t[]){(uint8_t)k}, 1);
  save("images.idx.gz", b);
  save_idx_labels("labels.idx", SAMPLES, 7); /* 0..4: 15 each, 5, 6: 14 */
  return 0;
}

static dft_config small_config(void) {
  return make_config(DFT_DATA_IDX, "images.idx.gz", "labels.idx", 7);
}

static int origin_of(const dft_dataset *d, int64_t sample) {
  static float out[VALUES];
  assert_int_equal(dft_dataset_image(d, sample, out), DFT_OK);
  return (int)out[0];
}

static void open_both(const dft_config *c, dft_dataset **train, dft_dataset **validation) {
  dft_status status = dft_data_open(c, dft_share_alone(), train, validation);
  if (status != DFT_OK) fail_msg("%d: %s", (int)status, dft_error());
}

/* Counts by label; checks ascending origins and that labels are those of the file, under `renumbered`. */
static void tally(const dft_dataset *d, const int *renumbered, int counts[7], bool seen[SAMPLES]) {
  memset(counts, 0, 7 * sizeof *counts);
  for (int64_t i = 0; i < dft_dataset_count(d); i++) {
    int origin = origin_of(d, i);
    assert_int_equal(dft_dataset_label(d, i), renumbered[origin % 7]);
    assert_true(i == 0 || origin > origin_of(d, i - 1));
    assert_false(seen[origin]);
    seen[origin] = true;
    counts[renumbered[origin % 7]]++;
  }
}

static const int unchanged[7] = {0, 1, 2, 3, 4, 5, 6};

static void subset_is_renumbered_in_its_order(void **state) {
  (void)state;
  dft_config c = small_config();
  c.model.classes = 3;
  c.data.classes_subset = (int64_t[]){6, 0, 3};
  c.data.classes_subset_count = 3;
  c.data.validation = c.data.train;
  dft_dataset *sets[2];
  open_both(&c, &sets[0], &sets[1]);
  for (int k = 0; k < 2; k++) {
    int counts[7];
    bool seen[SAMPLES] = {0};
    tally(sets[k], (int[]){1, -1, -1, 2, -1, -1, 0}, counts, seen);
    assert_int_equal(counts[0], 14);
    assert_int_equal(counts[1], 15);
    assert_int_equal(counts[2], 15);
    char name[64];
    dft_dataset_name(sets[k], 2, name, sizeof name); /* 0, 3, 6, 7, … are kept */
    assert_string_equal(name, "images.idx.gz[6]");
    dft_dataset_free(sets[k]);
  }
}

static void impossible_subsets_are_refused(void **state) {
  (void)state;
  dft_config c = small_config();
  c.data.classes_subset = (int64_t[]){1, 9};
  c.data.classes_subset_count = 2;
  REFUSED(&c, DFT_EDATA, "labels.idx", "label 9 of data.classes_subset");
  c.data.classes_subset = (int64_t[]){1, 2, 1};
  c.data.classes_subset_count = 3;
  REFUSED(&c, DFT_EUSAGE, "the label 1 twice");
  c.model.classes = 2;
  REFUSED(&c, DFT_EUSAGE, "3 classes", "model.classes (2)");
  save_idx_labels("zeros.idx", SAMPLES, 1);
  c = small_config();
  c.data.classes_subset = (int64_t[]){2, 4};
  c.data.classes_subset_count = 2;
  c.data.validation = (dft_config_split){.present = true, .images = "images.idx", .labels = "zeros.idx"};
  REFUSED(&c, DFT_EDATA, "zeros.idx", "data.validation selects no samples");
}

static void split_is_stratified_and_disjoint(void **state) {
  (void)state;
  dft_config c = small_config();
  bool first[SAMPLES] = {0};
  for (int run = 0; run < 3; run++) { /* equal, from the plain file too; another seed, another choice */
    if (run == 1) c.data.train.images = "images.idx";
    if (run == 2) c.seed = 43;
    c.data.validation = (dft_config_split){.present = true, .split = 0.2};
    dft_dataset *train, *validation;
    open_both(&c, &train, &validation);
    int counts[7];
    bool seen[SAMPLES] = {0}, chosen[SAMPLES];
    tally(validation, unchanged, counts, seen);
    memcpy(chosen, seen, sizeof chosen);
    for (int k = 0; k < 7; k++) assert_int_equal(counts[k], 3); /* round(15/5), round(14/5) */
    tally(train, unchanged, counts, seen);                      /* disjoint: seen goes on */
    for (int k = 0; k < 7; k++) assert_int_equal(counts[k], k < 5 ? 12 : 11);
    for (int k = 0; k < SAMPLES; k++) assert_true(seen[k]);
    if (run == 0) memcpy(first, chosen, sizeof first);
    assert_int_equal(memcmp(first, chosen, sizeof first) == 0, run < 2);
    dft_dataset_free(train);
    dft_dataset_free(validation);
  }
}

static void split_keeps_a_sample_to_train_on(void **state) {
  (void)state;
  dft_config c = small_config();
  c.data.validation = (dft_config_split){.present = true, .split = 0.99};
  dft_dataset *train, *validation;
  open_both(&c, &train, &validation);
  assert_int_equal(dft_dataset_count(train), 7);
  assert_int_equal(dft_dataset_count(validation), SAMPLES - 7);
  dft_dataset_free(train);
  dft_dataset_free(validation);
  c.data.validation.split = 0.001;
  REFUSED(&c, DFT_EDATA, "labels.idx", "data.validation.split selects no samples");
}

/* Of two samples of a class one goes, whatever the share; a lone one goes by rounding. */
static void small_classes_are_split(void **state) {
  (void)state;
  dft_config c = make_config(DFT_DATA_RANDOM, NULL, NULL, 3);
  dft_selection train, validation;
  assert_int_equal(dft_select_classes(&c, "here", (int64_t[]){1, 0, 1, 0, 2}, 5, false, &train), DFT_OK);
  assert_int_equal(dft_select_split(42, 3, 0.9, &train, &validation), DFT_OK);
  assert_int_equal(train.count, 2);
  assert_int_equal(train.label[0] + train.label[1], 1);
  assert_int_equal(validation.count, 3);
  dft_selection_free(&train);
  dft_selection_free(&validation);
}

/* Opens with these limits; returns the number of samples, which it marks. */
static int64_t limited(int64_t per_class, int64_t limit, int counts[7], bool seen[SAMPLES]) {
  dft_config c = small_config();
  c.data.validation = (dft_config_split){.present = true, .split = 0.2};
  c.data.limit_per_class = per_class;
  c.data.limit = limit;
  dft_dataset *train, *validation;
  open_both(&c, &train, &validation);
  tally(train, unchanged, counts, seen);
  int64_t n = dft_dataset_count(train);
  assert_int_equal(dft_dataset_count(validation), 21); /* not limited */
  bool apart[SAMPLES];
  memcpy(apart, seen, sizeof apart);
  int ignored[7];
  tally(validation, unchanged, ignored, apart);
  dft_dataset_free(train);
  dft_dataset_free(validation);
  return n;
}

static void limits_choose_the_promised_number(void **state) {
  (void)state;
  int counts[7];
  bool four[SAMPLES] = {0}, five[SAMPLES] = {0}, again[SAMPLES] = {0}, thirty[SAMPLES] = {0},
       both[SAMPLES] = {0}, all[SAMPLES] = {0};
  assert_int_equal(limited(4, 0, counts, four), 28);
  for (int k = 0; k < 7; k++) assert_int_equal(counts[k], 4);
  assert_int_equal(limited(5, 0, counts, five), 35);
  for (int k = 0; k < SAMPLES; k++) assert_true(!four[k] || five[k]); /* more keeps what fewer chose */
  assert_int_equal(limited(4, 0, counts, again), 28);
  assert_memory_equal(four, again, sizeof four);
  assert_int_equal(limited(0, 30, counts, thirty), 30);
  assert_int_equal(limited(4, 10, counts, both), 10);
  for (int k = 0; k < SAMPLES; k++) assert_true(!both[k] || four[k]);
  assert_int_equal(limited(1000, 1000, counts, all), 82);
}

static void random_source_is_uniform_and_its_parts_differ(void **state) {
  (void)state;
  dft_config c = make_config(DFT_DATA_RANDOM, NULL, NULL, 5);
  c.model.height = 33; /* a size that is no multiple of four values */
  c.data.train.samples = 200;
  c.data.validation = (dft_config_split){.present = true, .samples = 50};
  enum { COUNT = 33 * SIDE * 3 };
  dft_dataset *train, *validation;
  open_both(&c, &train, &validation);
  float a[COUNT], b[COUNT];
  double sum = 0, squares = 0;
  int counts[5] = {0};
  for (int64_t i = 0; i < 200; i++) {
    assert_int_equal(dft_dataset_image(train, i, a), DFT_OK);
    for (int k = 0; k < COUNT; k++) {
      assert_true(a[k] >= 0 && a[k] < 1);
      sum += a[k];
      squares += (double)a[k] * a[k];
    }
    counts[dft_dataset_label(train, i)]++;
  }
  assert_true(sum / (200.0 * COUNT) > 0.499 && sum / (200.0 * COUNT) < 0.501); /* 3.5 sigma: 0.0013 */
  assert_true(squares / (200.0 * COUNT) > 0.332 && squares / (200.0 * COUNT) < 0.335);
  for (int k = 0; k < 5; k++) assert_in_range(counts[k], 20, 60); /* 40, sigma 5.7 */
  assert_int_equal(dft_dataset_image(train, 3, a), DFT_OK);
  assert_int_equal(dft_dataset_image(validation, 3, b), DFT_OK);
  int equal = 0, shifted = 0;
  for (int k = 0; k < COUNT; k++) equal += a[k] == b[k];
  assert_true(equal < 5);
  assert_int_equal(dft_dataset_image(train, 4, b), DFT_OK);
  for (int k = 0; k + 4 < COUNT; k++) shifted += a[k] == b[k] || a[k + 4] == b[k];
  assert_true(shifted < 8);
  char name[32];
  dft_dataset_name(validation, 3, name, sizeof name);
  assert_string_equal(name, "random validation[3]");
  assert_true(dft_dataset_fingerprint(train) != dft_dataset_fingerprint(validation));
  dft_dataset_free(train);
  dft_dataset_free(validation);
  c.data.preprocessing = DFT_PREPROCESS_MOBILENET_V2; /* applies to values, whatever their type */
  c.data.validation.present = false;
  dft_dataset *scaled = open_train_only(&c);
  assert_int_equal(dft_dataset_image(scaled, 3, b), DFT_OK);
  for (int k = 0; k < COUNT; k++) {
    float quotient = a[k] / 127.5f;
    assert_true(b[k] == quotient - 1.0f);
  }
  dft_dataset_free(scaled);
}

/* Arrays may be too large to be read through: what may be in them goes by their time of change, to its last
 * digit. */
static void contents_go_by_the_time_of_change(void **state) {
  (void)state;
  dft_config c = make_config(DFT_DATA_IDX, "images.idx", "labels.idx", 7);
  static const struct timespec times[][2] = {
      {{1000, 5}, {1000, 5}}, {{1000, 6}, {1000, 6}}, {{1001, 5}, {1001, 5}}, {{2000, 5}, {1000, 5}}};
  uint64_t prints[4], contents[4];
  for (int i = 0; i < 4; i++) {
    assert_int_equal(utimensat(AT_FDCWD, "images.idx", times[i], 0), 0);
    dft_dataset *d = open_train_only(&c);
    prints[i] = dft_dataset_fingerprint(d);
    contents[i] = dft_dataset_contents(d, dft_share_alone());
    dft_dataset_free(d);
    assert_int_equal(prints[i], prints[0]);
    if (i > 0) assert_int_equal(contents[i] == contents[0], i == 3); /* when it was read does not matter */
  }
}

static void sampler_is_a_permutation_of_each_epoch(void **state) {
  (void)state;
  static const int64_t sizes[] = {1, 2, 3, 5, 64, 100, 1000, 4097};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t n = sizes[s], moved = 0, differs = 0;
    for (int64_t epoch = 0; epoch < 3; epoch++) {
      uint8_t *seen = calloc((size_t)n, 1);
      assert_non_null(seen);
      for (int64_t p = 0; p < n; p++) {
        int64_t i = dft_sampler(42, true, epoch, n, p);
        assert_true(i >= 0 && i < n && !seen[i]);
        seen[i] = 1;
        moved += i != p;
        differs += i != dft_sampler(42, true, epoch + 1, n, p);
        differs += i != dft_sampler(7, true, epoch, n, p);
        assert_true(dft_sampler(42, false, epoch, n, p) == p);
      }
      free(seen);
    }
    if (n >= 64) assert_true(moved > 3 * n * 9 / 10 && differs > 6 * n * 9 / 10);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(subset_is_renumbered_in_its_order),
      cmocka_unit_test(impossible_subsets_are_refused),
      cmocka_unit_test(split_is_stratified_and_disjoint),
      cmocka_unit_test(split_keeps_a_sample_to_train_on),
      cmocka_unit_test(small_classes_are_split),
      cmocka_unit_test(limits_choose_the_promised_number),
      cmocka_unit_test(random_source_is_uniform_and_its_parts_differ),
      cmocka_unit_test(contents_go_by_the_time_of_change),
      cmocka_unit_test(sampler_is_a_permutation_of_each_epoch),
  };
  return cmocka_run_group_tests(tests, setup, leave_directory);
}
