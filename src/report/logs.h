/* The two log files of a run: their lines, and cutting them back to a state. Errors: DFT_EIO by file. */
#ifndef DFT_REPORT_LOGS_H
#define DFT_REPORT_LOGS_H

#include "dft/report.h"
#include <stdio.h>

/* Writes history.csv anew from the epochs of a state. */
dft_status dft_history_rewrite(const char *path, const dft_epoch *history, int count);
void dft_history_line(FILE *out, const dft_epoch *epoch);

/* Rewrites log.jsonl without the steps and epochs past the state, and without a torn line. A missing file is
 * fine. */
dft_status dft_log_cut(const char *path, int epochs, int64_t step);
void dft_log_start(FILE *out, const dft_fact *facts, int count);
void dft_log_step(FILE *out, const dft_step_report *step);
void dft_log_epoch(FILE *out, const dft_epoch *epoch, double seconds, dft_epoch_work work);

#endif
