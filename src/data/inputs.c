/* What dft predict is given: arguments and standard input -> arrays and image files. */
#include "dft/data.h"
#include "dft/text.h"
#include "manifest.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TICK_MS = 1000 };

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

/* An npy file, a gzip file, or an idx file: two zero bytes, a type (8 to 14), 1 to 4 dimensions. */
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

static dft_status add_folder(dft_inputs *inputs, const char *path, const dft_share *share) {
  dft_strings files = {0};
  char *root = strdup(path);
  if (root == NULL) return dft_fail_memory("path", strlen(path));
  for (size_t n = strlen(root); n > 1 && root[n - 1] == '/'; n--) root[n - 1] = '\0';
  dft_status status = dft_list_images(root, share, &files);
  if (status == DFT_OK && files.count == 0)
    status = dft_fail(DFT_EDATA, "%s: no images in this folder", path);
  for (int64_t i = 0; i < files.count && status == DFT_OK; i++)
    status = add_record(inputs, DFT_INPUT_IMAGE, files.items[i]);
  dft_strings_free(&files);
  free(root);
  return status;
}

static dft_status add_path(dft_inputs *inputs, const char *path, const dft_share *share) {
  struct stat s;
  if (stat(path, &s) == 0 && S_ISDIR(s.st_mode)) return add_folder(inputs, path, share);
  return add_record(inputs, is_array(path) ? DFT_INPUT_ARRAY : DFT_INPUT_IMAGE, path);
}

/* Waits for standard input to have something, or its end; other ranks wait for this one meanwhile. */
static void await_input(const dft_share *share) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  do share->tick(share->context);
  while (poll(&input, 1, TICK_MS) == 0);
}

/* What separates the paths on standard input: newlines, or NUL bytes (find -print0) if one comes first. */
typedef enum separator { NOT_SEEN, NEWLINE, NUL } separator;

static separator first_separator(const char *text, size_t bytes) {
  const char *nul = memchr(text, '\0', bytes), *newline = memchr(text, '\n', bytes);
  if (nul == NULL && newline == NULL) return NOT_SEEN;
  return newline == NULL || (nul != NULL && nul < newline) ? NUL : NEWLINE;
}

/* A line of bytes [line, stop), which is followed by room for its end. */
static dft_status add_line(dft_inputs *inputs, char *line, char *stop, const dft_share *share) {
  if (memchr(line, '\0', (size_t)(stop - line)) != NULL)
    return dft_fail(DFT_EDATA, "standard input: a NUL byte in a list of lines; where NUL bytes separate the "
                               "paths, the first must be one without a newline");
  while (stop > line && stop[-1] == '\r') stop--;
  *stop = '\0';
  return stop > line ? add_path(inputs, line, share) : DFT_OK;
}

/* Adds the whole paths of text[bytes], or with `end` all of it; returns the bytes that it has taken. */
static size_t add_text(dft_inputs *inputs, char *text, size_t bytes, separator by, bool end,
                       const dft_share *share, dft_status *status) {
  size_t done = 0;
  while (*status == DFT_OK && done < bytes) {
    char *path = text + done, *stop = memchr(path, by == NUL ? '\0' : '\n', bytes - done);
    if (stop == NULL && !end) break;
    if (stop == NULL) stop = text + bytes;
    done = (size_t)(stop - text) + 1;
    *stop = '\0';
    if (by != NUL)
      *status = add_line(inputs, path, stop, share);
    else if (stop > path) /* all that stands there is the name */
      *status = add_path(inputs, path, share);
  }
  return done < bytes ? done : bytes;
}

static dft_status add_listed(dft_inputs *inputs, const dft_share *share) {
  enum { ROOM = 1 << 16 }; /* longer than any path */
  const int64_t before = inputs->count;
  char *text = malloc(ROOM + 1);
  if (text == NULL) return dft_fail_memory("standard input", ROOM);
  dft_status status = DFT_OK;
  separator by = NOT_SEEN;
  size_t have = 0;
  for (ssize_t n = 1; status == DFT_OK && n != 0;) {
    await_input(share);
    n = read(STDIN_FILENO, text + have, ROOM - have);
    if (n < 0 && errno != EINTR)
      status = dft_fail(DFT_EIO, "standard input: cannot be read: %s", strerror(errno));
    if (n < 0) continue;
    have += (size_t)n;
    if (by == NOT_SEEN) by = first_separator(text, have);
    const size_t done = add_text(inputs, text, have, by, n == 0, share, &status);
    memmove(text, text + done, have - done);
    have -= done;
    if (have == ROOM && status == DFT_OK)
      status = dft_fail(DFT_EDATA, "standard input: more than %d bytes without the end of %s are no path",
                        ROOM, by == NUL ? "a name (NUL)" : "a line");
  }
  free(text);
  if (status == DFT_OK && inputs->count == before)
    return dft_fail(DFT_EDATA, "standard input: no paths of images");
  return status;
}

dft_status dft_inputs_add(dft_inputs *inputs, const char *path, const dft_share *share) {
  return strcmp(path, "-") == 0 ? add_listed(inputs, share) : add_path(inputs, path, share);
}
