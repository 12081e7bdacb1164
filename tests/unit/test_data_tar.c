/* tar: shards as GNU tar writes them, in all its formats; what they hold; and hostile ones. */
#include "image_files.h"

enum { BLOCK = 512 };

/* ---- shards by GNU tar ---- */

static void run_command(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run_command(const char *format, ...) {
  char command[2048];
  va_list args;
  va_start(args, format);
  vsnprintf(command, sizeof command, format, args);
  va_end(args);
  if (system(command) != 0) fail_msg("failed: %s", command);
}

/* Sample k under `directory`: an image with red k, and its label k % 3 as .cls or .json. */
static void save_sample(const char *directory, const char *key, int k, bool json) {
  char path[512], text[64];
  snprintf(path, sizeof path, "%s/%s.bmp", directory, key);
  save_bmp(path, (uint8_t)k);
  snprintf(path, sizeof path, "%s/%s.%s", directory, key, json ? "json" : "cls");
  int n = snprintf(text, sizeof text, json ? "{\"a\": [1.5, {}], \"label\": %d}" : "%d\n", k % 3);
  save_bytes(path, text, (size_t)n);
}

static void expect_samples(const char *path, int count) {
  dft_config c = folder_config(DFT_DATA_TAR, path, 3);
  dft_dataset *d = open_train_only(&c);
  assert_int_equal(dft_dataset_count(d), count);
  for (int k = 0; k < count; k++) {
    assert_int_equal(dft_dataset_label(d, k), k % 3);
    assert_int_equal(red_of(d, k), k);
  }
  dft_dataset_free(d);
}

static void every_tar_format_is_read(void **state) {
  (void)state;
  static const char *const formats[] = {"v7", "oldgnu", "gnu", "ustar", "pax"};
  char name[160];
  for (int k = 0; k < 5; k++) {
    snprintf(name, sizeof name, "sub%d/%04d", k / 3, k);
    save_sample("plain", name, k, k % 2 == 1);
  }
  save_bytes("plain/README", "no sample", 9);
  save_bytes("plain/sub1/.hidden.bmp", "no sample", 9);
  save_bytes("plain/sub1/9.txt", "no sample", 9);
  for (int f = 0; f < 5; f++) {
    run_command("tar -cf %s.tar --format=%s --sort=name -C plain .", formats[f], formats[f]);
    snprintf(name, sizeof name, "%s.tar", formats[f]);
    expect_samples(name, 5);
  }
  /* GNU tar has times where ustar has a prefix of the name */
  run_command("find plain -name '*.cls' -exec touch -a -d @1000000 {} +");
  run_command("tar -cf times.tar --format=gnu --listed-incremental=times.snar -C plain .");
  expect_samples("times.tar", 5);
  /* names that need the prefix of ustar, GNU's long names or pax records; the last two are too long for ustar
   */
  for (int k = 0; k < 5; k++) {
    static const int lengths[] = {40, 60, 94, 120, 140};
    snprintf(name, sizeof name, "%d%0*d", k, lengths[k], 7);
    save_sample("long/dddddddddddddddddddddddddddddddddddddddddddddddddddddddd", name, k, false);
  }
  for (int f = 2; f < 5; f++) {
    snprintf(name, sizeof name, "long-%s.tar", formats[f]);
    bool ustar = strcmp(formats[f], "ustar") == 0;
    run_command("tar -cf %s --format=%s --sort=name -C long $(cd long && ls -d d*/%s)", name, formats[f],
                ustar ? "[012]*" : "*");
    expect_samples(name, ustar ? 3 : 5);
  }
}

static void shards_follow_the_pattern(void **state) {
  (void)state;
  for (int k = 0; k < 12; k++) {
    char directory[32];
    snprintf(directory, sizeof directory, "part%02d", k);
    save_sample(directory, "key", k, false);
    run_command("mkdir -p set && tar -cf set/s-%04d.tar -C part%02d key.bmp key.cls", k, k);
  }
  expect_samples("set", 12);
  expect_samples("set/s-{0000..0011}.tar", 12);
  expect_samples("set/s-0{000..011}.tar", 12);
  expect_samples("set/*.tar", 12);
  expect_samples("set/s-000?.tar", 10);
  expect_samples("set/s-000[0-4].tar", 5);
  expect_samples("set/s-000{0,1,2}.tar", 3);
  expect_samples("set/s-000{0..0}.tar", 1);
  run_command("mkdir 'a[1]*' && cp set/s-0000.tar 'a[1]*'");
  expect_samples("a[1]*", 1);
}

static void patterns_that_fit_nothing_are_refused(void **state) {
  (void)state;
  save_sample("single", "1", 0, false);
  run_command("mkdir -p few empty && tar -cf few/s-0.tar -C single . && touch empty/x.txt");
  dft_config c = folder_config(DFT_DATA_TAR, "few/s-{0..1}.tar", 3);
  REFUSED(&c, DFT_EDATA, "few/s-1.tar", "No such file");
  c.data.train.path = "few/t-*.tar";
  REFUSED(&c, DFT_EDATA, "few/t-*.tar: no file fits this pattern");
  c.data.train.path = "empty";
  REFUSED(&c, DFT_EDATA, "empty: no .tar files in this directory");
  c.data.train.path = "few/s-{0..0.tar";
  REFUSED(&c, DFT_EDATA, "few/s-{0..0.tar: braces");
  c.data.train.path = "few/s-{3..1}.tar";
  REFUSED(&c, DFT_EDATA, "braces hold a range");
  char many[2 * 4096] = "";
  for (int braces = 1; braces <= 800; braces++) {
    strcat(many, "{a,b}");
    if (braces != 17 && braces != 800) continue;
    c.data.train.path = many;
    REFUSED(&c, DFT_EDATA, "more than 16 braces");
  }
  memset(many, 'x', sizeof many - 1);
  REFUSED(&c, DFT_EDATA, "longer than a path can be");
  c.data.train.path = "s-{0..999}{0..999}{0..999}.tar";
  REFUSED(&c, DFT_EDATA, "more than 1000000 shards");
  c.data.train.path = NULL;
  REFUSED(&c, DFT_EUSAGE, "data.train.path is not set");
}

static void samples_that_are_no_samples_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *files, *words[3];
  } cases[] = {
      {"a.bmp", {"a.bmp has no label", "a.cls or a.json"}},
      {"a.cls", {"a.cls has no image"}},
      {"a.bmp b.bmp a.cls", {"a.bmp has no label"}},
      {"a.bmp a.png a.cls", {"a.png: the sample has two members of this kind"}},
      {"a.txt", {"no samples"}},
      {"a.new.bmp a.new.cls", {"no samples", "ends at its first dot, which a.new.bmp has too early"}},
      {"a.bmp word.cls", {"a.bmp has no label"}},
      {"word.bmp word.cls", {"word.cls: a .cls is one number"}},
      {"large.bmp large.cls", {"large.cls: the label 100000 is no class number"}},
      {"three.bmp three.cls", {"three.bmp: the label 3 is outside the 3 classes (0..2)"}},
      {"many.bmp many.cls", {"many.cls: ", "too many for a label"}},
      {"bad.bmp bad.json", {"bad.json: line 1: "}},
      {"list.bmp list.json", {"list.json: no \"label\""}},
      {"text.bmp text.json", {"text.json: no \"label\""}},
      {"minus.bmp minus.json", {"minus.json: the label -1"}},
      {"twice.bmp twice.json", {"twice.json: line 1", "duplicate"}},
  };
  static const char *const images[] = {"a.new.bmp", "a.bmp",     "a.png",   "b.bmp",    "word.bmp",
                                       "large.bmp", "three.bmp", "bad.bmp", "list.bmp", "text.bmp",
                                       "minus.bmp", "twice.bmp", "many.bmp"};
  static const char *const texts[][2] = {{"a.cls", "1"},
                                         {"a.new.cls", "1"},
                                         {"a.txt", "1"},
                                         {"word.cls", "ant"},
                                         {"large.cls", "100000"},
                                         {"three.cls", "3"},
                                         {"bad.json", "{\"label\": 1"},
                                         {"list.json", "[1]"},
                                         {"text.json", "{\"label\": \"1\"}"},
                                         {"minus.json", "{\"cls\": -1}"},
                                         {"twice.json", "{\"label\": 1, \"label\": 2}"}};
  char many[80];
  memset(many, '0', sizeof many);
  make_way("odd/x");
  assert_int_equal(chdir("odd"), 0);
  for (size_t i = 0; i < sizeof images / sizeof images[0]; i++) save_bmp(images[i], 1);
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
    save_bytes(texts[i][0], texts[i][1], strlen(texts[i][1]));
  save_bytes("many.cls", many, sizeof many);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    run_command("tar -cf odd.tar %s", cases[i].files);
    dft_config c = folder_config(DFT_DATA_TAR, "odd.tar", 3);
    refused(&c, DFT_EDATA, cases[i].words, __FILE__, __LINE__);
    REFUSED(&c, DFT_EDATA, "odd.tar");
  }
  assert_int_equal(chdir(".."), 0);
}

