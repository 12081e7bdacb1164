/* How every function of dft fails.
 *
 * A function that can fail returns a dft_status. DFT_OK is 0; any other value is also the process' exit code
 * (design section 4). The one-line explanation travels beside it in a per-thread buffer: dft_fail() writes it
 * where the error is found, dft_context() puts words before it on the way up, dft_error() reads it at the
 * top. Library code never prints errors, never exits and never aborts, but for comm/, which ends a rank that
 * MPI does not let go.
 *
 * A message names the file, key or layer, says what is wrong, and what to do: "configs/a.yaml:12: unknown key
 * 'epoch', did you mean 'epochs'?". It has no control characters, newlines among them (they are replaced), no
 * trailing full stop, and less than DFT_MESSAGE_BYTES bytes.
 *
 * Threads: the buffer is per thread; errors are raised on the thread that returns them. Not collective.
 */
#ifndef DFT_STATUS_H
#define DFT_STATUS_H

enum { DFT_MESSAGE_BYTES = 2048 }; /* with its end */

typedef enum dft_status {
  DFT_OK = 0,
  DFT_EINTERNAL = 1,   /* out of memory, a library that cannot be loaded, or a defect in dft */
  DFT_EUSAGE = 2,      /* command line or config */
  DFT_EDATA = 65,      /* bad or missing data, weights or checkpoint */
  DFT_ENONFINITE = 70, /* the loss or a gradient is not finite */
  DFT_EIO = 74,        /* cannot read or write */
  DFT_ESTOPPED = 75,   /* stopped by a signal, checkpoint written */
  DFT_EPEER = 76       /* a peer was lost or made no progress */
} dft_status;

/* Records the message and returns `code`. */
dft_status dft_fail(dft_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "words: " before the recorded message and returns `code`; does nothing when code is DFT_OK. */
dft_status dft_context(dft_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The message recorded last on this thread; "" if none. Valid until the next dft_fail on this thread. */
const char *dft_error(void);

/* DFT_EINTERNAL with "out of memory (what, bytes)". */
dft_status dft_fail_memory(const char *what, unsigned long long bytes);

/* Hands an error to the caller. */
#define DFT_TRY(call)                                                                                        \
  do {                                                                                                       \
    dft_status dft_try_ = (call);                                                                            \
    if (dft_try_ != DFT_OK) return dft_try_;                                                                 \
  } while (0)

/* Hands an error to the cleanup at `label`; `status` is the function's variable. */
#define DFT_TRY_TO(status, call, label)                                                                      \
  do {                                                                                                       \
    (status) = (call);                                                                                       \
    if ((status) != DFT_OK) goto label;                                                                      \
  } while (0)

#endif
