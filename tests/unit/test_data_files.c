/* Reading IDX and npy: what is right arrives, what is wrong is refused with its place. */
#include "data_files.h"

enum { IMAGES = 12, SIDE = 32, PIXELS = SIDE * SIDE };

static void write_good_files(void) {
  save_idx_images("images.idx", IMAGES, SIDE, SIDE);
  save_idx_images("images.idx.gz", IMAGES, SIDE, SIDE);
  save_idx_labels("labels.idx", IMAGES, 3);
  save_idx_labels("labels.idx.gz", IMAGES, 3);
  bytes b = npy_header("|u1", "(12, 32, 32)");
  for (size_t k = 0; k < IMAGES; k++)
    for (size_t i = 0; i < PIXELS; i++) append(&b, (uint8_t[]){test_pixel(k, i)}, 1);
  save("images.npy", b);
  b = npy_header("<i8", "(12,)");
  for (int64_t k = 0; k < IMAGES; k++) append(&b, (int64_t[]){k % 3}, 8);
  save("labels.npy", b);
}

static void check_images(const dft_dataset *d) {
  float out[3 * PIXELS];
  assert_int_equal(dft_dataset_count(d), IMAGES);
  for (int64_t k = 0; k < IMAGES; k++) {
    assert_int_equal(dft_dataset_label(d, k), k % 3);
    assert_int_equal(dft_dataset_image(d, k, out), DFT_OK);
    for (size_t i = 0; i < 3 * PIXELS; i++) assert_true(out[i] == test_pixel((size_t)k, i / 3));
  }
}

/* The same values, whatever holds them: the same images, labels and fingerprint. */
static void plain_gzip_and_npy_are_equal(void **state) {
  (void)state;
  static const struct {
    dft_data_format format;
    const char *images, *labels;
  } files[] = {{DFT_DATA_IDX, "images.idx", "labels.idx"},
               {DFT_DATA_IDX, "images.idx.gz", "labels.idx.gz"},
               {DFT_DATA_IDX, "images.idx.gz", "labels.idx"},
               {DFT_DATA_NPY, "images.npy", "labels.npy"}};
  uint64_t fingerprint = 0;
  for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
    dft_config c = make_config(files[k].format, files[k].images, files[k].labels, 3);
    dft_dataset *d = open_train_only(&c);
    check_images(d);
    char name[64];
    dft_dataset_name(d, 7, name, sizeof name);
    char expected[64];
    snprintf(expected, sizeof expected, "%s[7]", files[k].images);
    assert_string_equal(name, expected);
    assert_null(dft_dataset_class_names(d));
    if (k == 0) fingerprint = dft_dataset_fingerprint(d);
    assert_true(dft_dataset_fingerprint(d) == fingerprint);
    dft_dataset_free(d);
  }
}

static uint64_t fingerprint_of(const dft_config *c) {
  dft_dataset *d = open_train_only(c);
  uint64_t f = dft_dataset_fingerprint(d);
  dft_dataset_free(d);
  return f;
}

static void fingerprint_sees_each_change(void **state) {
  (void)state;
  dft_config c = make_config(DFT_DATA_IDX, "images.idx", "labels.idx", 3);
  uint64_t base = fingerprint_of(&c);
  assert_true(fingerprint_of(&c) == base);
  save_idx_labels("other-labels.idx", IMAGES, 2);
  c.data.train.labels = "other-labels.idx";
  assert_true(fingerprint_of(&c) != base);
  bytes b = idx_header(8, 3, (uint32_t[]){IMAGES, SIDE, SIDE});
  for (size_t k = 0; k < IMAGES; k++)
    for (size_t i = 0; i < PIXELS; i++)
      append(&b, (uint8_t[]){(uint8_t)(test_pixel(k, i) ^ (k == 11 && i == PIXELS - 1))}, 1);
  save("other-images.idx", b);
  c = make_config(DFT_DATA_IDX, "other-images.idx", "labels.idx", 3);
  assert_true(fingerprint_of(&c) != base);
  c = make_config(DFT_DATA_IDX, "images.idx", "labels.idx", 3);
  c.data.limit = IMAGES - 1;
  assert_true(fingerprint_of(&c) != base);
}

