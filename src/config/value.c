#include "keys.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

_Static_assert(offsetof(dft_config, model.width) == offsetof(dft_config, model.height) + sizeof(int),
               "DFT_KEY_SHAPE stores two neighbouring ints");
_Static_assert(sizeof(dft_pooling) == sizeof(int), "DFT_KEY_WORD stores enums as ints");

typedef struct place {
  dft_arena *arena;
  const dft_key *key;
  const dft_node *node;
  const char *file, *path;
} place;

/* What the key wants, in words, for messages. */
static void expected(const dft_key *key, char *text, size_t bytes) {
  static const char *const nouns[] = {
      [DFT_KEY_INT] = "an integer",
      [DFT_KEY_INT64] = "an integer",
      [DFT_KEY_REAL] = "a number",
      [DFT_KEY_RANGE] = "[low, high]",
      [DFT_KEY_BOOL] = "true or false",
      [DFT_KEY_TEXT] = "a text",
      [DFT_KEY_PATH] = "a path",
      [DFT_KEY_SHAPE] = "[height, width, 3]",
      [DFT_KEY_INTS] = "a list of integers, as in [0, 2]",
      [DFT_KEY_TEXTS] = "a list of texts, as in [a, b]",
  };
  bool choice = key->type == DFT_KEY_WORD || (key->type == DFT_KEY_TEXT && key->words != NULL);
  if (choice)
    snprintf(text, bytes, "one of %s", key->words);
  else if (key->symmetric)
    snprintf(text, bytes, "a number or %s", nouns[key->type]);
  else if (key->words != NULL && key->type != DFT_KEY_PATH)
    snprintf(text, bytes, "%s or %s", nouns[key->type], key->words);
  else
    snprintf(text, bytes, "%s", nouns[key->type]);
}

static dft_status ill_typed(const place *p, const dft_node *node) {
  char wanted[128];
  expected(p->key, wanted, sizeof wanted);
  if (node->kind == DFT_NODE_SCALAR)
    return dft_fail_at(p->file, node->line, "%s: expected %s, got %s%.100s%s", p->path, wanted,
                       node->quoted || node->text[0] == '\0' ? "'" : "", node->text,
                       node->quoted || node->text[0] == '\0' ? "'" : "");
  return dft_fail_at(p->file, node->line, "%s: expected %s, got a %s", p->path, wanted,
                     node->kind == DFT_NODE_MAPPING ? "mapping" : "list");
}

static dft_status out_of_range(const place *p, const dft_node *node) {
  const dft_key *k = p->key;
  char wanted[128];
  snprintf(wanted, sizeof wanted, k->high < 1e15 ? "%s %.15g and %s %.15g" : "%s %.0f and %s %.0f",
           k->low_open ? "above" : "at least", k->low, k->high_open ? "below" : "at most", k->high);
  return dft_fail_at(p->file, node->line, "%s: must be %s, got %.100s", p->path, wanted, node->text);
}

static bool in_range(const dft_key *k, double value) {
  return (k->low_open ? value > k->low : value >= k->low) &&
         (k->high_open ? value < k->high : value <= k->high);
}

static bool is_plain(const dft_node *node) {
  return node->kind == DFT_NODE_SCALAR && !node->quoted;
}

static dft_status read_integer(const place *p, const dft_node *node, int64_t *value) {
  const char *s = node->text;
  if (!is_plain(node) || s[0] == '\0' || s[strspn(s, "0123456789+-")] != '\0') return ill_typed(p, node);
  char *end = NULL;
  errno = 0;
  long long v = strtoll(s, &end, 10);
  if (*end != '\0') return ill_typed(p, node);
  if (errno == ERANGE || !in_range(p->key, (double)v)) return out_of_range(p, node);
  *value = v;
  return DFT_OK;
}

static dft_status read_real(const place *p, const dft_node *node, double *value) {
  const char *s = node->text;
  if (!is_plain(node) || s[0] == '\0' || s[strspn(s, "0123456789+-.eE")] != '\0') return ill_typed(p, node);
  char *end = NULL;
  double v = strtod(s, &end);
  if (*end != '\0') return ill_typed(p, node);
  if (!isfinite(v) || !in_range(p->key, v)) return out_of_range(p, node);
  *value = v;
  return DFT_OK;
}

/* [low, high], or a number f for [-f, f]. */
static dft_status read_range(const place *p, double *value) {
  const dft_node *node = p->node;
  if (p->key->symmetric && is_plain(node)) {
    DFT_TRY(read_real(p, node, &value[1]));
    if (value[1] < 0)
      return dft_fail_at(p->file, node->line,
                         "%s: a single number f stands for [-f, f] and cannot be negative", p->path);
    value[0] = -value[1];
    return in_range(p->key, value[0]) ? DFT_OK : out_of_range(p, node);
  }
  if (node->kind != DFT_NODE_SEQUENCE || dft_node_count(node) != 2) return ill_typed(p, node);
  DFT_TRY(read_real(p, node->first, &value[0]));
  DFT_TRY(read_real(p, node->first->next, &value[1]));
  if (value[0] > value[1])
    return dft_fail_at(p->file, node->line, "%s: the first number of [low, high] is the larger one", p->path);
  return DFT_OK;
}