/* What has a dot before its ending is no sample: it is counted, unless it is part of one, as a mask may be.
 */
static void images_with_other_dots_are_counted(void **state) {
  (void)state;
  const char *example;
  for (int k = 0; k < 3; k++) save_sample("dots", (const char *[]){"0", "1", "2"}[k], k, false);
  save_sample("dots", "0.edited", 1, false);
  save_sample("dots", "3.edited", 1, true);
  run_command(
      "mkdir -p dotted && tar -cf dotted/0.tar --sort=name -C dots 0.bmp 0.cls 0.edited.bmp 0.edited.cls && "
      "tar -cf dotted/1.tar --sort=name -C dots 1.bmp 1.cls 2.bmp 2.cls 3.edited.bmp 3.edited.json");
  expect_samples("dotted", 3);
  dft_config c = folder_config(DFT_DATA_TAR, "dotted", 3);
  dft_dataset *d = open_train_only(&c);
  assert_int_equal(dft_dataset_passed_over(d, &example), 1);
  assert_string_equal(example, "3.edited.bmp");
  dft_dataset_free(d);
}

static void class_names_lie_beside(void **state) {
  (void)state;
  save_sample("n", "0", 0, false);
  save_sample("n", "1", 1, false);
  save_sample("n", "2", 2, false);
  run_command("mkdir -p names && tar -cf names/s.tar --sort=name -C n .");
  dft_config c = folder_config(DFT_DATA_TAR, "names/s.tar", 3);
  dft_dataset *d = open_train_only(&c);
  assert_null(dft_dataset_class_names(d));
  dft_dataset_free(d);
  save_bytes("names/classes.txt", "ant\nbee hive\r\ncat", 17);
  d = open_train_only(&c);
  assert_string_equal(dft_dataset_class_names(d)[1], "bee hive");
  assert_string_equal(dft_dataset_class_names(d)[2], "cat");
  expect_name(d, 1, "s.tar: ./1.bmp");
  dft_dataset_free(d);
  c.model.class_names = (char *[]){"ant", "bee", "cat"};
  REFUSED(&c, DFT_EDATA, "class 1 is 'bee hive', but model.class_names says 'bee'");
  c.model.class_names = NULL;
  c.model.classes = 4;
  REFUSED(&c, DFT_EDATA, "3 names in classes.txt (ant, bee hive, cat), but model.classes is 4");
  save_bytes("names/classes.txt", "ant\n\ncat", 8);
  REFUSED(&c, DFT_EDATA, "classes.txt: line 2 is empty");
  save_bytes("names/classes.txt", "a\0b", 3);
  REFUSED(&c, DFT_EDATA, "classes.txt: not a list");
  /* other names for validation */
  run_command("mkdir -p other && cp names/s.tar other/ && echo 'ant\nbee\ncow' >other/classes.txt");
  save_bytes("names/classes.txt", "ant\nbee\ncat\n", 12);
  c.model.classes = 3;
  c.data.validation = (dft_config_split){.present = true, .path = "other"};
  REFUSED(&c, DFT_EDATA, "other: class 2 is 'cow', but 'cat' in data.train.path");
}