static void npy_versions_and_types(void **state) {
  (void)state;
  static const char *const text = "{\"shape\":(2,32,32,3),\"descr\":\"<f4\",\"fortran_order\":False}";
  save_idx_labels("two.idx", 2, 2);
  for (int version = 1; version <= 3; version++) {
    bytes b = npy_text(version, text);
    for (int i = 0; i < 2 * 3 * PIXELS; i++) append(&b, (float[]){(float)i * 0.25f - 3}, 4);
    save("float.npy", b);
    b = npy_header("|u1", "(2, 1)");
    append(&b, (uint8_t[]){1, 0}, 2);
    save("two.npy", b);
    dft_config c = make_config(DFT_DATA_NPY, "float.npy", "two.npy", 2);
    dft_dataset *d = open_train_only(&c);
    float out[3 * PIXELS];
    assert_int_equal(dft_dataset_image(d, 1, out), DFT_OK);
    for (int i = 0; i < 3 * PIXELS; i++) assert_true(out[i] == (float)(i + 3 * PIXELS) * 0.25f - 3);
    assert_int_equal(dft_dataset_label(d, 0), 1);
    dft_dataset_free(d);
  }
}

/* Floats within 0 ... 1 are probably not what preprocessing expects; what is all black says nothing. */
static void small_values_are_doubted(void **state) {
  (void)state;
  static const struct {
    float most;
    dft_preprocessing preprocessing;
    bool doubted;
  } cases[] = {{0, DFT_PREPROCESS_UNIT, false},    {1, DFT_PREPROCESS_UNIT, true},
               {1.5F, DFT_PREPROCESS_UNIT, false}, {-0.5F, DFT_PREPROCESS_MOBILENET_V2, true},
               {-2, DFT_PREPROCESS_UNIT, false},   {1, DFT_PREPROCESS_NONE, false}};
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    char text[512];
    bytes b = npy_header("<f4", "(12, 32, 32)");
    for (int i = 0; i < IMAGES * PIXELS; i++) append(&b, i == 5000 ? &cases[k].most : (float[]){0}, 4);
    save("small.npy", b);
    dft_config c = make_config(DFT_DATA_NPY, "small.npy", "labels.npy", 3);
    c.data.preprocessing = cases[k].preprocessing;
    dft_dataset *d = open_train_only(&c);
    dft_dataset_doubt(d, text, sizeof text);
    assert_int_equal(strstr(text, "small.npy: no value seems to be beyond 1") != NULL, cases[k].doubted);
    assert_true(cases[k].doubted || text[0] == '\0');
    dft_dataset_free(d);
  }
}

static void idx_with_channels(void **state) {
  (void)state;
  bytes b = idx_header(8, 4, (uint32_t[]){2, SIDE, SIDE, 3});
  for (size_t k = 0; k < 2; k++)
    for (size_t i = 0; i < 3 * PIXELS; i++) append(&b, (uint8_t[]){test_pixel(k, i)}, 1);
  save("rgb.idx", b);
  save_idx_labels("two.idx", 2, 2);
  dft_config c = make_config(DFT_DATA_IDX, "rgb.idx", "two.idx", 2);
  dft_dataset *d = open_train_only(&c);
  float out[3 * PIXELS];
  assert_int_equal(dft_dataset_image(d, 1, out), DFT_OK);
  for (size_t i = 0; i < 3 * PIXELS; i++) assert_true(out[i] == test_pixel(1, i));
  dft_dataset_free(d);
}

/* Twelve labels k % 3 as every type, plain and one-hot. */
#define LABELS(ctype, descr)                                                                                 \
  do {                                                                                                       \
    bytes plain = npy_header(descr, "(12,)"), hot = npy_header(descr, "(12, 3)");                            \
    for (int k = 0; k < IMAGES; k++) {                                                                       \
      append(&plain, (ctype[]){(ctype)(k % 3)}, sizeof(ctype));                                              \
      for (int i = 0; i < 3; i++) append(&hot, (ctype[]){(ctype)(k % 3 == i)}, sizeof(ctype));               \
    }                                                                                                        \
    save("plain.npy", plain);                                                                                \
    save("hot.npy", hot);                                                                                    \
    check_labels(descr);                                                                                     \
  } while (0)

