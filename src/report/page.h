/* report.html while a run goes on: keeps what the page shows and writes it anew when that changes. */
#ifndef DFT_REPORT_PAGE_H
#define DFT_REPORT_PAGE_H

#include "dft/report.h"

typedef struct dft_page dft_page;

/* Writes nothing yet; history is copied. */
dft_status dft_page_open(const char *directory, const dft_epoch *history, int count, dft_page **page);
dft_status dft_page_start(dft_page *page, const dft_fact *facts, int count);
dft_status dft_page_epoch(dft_page *page, const dft_epoch *epoch);
void dft_page_close(dft_page *page); /* NULL is fine */

#endif
