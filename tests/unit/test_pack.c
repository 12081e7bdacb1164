/* dft_pack: how samples fall into shards; tests/photos shows the rest. */
#include "dft/pack.h"
#include "image_files.h"

enum { BLOCK = 512, END = 2 * BLOCK };

/* Sizes at the edges of blocks; with both headers and the label's block a sample takes 3 blocks more. */
static const int sizes[] = {512, 1, 511, 513, 512, 1024, 1025, 2};
enum { SAMPLES = sizeof sizes / sizeof sizes[0] };

static void save_folder(void) {
  char path[64];
  uint8_t data[2048];
  memset(data, 7, sizeof data);
  for (int i = 0; i < SAMPLES; i++) {
    snprintf(path, sizeof path, "folder/%c/%d.jpg", i < SAMPLES / 2 ? 'a' : 'b', i);
    save_bytes(path, data, (size_t)sizes[i]);
  }
}

/* Samples that fill `limit` bytes to the last, and what is one byte too little for them. */
static void shards_are_within_their_limit(void **state) {
  (void)state;
  static const struct {
    int64_t limit, first_shard;
    int shards;
  } cases[] = {
      {1, 4 * BLOCK + END, 8}, /* one sample in each, whatever its size */
      {8 * BLOCK + END - 1, 4 * BLOCK + END, 8},
      {8 * BLOCK + END, 8 * BLOCK + END, 7},
      {12 * BLOCK + END - 1, 8 * BLOCK + END, 4},
      {12 * BLOCK + END, 12 * BLOCK + END, 4},
      {36 * BLOCK + END - 1, 32 * BLOCK + END, 2},
      {36 * BLOCK + END, 36 * BLOCK + END, 1},
  };
  save_folder();
  for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
    char output[32], path[64];
    dft_packed packed;
    int64_t total = 0;
    snprintf(output, sizeof output, "packed%zu", k);
    const dft_pack_options options = {.shard_bytes = cases[k].limit};
    if (dft_pack("folder", output, &options, &packed) != DFT_OK) fail_msg("%s", dft_error());
    assert_int_equal(packed.shards, cases[k].shards);
    for (int i = 0; i < packed.shards; i++) {
      snprintf(path, sizeof path, "%s/shard-%06d.tar", output, i);
      const long size = size_of(path);
      if (k > 0) assert_true(size <= cases[k].limit);
      if (i == 0) assert_int_equal(size, cases[k].first_shard);
      total += size;
    }
    assert_int_equal(packed.bytes, total);
    assert_int_equal(packed.samples, SAMPLES);
  }
}

/* A member's name is its number, a dot, and the kind of file in small letters, by which WebDataset knows it.
 */
static void members_are_named_in_small_letters(void **state) {
  (void)state;
  char name[32];
  dft_packed packed;
  save_bytes("capitals/a/Photo.One.JPG", "x", 1);
  save_bytes("capitals/b/2.jPeG", "x", 1);
  const dft_pack_options options = {.shard_bytes = 1000000};
  assert_int_equal(dft_pack("capitals", "small", &options, &packed), DFT_OK);
  FILE *f = fopen("small/shard-000000.tar", "rb");
  assert_non_null(f);
  static const char *const names[] = {"00000000.jpg", "00000000.cls", "00000001.jpeg", "00000001.cls"};
  for (int i = 0; i < 4; i++) {
    assert_int_equal(fseek(f, 2L * BLOCK * i, SEEK_SET), 0);
    assert_int_equal(fread(name, 1, sizeof name, f), sizeof name);
    assert_string_equal(name, names[i]);
  }
  (void)fclose(f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shards_are_within_their_limit),
      cmocka_unit_test(members_are_named_in_small_letters),
  };
  return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
