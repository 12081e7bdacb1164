/* Rows of augmented views: a cache that has all views of what can be read has all. */
#include "dft/cache.h"
#include "image_files.h"

enum { SAMPLES = 4, VIEWS = 3, BAD = 3 /* in its class' folder the last */ };

static void all_views_of_what_can_be_read(void **state) {
  (void)state;
  static const int64_t samples[SAMPLES] = {0, 1, 2, 3};
  dft_model *m = NULL;
  dft_kernels best;
  dft_cache *cache = NULL;
  for (int i = 0; i < SAMPLES; i++) {
    char path[32];
    snprintf(path, sizeof path, "views/%c/%d.bmp", i < 2 ? 'a' : 'b', i);
    save_bmp(path, (uint8_t)i);
    if (i == BAD) save_bytes(path, "no image", 8);
  }
  dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "views", 2);
  c.data.augment = (dft_config_augment){
      .flip = DFT_FLIP_HORIZONTAL, .crop_scale = {1, 1}, .crop_ratio = {1, 1}, .value_range = {0, 255}};
  c.cache.views = VIEWS;
  c.cache.memory_mb = 100;
  dft_dataset *data[DFT_SETS] = {[DFT_SET_TRAIN] = open_train_only(&c)};
  assert_int_equal(dft_dataset_views(data[DFT_SET_TRAIN]), VIEWS);
  assert_int_equal(dft_model_new(0.35, 32, 32, DFT_POOL_AVG, 2, &m), DFT_OK);
  dft_model_init(m, 3);
  assert_int_equal(dft_ops_best(&best), DFT_OK);
  assert_int_equal(dft_cache_open(&c, m, dft_ops_get(best), dft_share_alone(), &m->unit_count, 1,
                                  (const dft_dataset *const *)data, &cache),
                   DFT_OK);
  assert_int_equal(dft_cache_phase(cache, 0), DFT_OK);
  float *rows = malloc((size_t)(SAMPLES * dft_model_boundary(m, m->unit_count)) * sizeof *rows);
  assert_non_null(rows);
  for (int view = 0; view < VIEWS; view++) {
    unsigned char bad[SAMPLES];
    assert_false(dft_cache_has_all(cache, DFT_SET_TRAIN));
    assert_int_equal(dft_cache_rows(cache, DFT_SET_TRAIN, samples, SAMPLES, view, NULL, rows, bad), DFT_OK);
    for (int i = 0; i < SAMPLES; i++) assert_int_equal(bad[i], i == BAD);
  }
  assert_true(dft_cache_has_all(cache, DFT_SET_TRAIN));
  free(rows);
  dft_cache_close(cache);
  dft_dataset_free(data[DFT_SET_TRAIN]);
  dft_model_free(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_views_of_what_can_be_read),
  };
  return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
