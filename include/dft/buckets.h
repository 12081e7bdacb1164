/* Which tensors travel together: gradients in the order in which backward makes them, packed into buckets of
 * about bucket_bytes, so that a bucket's exchange starts as soon as its last gradient is there and overlaps
 * with the rest of backward.
 *
 * `parted`, for a reducer on the host: each rank gets the totals of its part of every bucket only, which is
 * quicker; the ranks' parts are everything.
 *
 * A bucket is one buffer [nodes][count] (reduce.h). dft_buckets_at gives the place of a tensor within node 0;
 * node j lies `stride` floats further each. A hash over the plan lets all ranks check that they plan the
 * same. Ownership: the buckets own their buffers, which are in the memory of the reducer's device if it has
 * one. Main thread. ready and wait are collective in the sense of reduce.h.
 */
#ifndef DFT_BUCKETS_H
#define DFT_BUCKETS_H

#include "dft/reduce.h"

typedef struct dft_buckets dft_buckets;

dft_status dft_buckets_new(dft_reducer *reducer, int nodes, const int64_t *elements, int tensors,
                           int64_t bucket_bytes, bool parted, dft_buckets **buckets);
void dft_buckets_free(dft_buckets *b);

float *dft_buckets_at(const dft_buckets *b, int tensor, size_t *stride);
/* Tensor's gradient is complete here; starts its bucket's exchange when it is the last one, and advances the
 * others. */
dft_status dft_buckets_ready(dft_buckets *b, int tensor);
/* What of a tensor this rank gets the totals of, all of it unless the buckets are parted: so many elements
 * from *first on. */
int64_t dft_buckets_part(const dft_buckets *b, int tensor, int64_t *first);
/* Waits for all buckets; then dft_buckets_at's node 0 holds the totals (of this rank's part). Makes the
 * buckets ready for the next step. */
dft_status dft_buckets_wait(dft_buckets *b);
int64_t dft_buckets_bytes(const dft_buckets *b); /* of all buckets, one node: what a step exchanges */
uint64_t dft_buckets_hash(const dft_buckets *b);

#endif