static void packed_and_foreign_files_are_refused(void **state) {
  (void)state;
  save_sample("p", "1", 1, false);
  run_command("tar -czf packed.tar -C p . && head -c 5000 /dev/urandom >noise.tar && echo hello >short.tar");
  run_command(": >zero.tar && printf '(\\265/\\375%%0600d' 0 >zstd.tar");
  dft_config c = folder_config(DFT_DATA_TAR, "packed.tar", 3);
  REFUSED(&c, DFT_EDATA, "packed.tar: packed with gzip", "unpack it");
  c.data.train.path = "zstd.tar";
  REFUSED(&c, DFT_EDATA, "packed with zstd");
  c.data.train.path = "noise.tar";
  REFUSED(&c, DFT_EDATA, "noise.tar: not a tar file");
  c.data.train.path = "short.tar";
  REFUSED(&c, DFT_EDATA, "short.tar: not a tar file");
  c.data.train.path = "zero.tar";
  REFUSED(&c, DFT_EDATA, "zero.tar: zero bytes");
}

/* ---- hostile headers, by hand ---- */

static void put_header(bytes *b, const char *name, char type, const char *size, size_t size_bytes) {
  uint8_t h[BLOCK] = {0};
  strcpy((char *)h, name);
  memcpy(h + 100, "0000644", 8);
  memcpy(h + 124, size, size_bytes);
  memcpy(h + 257,
         "ustar\0"
         "00",
         8);
  h[156] = (uint8_t)type;
  memset(h + 148, ' ', 8);
  unsigned sum = 0;
  for (int i = 0; i < BLOCK; i++) sum += h[i];
  snprintf((char *)h + 148, 8, "%06o", sum);
  append(b, h, BLOCK);
}

