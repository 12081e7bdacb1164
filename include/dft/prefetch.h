/* Images read ahead: threads that decode what will be asked for next, so that nobody waits for it.
 *
 * The caller asks for images in the order in which it will take them, each with its turn, a number that never
 * falls. A taken image is the same bits as dft_dataset_view gives, whether it was asked for or not, was
 * ready, under way or not begun: then the thread that takes it decodes it itself. What was asked for and is
 * not taken is dropped when its turn has passed.
 *
 * Memory: `images` images of `floats` floats, each allocated when it is first needed; there is no other
 * queue. Threads are started by the first ask, block all signals, and call no MPI.
 *
 * Threads: dft_prefetch_take may be called from several at once; the rest from one, and not beside it. The
 * datasets must outlive the prefetch. Not collective. */
#ifndef DFT_PREFETCH_H
#define DFT_PREFETCH_H

#include "dft/data.h"

typedef struct dft_prefetch dft_prefetch;

/* DFT_EINTERNAL: no memory. */
dft_status dft_prefetch_open(int threads, int64_t images, int64_t floats, dft_prefetch **prefetch);
void dft_prefetch_close(dft_prefetch *p); /* waits for the images under way; NULL is fine */

bool dft_prefetch_full(dft_prefetch *p);
/* Asks for an image. Nothing happens when it is full. */
void dft_prefetch_ask(dft_prefetch *p, int64_t turn, const dft_dataset *data, int64_t sample, int64_t view,
                      const dft_mix *mix);
/* Drops what was asked for with an earlier turn. */
void dft_prefetch_turn(dft_prefetch *p, int64_t turn);
/* The image; waits for it. *mix (NULL: none) and errors are as dft_dataset_view's, raised on the calling
 * thread. */
dft_status dft_prefetch_take(dft_prefetch *p, const dft_dataset *data, int64_t sample, int64_t view,
                             dft_mix *mix, float *out);
/* Images taken so far that had been asked for and could be read. */
int64_t dft_prefetch_hits(const dft_prefetch *p);

#endif
