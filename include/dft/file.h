/* Files that are there whole or not at all, and are read whole.
 *
 * Written to a temporary name in the same directory, fsync, rename, fsync of the directory. On failure the
 * temporary file is removed and what was there before stays. Errors: DFT_EIO naming the path and the reason.
 * Not collective; any thread. */
#ifndef DFT_FILE_H
#define DFT_FILE_H

#include "dft/status.h"
#include <stdbool.h>
#include <stddef.h>

/* End of the names under which files are written before their rename; the process id stands before it. What a
 * killed run left behind is removed when its directory is opened again. */
#define DFT_TEMPORARY_SUFFIX ".dft-tmp"

dft_status dft_write_file(const char *path, const void *data, size_t bytes);
/* As dft_write_file, without fsync: nobody waits for the disk, but a machine that stops may leave an old or
 * empty file. For what is made anew from files that last. */
dft_status dft_replace_file(const char *path, const void *data, size_t bytes);

/* Brings the new name of a renamed file to the disk. File systems that cannot are fine. */
dft_status dft_sync_rename(const char *path);

/* All bytes of a file, released by free(). DFT_EDATA when it is missing, no regular file or of more bytes
 * than `most`. */
dft_status dft_read_file(const char *path, size_t most, unsigned char **bytes, size_t *count);

/* What a user named for a command to write: like dft_write_file, but a device, a pipe or anything below /dev
 * is written to where it is, never replaced. */
dft_status dft_write_result(const char *path, const void *data, size_t bytes);

/* Whether dft_write_result may write there, asked before the work whose result it will be. */
dft_status dft_try_result(const char *path);

/* dft_write_file piece by piece: nothing has the name until dft_output_close, which tells of every failure
 * and releases the output. `bytes`, for the message: what the file will have. */
typedef struct dft_output dft_output;
dft_status dft_output_open(const char *path, size_t bytes, dft_output **output);
void dft_output_add(dft_output *output, const void *data, size_t bytes);
dft_status dft_output_close(dft_output *output);

/* Gives the file `from` the name `to` as well, in place of what had it, like dft_write_file all or nothing.
 * Both are in one directory. DFT_EIO where the file system has no second names, too. */
dft_status dft_link_file(const char *from, const char *to);

/* Creates a directory and those above it, where missing. `what` names it in the message ("run directory").
 */
dft_status dft_make_directories(const char *directory, const char *what);

/* Whether `path`, which need not exist yet, is or would be `folder` or below it, links followed; not where it
 * is in a hidden directory of it, nor where that cannot be told. */
bool dft_is_inside(const char *path, const char *folder);

#endif