static void put_file(bytes *b, const char *name, char type, const void *data, size_t count) {
  static const uint8_t zeros[BLOCK];
  char size[12];
  snprintf(size, sizeof size, "%011zo", count);
  put_header(b, name, type, size, sizeof size);
  append(b, data, count);
  append(b, zeros, (BLOCK - count % BLOCK) % BLOCK);
}

static void put_image(bytes *b) {
  uint8_t bmp[BMP_BYTES];
  make_bmp(5, bmp);
  put_file(b, "1.bmp", '0', bmp, BMP_BYTES);
  put_file(b, "1.cls", '0', "2", 1);
}

static void put_end(bytes *b) {
  static const uint8_t zeros[2 * BLOCK];
  append(b, zeros, sizeof zeros);
}

static void expect_refused(bytes b, const char *words) {
  save("hostile.tar", b);
  dft_config c = folder_config(DFT_DATA_TAR, "hostile.tar", 3);
  REFUSED(&c, DFT_EDATA, "hostile.tar", words);
}

static void hostile_sizes_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *size, *words;
    size_t bytes;
  } cases[] = {
      {"77777777777", "truncated: x.bmp has 8589934591 bytes", 12},
      {"777777777777", "truncated: x.bmp has 68719476735 bytes", 12},
      {"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", "truncated: x.bmp has 9223372036854775807 bytes", 12},
      {"\x80\0\0\0\x80\0\0\0\0\0\0\0", "the size of x.bmp is no number", 12},
      {"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "the size of x.bmp is no number", 12},
      {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "the size of x.bmp is no number", 12},
      {"00000000009", "the size of x.bmp is no number", 12},
      {"-0000000001", "the size of x.bmp is no number", 12},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    bytes b = {0};
    put_image(&b);
    put_header(&b, "x.bmp", '0', cases[i].size, cases[i].bytes);
    put_end(&b);
    expect_refused(b, cases[i].words);
  }
  /* base 256 with a size that fits is fine */
  bytes b = {0};
  uint8_t bmp[BLOCK] = {0};
  make_bmp(0, bmp);
  put_header(&b, "a.pipe", '6', "00000000001\0", 12); /* one that says a size has no contents all the same */
  put_header(&b, "0.bmp", '0', "\x80\0\0\0\0\0\0\0\0\0\0\x3e", 12);
  append(&b, bmp, sizeof bmp);
  put_file(&b, "0.cls", '0', " 0 ", 3);
  put_end(&b);
  save("base256.tar", b);
  expect_samples("base256.tar", 1);
}

