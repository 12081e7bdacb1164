/* What dft predict is given: arguments and standard input -> arrays and image files. */
#include "dft/data.h"
#include "dft/text.h"
#include "manifest.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void dft_inputs_free(dft_inputs *inputs) {
  free(inputs->text);
  *inputs = (dft_inputs){0};
}

static dft_status add_record(dft_inputs *inputs, char kind, const char *path) {
  size_t more = strlen(path) + 2;
  if (inputs->bytes + more > inputs->room) {
    size_t room = 2 * (inputs->bytes + more);
    char *bigger = realloc(inputs->text, room);
    if (bigger == NULL) return dft_fail_memory("list of files", room);
    inputs->text = bigger;
    inputs->room = room;
  }
  inputs->text[inputs->bytes] = kind;
  memcpy(inputs->text + inputs->bytes + 1, path, more - 1);
  inputs->bytes += more;
  inputs->count++;
  return DFT_OK;
}

/* npy, gzip, or idx: two zeros, a type, and as many dimensions as there can be. */
static bool is_array(const char *path) {
  unsigned char head[6] = {0};
  struct stat s;
  if (dft_ends_in(path, ".npy")) return true;
  if (stat(path, &s) != 0 || !S_ISREG(s.st_mode)) return false;
  FILE *f = fopen(path, "rb");
  if (f == NULL) return false;
  size_t have = fread(head, 1, sizeof head, f);
  (void)fclose(f);
  bool npy = have == 6 && memcmp(head, "\x93NUMPY", 6) == 0;
  bool gzip = have >= 2 && head[0] == 0x1f && head[1] == 0x8b;
  bool idx = have >= 4 && head[0] == 0 && head[1] == 0 && head[2] >= 8 && head[2] <= 14 && head[3] >= 1 &&
             head[3] <= 4;
  return npy || gzip || idx;
}

static dft_status add_folder(dft_inputs *inputs, const char *path) {
  dft_strings files = {0};
  char *root = strdup(path);
  if (root == NULL) return dft_fail_memory("path", strlen(path));
  for (size_t n = strlen(root); n > 1 && root[n - 1] == '/'; n--) root[n - 1] = '\0';
  dft_status status = dft_list_images(root, dft_share_alone(), &files);
  if (status == DFT_OK && files.count == 0)
    status = dft_fail(DFT_EDATA, "%s: no images in this folder", path);
  for (int64_t i = 0; i < files.count && status == DFT_OK; i++)
    status = add_record(inputs, DFT_INPUT_IMAGE, files.items[i]);
  dft_strings_free(&files);
  free(root);
  return status;
}

static dft_status add_path(dft_inputs *inputs, const char *path) {
  struct stat s;
  if (stat(path, &s) == 0 && S_ISDIR(s.st_mode)) return add_folder(inputs, path);
  return add_record(inputs, is_array(path) ? DFT_INPUT_ARRAY : DFT_INPUT_IMAGE, path);
}

static dft_status add_lines(dft_inputs *inputs) {
  char *line = NULL;
  size_t room = 0;
  ssize_t n;
  int64_t before = inputs->count;
  dft_status status = DFT_OK;
  while (status == DFT_OK && (n = getline(&line, &room, stdin)) >= 0) {
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = '\0';
    if (n > 0) status = add_path(inputs, line);
  }
  free(line);
  if (status == DFT_OK && ferror(stdin))
    return dft_fail(DFT_EIO, "standard input: cannot be read: %s", strerror(errno));
  if (status == DFT_OK && inputs->count == before)
    return dft_fail(DFT_EDATA, "standard input: no paths of images");
  return status;
}

dft_status dft_inputs_add(dft_inputs *inputs, const char *path) {
  return strcmp(path, "-") == 0 ? add_lines(inputs) : add_path(inputs, path);
}
