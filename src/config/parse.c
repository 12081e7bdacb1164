#include "keys.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 1 << 20 };

/* A config and the arena that all its strings and arrays are in. */
typedef struct owned_config {
  dft_config config; /* first: what the caller sees */
  dft_arena *arena;
} owned_config;

typedef struct reading {
  const char *file;
  dft_arena *arena;   /* the config's */
  dft_arena *scratch; /* the tree's */
  dft_node *root;
  dft_config *config;
} reading;

dft_status dft_config_read(const char *path, char **text) {
  *text = NULL;
  FILE *in = fopen(path, "re");
  if (in == NULL)
    return dft_fail(DFT_EUSAGE, "cannot read config %s: %s%s", path, strerror(errno),
                    strpbrk(path, "./") == NULL ? " (dft --help lists the commands)" : "");
  char *buffer = malloc(MAX_CONFIG_BYTES + 1);
  if (buffer == NULL) {
    fclose(in);
    return dft_fail_memory("config file", MAX_CONFIG_BYTES);
  }
  errno = 0;
  size_t bytes = fread(buffer, 1, MAX_CONFIG_BYTES, in);
  int problem = ferror(in) ? errno : 0;
  bool whole = fgetc(in) == EOF;
  fclose(in);
  buffer[bytes] = '\0';
  dft_status status = DFT_OK;
  if (problem != 0)
    status = dft_fail(DFT_EUSAGE, "cannot read config %s: %s", path, strerror(problem));
  else if (!whole || strlen(buffer) != bytes)
    status =
        dft_fail(DFT_EUSAGE, "%s: not a config: %s", path, whole ? "a zero byte in it" : "larger than 1 MiB");
  if (status != DFT_OK) {
    free(buffer);
    return status;
  }
  *text = buffer;
  return DFT_OK;
}

typedef enum { NOT_KNOWN, IS_KEY, IS_MAPPING } known_as;

static known_as look_up(const char *general_path) {
  char known[DFT_KEY_PATH_BYTES];
  size_t n = strlen(general_path);
  for (int i = 0; i < dft_key_count; i++) {
    dft_key_path(&dft_keys[i], -1, known);
    if (strcmp(known, general_path) == 0) return IS_KEY;
    if (strncmp(known, general_path, n) == 0 && known[n] == '.') return IS_MAPPING;
  }
  return NOT_KNOWN;
}

/* Every key below `mapping` must be in the table. `shown` is the path in messages (phases.0.epochs),
 * `general` the one in the table (phases.N.epochs). */
static dft_status check_names(const reading *r, const dft_node *mapping, const char *shown,
                              const char *general) {
  for (const dft_node *n = mapping->first; n != NULL; n = n->next) {
    char path[DFT_KEY_PATH_BYTES], table_path[DFT_KEY_PATH_BYTES], nearest[DFT_KEY_PATH_BYTES];
    snprintf(path, sizeof path, "%s%.100s", shown, n->key);
    snprintf(table_path, sizeof table_path, "%s%.100s", general, n->key);
    if (strcmp(path, "phases") == 0) continue;
    known_as known =
        strchr(n->key, '.') ? NOT_KNOWN : look_up(table_path); /* dots only on the command line */
    if (known == NOT_KNOWN) {
      const char *format = dft_suggest(path, nearest)
                               ? "unknown key '%s', did you mean '%s'?"
                               : "unknown key '%s'; the nearest is '%s' (dft --help config lists all)";
      return dft_fail_at(r->file, n->line, format, path, nearest);
    }
    if (known == IS_KEY || dft_node_is_null(n)) continue;
    if (n->kind != DFT_NODE_MAPPING)
      return dft_fail_at(r->file, n->line, "%s: expected a mapping of keys, got a %s", path,
                         n->kind == DFT_NODE_SEQUENCE ? "list" : "single value");
    char below[DFT_KEY_PATH_BYTES], table_below[DFT_KEY_PATH_BYTES];
    snprintf(below, sizeof below, "%.200s.", path);
    snprintf(table_below, sizeof table_below, "%.200s.", table_path);
    DFT_TRY(check_names(r, n, below, table_below));
  }
  return DFT_OK;
}

static dft_status read_phases(const reading *r) {
  const dft_node *phases = dft_tree_find(r->root, "phases");
  if (dft_node_is_null(phases))
    return dft_fail_at(r->file, dft_tree_line(r->root, "phases"),
                       "phases: missing; at least one phase with epochs is needed");
  int count = dft_node_count(phases), i = 0;
  if (phases->kind != DFT_NODE_SEQUENCE || count == 0)
    return dft_fail_at(r->file, phases->line, "phases: expected a list of phases, as in [{epochs: 3}]");
  if (count > DFT_MOST_PHASES)
    return dft_fail_at(r->file, phases->line, "phases: %d, at most %d are possible", count, DFT_MOST_PHASES);
  for (const dft_node *n = phases->first; n != NULL; n = n->next, i++) {
    char shown[32];
    snprintf(shown, sizeof shown, "phases.%d.", i);
    if (n->kind != DFT_NODE_MAPPING)
      return dft_fail_at(r->file, n->line, "phases.%d: expected a mapping of keys, as in {epochs: 3}", i);
    DFT_TRY(check_names(r, n, shown, "phases.N."));
  }
  size_t bytes = (size_t)count * sizeof *r->config->phases;
  r->config->phases = dft_arena_alloc(r->arena, bytes);
  if (r->config->phases == NULL) return dft_fail_memory("phases", bytes);
  r->config->phase_count = count;
  return DFT_OK;
}