static dft_status read_bool(const place *p, bool *value) {
  if (!is_plain(p->node)) return ill_typed(p, p->node);
  *value = strcasecmp(p->node->text, "true") == 0;
  return *value || strcasecmp(p->node->text, "false") == 0 ? DFT_OK : ill_typed(p, p->node);
}

static dft_status copy_text(const place *p, const dft_node *node, char **value) {
  *value = dft_arena_string(p->arena, node->text);
  return *value ? DFT_OK : dft_fail_memory(p->path, strlen(node->text));
}

static dft_status read_text(const place *p, char **value) {
  const dft_key *k = p->key;
  if (p->node->kind != DFT_NODE_SCALAR || p->node->text[0] == '\0') return ill_typed(p, p->node);
  if (k->type == DFT_KEY_PATH && strncmp(p->node->text, "~/", 2) == 0)
    return dft_fail_at(p->file, p->node->line, "%s: ~ is not expanded here: write the whole path", p->path);
  int word = dft_word_index(k->words, p->node->text);
  if (word < 0 && k->words != NULL && k->type == DFT_KEY_TEXT) return ill_typed(p, p->node);
  *value = NULL;
  return word == 0 && k->word_is_null ? DFT_OK : copy_text(p, p->node, value);
}

static dft_status read_shape(const place *p, int *value) {
  if (p->node->kind != DFT_NODE_SEQUENCE || dft_node_count(p->node) != 3) return ill_typed(p, p->node);
  const dft_node *n = p->node->first;
  for (int i = 0; i < 2; i++, n = n->next) {
    int64_t size = 0;
    DFT_TRY(read_integer(p, n, &size));
    value[i] = (int)size;
  }
  if (!is_plain(n) || strcmp(n->text, "3") != 0)
    return dft_fail_at(p->file, n->line, "%s: the third number is the channels, always 3", p->path);
  return DFT_OK;
}

/* Which of the key's words a node is, or -1. Quoted too: PyYAML writes 'off' so, since to YAML 1.1 it is a
 * boolean otherwise, and JSON can only quote. */
static int word_of(const dft_key *key, const dft_node *node) {
  return node->kind == DFT_NODE_SCALAR ? dft_word_index(key->words, node->text) : -1;
}

static dft_status read_list(const place *p, void *field, int *count) {
  bool texts = p->key->type == DFT_KEY_TEXTS;
  const dft_node *node = p->node;
  dft_node star = {.kind = DFT_NODE_SCALAR, .text = (char[]){"*"}};
  dft_node all = {.kind = DFT_NODE_SEQUENCE, .line = node->line, .first = &star};
  if (texts && word_of(p->key, node) == 0) node = &all;
  if (node->kind != DFT_NODE_SEQUENCE) return ill_typed(p, node);
  int n = dft_node_count(node), i = 0;
  size_t bytes = (size_t)n * (texts ? sizeof(char *) : sizeof(int64_t));
  void *values = n > 0 ? dft_arena_alloc(p->arena, bytes) : NULL;
  if (n > 0 && values == NULL) return dft_fail_memory(p->path, bytes);
  for (const dft_node *item = node->first; item != NULL; item = item->next, i++) {
    if (!texts)
      DFT_TRY(read_integer(p, item, &((int64_t *)values)[i]));
    else if (item->kind != DFT_NODE_SCALAR || item->text[0] == '\0')
      return ill_typed(p, item);
    else
      DFT_TRY(copy_text(p, item, &((char **)values)[i]));
  }
  *(void **)field = values;
  *count = n;
  return DFT_OK;
}

static dft_status read_number(const place *p, void *field) {
  const dft_key *k = p->key;
  if (word_of(k, p->node) == 0) {
    *(int *)field = k->word_value;
    return DFT_OK;
  }
  int64_t value = 0;
  DFT_TRY(read_integer(p, p->node, &value));
  if (k->power_of_two && (value & (value - 1)) != 0)
    return dft_fail_at(p->file, p->node->line, "%s: must be a power of two, got %lld", p->path,
                       (long long)value);
  if (k->type == DFT_KEY_INT64)
    *(int64_t *)field = value;
  else
    *(int *)field = (int)value;
  return DFT_OK;
}

dft_status dft_value_store(dft_arena *arena, const dft_key *key, const dft_node *node, const char *file,
                           const char *path, void *field, int *count) {
  place p = {arena, key, node, file, path};
  switch (key->type) {
  case DFT_KEY_INT:
  case DFT_KEY_INT64:
    return read_number(&p, field);
  case DFT_KEY_REAL:
    return read_real(&p, node, field);
  case DFT_KEY_RANGE:
    return read_range(&p, field);
  case DFT_KEY_BOOL:
    return read_bool(&p, field);
  case DFT_KEY_TEXT:
  case DFT_KEY_PATH:
    return read_text(&p, field);
  case DFT_KEY_SHAPE:
    return read_shape(&p, field);
  case DFT_KEY_INTS:
  case DFT_KEY_TEXTS:
    return read_list(&p, field, count);
  case DFT_KEY_WORD:
    break;
  }
  int word = word_of(key, node);
  if (word < 0) return ill_typed(&p, node);
  memcpy(field, &word, sizeof word);
  return DFT_OK;
}

