/* report.html: the run on one page that needs nothing else, no script and no network. Errors: DFT_EIO by
 * file. */
#ifndef DFT_REPORT_HTML_H
#define DFT_REPORT_HTML_H

#include "dft/report.h"

/* Writes the page whole or not at all. Numbers that are not finite are left out of the plots. */
dft_status dft_page_write(const char *path, const char *title, const dft_fact *facts, int fact_count,
                          const dft_epoch *epochs, int epoch_count);

#endif
