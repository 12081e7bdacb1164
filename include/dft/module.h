/* Modules: parts of dft in files of their own, loaded when they are needed, because of the libraries that
 * they bring along.
 *
 * A module is the file that its environment variable names. Where that names none, it is the first that is
 * there: beside the running program, in its ../ (a build's tests), in the library directory as it lies from
 * the program's, and in that of the configuration. It stays loaded. Any thread. Not collective.
 */
#ifndef DFT_MODULE_H
#define DFT_MODULE_H

#include <stdbool.h>

enum { DFT_MODULE_TEXT_BYTES = 1024 };

/* True when a file was loaded: `text` is its path, *address that of `symbol`, NULL if it has none. Else
 * `text` says why not. */
bool dft_module_load(const char *file, const char *variable, const char *symbol, void **address,
                     char text[DFT_MODULE_TEXT_BYTES]);
/* Whether the environment variable names a file. */
bool dft_module_is_named(const char *variable);

#endif