static void check_labels(const char *descr) {
  static const char *const names[] = {"plain.npy", "hot.npy"};
  for (int k = descr[1] == 'f' ? 1 : 0; k < 2; k++) {
    dft_config c = make_config(DFT_DATA_NPY, "images.npy", names[k], 3);
    dft_dataset *d = open_train_only(&c);
    check_images(d);
    dft_dataset_free(d);
  }
}

static void labels_of_every_type(void **state) {
  (void)state;
  LABELS(uint8_t, "|u1");
  LABELS(int8_t, "|i1");
  LABELS(uint16_t, "<u2");
  LABELS(int16_t, "<i2");
  LABELS(uint32_t, "<u4");
  LABELS(int32_t, "<i4");
  LABELS(uint64_t, "<u8");
  LABELS(int64_t, "<i8");
  LABELS(float, "<f4");
  LABELS(double, "<f8");
  dft_config c = make_config(DFT_DATA_NPY, "images.npy", "plain.npy", 3); /* float64 now */
  REFUSED(&c, DFT_EDATA, "plain.npy", "float64", "integers");
}

static void wrong_labels_are_refused(void **state) {
  (void)state;
  dft_config c = make_config(DFT_DATA_IDX, "images.idx", "labels.idx", 2);
  REFUSED(&c, DFT_EDATA, "labels.idx", "label 2 at position 2", "2 classes (0..1)");
  bytes b = npy_header("<i4", "(12,)");
  for (int k = 0; k < IMAGES; k++) append(&b, (int32_t[]){k == 5 ? -1 : 0}, 4);
  save("bad.npy", b);
  c = make_config(DFT_DATA_NPY, "images.npy", "bad.npy", 3);
  REFUSED(&c, DFT_EDATA, "bad.npy", "label -1 at position 5");
  b = npy_header("<u8", "(12,)");
  for (int k = 0; k < IMAGES; k++) append(&b, (uint64_t[]){k == 5 ? UINT64_MAX : 0}, 8);
  save("bad.npy", b);
  REFUSED(&c, DFT_EDATA, "bad.npy", "label 9223372036854775807 at position 5");
  static const float rows[][3] = {{0, 0, 0}, {1, 1, 0}, {0.5f, 0.5f, 0}, {0, 2, 0}};
  for (int bad = 0; bad < 4; bad++) {
    b = npy_header("<f4", "(12, 3)");
    for (int k = 0; k < IMAGES; k++) append(&b, k == 9 ? rows[bad] : (float[]){0, 1, 0}, 12);
    save("bad.npy", b);
    REFUSED(&c, DFT_EDATA, "bad.npy", "row 9", "one-hot");
  }
  save_idx_labels("eleven.idx", 11, 3);
  c = make_config(DFT_DATA_IDX, "images.idx", "eleven.idx", 3);
  REFUSED(&c, DFT_EDATA, "images.idx: 12 images", "eleven.idx has 11 labels");
  save("shape.npy", npy_header("<i4", "(0, 3, 2)"));
  c = make_config(DFT_DATA_NPY, "images.npy", "shape.npy", 3);
  REFUSED(&c, DFT_EDATA, "shape.npy", "3 dimensions");
}

static void missing_files_are_named(void **state) {
  (void)state;
  dft_config c = make_config(DFT_DATA_IDX, "nowhere/images.idx", "labels.idx", 3);
  REFUSED(&c, DFT_EDATA, "nowhere/images.idx", "cannot open", "No such file");
  c = make_config(DFT_DATA_IDX, "images.idx", "absent.idx", 3);
  REFUSED(&c, DFT_EDATA, "absent.idx", "cannot open");
  c = make_config(DFT_DATA_IDX, "/tmp", "labels.idx", 3);
  REFUSED(&c, DFT_EDATA, "/tmp", "not a regular file");
  assert_int_equal(symlink("loop.idx", "loop.idx"), 0); /* there, but no one can read it, not even root */
  c = make_config(DFT_DATA_IDX, "loop.idx", "labels.idx", 3);
  REFUSED(&c, DFT_EIO, "loop.idx", "cannot open");
  c = make_config(DFT_DATA_IDX, "images.idx", NULL, 3);
  REFUSED(&c, DFT_EUSAGE, "data.train.labels");
  c = make_config(DFT_DATA_TAR, "images.idx", "labels.idx", 3);
  REFUSED(&c, DFT_EUSAGE, "data.train.path");
}

