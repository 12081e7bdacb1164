#include "keras.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { HEAD_BYTES = 16 };

/* Its length comes first, less than 16 MiB; then its brace. */
static bool begins_safetensors(const char head[HEAD_BYTES]) {
  return memcmp(head + 3, "\0\0\0\0\0{", 6) == 0;
}

/* ModelProto's ir_version (field 1, a small number), then the tag of a text or message (fields 2 to 14) or of
 * the number model_version (5). */
static bool begins_onnx(const char head[HEAD_BYTES]) {
  const bool part = (head[2] & 7) == 2 && head[2] >= 2 << 3 && head[2] <= 14 << 3;
  return head[0] == 0x08 && head[1] >= 1 && head[1] <= 64 && (part || head[2] == 5 << 3);
}

dft_status dft_file_sniff(const char *path, dft_file_kind *kind) {
  static const char hdf5[] = "\x89HDF\r\n\x1a\n"; /* HDF5 file format specification, superblock signature */
  static const char checkpoint[] = "\x0a\x0e"     /* field 1, a string of 14 bytes: proto/dft.proto */
                                   "dft.Checkpoint";
  *kind = DFT_FILE_UNKNOWN;
  struct stat info;
  if (stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
    return dft_fail(DFT_EDATA, "%s: not a regular file", path); /* a pipe would keep fopen waiting */
  FILE *f = fopen(path, "rbe");
  if (!f)
    return dft_fail(errno == ENOENT || errno == ENOTDIR ? DFT_EDATA : DFT_EIO, "%s: cannot read: %s", path,
                    strerror(errno));
  char head[HEAD_BYTES] = {0};
  fread(head, 1, sizeof head, f); /* a short file leaves zeros */
  int failed = ferror(f), reason = errno;
  fclose(f);
  if (failed)
    return dft_fail(reason == EISDIR ? DFT_EDATA : DFT_EIO, "%s: cannot read: %s", path, strerror(reason));
  if (memcmp(head, hdf5, sizeof hdf5 - 1) == 0) return dft_keras_sniff(path, kind);
  if (memcmp(head, checkpoint, sizeof checkpoint - 1) == 0)
    *kind = DFT_FILE_CHECKPOINT;
  else if (begins_safetensors(head))
    *kind = DFT_FILE_SAFETENSORS;
  else if (begins_onnx(head))
    *kind = DFT_FILE_ONNX;
  return DFT_OK;
}
