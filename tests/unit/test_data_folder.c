/* image_folder: which files, in which order, with which label; and what is refused. */
#include "image_files.h"

/* What keras.src.utils.dataset_utils.index_directory of Keras 3.15 (follow_links=True) makes of these files,
 * in its order, with what dft adds: .webp, .tif and .tiff. */
static const struct {
  int label;
  const char *name;
} in_order[] = {{0, "10/1.jpg"},
                {1, "9/1.jpg"},
                {2, "Zebra/1.jpg"},
                {3, "ant/10.png"},
                {3, "ant/2.JPG"},
                {3, "ant/B.gif"},
                {3, "ant/a.jpeg"},
                {3, "ant/c.WebP"},
                {3, "ant/c.tif"},
                {3, "ant/d.tiff"},
                {3, "ant/\xc3\xa9.png"},
                {3, "ant/sub/1.jpg"},
                {3, "ant/sub-b/1.jpg"},
                {3, "ant/sub.c/1.jpg"},
                {3, "ant/sub/deep/1.bmp"},
                {4, "bee hive/1.jpg"},
                {5, "\xc3\xa9t\xc3\xa9/1.jpg"}};
enum { LISTED = sizeof in_order / sizeof in_order[0] };
static const char *const passed_over[] = {"ant/sub/notes.txt", "ant/x.jpg.txt", "ant/.hidden.jpg",
                                          "ant/.sub/1.jpg",    ".cache/1.jpg",  "ant/.jpg",
                                          "ant/jpg",           "README.md"};

static void order_is_that_of_keras(void **state) {
  (void)state;
  char path[256];
  for (int i = LISTED; i-- > 0;) { /* backwards: the order is not that of creation */
    snprintf(path, sizeof path, "order/%s", in_order[i].name);
    save_bmp(path, (uint8_t)i);
  }
  for (size_t i = 0; i < sizeof passed_over / sizeof passed_over[0]; i++) {
    snprintf(path, sizeof path, "order/%s", passed_over[i]);
    save_bmp(path, 200);
  }
  dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "order", 6);
  dft_dataset *d = open_train_only(&c);
  assert_int_equal(dft_dataset_count(d), LISTED);
  for (int i = 0; i < LISTED; i++) {
    expect_name(d, i, in_order[i].name);
    assert_int_equal(dft_dataset_label(d, i), in_order[i].label);
    assert_int_equal(red_of(d, i), i);
  }
  static const char *const names[] = {"10", "9", "Zebra", "ant", "bee hive", "\xc3\xa9t\xc3\xa9"};
  for (int i = 0; i < 6; i++) assert_string_equal(dft_dataset_class_names(d)[i], names[i]);
  assert_true(dft_dataset_can_fail(d));
  dft_dataset_free(d);
}

static void images_are_loaded_like_arrays(void **state) {
  (void)state;
  static float from_file[3 * 32 * 32], from_array[3 * 32 * 32];
  save_bmp("one/a/1.bmp", 77);
  save_bmp("one/b/1.bmp", 78);
  bytes b = npy_header("|u1", "(1, 1, 2, 3)");
  append(&b, (uint8_t[]){77, 0, 0, 0, 0, 255}, 6);
  save("one.npy", b);
  for (int mode = DFT_RESIZE_STRETCH; mode <= DFT_RESIZE_PAD; mode++) {
    dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "one", 2);
    c.data.resize = (dft_resize)mode;
    c.data.preprocessing = DFT_PREPROCESS_MOBILENET_V2;
    dft_dataset *d = open_train_only(&c), *array;
    assert_int_equal(dft_data_open_images("one.npy", 32, 32, c.data.preprocessing, c.data.resize,
                                          dft_share_alone(), &array),
                     DFT_OK);
    assert_int_equal(dft_dataset_image(d, 0, from_file), DFT_OK);
    assert_int_equal(dft_dataset_image(array, 0, from_array), DFT_OK);
    assert_memory_equal(from_file, from_array, sizeof from_file);
    dft_dataset_free(d);
    dft_dataset_free(array);
  }
}

