#include "page.h"
#include "html.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dft_page {
  char title[PATH_MAX], path[PATH_MAX];
  dft_fact *facts;
  int fact_count;
  dft_epoch *epochs;
  int epoch_count;
};

static void free_facts(dft_page *p) {
  for (int i = 0; i < p->fact_count; i++) {
    free((char *)p->facts[i].key);
    free((char *)p->facts[i].value);
  }
  free(p->facts);
  p->facts = NULL;
  p->fact_count = 0;
}

static dft_status keep_epoch(dft_page *p, const dft_epoch *epoch) {
  dft_epoch *grown = realloc(p->epochs, (size_t)(p->epoch_count + 1) * sizeof *grown);
  if (grown == NULL) return dft_fail_memory(p->path, 0);
  p->epochs = grown;
  dft_epoch *last = &grown[p->epoch_count];
  *last = *epoch;
  last->phase = strdup(epoch->phase);
  if (last->phase == NULL) return dft_fail_memory(p->path, 0);
  p->epoch_count++;
  return DFT_OK;
}

static dft_status write_page(const dft_page *p) {
  return dft_page_write(p->path, p->title, p->facts, p->fact_count, p->epochs, p->epoch_count);
}

dft_status dft_page_open(const char *directory, const dft_epoch *history, int count, dft_page **page) {
  *page = NULL;
  dft_page *p = calloc(1, sizeof *p);
  if (p == NULL) return dft_fail_memory("report.html", sizeof *p);
  snprintf(p->title, sizeof p->title, "%s", directory);
  int length = snprintf(p->path, sizeof p->path, "%s/report.html", directory);
  dft_status status = DFT_OK;
  if (length < 0 || (size_t)length >= sizeof p->path)
    status = dft_fail(DFT_EIO, "%s/report.html: cannot write: %s", directory, strerror(ENAMETOOLONG));
  for (int i = 0; i < count && status == DFT_OK; i++) status = keep_epoch(p, &history[i]);
  if (status == DFT_OK)
    *page = p;
  else
    dft_page_close(p);
  return status;
}

dft_status dft_page_start(dft_page *p, const dft_fact *facts, int count) {
  free_facts(p);
  p->facts = calloc((size_t)count + 1, sizeof *p->facts);
  if (p->facts == NULL) return dft_fail_memory(p->path, 0);
  p->fact_count = count;
  for (int i = 0; i < count; i++) {
    p->facts[i] = (dft_fact){strdup(facts[i].key), strdup(facts[i].value), facts[i].raw};
    if (p->facts[i].key == NULL || p->facts[i].value == NULL) return dft_fail_memory(p->path, 0);
  }
  return write_page(p);
}

dft_status dft_page_epoch(dft_page *p, const dft_epoch *epoch) {
  DFT_TRY(keep_epoch(p, epoch));
  return write_page(p);
}

void dft_page_close(dft_page *p) {
  if (p == NULL) return;
  free_facts(p);
  for (int i = 0; i < p->epoch_count; i++) free(p->epochs[i].phase);
  free(p->epochs);
  free(p);
}