static void foreign_files_are_refused(void **state) {
  (void)state;
  dft_config c = make_config(DFT_DATA_IDX, "images.npy", "labels.idx", 3);
  REFUSED(&c, DFT_EDATA, "images.npy", "not an IDX file", "93 4e");
  c = make_config(DFT_DATA_NPY, "images.idx", "labels.npy", 3);
  REFUSED(&c, DFT_EDATA, "images.idx", "not an npy file");
  c = make_config(DFT_DATA_IDX, "labels.idx", "labels.idx", 3);
  REFUSED(&c, DFT_EDATA, "labels.idx", "1 dimensions");
  save("ints.idx", idx_header(0x0c, 3, (uint32_t[]){0, 2, 2}));
  c.data.train.images = "ints.idx";
  REFUSED(&c, DFT_EDATA, "ints.idx", "0x0c");
  save("channels.idx", idx_header(8, 4, (uint32_t[]){0, 4, 4, 2}));
  c.data.train.images = "channels.idx";
  REFUSED(&c, DFT_EDATA, "channels.idx", "2 channels");
  save("flat.idx", idx_header(8, 3, (uint32_t[]){12, 0, 4}));
  c.data.train.images = "flat.idx";
  REFUSED(&c, DFT_EDATA, "flat.idx", "0 x 4 pixels");
  save("empty.idx", idx_header(8, 3, (uint32_t[]){0, 4, 4}));
  save("none.idx", idx_header(8, 1, (uint32_t[]){0}));
  c = make_config(DFT_DATA_IDX, "empty.idx", "none.idx", 3);
  REFUSED(&c, DFT_EDATA, "none.idx", "selects no samples");
}

static void wrong_lengths_are_refused(void **state) {
  (void)state;
  static const char *const names[] = {"cut.idx", "cut.idx.gz"};
  for (int k = 0; k < 2; k++) {
    dft_config c = make_config(DFT_DATA_IDX, names[k], "labels.idx", 3);
    save_idx_images(names[k], IMAGES, SIDE, SIDE);
    cut(names[k], size_of(names[k]) - 1);
    REFUSED(&c, DFT_EDATA, names[k], "truncated");
    cut(names[k], 11);
    REFUSED(&c, DFT_EDATA, names[k], "truncated");
    cut(names[k], 0);
    REFUSED(&c, DFT_EDATA, names[k], "not an IDX file");
    bytes b =
        idx_header(8, 3, (uint32_t[]){IMAGES, SIDE, SIDE}); /* a whole file, of too little or too much */
    for (size_t i = 0; i < IMAGES * PIXELS - 5; i++) append(&b, "x", 1);
    save(names[k], b);
    REFUSED(&c, DFT_EDATA, names[k], "truncated", "promises 12304", "12299");
    b = idx_header(8, 3, (uint32_t[]){IMAGES, SIDE, SIDE});
    for (size_t i = 0; i < IMAGES * PIXELS + 1; i++) append(&b, "x", 1);
    save(names[k], b);
    REFUSED(&c, DFT_EDATA, names[k], "more data");
    c = make_config(DFT_DATA_IDX, "images.idx", names[k], 3);
    b = idx_header(8, 1, (uint32_t[]){IMAGES});
    append(&b, "abc", 3);
    save(names[k], b);
    REFUSED(&c, DFT_EDATA, names[k], "truncated");
  }
}

static void damaged_gzip_is_refused(void **state) {
  (void)state;
  save_idx_images("bad.idx.gz", IMAGES, SIDE, SIDE);
  FILE *f = fopen("bad.idx.gz", "r+b");
  assert_non_null(f);
  assert_int_equal(fseek(f, -6, SEEK_END), 0); /* in the checksum of the unpacked data */
  assert_int_equal(fwrite("\x55\xaa", 1, 2, f), 2);
  (void)fclose(f);
  dft_config c = make_config(DFT_DATA_IDX, "bad.idx.gz", "labels.idx", 3);
  REFUSED(&c, DFT_EDATA, "bad.idx.gz", "damaged gzip data");
}