/* Fills one field from the tree, or from its default. */
static dft_status read_key(const reading *r, const dft_key *key, int phase) {
  char path[DFT_KEY_PATH_BYTES];
  dft_key_path(key, phase, path);
  dft_node *node = (dft_node *)dft_tree_find(r->root, path);
  if (dft_node_is_null(node)) {
    if (key->required) return dft_fail_at(r->file, dft_tree_line(r->root, path), "%s: missing", path);
    if (key->preset == NULL) return DFT_OK;
    DFT_TRY(dft_tree_parse_value(r->scratch, key->preset, &node));
  }
  return dft_value_store(r->arena, key, node, r->file, path, dft_key_field(key, r->config, phase),
                         dft_key_count_field(key, r->config, phase));
}

/* Refuses a key that is known but has no meaning with this format or optimizer. */
static dft_status check_applies(const reading *r, const dft_key *key, int phase) {
  char path[DFT_KEY_PATH_BYTES], chosen[DFT_WORD_BYTES];
  dft_key_path(key, phase, path);
  if (dft_node_is_null(dft_tree_find(r->root, path))) return DFT_OK;
  const char *choice = key->phase ? "optimizer.name" : "data.format";
  for (int i = 0; i < dft_key_count; i++) {
    const dft_key *other = &dft_keys[i];
    if (other->phase != key->phase) continue;
    if (strcmp(other->path, key->path) == 0 && dft_key_applies(other, r->config, phase)) return DFT_OK;
    if (strcmp(other->path, choice) == 0)
      dft_word_at(other->words, *(const int *)dft_key_field(other, r->config, phase), chosen);
  }
  return dft_fail_at(r->file, dft_tree_line(r->root, path), "%s: does not go with %s %s", path, choice,
                     chosen);
}

static dft_status read_keys(const reading *r, int phase) {
  for (int i = 0; i < dft_key_count; i++) {
    const dft_key *key = &dft_keys[i];
    if (key->phase != (phase >= 0)) continue;
    if (dft_key_applies(key, r->config, phase)) DFT_TRY(read_key(r, key, phase));
  }
  for (int i = 0; i < dft_key_count; i++) {
    const dft_key *key = &dft_keys[i];
    if (key->phase != (phase >= 0)) continue;
    if (!dft_key_applies(key, r->config, phase)) DFT_TRY(check_applies(r, key, phase));
  }
  return DFT_OK;
}

/* Whether there is a validation set; nothing but a zero (samples, split) is none, as null is. */
static bool validates(const reading *r) {
  const dft_config_split *v = &r->config->data.validation;
  if (dft_node_is_null(dft_tree_find(r->root, "data.validation"))) return false;
  const bool zero = dft_tree_find(r->root, "data.validation.samples") != NULL ||
                    dft_tree_find(r->root, "data.validation.split") != NULL;
  return !zero || v->path != NULL || v->images != NULL || v->labels != NULL || v->samples > 0 || v->split > 0;
}

/* Defaults that depend on more than the table: runs/NAME, phase_1, and the splits that are there. */
static dft_status fill_in(const reading *r) {
  dft_config *c = r->config;
  char text[DFT_KEY_PATH_BYTES];
  for (int i = 0; i < c->phase_count; i++) {
    if (c->phases[i].name != NULL) continue;
    snprintf(text, sizeof text, "phase_%d", i + 1);
    c->phases[i].name = dft_arena_string(r->arena, text);
    if (c->phases[i].name == NULL) return dft_fail_memory("phase name", sizeof text);
  }
  if (c->run_dir == NULL) {
    const char *slash = strrchr(r->file, '/'), *base = slash ? slash + 1 : r->file;
    const char *dot = strrchr(base, '.');
    snprintf(text, sizeof text, "runs/%.*s", (int)(dot && dot > base ? dot - base : (long)strlen(base)),
             base);
    c->run_dir = dft_arena_string(r->arena, text);
    if (c->run_dir == NULL) return dft_fail_memory("run_dir", sizeof text);
  }
  c->data.train.present = true;
  c->data.validation.present = validates(r);
  return DFT_OK;
}

static dft_status read_config(const reading *r) {
  DFT_TRY(check_names(r, r->root, "", ""));
  DFT_TRY(read_phases(r));
  DFT_TRY(read_keys(r, -1));
  for (int i = 0; i < r->config->phase_count; i++) DFT_TRY(read_keys(r, i));
  DFT_TRY(fill_in(r));
  return dft_config_check(r->config, r->file, r->root);
}

dft_status dft_config_parse(const char *path, const char *text, const char *const *overrides,
                            int override_count, dft_config **config) {
  *config = NULL;
  owned_config *owned = calloc(1, sizeof *owned);
  reading r = {.file = path, .arena = dft_arena_new(), .scratch = dft_arena_new()};
  dft_status status = DFT_OK;
  if (owned == NULL || r.arena == NULL || r.scratch == NULL) {
    free(owned);
    dft_arena_free(r.arena);
    dft_arena_free(r.scratch);
    return dft_fail_memory("config", sizeof *owned);
  }
  owned->arena = r.arena;
  r.config = &owned->config;
  DFT_TRY_TO(status, dft_tree_parse(r.scratch, path, text, &r.root), done);
  for (int i = 0; i < override_count; i++)
    DFT_TRY_TO(status, dft_tree_override(r.scratch, r.root, overrides[i]), done);
  status = read_config(&r);
done:
  dft_arena_free(r.scratch);
  if (status == DFT_OK)
    *config = &owned->config;
  else
    dft_config_free(&owned->config);
  return status;
}

void dft_config_free(dft_config *config) {
  if (config == NULL) return;
  dft_arena_free(((owned_config *)(void *)config)->arena);
  free(config);
}
