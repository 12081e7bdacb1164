/* Tar files: POSIX.1-2001 ustar and pax interchange format, GNU tar's long names and base-256 numbers, and
 * what was before them (https://www.gnu.org/software/tar/manual/html_node/Standard.html): read by tar.c,
 * member by member, and written by pack.c as ustar. A dft_tar is one thread's; not collective. */
#ifndef DFT_DATA_TAR_H
#define DFT_DATA_TAR_H

#include "manifest.h"

/* A header is one block; a member's bytes follow, filled up with zeros to whole blocks. */
enum { DFT_TAR_BLOCK_BYTES = 512 };
/* The fields of a header: where, how long. */
enum {
  DFT_TAR_NAME = 0,
  DFT_TAR_NAME_BYTES = 100,
  DFT_TAR_MODE = 100,
  DFT_TAR_OWNER = 108,
  DFT_TAR_GROUP = 116,
  DFT_TAR_SIZE = 124,
  DFT_TAR_SIZE_BYTES = 12,
  DFT_TAR_TIME = 136,
  DFT_TAR_CHECKSUM = 148,
  DFT_TAR_CHECKSUM_BYTES = 8,
  DFT_TAR_TYPE = 156,
  DFT_TAR_MAGIC = 257,
  DFT_TAR_VERSION = 263,
  DFT_TAR_PREFIX = 345,
  DFT_TAR_PREFIX_BYTES = 155
};

enum { DFT_TAR_WINDOW_BYTES = 4096 };

typedef struct dft_tar {
  const char *path; /* borrowed */
  int fd;
  int64_t file_bytes, at; /* the next header */
  int64_t window_at, window_bytes;
  uint8_t window[DFT_TAR_WINDOW_BYTES];
} dft_tar;

typedef struct dft_member {
  char name[DFT_PATH_BYTES];
  int64_t offset, bytes; /* inside the file */
  bool regular, link;    /* neither: a directory, a device, ... */
} dft_member;

/* ustar, pax, GNU and old tar files. Not a tar, packed (gzip, zstd, ...), damaged, truncated: DFT_EDATA. */
dft_status dft_tar_open(dft_tar *t, const char *path);
dft_status dft_tar_next(dft_tar *t, dft_member *m, bool *end); /* *end: no more, *m is not set */
/* `bytes` bytes from `offset`, which lie inside the file. */
dft_status dft_tar_read(dft_tar *t, int64_t offset, int64_t bytes, void *to);
void dft_tar_close(dft_tar *t);

#endif