/* Promises that overflow, or that no file of this length can keep, allocate nothing. */
static void hostile_sizes_are_refused(void **state) {
  (void)state;
  dft_config c = make_config(DFT_DATA_IDX, "huge.idx", "labels.idx", 3);
  save("huge.idx", idx_header(8, 4, (uint32_t[]){0xffffffffu, 0xffffffffu, 0xffffffffu, 3}));
  REFUSED(&c, DFT_EDATA, "huge.idx", "impossibly large");
  save("huge.idx", idx_header(8, 3, (uint32_t[]){0xffffffffu, 60000, 1000}));
  REFUSED(&c, DFT_EDATA, "huge.idx", "truncated");
  save("huge.idx.gz", idx_header(8, 3, (uint32_t[]){0xffffffffu, 60000, 1000}));
  c.data.train.images = "huge.idx.gz";
  REFUSED(&c, DFT_EDATA, "huge.idx.gz", "truncated");
  save("wide.idx", idx_header(8, 3, (uint32_t[]){0, 70000, 1}));
  c.data.train.images = "wide.idx";
  REFUSED(&c, DFT_EDATA, "wide.idx", "70000 x 1");
  static const char *const shapes[] = {"(9223372036854775807, 2, 2)", "(9223372036854775807, 1, 1)",
                                       "(4294967296, 4294967296, 3)"};
  c = make_config(DFT_DATA_NPY, "huge.npy", "labels.npy", 3);
  for (int k = 0; k < 3; k++) {
    save("huge.npy", npy_header("<f4", shapes[k]));
    REFUSED(&c, DFT_EDATA, "huge.npy", "impossibly large");
  }
  save("huge.npy", npy_header("<f4", "(99999999999999999999, 1, 1)"));
  REFUSED(&c, DFT_EDATA, "huge.npy", "shape is not made of sizes");
}

static void malformed_npy_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *message;
  } headers[] = {
      {"", "not a dict"},
      {"{", "not a dict"},
      {"{}", "missing"},
      {"{'descr': '|u1', 'shape': (0, 2, 2)}", "missing"},
      {"{'descr': '|f4', 'fortran_order': False, 'shape': (0, 2, 2)}", "type '|f4'"},
      {"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 2, 2)", "not a dict"},
      {"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 2, 2)} x", "text after"},
      {"{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (0, 2, 2)}", "twice"},
      {"{'descr': '|u1', 'other': 3, 'fortran_order': False, 'shape': (0, 2, 2)}", "unknown key"},
      {"{'descr': '|u1', 'fortran_order': True, 'shape': (0, 2, 2)}", "Fortran order"},
      {"{'descr': '|u1', 'fortran_order': 0, 'shape': (0, 2, 2)}", "neither True nor False"},
      {"{'descr': '|u1', 'fortran_order': Falsely, 'shape': (0, 2, 2)}", "not a dict"},
      {"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 2, 2)}", "not made of sizes"},
      {"{'descr': '|u1', 'fortran_order': False, 'shape': (3)}", "not a tuple"},
      {"{'descr': '|u1', 'fortran_order': False, 'shape': ()}", "without dimensions"},
      {"{'descr': '|u1', 'fortran_order': False, 'shape': 3}", "not a tuple"},
      {"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1)}", "more than 4"},
      {"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 2)}", "2 dimensions"},
      {"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 2, 2, 4)}", "4 channels"},
      {"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 2, 3)}", "shape (0, 2, 3): is this one image?"},
      {"{'descr': '>f4', 'fortran_order': False, 'shape': (0, 2, 2)}", "big-endian"},
      {"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 2, 2)}", "float64"},
      {"{'descr': '<f2', 'fortran_order': False, 'shape': (0, 2, 2)}", "'<f2'"},
      {"{'descr': '|O', 'fortran_order': False, 'shape': (0, 2, 2)}", "'|O'"},
      {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (0, 2, 2)}", "not a plain type"},
      {"{'descr': 'a long name of a type', 'fortran_order': False, 'shape': (0, 2, 2)}", "not a plain type"},
  };
  dft_config c = make_config(DFT_DATA_NPY, "header.npy", "labels.npy", 3);
  for (size_t k = 0; k < sizeof headers / sizeof *headers; k++) {
    save("header.npy", npy_text(1, headers[k].text));
    REFUSED(&c, DFT_EDATA, "header.npy", headers[k].message);
  }
  save("header.npy", npy_text(4, headers[0].text));
  REFUSED(&c, DFT_EDATA, "version 4.0");
  bytes b = {0};
  append(&b, "\x93NUMPY\x02\x00\xff\xff\xff\xff{", 13);
  save("header.npy", b);
  REFUSED(&c, DFT_EDATA, "header.npy", "4294967295 bytes");
  for (long n = 0; n < 128; n++) { /* the header cut anywhere */
    save("header.npy", npy_header("|u1", "(12, 32, 32)"));
    cut("header.npy", n);
    REFUSED(&c, DFT_EDATA, "header.npy", n < 10 ? "not an npy file" : "truncated");
  }
}

