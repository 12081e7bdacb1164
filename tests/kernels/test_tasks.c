/* Tasks that threads share: each runs once, whatever their number and that of the threads; who is held up
 * is helped. */
#include "kernel_test.h"

#include "../../src/ops/cpu/tasks.h"
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>

enum { MOST = 300 };

typedef struct counted {
  atomic_int runs[MOST];
} counted;

static void count(const void *job, int task) {
  atomic_fetch_add(&((counted *)job)->runs[task], 1);
}

static void test_each_task_runs_once(void **state) {
  (void)state;
  static const int counts[] = {0, 1, 2, 7, 64, MOST}, teams[] = {1, 2, 3, 8, 70};
  for (size_t t = 0; t < sizeof teams / sizeof *teams; t++)
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
      for (size_t j = 0; j < sizeof counts / sizeof *counts; j++) {
        counted one = {{0}}, two = {{0}};
        const dft_tasks tasks[] = {{count, &one, counts[i]}, {count, &two, counts[j]}};
        dft_run_tasks(tasks, 2, teams[t]);
        for (int k = 0; k < MOST; k++) {
          assert_int_equal(one.runs[k], k < counts[i]);
          assert_int_equal(two.runs[k], k < counts[j]);
        }
      }
}

/* Task 0 waits until all others are done: another thread has to take over the rest of its thread's part. */
static void wait_for_others(const void *job, int task) {
  atomic_int *left = (atomic_int *)job;
  atomic_fetch_sub(left, 1);
  while (task == 0 && atomic_load(left) > 0) sched_yield();
}

static void test_a_held_up_thread_is_helped(void **state) {
  (void)state;
  if (omp_get_thread_limit() < 2) skip(); /* nobody to help */
  omp_set_dynamic(0);
  atomic_int left = 40;
  dft_run_tasks(&(dft_tasks){wait_for_others, &left, 40}, 1, 2);
  assert_int_equal(left, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_task_runs_once),
      cmocka_unit_test(test_a_held_up_thread_is_helped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
