/* Work on files from strangers by a library that may crash on them, done in a child process.
 *
 * libhdf5 decodes what a file says about itself without doubting it: version 1.10.8 crashes on some damaged
 * attributes. In a child, that is an error message instead of a lost run. The child is a fork without exec,
 * with one thread; it calls nothing of MPI or OpenMP. It may use half a minute of processor time, and 3 GiB
 * of memory beyond what it begins with. Any thread; not collective. */
#ifndef DFT_FORMATS_APART_H
#define DFT_FORMATS_APART_H

#include "dft/status.h"
#include <stdio.h>

/* What the child does: reads `path`, writes what it found to `out`. */
typedef dft_status dft_apart_work(const char *path, FILE *out);

/* Runs `work` apart. Its status and message become this call's; DFT_EDATA naming path and library when it
 * crashed or came to no end, DFT_EINTERNAL when somebody else killed it. With DFT_OK *found is what it wrote,
 * to be read from its start and closed. */
dft_status dft_apart(const char *path, const char *library, dft_apart_work *work, FILE **found);

#endif
