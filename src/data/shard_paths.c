/* Which tar files a path means: {0000..0127}, {a,b}, wildcards, a directory, a file. */
#include "manifest.h"
#include <ctype.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_SHARDS = 1000000, MAX_DIGITS = 9, MAX_BRACES = 16 };

/* ---- braces ---- */

typedef struct range {
  long first, last;
  int digits; /* at least so many */
} range;

static bool parse_end(const char *text, size_t bytes, long *value, int *digits) {
  if (bytes == 0 || bytes > MAX_DIGITS) return false;
  *value = 0;
  for (size_t i = 0; i < bytes; i++) {
    if (!isdigit((unsigned char)text[i])) return false;
    *value = *value * 10 + (text[i] - '0');
  }
  if (text[0] == '0' && bytes > 1 && (int)bytes > *digits) *digits = (int)bytes;
  return true;
}

/* The `bytes` bytes between braces. */
static bool parse_range(const char *text, size_t bytes, range *r) {
  const char *dots = memmem(text, bytes, "..", 2);
  *r = (range){0};
  if (dots == NULL) return false;
  size_t first = (size_t)(dots - text);
  return parse_end(text, first, &r->first, &r->digits) &&
         parse_end(dots + 2, bytes - first - 2, &r->last, &r->digits) && r->first <= r->last;
}

static dft_status expand(const char *pattern, const char *rest, const char *done, dft_strings *out);

/* One choice for the braces; what follows them is expanded in turn. */
static dft_status choose(const char *pattern, const char *rest, const char *done, size_t before,
                         const char *choice, dft_strings *out) {
  char *longer = NULL;
  if (asprintf(&longer, "%s%.*s%s", done, (int)before, rest, choice) < 0)
    return dft_fail_memory("shard name", 0);
  dft_status status = expand(pattern, strchr(rest + before, '}') + 1, longer, out);
  free(longer);
  return status;
}

static dft_status choose_number(const char *pattern, const char *rest, const char *done, size_t before,
                                range r, dft_strings *out) {
  for (long n = r.first; n <= r.last; n++) {
    char number[32];
    snprintf(number, sizeof number, "%0*ld", r.digits, n);
    DFT_TRY(choose(pattern, rest, done, before, number, out));
  }
  return DFT_OK;
}

static dft_status choose_word(const char *pattern, const char *rest, const char *done, size_t before,
                              dft_strings *out) {
  const char *word = rest + before + 1, *close = strchr(word, '}');
  while (word <= close) {
    size_t n = strcspn(word, ",}");
    char *text = strndup(word, n);
    if (text == NULL) return dft_fail_memory("shard name", n);
    dft_status status = choose(pattern, rest, done, before, text, out);
    free(text);
    DFT_TRY(status);
    word += n + 1;
  }
  return DFT_OK;
}

/* All names of `done` followed by `rest`, whose braces are open. */
static dft_status expand(const char *pattern, const char *rest, const char *done, dft_strings *out) {
  const char *open = strchr(rest, '{'), *close = open != NULL ? strchr(open, '}') : NULL;
  if (out->count >= MAX_SHARDS) return dft_fail(DFT_EDATA, "%s: more than %d shards", pattern, MAX_SHARDS);
  if (open == NULL) {
    char *name = NULL;
    return dft_strings_take(out, asprintf(&name, "%s%s", done, rest) < 0 ? NULL : name);
  }
  size_t inside = close != NULL ? (size_t)(close - open - 1) : 0, before = (size_t)(open - rest);
  range r;
  if (close != NULL && parse_range(open + 1, inside, &r))
    return choose_number(pattern, rest, done, before, r, out);
  if (close != NULL && memchr(open + 1, ',', inside) != NULL && memchr(open + 1, '{', inside) == NULL)
    return choose_word(pattern, rest, done, before, out);
  return dft_fail(DFT_EDATA, "%s: braces hold a range as in {0000..0127} or words as in {a,b}", pattern);
}

/* Each pair of braces multiplies the names and is a step of recursion. */
static dft_status expand_all(const char *pattern, dft_strings *out) {
  int braces = 0;
  for (const char *p = pattern; *p != '\0'; p++) braces += *p == '{';
  if (strlen(pattern) >= DFT_PATH_BYTES)
    return dft_fail(DFT_EDATA, "%.100s...: longer than a path can be", pattern);
  if (braces > MAX_BRACES) return dft_fail(DFT_EDATA, "%.200s: more than %d braces", pattern, MAX_BRACES);
  return expand(pattern, pattern, "", out);
}

/* ---- files ---- */

static dft_status match(const char *pattern, dft_strings *out) {
  glob_t found;
  int64_t from = out->count;
  int code = glob(pattern, GLOB_NOSORT, NULL, &found);
  dft_status status = DFT_OK;
  if (code == GLOB_NOMATCH || code == GLOB_ABORTED)
    status = dft_fail(DFT_EDATA, "%s: no file fits this pattern", pattern);
  else if (code != 0)
    return dft_fail_memory("shard names", 0);
  for (size_t i = 0; status == DFT_OK && i < found.gl_pathc; i++)
    status = dft_strings_join(out, "", found.gl_pathv[i]);
  globfree(&found);
  dft_strings_sort(out, from, NULL); /* not by the locale */
  return status;
}

static dft_status match_directory(const char *path, dft_strings *out) {
  char *pattern = NULL, *escaped = malloc(2 * strlen(path) + 1);
  if (escaped == NULL) return dft_fail_memory("path", 0);
  size_t n = 0;
  for (const char *p = path; *p != '\0'; p++) {
    if (strchr("*?[]\\", *p) != NULL) escaped[n++] = '\\';
    escaped[n++] = *p;
  }
  escaped[n] = '\0';
  dft_status status = asprintf(&pattern, "%s/*.tar", escaped) < 0 ? dft_fail_memory("path", n) : DFT_OK;
  free(escaped);
  if (status != DFT_OK) return status;
  status = match(pattern, out);
  if (status == DFT_EDATA) status = dft_fail(DFT_EDATA, "%s: no .tar files in this directory", path);
  free(pattern);
  return status;
}

/* A path without braces. What is there by that very name is meant. */
static dft_status find_files(const char *path, dft_strings *out) {
  struct stat s;
  if (stat(path, &s) == 0 && S_ISDIR(s.st_mode)) return match_directory(path, out);
  if (access(path, F_OK) != 0 && strpbrk(path, "*?[") != NULL) return match(path, out);
  return dft_strings_join(out, "", path);
}

dft_status dft_shard_paths(const char *path, dft_strings *paths) {
  dft_strings expanded = {0};
  struct stat s;
  *paths = (dft_strings){0};
  dft_status status =
      stat(path, &s) == 0 ? dft_strings_join(&expanded, "", path) : expand_all(path, &expanded);
  for (int64_t i = 0; i < expanded.count && status == DFT_OK; i++)
    status = find_files(expanded.items[i], paths);
  dft_strings_free(&expanded);
  if (status != DFT_OK) dft_strings_free(paths);
  return status;
}
