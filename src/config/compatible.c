#include "keys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One "key=value" line; not terminated. */
typedef struct line {
  const char *key, *value;
  int key_bytes, value_bytes;
} line;

/* Takes the next line off *text; false at the end. A line without '=' is all key. */
static bool next_line(const char **text, line *l) {
  while (**text == '\n') ++*text;
  if (**text == '\0') return false;
  int bytes = (int)strcspn(*text, "\n");
  const char *equals = memchr(*text, '=', (size_t)bytes);
  l->key = *text;
  l->key_bytes = equals ? (int)(equals - *text) : bytes;
  l->value = equals ? equals + 1 : *text + bytes;
  l->value_bytes = (int)(*text + bytes - l->value);
  *text += bytes;
  return true;
}

static bool find_line(const char *text, const line *wanted, line *found) {
  while (next_line(&text, found))
    if (found->key_bytes == wanted->key_bytes &&
        memcmp(found->key, wanted->key, (size_t)wanted->key_bytes) == 0)
      return true;
  return false;
}

/* The phase whose key this is, and where the rest of the path begins; -1 when it is no phase's. */
static int phase_of(const line *l, const char **rest) {
  char key[DFT_KEY_PATH_BYTES];
  int phase = -1, used = 0;
  snprintf(key, sizeof key, "%.*s", l->key_bytes, l->key);
  if (sscanf(key, "phases.%9d.%n", &phase, &used) != 1 || used == 0) return -1;
  *rest = l->key + used;
  return phase;
}

static int phases_in(const char *lines) {
  int count = 0;
  line l;
  while (next_line(&lines, &l)) {
    const char *rest = NULL;
    int phase = phase_of(&l, &rest);
    if (phase >= count) count = phase + 1;
  }
  return count;
}

/* More epochs in a phase that is not over yet. */
static bool is_longer(const line *ours, const line *theirs, int current) {
  const char *rest = NULL;
  int phase = phase_of(ours, &rest);
  if (phase < current || ours->key + ours->key_bytes - rest != 6 || memcmp(rest, "epochs", 6) != 0)
    return false;
  return strtol(ours->value, NULL, 10) > strtol(theirs->value, NULL, 10);
}

static void print_difference(FILE *out, const line *key, const line *theirs, const line *ours) {
  fprintf(out, "%s%.*s (checkpoint %.*s, now %.*s)", ftell(out) > 0 ? ", " : "", key->key_bytes, key->key,
          theirs ? theirs->value_bytes : 4, theirs ? theirs->value : "none", ours ? ours->value_bytes : 4,
          ours ? ours->value : "none");
}

/* Writes each difference that matters. */
static void compare(FILE *out, const char *ours, const char *theirs, int current) {
  line a, b;
  int old_phases = phases_in(theirs);
  for (const char *text = ours; next_line(&text, &a);) {
    const char *rest = NULL;
    if (!find_line(theirs, &a, &b)) {
      if (phase_of(&a, &rest) < old_phases) print_difference(out, &a, NULL, &a);
    } else if ((a.value_bytes != b.value_bytes || memcmp(a.value, b.value, (size_t)a.value_bytes) != 0) &&
               !is_longer(&a, &b, current)) {
      print_difference(out, &a, &b, &a);
    }
  }
  for (const char *text = theirs; next_line(&text, &b);)
    if (!find_line(ours, &b, &a)) print_difference(out, &b, &b, NULL);
}

dft_status dft_config_compatible(const dft_config *config, const char *checkpoint_lines, int phase) {
  char *ours = NULL, *differences = NULL;
  size_t bytes = 0;
  DFT_TRY(dft_config_deciding(config, &ours));
  FILE *out = open_memstream(&differences, &bytes);
  if (out == NULL) {
    free(ours);
    return dft_fail_memory("config text", 0);
  }
  compare(out, ours, checkpoint_lines, phase);
  dft_status status = DFT_OK;
  if (fclose(out) != 0)
    status = dft_fail_memory("config text", bytes);
  else if (bytes > 0)
    status =
        dft_fail(DFT_EUSAGE,
                 "the config differs from the checkpoint's in what decides the result: %.1200s; "
                 "set it back, or start anew in another run_dir (its model.weights may be this checkpoint)",
                 differences);
  free(differences);
  free(ours);
  return status;
}
