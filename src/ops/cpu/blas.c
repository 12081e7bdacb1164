#include "blas.h"
#include <dlfcn.h>
#include <stdlib.h>

__typeof__(cblas_sgemm) *dft_sgemm;

/* By its soname, else where it lay when dft was built. */
static void *open_library(void) {
  static const char *const names[] = {"libopenblas.so.0", DFT_OPENBLAS};
  void *library = NULL;
  for (size_t i = 0; i < sizeof names / sizeof *names && library == NULL; i++)
    library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  return library;
}

bool dft_blas_load(void) {
  if (dft_sgemm != NULL) return true;
  setenv("OPENBLAS_NUM_THREADS", "1", 1);
  void *library = open_library();
  if (library == NULL) return false;
  __typeof__(openblas_set_num_threads) *set_threads = NULL;
  *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
  *(void **)&dft_sgemm = dlsym(library, "cblas_sgemm");
  if (set_threads != NULL && dft_sgemm != NULL) {
    set_threads(1);
    return true;
  }
  dft_sgemm = NULL;
  dlclose(library);
  return false;
}
