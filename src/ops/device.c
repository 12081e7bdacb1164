/* Finding the module of the GPU kernels, as decode.c finds that of libvips. */
#include "dft/device.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODULE "dft_cuda.so"

static const dft_module *module;
static char module_error[1024];

static const char *what_is_missing(const dft_module *m) {
  if (m == NULL || m->version != DFT_MODULE_VERSION) return "is of another version of dft";
  return m->devices() == 0 ? "sees no GPU, or the driver is too old for it" : NULL;
}

/* True when there is nothing more to try: it is loaded, or there but of no use. */
static bool try_module(const char *path) {
  if (access(path, R_OK) != 0) return false;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    snprintf(module_error, sizeof module_error, "%s", dlerror());
    return true;
  }
  dft_module_get get = NULL;
  void *symbol = dlsym(library, "dft_cuda_module");
  memcpy(&get, &symbol, sizeof get); /* ISO C has no cast from an object's to a function's address */
  const dft_module *found = get != NULL ? get(dft_fail) : NULL;
  const char *missing = what_is_missing(found);
  if (missing != NULL)
    snprintf(module_error, sizeof module_error, "%s %s", path, missing);
  else
    module = found;
  return true;
}

static void load_module(void) {
  static const char *const places[] = {"", "../", DFT_MODULE_FROM_BIN "/"};
  const char *named = getenv("DFT_CUDA_MODULE");
  if (named != NULL && *named != '\0') {
    if (!try_module(named)) snprintf(module_error, sizeof module_error, "%s: no such file", named);
    return;
  }
  /* The driver's (dxg: that of Windows, under WSL): without it the libraries are not worth loading. */
  if (access("/dev/nvidiactl", F_OK) != 0 && access("/dev/nvidia0", F_OK) != 0 &&
      access("/dev/dxg", F_OK) != 0) {
    snprintf(module_error, sizeof module_error, "this host has no NVIDIA driver");
    return;
  }
  char program[2048], path[4096];
  ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  if (length > 0) {
    program[length] = '\0';
    *(strrchr(program, '/') + 1) = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
      snprintf(path, sizeof path, "%s%s" MODULE, program, places[i]);
      if (try_module(path)) return;
    }
  }
  if (!try_module(DFT_MODULE_DIRECTORY "/" MODULE))
    snprintf(module_error, sizeof module_error, MODULE " is neither beside the program nor in %s",
             DFT_MODULE_DIRECTORY);
}

const dft_module *dft_device_module(const char **why) {
  static bool tried;
  if (!tried) load_module();
  tried = true;
  if (why != NULL) *why = module_error;
  return module;
}
