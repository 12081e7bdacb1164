/* Checks for programs under mpirun: a failed one prints where and ends the whole job, so that no rank waits
 * for a failed one. */
#ifndef DFT_TEST_WORLD_H
#define DFT_TEST_WORLD_H

#include "dft/comm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static dft_comm *world;

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

#endif
