/* Philox4x32-10 against the known answers of its authors (Random123, kat_vectors), and many blocks at once
 * against one by one. */
#include "../../src/base/rng_blocks.h"
#include "dft/rng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Counter and key of the second vector are all ones, its stream too; of the third, digits of pi. */
static void test_known_answers(void **state) {
  (void)state;
  static const struct {
    uint64_t seed, index;
    uint32_t sub, stream, want[4];
  } known[] = {
      {0, 0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {UINT64_MAX, UINT64_MAX, 0xffffffff, 0xffffffff, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822,
       0x85a308d3243f6a88,
       0x13198a2e,
       0x03707344,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    dft_philox b = dft_rng_block(known[i].seed, (dft_stream)known[i].stream, known[i].sub, known[i].index);
    assert_memory_equal(b.v, known[i].want, sizeof b.v);
  }
}

static void test_floats(void **state) {
  (void)state;
  static const uint64_t firsts[] = {0, 5, UINT32_MAX - 3, UINT64_MAX - 60};
  enum { MOST = 200 };
  for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++)
    for (size_t count = 0; count < MOST; count++) {
      float values[MOST + 1];
      values[count] = -1;
      dft_rng_floats(42, DFT_STREAM_INIT, 7, firsts[f], values, count);
      for (size_t i = 0; i < count; i++) {
        dft_philox b = dft_rng_block(42, DFT_STREAM_INIT, 7, firsts[f] + i / 4);
        assert_true(values[i] == dft_rng_float(b.v[i % 4]));
      }
      assert_true(values[count] == -1);
    }
}

/* Each form that this CPU has, in whole groups and nothing beyond them. */
static void test_groups(void **state) {
  (void)state;
  static size_t (*const forms[])(uint64_t, uint32_t, uint32_t, uint64_t, float *,
                                 size_t) = {dft_rng_groups, dft_rng_groups_avx512};
  static const uint64_t firsts[] = {3, UINT32_MAX - 9, UINT64_MAX - 40};
  enum { MOST = 300 };
  for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
    for (size_t at = 0; at < sizeof firsts / sizeof *firsts; at++) {
      float values[MOST];
      for (size_t i = 0; i < MOST; i++) values[i] = -1;
      const size_t made = forms[f](0x0123456789abcdefu, DFT_STREAM_RANDOM_IMAGE, 9, firsts[at], values, MOST);
      assert_true(made % 32 == 0 && (made > MOST - 64 || (f == 1 && !__builtin_cpu_supports("avx512f"))));
      for (size_t i = 0; i < made; i++) {
        dft_philox b = dft_rng_block(0x0123456789abcdefu, DFT_STREAM_RANDOM_IMAGE, 9, firsts[at] + i / 4);
        assert_true(values[i] == dft_rng_float(b.v[i % 4]));
      }
      for (size_t i = made; i < MOST; i++) assert_true(values[i] == -1);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_known_answers), cmocka_unit_test(test_floats),
                                     cmocka_unit_test(test_groups)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