static void hostile_extended_headers_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *words;
    char type;
  } cases[] = {
      {"20 size=99999999999\n", "truncated: 1.bmp has 99999999999 bytes", 'x'},
      {"29 size=99999999999999999999\n", "the size in an extended header", 'x'},
      {"11 size=-1\n", "the size in an extended header", 'x'},
      {"8 path=\n", "name is empty or too long", 'x'},
      {"99 path=a.bmp\n", "a damaged extended header", 'x'},
      {"3 a=b\n", "a damaged extended header", 'x'},
      {"9 pathab\n", "a damaged extended header", 'x'},
      {"path=a.bmp\n", "a damaged extended header", 'x'},
      {"99999999999999999999 a=b\n", "a damaged extended header", 'x'},
      {"22 GNU.sparse.major=1\n", "sparse", 'x'},
      {"", "name is empty or too long", 'L'},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    bytes b = {0};
    put_file(&b, "extended", cases[i].type, cases[i].text, strlen(cases[i].text));
    put_image(&b);
    put_end(&b);
    expect_refused(b, cases[i].words);
  }
  bytes b = {0};
  char *large = calloc(1, (1 << 20) + 1);
  memset(large, 'a', 1 << 20);
  put_file(&b, "long", 'L', large, 1 << 20);
  put_image(&b);
  put_end(&b);
  expect_refused(b, "name is empty or too long");
  b = (bytes){0};
  put_file(&b, "extended", 'x', large, (1 << 20) + 1);
  put_end(&b);
  expect_refused(b, "more than 1 MiB");
  free(large);
  b = (bytes){0};
  put_file(&b, "1.bmp", 'S', "x", 1);
  put_end(&b);
  expect_refused(b, "sparse");
}

/* Some old programs summed the bytes of a header as signed ones. */
static void signed_checksums_are_read(void **state) {
  (void)state;
  uint8_t bmp[BMP_BYTES];
  bytes b = {0};
  make_bmp(0, bmp);
  put_file(&b, "d\xc3\xa9j\xc3\xa0/0.bmp", '0', bmp, BMP_BYTES);
  put_file(&b, "d\xc3\xa9j\xc3\xa0/0.cls", '0', "0", 1);
  put_end(&b);
  for (int header = 0; header < 2; header++) {
    uint8_t *h = b.data + 2 * header * BLOCK;
    unsigned sum = (unsigned)strtoul((const char *)h + 148, NULL, 8);
    snprintf((char *)h + 148, 8, "%06o", sum - 4 * 256); /* four bytes beyond 127 */
  }
  save("signed.tar", b);
  expect_samples("signed.tar", 1);
}

