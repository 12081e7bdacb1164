/* Modules: parts of dft in files of their own, loaded when they are needed, because of the libraries that
 * they bring along.
 *
 * A module is the file that its environment variable names. Where that names none, it is the first that is
 * there: beside the running program, in its ../ (a build's tests), in the library directory as it lies from
 * the program's, and in that of the configuration. It stays loaded. Any thread. Not collective.
 */
#ifndef DFT_MODULE_H
#define DFT_MODULE_H

#include "dft/status.h"
#include <pthread.h>
#include <stdbool.h>

enum { DFT_MODULE_TEXT_BYTES = 1024 };

/* True when a file was loaded: `text` is its path, *address that of `symbol`, NULL if it has none. Else
 * `text` says why not. */
bool dft_module_load(const char *file, const char *variable, const char *symbol, void **address,
                     char text[DFT_MODULE_TEXT_BYTES]);
/* Whether the environment variable names a file. */
bool dft_module_is_named(const char *variable);

/* A module that does what a library can, and the package that has the library. A static one, the rest zero;
 * loaded once, at first need. */
typedef struct dft_module {
  const char *file, *variable, *symbol, *library, *package;
  pthread_mutex_t lock;
  bool tried;
  const void *object; /* the symbol's address */
  char error[DFT_MODULE_TEXT_BYTES];
} dft_module;

/* Loads the module unless it is. DFT_EINTERNAL, with a message that begins with `name` and says that `what`
 * ("PNG") needs the library and how it is had, when it cannot be loaded. */
dft_status dft_module_need(dft_module *m, const char *name, const char *what);

#endif
