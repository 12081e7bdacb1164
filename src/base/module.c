#include "dft/module.h"
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool dft_module_is_named(const char *variable) {
  const char *path = getenv(variable);
  return path != NULL && *path != '\0';
}

/* The first that is there; false: none is. */
static bool find(const char *file, char *path, size_t bytes) {
  static const char *const places[] = {"", "../", DFT_MODULE_FROM_BIN "/"};
  char program[2048];
  ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  if (length > 0) {
    program[length] = '\0';
    *(strrchr(program, '/') + 1) = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
      snprintf(path, bytes, "%s%s%s", program, places[i], file);
      if (access(path, R_OK) == 0) return true;
    }
  }
  snprintf(path, bytes, "%s/%s", DFT_MODULE_DIRECTORY, file);
  return access(path, R_OK) == 0;
}

bool dft_module_load(const char *file, const char *variable, const char *symbol, void **address,
                     char text[DFT_MODULE_TEXT_BYTES]) {
  char path[4096];
  *address = NULL;
  if (dft_module_is_named(variable)) {
    snprintf(path, sizeof path, "%s", getenv(variable));
    if (access(path, R_OK) != 0) {
      snprintf(text, DFT_MODULE_TEXT_BYTES, "%s: no such file", path);
      return false;
    }
  } else if (!find(file, path, sizeof path)) {
    snprintf(text, DFT_MODULE_TEXT_BYTES, "%s is neither beside the program nor in %s", file,
             DFT_MODULE_DIRECTORY);
    return false;
  }
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  snprintf(text, DFT_MODULE_TEXT_BYTES, "%s", library != NULL ? path : dlerror());
  if (library != NULL) *address = dlsym(library, symbol);
  return library != NULL;
}

static void load_once(dft_module *m) {
  char text[DFT_MODULE_TEXT_BYTES];
  void *address;
  const bool loaded = dft_module_load(m->file, m->variable, m->symbol, &address, text);
  m->object = address;
  snprintf(m->error, sizeof m->error, loaded ? "%s: of another version of dft" : "%s", text);
}

dft_status dft_module_need(dft_module *m, const char *name, const char *what) {
  pthread_mutex_lock(&m->lock);
  if (!m->tried) load_once(m);
  m->tried = true;
  pthread_mutex_unlock(&m->lock);
  if (m->object != NULL) return DFT_OK;
  return dft_fail(
      DFT_EINTERNAL,
      "%s: %s needs %s, and its module cannot be loaded: %s; install %s, or set %s to the path of "
      "%s",
      name, what, m->library, m->error, m->package, m->variable, m->file);
}
