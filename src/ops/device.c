#include "dft/device.h"
#include "dft/module.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char variable[] = "DFT_CUDA_MODULE";
static const dft_cuda_interface *module;
static char module_error[DFT_MODULE_TEXT_BYTES];

/* The driver's (dxg: that of Windows, under WSL): without it the libraries are not worth loading. */
static bool has_driver(void) {
  return access("/dev/nvidiactl", F_OK) == 0 || access("/dev/nvidia0", F_OK) == 0 ||
         access("/dev/dxg", F_OK) == 0;
}

static const char *what_is_missing(const dft_cuda_interface *m) {
  if (m == NULL || m->version != DFT_CUDA_INTERFACE_VERSION) return "is of another version of dft";
  return m->devices() == 0 ? "sees no GPU, or the driver is too old for it" : NULL;
}

static void load_module(void) {
  char text[DFT_MODULE_TEXT_BYTES];
  void *symbol;
  if (!dft_module_is_named(variable) && !has_driver()) {
    snprintf(module_error, sizeof module_error, "this host has no NVIDIA driver");
    return;
  }
  if (!dft_module_load("dft_cuda.so", variable, "dft_cuda_module", &symbol, text)) {
    snprintf(module_error, sizeof module_error, "%s", text);
    return;
  }
  dft_cuda_get get = NULL;
  memcpy(&get, &symbol, sizeof get); /* ISO C has no cast from an object's to a function's address */
  const dft_cuda_interface *found = get != NULL ? get(dft_fail) : NULL;
  const char *missing = what_is_missing(found);
  if (missing != NULL)
    snprintf(module_error, sizeof module_error, "%s %s", text, missing);
  else
    module = found;
}

const dft_cuda_interface *dft_device_module(const char **why) {
  static bool tried;
  if (!tried) load_module();
  tried = true;
  if (why != NULL) *why = module_error;
  return module;
}