static void links_are_followed_once(void **state) {
  (void)state;
  save_bmp("links/a/1.bmp", 1);
  save_bmp("links/b/1.bmp", 2);
  save_bmp("elsewhere/2.bmp", 3);
  assert_int_equal(symlink("../../links", "links/a/up"), 0);      /* a loop */
  assert_int_equal(symlink(".", "links/a/self"), 0);              /* another */
  assert_int_equal(symlink("../../elsewhere", "links/a/two"), 0); /* two ways to one directory */
  assert_int_equal(symlink("../../elsewhere", "links/a/one"), 0);
  assert_int_equal(symlink("../elsewhere/2.bmp", "links/b/3.bmp"), 0);
  assert_int_equal(symlink("../elsewhere", "links/c"), 0); /* a class that is a link */
  dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "links", 3);
  dft_dataset *d = open_train_only(&c);
  static const char *const names[] = {"a/1.bmp", "a/one/2.bmp", "a/up/b/1.bmp", "a/up/b/3.bmp",
                                      "b/1.bmp", "b/3.bmp",     "c/2.bmp"};
  assert_int_equal(dft_dataset_count(d), 7);
  for (int i = 0; i < 7; i++) expect_name(d, i, names[i]);
  dft_dataset_free(d);
}

static void class_names_give_the_order(void **state) {
  (void)state;
  save_bmp("named/x/1.bmp", 1);
  save_bmp("named/y/1.bmp", 2);
  save_bmp("named/z/1.bmp", 3);
  dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "named", 3);
  c.model.class_names = (char *[]){"z", "x", "y"};
  c.model.class_name_count = 3;
  dft_dataset *d = open_train_only(&c);
  for (int i = 0; i < 3; i++) {
    assert_string_equal(dft_dataset_class_names(d)[i], c.model.class_names[i]);
    assert_int_equal(dft_dataset_label(d, i), i);
    assert_int_equal(red_of(d, i), i == 0 ? 3 : i);
  }
  dft_dataset_free(d);
  c.model.class_names = (char *[]){"z", "x", "w"};
  REFUSED(&c, DFT_EDATA, "named", "'w' is missing", "model.class_names");
  c.model.classes = 2;
  c.model.class_names = (char *[]){"z", "x"};
  REFUSED(&c, DFT_EDATA, "named", "'y'", "model.class_names does not have");
  /* a subset counts the folders by name, and is renumbered; its names follow */
  c.data.classes_subset = (int64_t[]){2, 0};
  c.data.classes_subset_count = 2;
  d = open_train_only(&c);
  assert_int_equal(dft_dataset_count(d), 2);
  expect_name(d, 0, "x/1.bmp");
  assert_int_equal(dft_dataset_label(d, 0), 1);
  assert_string_equal(dft_dataset_class_names(d)[0], "z");
  dft_dataset_free(d);
  c.model.class_names = (char *[]){"x", "z"};
  REFUSED(&c, DFT_EDATA, "class 0 is 'z', but model.class_names says 'x'");
  c.model.class_names = NULL;
  c.data.classes_subset = (int64_t[]){2, 3};
  REFUSED(&c, DFT_EDATA, "named", "data.classes_subset has the label 3, but there are 3 classes");
}

static void folders_that_do_not_fit_are_refused(void **state) {
  (void)state;
  dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "absent", 2);
  REFUSED(&c, DFT_EDATA, "absent", "No such file");
  c.data.train.path = NULL;
  REFUSED(&c, DFT_EUSAGE, "data.train.path is not set");
  save_bmp("flat/1.bmp", 1);
  c.data.train.path = "flat";
  REFUSED(&c, DFT_EDATA, "flat: no class folders");
  c.data.train.path = "flat/1.bmp";
  REFUSED(&c, DFT_EDATA, "flat/1.bmp", "Not a directory");
  save_bmp("three/a/1.bmp", 1);
  save_bmp("three/b/1.bmp", 1);
  save_bmp("three/c/1.bmp", 1);
  c.data.train.path = "three";
  REFUSED(&c, DFT_EDATA, "three: 3 class folders (a, b, c), but model.classes is 2; set it to 3");
  c.model.classes = 3;
  save_bytes("three/b/notes.txt", "x", 1);
  assert_int_equal(unlink("three/b/1.bmp"), 0);
  REFUSED(&c, DFT_EDATA, "three/b: no images in this class folder", ".jpg");
  save_bmp("three/b/1.bmp", 1);
  save_bmp("latin/H\xe4user/1.bmp", 1);
  save_bmp("latin/b/1.bmp", 1);
  save_bmp("latin/c/1.bmp", 1);
  c.data.train.path = "latin";
  REFUSED(&c, DFT_EDATA, "latin: the class name 'H\xe4user' is not UTF-8");
  c.data.train.path = "three";
  /* validation has the classes of training */
  save_bmp("less/a/1.bmp", 1);
  save_bmp("less/b/1.bmp", 1);
  c.data.validation = (dft_config_split){.present = true, .path = "less"};
  REFUSED(&c, DFT_EDATA, "less: the class folder 'c' is missing", "data.train.path");
  save_bmp("less/c/1.bmp", 1);
  save_bmp("less/d/1.bmp", 1);
  REFUSED(&c, DFT_EDATA, "less: there is a class folder 'd'", "data.train.path");
}

