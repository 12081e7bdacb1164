/* For clang's analyzer, which sees one file at a time: what fails does return the status it was given. */
#ifndef DFT_TESTS_LINT_ANALYZER_H
#define DFT_TESTS_LINT_ANALYZER_H

#include "dft/status.h"

#define dft_fail(code, ...)          ((void)(dft_fail)((code), __VA_ARGS__), (code))
#define dft_context(code, ...)       ((void)(dft_context)((code), __VA_ARGS__), (code))
#define dft_fail_memory(what, bytes) ((void)(dft_fail_memory)((what), (bytes)), DFT_EINTERNAL)

#endif
