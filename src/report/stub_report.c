#include "dft/report.h"
#include <stdio.h>
#include <stdlib.h>
struct dft_report { int x; };
dft_status dft_report_open(const char *directory, int verbose, const dft_epoch *history, int history_count, int64_t step, dft_report **report) { (void)directory;(void)verbose;(void)history;(void)history_count;(void)step; *report=calloc(1,4); return DFT_OK; }
void dft_report_close(dft_report *r){free(r);}
int dft_report_verbose(const dft_report *r){(void)r;return 2;}
dft_status dft_report_start(dft_report *r, const dft_fact *f, int count){(void)r;for(int i=0;i<count;i++)printf("%s %s\n",f[i].key,f[i].value);return DFT_OK;}
void dft_report_phase(dft_report *r, const char *t){(void)r;printf("%s\n",t);}
void dft_report_epoch_begin(dft_report *r, int e, int n, int s){(void)r;printf("Epoch %d/%d (%d)\n",e,n,s);}
dft_status dft_report_step(dft_report *r, const dft_step_report *s){(void)r;(void)s;return DFT_OK;}
dft_status dft_report_epoch_end(dft_report *r, const dft_epoch *e, int steps, double seconds){(void)r;printf("%d - %.3fs %.2fms/step acc %.4f loss %.4f val %.4f %.4f\n",e->epoch,seconds,seconds/steps*1e3,e->accuracy,e->loss,e->val_accuracy,e->val_loss);return DFT_OK;}
void dft_report_progress(dft_report *r, const char *what, int64_t done, int64_t total){(void)r;(void)what;(void)done;(void)total;}
bool dft_stdout_is_terminal(void){return false;}
