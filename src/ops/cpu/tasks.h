/* Tasks that threads share: each has its part of them, about as schedule(static) would deal them out (of more
 * than 64 threads some share a part), and takes over from the others when it is done, so that a core that
 * something else slows down for a while holds nobody up. Which thread runs a task must change no bit. */
#ifndef DFT_OPS_CPU_TASKS_H
#define DFT_OPS_CPU_TASKS_H

typedef struct dft_tasks {
  void (*run)(const void *job, int task); /* tasks 0 ... count - 1 */
  const void *job;
  int count;
} dft_tasks;

enum { DFT_TASKS_LISTS = 2 };

/* Runs all tasks of `lists` lists (1 ... DFT_TASKS_LISTS), which may not need each other's results, on
 * `threads` OpenMP threads; returns when all are done. A thread begins with its part of each list in turn. */
void dft_run_tasks(const dft_tasks *tasks, int lists, int threads);

#endif
