#include "tasks.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdint.h>

enum { MOST_PARTS = 64, LINE_BYTES = 64 };

/* What is left of a part of a list; a cache line for each, since its owner writes it all the time. */
typedef struct part {
  _Alignas(LINE_BYTES) atomic_int next;
  int end;
} part;

static void take_from(const dft_tasks *tasks, part *p) {
  for (;;) {
    const int task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
    if (task >= p->end) return;
    tasks->run(tasks->job, task);
  }
}

void dft_run_tasks(const dft_tasks *tasks, int lists, int threads) {
  int64_t all = 0;
  for (int list = 0; list < lists; list++) all += tasks[list].count;
  if (threads <= 1 || all <= 1) {
    for (int list = 0; list < lists; list++)
      for (int task = 0; task < tasks[list].count; task++) tasks[list].run(tasks[list].job, task);
    return;
  }
  part left[DFT_TASKS_LISTS][MOST_PARTS];
  const int parts = threads < MOST_PARTS ? threads : MOST_PARTS;
  for (int list = 0; list < lists; list++)
    for (int i = 0; i < parts; i++) {
      const int64_t count = tasks[list].count;
      atomic_init(&left[list][i].next, (int)(count * i / parts));
      left[list][i].end = (int)(count * (i + 1) / parts);
    }
#pragma omp parallel num_threads(threads)
  {
    const int own = omp_get_thread_num() % parts;
    for (int i = 0; i < parts; i++)
      for (int list = 0; list < lists; list++) take_from(&tasks[list], &left[list][(own + i) % parts]);
  }
}