static void unreadable_samples_are_told(void **state) {
  (void)state;
  static float out[3 * 32 * 32];
  char warning[256];
  save_bytes("bad/a/1.jpg", "", 0);
  save_bytes("bad/a/2.jpg", "no image", 8);
  save_bmp("bad/a/3.jpg", 9);
  assert_int_equal(symlink("nowhere", "bad/a/4.png"), 0);
  assert_int_equal(mkfifo("bad/a/5.png", 0600), 0);
  save_bmp("bad/b/1.bmp", 9);
  dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "bad", 2);
  dft_dataset *d = open_train_only(&c);
  static const char *const words[] = {"bad/a/1.jpg: zero bytes",  "bad/a/2.jpg: not an image",       NULL,
                                      "bad/a/4.png: cannot open", "bad/a/5.png: not a regular file", NULL};
  assert_int_equal(dft_dataset_count(d), 6);
  for (int i = 0; i < 6; i++) {
    dft_status status = dft_dataset_check(d, i, out, warning, sizeof warning);
    assert_int_equal(status, words[i] != NULL ? DFT_EDATA : DFT_OK);
    if (words[i] != NULL && strstr(dft_error(), words[i]) == NULL) fail_msg("%s", dft_error());
    assert_string_equal(warning, i == 2 ? "bad/a/3.jpg: named .jpg, but its content is BMP" : "");
  }
  dft_dataset_free(d);
  c.data.on_corrupt = DFT_CORRUPT_FAIL;
  REFUSED(&c, DFT_EDATA, "bad/a/1.jpg: zero bytes");
}

/* A file that one may not read is one bad sample, no fault of the machine. Root may read all: as nobody. */
static void forbidden_samples_are_told(void **state) {
  (void)state;
  static float out[3 * 32 * 32];
  char warning[256];
  save_bmp("locked/a/1.bmp", 1);
  save_bmp("locked/b/1.bmp", 2);
  dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "locked", 2);
  dft_dataset *d = open_train_only(&c);
  assert_int_equal(chmod(".", 0755), 0);
  assert_int_equal(chmod("locked/a/1.bmp", 0), 0);
  const bool root = geteuid() == 0;
  const bool changed = root && seteuid(65534) == 0;
  if (root && !changed) skip(); /* a container that lets nobody change */
  const dft_status locked = dft_dataset_check(d, 0, out, warning, sizeof warning);
  const bool named = strstr(dft_error(), "locked/a/1.bmp: cannot open: Permission denied") != NULL;
  const dft_status open = dft_dataset_check(d, 1, out, warning, sizeof warning);
  if (changed) assert_int_equal(seteuid(0), 0);
  assert_int_equal(locked, DFT_EDATA);
  assert_true(named);
  assert_int_equal(open, DFT_OK);
  dft_dataset_free(d);
}

/* A photo that is gone is one bad sample; so is not a class folder: its file system is, or the right to it.
 */