/* Cut at every block, and in the middle of some: truncated, never a crash, never fewer samples in silence. */
static void truncated_archives_are_refused(void **state) {
  (void)state;
  bytes b = {0};
  put_file(&b, "0.bmp", '0', "x", 1); /* a cut behind its label leaves a whole sample, and no end */
  put_file(&b, "0.cls", '0', "0", 1);
  put_file(&b, "pax", 'x', "14 path=1.bmp\n", 14);
  put_image(&b);
  put_end(&b);
  long whole = (long)b.count;
  save("cut.tar", b);
  for (long at = whole - 2 * BLOCK; at >= BLOCK; at -= BLOCK / 2) {
    cut("cut.tar", at);
    dft_config c = folder_config(DFT_DATA_TAR, "cut.tar", 3);
    REFUSED(&c, DFT_EDATA, "cut.tar: truncated: ");
  }
  bytes damaged = {0};
  put_image(&damaged);
  put_image(&damaged);
  put_end(&damaged);
  damaged.data[4 * BLOCK + 3] ^= 1;
  expect_refused(damaged, "at byte 2048: a damaged header");
}

/* More shards than are kept open. */
static void many_shards_are_read(void **state) {
  (void)state;
  enum { SHARDS = 300 };
  char path[64], name[32];
  uint8_t bmp[BMP_BYTES];
  for (int k = 0; k < SHARDS; k++) {
    bytes b = {0};
    snprintf(path, sizeof path, "many/%03d.tar", k);
    make_way(path);
    make_bmp((uint8_t)(k % 256), bmp);
    snprintf(name, sizeof name, "%d.bmp", k);
    put_file(&b, name, '0', bmp, BMP_BYTES);
    snprintf(name, sizeof name, "%d.cls", k);
    put_file(&b, name, '0', k % 3 == 0 ? "0" : k % 3 == 1 ? "1" : "2", 1);
    put_end(&b);
    save(path, b);
  }
  dft_config c = folder_config(DFT_DATA_TAR, "many/{000..299}.tar", 3);
  dft_dataset *d = open_train_only(&c);
  assert_int_equal(dft_dataset_count(d), SHARDS);
  for (int round = 0; round < 2; round++)
    for (int k = SHARDS; k-- > 0;) {
      assert_int_equal(red_of(d, k), k % 256);
      assert_int_equal(dft_dataset_label(d, k), k % 3);
    }
  dft_dataset_free(d);
}

static void files_that_shrink_or_vanish_later_are_told(void **state) {
  (void)state;
  static float out[3 * 32 * 32];
  bytes b = {0};
  put_image(&b);
  put_end(&b);
  save("shrinks.tar", b);
  dft_config c = folder_config(DFT_DATA_TAR, "shrinks.tar", 3);
  dft_dataset *d = open_train_only(&c);
  cut("shrinks.tar", BLOCK + 10);
  assert_int_equal(dft_dataset_image(d, 0, out), DFT_EDATA);
  assert_non_null(strstr(dft_error(), "shrinks.tar: 1.bmp: ends after 10 of 62 bytes"));
  dft_dataset_free(d);
  b = (bytes){0};
  put_image(&b);
  put_end(&b);
  save("gone.tar", b);
  c.data.train.path = "gone.tar";
  d = open_train_only(&c);
  assert_int_equal(unlink("gone.tar"), 0);
  assert_int_equal(dft_dataset_image(d, 0, out), DFT_EIO); /* all its samples would be missing */
  assert_string_equal(dft_error(), "gone.tar: cannot be read any more: No such file or directory");
  dft_dataset_free(d);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_tar_format_is_read),
      cmocka_unit_test(shards_follow_the_pattern),
      cmocka_unit_test(patterns_that_fit_nothing_are_refused),
      cmocka_unit_test(samples_that_are_no_samples_are_refused),
      cmocka_unit_test(images_with_other_dots_are_counted),
      cmocka_unit_test(class_names_lie_beside),
      cmocka_unit_test(packed_and_foreign_files_are_refused),
      cmocka_unit_test(hostile_sizes_are_refused),
      cmocka_unit_test(hostile_extended_headers_are_refused),
      cmocka_unit_test(signed_checksums_are_read),
      cmocka_unit_test(truncated_archives_are_refused),
      cmocka_unit_test(many_shards_are_read),
      cmocka_unit_test(files_that_shrink_or_vanish_later_are_told),
  };
  return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