/* The shortest decimal that reads back as the same double. To YAML 1.1 (PyYAML, say) a number with an
 * exponent and no point is a text: in a config 3e+02 is 300, and 1e-05 is 1.0e-05. */
static void print_real(FILE *out, dft_value_style style, double value) {
  char text[40];
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, value);
    if (strtod(text, NULL) == value) break;
  }
  const char *exponent = strchr(text, 'e');
  if (style == DFT_VALUE_DECIDING || exponent == NULL)
    fputs(text, out);
  else if (fabs(value) >= 1 && fabs(value) < 1e15)
    fprintf(out, "%.0f", value); /* whole: it has fewer digits than its exponent says */
  else
    fprintf(out, "%.*s%s%s", (int)(exponent - text), text, strchr(text, '.') == NULL ? ".0" : "", exponent);
}

static void print_range(FILE *out, const dft_key *key, dft_value_style style, const double *value) {
  bool single = key->symmetric && value[0] == -value[1];
  if (!single) {
    fputc('[', out);
    print_real(out, style, value[0]);
    fputs(", ", out);
  }
  print_real(out, style, value[1]);
  if (!single) fputc(']', out);
}

/* What is no text to YAML without quotes; to YAML 1.1 more words and any of their spellings. */
static bool is_yaml_word(dft_value_style style, const char *text) {
  static const char *const words[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    if (strcmp(text, words[i]) == 0 && i < 3) return true;
    if (strcasecmp(text, words[i]) == 0 && style == DFT_VALUE_YAML) return true;
  }
  return false;
}

/* Plain where YAML and this parser read it back as the same text, else in double quotes. */
static void print_text(FILE *out, dft_value_style style, const char *text) {
  static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";
  bool plain = text[strspn(text, safe)] == '\0' && strchr("0123456789.-", text[0]) == NULL;
  if (plain && !is_yaml_word(style, text)) {
    fputs(text, out);
    return;
  }
  fputc('"', out);
  for (const char *c = text; *c != '\0'; c++) {
    if (*c == '"' || *c == '\\') fputc('\\', out);
    fputc(*c, out);
  }
  fputc('"', out);
}

static void print_list(FILE *out, const dft_key *key, dft_value_style style, const void *field, int count) {
  fputc('[', out);
  for (int i = 0; i < count; i++) {
    if (i > 0) fputs(", ", out);
    if (key->type == DFT_KEY_TEXTS)
      print_text(out, style, (*(char *const *const *)field)[i]);
    else
      fprintf(out, "%lld", (long long)(*(const int64_t *const *)field)[i]);
  }
  fputc(']', out);
}

static void print_value(FILE *out, const dft_key *key, dft_value_style style, const void *field,
                        const int *count) {
  char word[DFT_WORD_BYTES];
  int number = 0;
  switch (key->type) {
  case DFT_KEY_INT:
    number = *(const int *)field;
    if (key->words != NULL && number == key->word_value)
      fputs(key->words, out);
    else
      fprintf(out, "%d", number);
    break;
  case DFT_KEY_INT64:
    fprintf(out, "%lld", (long long)*(const int64_t *)field);
    break;
  case DFT_KEY_REAL:
    print_real(out, style, *(const double *)field);
    break;
  case DFT_KEY_RANGE:
    print_range(out, key, style, field);
    break;
  case DFT_KEY_BOOL:
    fputs(*(const bool *)field ? "true" : "false", out);
    break;
  case DFT_KEY_WORD:
    memcpy(&number, field, sizeof number);
    dft_word_at(key->words, number, word);
    print_text(out, style, word);
    break;
  case DFT_KEY_TEXT:
  case DFT_KEY_PATH:
    dft_word_at(key->words ? key->words : "", 0, word);
    print_text(out, style, *(char *const *)field ? *(char *const *)field : word);
    break;
  case DFT_KEY_SHAPE:
    fprintf(out, "[%d, %d, 3]", ((const int *)field)[0], ((const int *)field)[1]);
    break;
  case DFT_KEY_INTS:
  case DFT_KEY_TEXTS:
    print_list(out, key, style, field, *count);
    break;
  }
}

dft_status dft_value_format(const dft_key *key, dft_value_style style, const void *field, const int *count,
                            char **text) {
  *text = NULL;
  bool string = key->type == DFT_KEY_TEXT || key->type == DFT_KEY_PATH;
  bool list = key->type == DFT_KEY_INTS || key->type == DFT_KEY_TEXTS;
  if (string && *(char *const *)field == NULL && !key->word_is_null) return DFT_OK;
  if (list && *count == 0) return DFT_OK;
  size_t bytes = 0;
  FILE *out = open_memstream(text, &bytes);
  if (out == NULL) return dft_fail_memory(key->path, 0);
  print_value(out, key, style, field, count);
  return fclose(out) == 0 ? DFT_OK : dft_fail_memory(key->path, bytes);
}