static void vanished_folders_are_no_bad_samples(void **state) {
  (void)state;
  static float out[3 * 32 * 32];
  save_bmp("mount/a/1.bmp", 1);
  save_bmp("mount/a/more/2.bmp", 1);
  save_bmp("mount/b/1.bmp", 2);
  dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "mount", 2);
  dft_dataset *d = open_train_only(&c);
  assert_int_equal(rename("mount/a/more", "mount/a/less"), 0);
  assert_int_equal(dft_dataset_image(d, 1, out), DFT_EDATA);
  assert_non_null(strstr(dft_error(), "mount/a/more/2.bmp: cannot open: No such file"));
  assert_int_equal(rename("mount", "unmounted"), 0);
  assert_int_equal(dft_dataset_image(d, 0, out), DFT_EIO);
  assert_string_equal(dft_error(), "mount/a: cannot be read any more: No such file or directory");
  assert_int_equal(rename("unmounted", "mount"), 0);
  assert_int_equal(dft_dataset_image(d, 0, out), DFT_OK);
  dft_dataset_free(d);
  /* somebody's list of files promises nothing */
  static const char *const paths[] = {"nowhere/1.bmp"};
  if (dft_data_open_files(paths, 1, 32, 32, DFT_PREPROCESS_UNIT, DFT_RESIZE_STRETCH, dft_share_alone(), &d))
    fail_msg("%s", dft_error());
  assert_int_equal(dft_dataset_image(d, 0, out), DFT_EDATA);
  dft_dataset_free(d);
}

static int ticks;
static void count_tick(void *context) {
  (void)context;
  ticks++;
}

/* Listing gives signs of life. */
static void listing_ticks(void **state) {
  (void)state;
  dft_share share = *dft_share_alone();
  dft_dataset *train, *none;
  save_bmp("ticks/a/1.bmp", 1);
  save_bmp("ticks/b/1.bmp", 1);
  dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "ticks", 2);
  share.tick = count_tick;
  assert_int_equal(dft_data_open(&c, &share, &train, &none), DFT_OK);
  assert_true(ticks >= 3); /* each directory */
  dft_dataset_free(train);
}

static void fingerprint_is_of_names_labels_and_sizes(void **state) {
  (void)state;
  uint64_t prints[5];
  for (int i = 0; i < 5; i++) {
    char path[64], file[128];
    snprintf(path, sizeof path, "print%d", i);
    snprintf(file, sizeof file, "%s/a/%s.bmp", path, i == 2 ? "other" : "1");
    save_bmp(file, (uint8_t)i);
    if (i == 3) save_bytes(file, "longer", 6);
    snprintf(file, sizeof file, "%s/b/1.bmp", path);
    save_bmp(file, 1);
    dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, path, 2);
    c.data.limit = i == 4 ? 1 : 0;
    dft_dataset *d = open_train_only(&c);
    prints[i] = dft_dataset_fingerprint(d);
    dft_dataset_free(d);
  }
  assert_int_equal(prints[1], prints[0]); /* the place does not matter, nor do the contents */
  for (int i = 2; i < 5; i++) assert_int_not_equal(prints[i], prints[0]);
}

/* A sample whose partner cannot be read is itself alone, or the end of the run, as people want it. */
static void partners_that_cannot_be_read(void **state) {
  (void)state;
  static float image[3 * 32 * 32];
  save_bmp("partners/a/1.bmp", 1);
  save_bytes("partners/b/1.bmp", "no image", 8);
  dft_config c = folder_config(DFT_DATA_IMAGE_FOLDER, "partners", 2);
  for (int k = 0; k < 2; k++) {
    c.data.on_corrupt = k == 0 ? DFT_CORRUPT_SKIP : DFT_CORRUPT_FAIL;
    dft_dataset *d = open_train_only(&c);
    dft_mix mix = {.partner = 1, .weight = 0.25F};
    assert_int_equal(dft_dataset_view(d, 0, DFT_VIEW_PLAIN, &mix, image), k == 0 ? DFT_OK : DFT_EDATA);
    if (k == 0) assert_true(mix.partner < 0 && mix.weight == 1 && image[0] == 1);
    if (k == 1) assert_non_null(strstr(dft_error(), "partners/b/1.bmp"));
    dft_dataset_free(d);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(order_is_that_of_keras),
      cmocka_unit_test(images_are_loaded_like_arrays),
      cmocka_unit_test(links_are_followed_once),
      cmocka_unit_test(class_names_give_the_order),
      cmocka_unit_test(folders_that_do_not_fit_are_refused),
      cmocka_unit_test(unreadable_samples_are_told),
      cmocka_unit_test(forbidden_samples_are_told),
      cmocka_unit_test(vanished_folders_are_no_bad_samples),
      cmocka_unit_test(listing_ticks),
      cmocka_unit_test(partners_that_cannot_be_read),
      cmocka_unit_test(fingerprint_is_of_names_labels_and_sizes),
  };
  return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
