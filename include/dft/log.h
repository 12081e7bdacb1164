/* Lines for people on standard error: "dft: ...". Only the process that was told it is rank 0 prints notes;
 * warnings and errors print everywhere, with the rank before them when there are several.
 * Threads: any. Not collective. */
#ifndef DFT_LOG_H
#define DFT_LOG_H

#include <stdbool.h>

/* Called once after the communicator is up. Before that, rank 0 of 1 is assumed. */
void dft_log_identity(int rank, int ranks);
/* verbose 0 silences notes; warnings and errors always print. */
void dft_log_verbose(int verbose);

void dft_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void dft_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Shows how far a long task is, on one line of standard error, if that is a terminal: each call replaces the
 * line, at most five times a second. For one thread. */
void dft_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void dft_progress_end(void); /* clears the line: before anything else is printed */
void dft_print_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether the last line of standard output, on a terminal, is a bar that is yet to be drawn again: lines that
 * go to a terminal then clear it first. Told before the bar is written, and after the newline that ends it.
 */
void dft_log_over_bar(bool drawn);

#endif
