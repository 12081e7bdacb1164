/* When this process does what: spans of time, kept in memory and told as events of Chrome's trace format
 * ("Trace Event Format", chromium.org), which ui.perfetto.dev and chrome://tracing show.
 *
 * Spans of DFT_TRACE_WORK are the main thread's and lie within each other; those of DFT_TRACE_EXCHANGE go on
 * beside it and may overlap; their end is when this process notices it. While nothing is traced a span costs
 * the reading of a variable. Names are not copied: they must live until the trace is told. One trace at a
 * time. Main thread. Not collective.
 */
#ifndef DFT_TRACE_H
#define DFT_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dft_trace_track { DFT_TRACE_WORK, DFT_TRACE_EXCHANGE } dft_trace_track;

/* From now on spans are kept; time counts from here. */
void dft_trace_open(void);
/* Ends the trace and forgets it. Without one, nothing. */
void dft_trace_close(void);

/* Seconds since the trace was opened; -1 while nothing is traced. */
double dft_trace_begin(void);
/* A span from `begin_s`, which dft_trace_begin gave, until now; nothing when that is -1. `number` is told
 * beside the name: of work, which one it is (-1: nothing), of an exchange, its bytes. What memory has no room
 * for is left out. */
void dft_trace_end(dft_trace_track track, const char *name, int64_t number, double begin_s);

/* The spans as JSON objects with commas between them, of process number `process` called `name`. Released by
 * free(); NULL when memory is short. *left_out is the number of spans there was no room for. */
char *dft_trace_json(int process, const char *name, size_t *bytes, int64_t *left_out);

#endif
