#include "keys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Prints one "key: value" line, and before it the mappings it is the first key of. `before` is the path of
 * the line above. In a phase, the first line begins with "- ". */
static void print_line(FILE *out, const char *before, const char *path, bool phase, const char *value) {
  size_t shared = 0; /* length of the mappings that both paths are in */
  for (size_t i = 0; path[i] != '\0' && path[i] == before[i]; i++)
    if (path[i] == '.') shared = i + 1;
  const char *rest = path + shared;
  int depth = 0;
  for (size_t i = 0; i < shared; i++) depth += path[i] == '.';
  for (;; depth++) {
    bool starts_phase = phase && before[0] == '\0' && rest == path;
    fprintf(out, "%s%*s", starts_phase ? "  - " : phase ? "    " : "", 2 * depth, "");
    size_t n = strcspn(rest, ".");
    if (rest[n] == '\0') break;
    fprintf(out, "%.*s:\n", (int)n, rest);
    rest += n + 1;
  }
  fprintf(out, "%s: %s\n", rest, value);
}

/* Whether the key's value is worth a line: not those of an absent validation set. */
static bool is_present(const dft_key *key, const dft_config *c) {
  return c->data.validation.present || strncmp(key->path, "data.validation.", 16) != 0;
}

static dft_status print_keys(FILE *out, const dft_config *c, int phase) {
  const char *before = "";
  for (int i = 0; i < dft_key_count; i++) {
    const dft_key *key = &dft_keys[i];
    if (key->phase != (phase >= 0) || !dft_key_applies(key, c, phase) || !is_present(key, c)) continue;
    char *value = NULL;
    DFT_TRY(dft_value_format(key, DFT_VALUE_YAML, dft_key_field(key, c, phase),
                             dft_key_count_field(key, c, phase), &value));
    if (value == NULL) continue;
    print_line(out, before, key->path, phase >= 0, value);
    before = key->path;
    free(value);
  }
  return DFT_OK;
}

dft_status dft_config_write(const dft_config *config, char **yaml) {
  size_t bytes = 0;
  *yaml = NULL;
  FILE *out = open_memstream(yaml, &bytes);
  if (out == NULL) return dft_fail_memory("config text", 0);
  dft_status status = print_keys(out, config, -1);
  fputs("phases:\n", out);
  for (int i = 0; i < config->phase_count && status == DFT_OK; i++) status = print_keys(out, config, i);
  if (fclose(out) != 0 && status == DFT_OK) status = dft_fail_memory("config text", bytes);
  if (status != DFT_OK) {
    free(*yaml);
    *yaml = NULL;
  }
  return status;
}

/* Of a path only whether there is one counts: the data's fingerprint and the weights themselves speak for
 * what is in the file. */
static dft_status deciding_value(const dft_key *key, const dft_config *c, int phase, char **value) {
  DFT_TRY(dft_value_format(key, DFT_VALUE_DECIDING, dft_key_field(key, c, phase),
                           dft_key_count_field(key, c, phase), value));
  if (*value == NULL || key->type != DFT_KEY_PATH || dft_word_index(key->words, *value) >= 0) return DFT_OK;
  free(*value);
  *value = strdup("file");
  return *value ? DFT_OK : dft_fail_memory(key->path, 5);
}

static dft_status print_deciding(FILE *out, const dft_config *c, int phase) {
  for (int i = 0; i < dft_key_count; i++) {
    const dft_key *key = &dft_keys[i];
    if (!key->decides || key->phase != (phase >= 0) || !dft_key_applies(key, c, phase) || !is_present(key, c))
      continue;
    char *value = NULL, path[DFT_KEY_PATH_BYTES];
    DFT_TRY(deciding_value(key, c, phase, &value));
    if (value == NULL) continue;
    dft_key_path(key, phase, path);
    fprintf(out, "%s=%s\n", path, value);
    free(value);
  }
  return DFT_OK;
}

dft_status dft_config_deciding(const dft_config *config, char **lines) {
  size_t bytes = 0;
  *lines = NULL;
  FILE *out = open_memstream(lines, &bytes);
  if (out == NULL) return dft_fail_memory("config text", 0);
  dft_status status = print_deciding(out, config, -1);
  for (int i = 0; i < config->phase_count && status == DFT_OK; i++) status = print_deciding(out, config, i);
  if (fclose(out) != 0 && status == DFT_OK) status = dft_fail_memory("config text", bytes);
  if (status != DFT_OK) {
    free(*lines);
    *lines = NULL;
  }
  return status;
}
