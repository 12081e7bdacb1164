/* Checks for programs under mpirun: a failed one prints where and ends the whole job, so that no rank waits
 * for a failed one. */
#ifndef DFT_TEST_WORLD_H
#define DFT_TEST_WORLD_H

#include "dft/comm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static dft_comm *world;
static int rank, size;

#define CHECK(condition, ...)                                                                                \
  do {                                                                                                       \
    if (condition) break;                                                                                    \
    fprintf(stderr, "%s:%d: rank %d: %s: ", __FILE__, __LINE__, dft_comm_rank(world), #condition);           \
    fprintf(stderr, "" __VA_ARGS__);                                                                         \
    fprintf(stderr, " [%s]\n", dft_error());                                                                 \
    dft_comm_abort(world, 1);                                                                                \
    exit(1);                                                                                                 \
  } while (0)

#define OK(call) CHECK((call) == DFT_OK, " ")

static void open_world(double timeout_s) {
  if (dft_comm_open(&world) != DFT_OK) {
    fprintf(stderr, "dft: %s\n", dft_error());
    exit(2);
  }
  rank = dft_comm_rank(world);
  size = dft_comm_size(world);
  dft_comm_set_timeout(world, timeout_s);
}

#endif
