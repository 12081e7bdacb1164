#include "keras.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

dft_status dft_file_sniff(const char *path, dft_file_kind *kind) {
  static const char hdf5[] = "\x89HDF\r\n\x1a\n"; /* HDF5 file format specification, superblock signature */
  static const char checkpoint[] = "\x0a\x0e"     /* field 1, a string of 14 bytes: proto/dft.proto */
                                   "dft.Checkpoint";
  *kind = DFT_FILE_UNKNOWN;
  FILE *f = fopen(path, "rbe");
  if (!f)
    return dft_fail(errno == ENOENT || errno == ENOTDIR ? DFT_EDATA : DFT_EIO, "%s: %s", path,
                    strerror(errno));
  char head[sizeof checkpoint - 1] = {0};
  fread(head, 1, sizeof head, f); /* a short file leaves zeros */
  int failed = ferror(f), reason = errno;
  fclose(f);
  if (failed) return dft_fail(DFT_EDATA, "%s: %s", path, strerror(reason));
  if (memcmp(head, checkpoint, sizeof checkpoint - 1) == 0) {
    *kind = DFT_FILE_CHECKPOINT;
    return DFT_OK;
  }
  if (memcmp(head, hdf5, sizeof hdf5 - 1) != 0) return DFT_OK;
  return dft_keras_sniff(path, kind);
}