/* [H,W,3] would be H grey images three pixels wide; other narrow ones are what they say. */
static void one_image_is_not_many_grey_ones(void **state) {
  (void)state;
  for (uint32_t width = 1; width <= 4; width++) {
    dft_dataset *d;
    save_idx_images("narrow.idx.gz", IMAGES, SIDE, width);
    dft_config c = make_config(DFT_DATA_IDX, "narrow.idx.gz", "labels.idx", 3); /* a label for each row */
    dft_status alone = dft_data_open_images("narrow.idx.gz", SIDE, SIDE, DFT_PREPROCESS_NONE,
                                            DFT_RESIZE_STRETCH, dft_share_alone(), &d);
    assert_int_equal(alone, width == 3 ? DFT_EDATA : DFT_OK);
    dft_dataset_free(d);
    if (width == 3)
      REFUSED(&c, DFT_EDATA,
              "narrow.idx.gz: shape (12, 32, 3): is this one image? save image[None], shape (1, 12, 32, 3)");
    else
      dft_dataset_free(open_train_only(&c));
  }
}

static void images_alone(void **state) {
  (void)state;
  static const char *const names[] = {"images.idx", "images.idx.gz", "images.npy"};
  for (int k = 0; k < 3; k++) {
    dft_dataset *d;
    assert_int_equal(dft_data_open_images(names[k], SIDE, SIDE, DFT_PREPROCESS_NONE, DFT_RESIZE_STRETCH,
                                          dft_share_alone(), &d),
                     DFT_OK);
    float out[3 * PIXELS];
    assert_int_equal(dft_dataset_count(d), IMAGES);
    assert_int_equal(dft_dataset_label(d, 3), -1);
    assert_int_equal(dft_dataset_image(d, 3, out), DFT_OK);
    for (size_t i = 0; i < 3 * PIXELS; i++) assert_true(out[i] == test_pixel(3, i / 3));
    assert_int_equal(dft_dataset_image(d, IMAGES, out), DFT_EINTERNAL);
    dft_dataset_free(d);
  }
  dft_dataset *d = (dft_dataset *)1;
  bytes b = {0};
  append(&b, "\x89PNG\r\n", 6);
  save("picture.png", b);
  assert_int_equal(dft_data_open_images("picture.png", SIDE, SIDE, DFT_PREPROCESS_NONE, DFT_RESIZE_STRETCH,
                                        dft_share_alone(), &d),
                   DFT_EDATA);
  assert_non_null(strstr(dft_error(), "picture.png: neither an IDX nor an npy file"));
  assert_null(d);
  dft_dataset_free(NULL);
}

static int setup(void **state) {
  if (enter_directory(state) != 0) return -1;
  write_good_files();
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain_gzip_and_npy_are_equal),
      cmocka_unit_test(fingerprint_sees_each_change),
      cmocka_unit_test(npy_versions_and_types),
      cmocka_unit_test(small_values_are_doubted),
      cmocka_unit_test(idx_with_channels),
      cmocka_unit_test(labels_of_every_type),
      cmocka_unit_test(wrong_labels_are_refused),
      cmocka_unit_test(missing_files_are_named),
      cmocka_unit_test(foreign_files_are_refused),
      cmocka_unit_test(wrong_lengths_are_refused),
      cmocka_unit_test(damaged_gzip_is_refused),
      cmocka_unit_test(hostile_sizes_are_refused),
      cmocka_unit_test(malformed_npy_is_refused),
      cmocka_unit_test(one_image_is_not_many_grey_ones),
      cmocka_unit_test(images_alone),
  };
  return cmocka_run_group_tests(tests, setup, leave_directory);
}
