#include "tree.h"
#include "dft/text.h"
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* Far above any real config, and low enough that a hostile file costs neither stack nor time. */
enum { MAX_DEPTH = 16, MAX_KEYS = 256 };

typedef struct reader {
  yaml_parser_t yaml;
  dft_arena *arena;
  const char *path;
  bool lines; /* false: every node gets line 0 */
} reader;

dft_status dft_fail_at(const char *path, int line, const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (line <= 0) return dft_fail(DFT_EUSAGE, "command line: %s", text);
  return dft_fail(DFT_EUSAGE, "%s:%d: %s", path, line, text);
}

static int line_of(const reader *r, yaml_mark_t mark) {
  return r->lines ? (int)(mark.line < INT32_MAX ? mark.line : INT32_MAX - 1) + 1 : 0;
}

static dft_status next_event(reader *r, yaml_event_t *event) {
  if (yaml_parser_parse(&r->yaml, event)) return DFT_OK;
  memset(event, 0, sizeof *event);
  if (r->yaml.error == YAML_MEMORY_ERROR) return dft_fail_memory("YAML", 0);
  yaml_mark_t mark = r->yaml.problem_mark;
  if (r->yaml.error == YAML_READER_ERROR) mark = r->yaml.mark;
  return dft_fail_at(r->path, line_of(r, mark), "not YAML: %s",
                     r->yaml.problem ? r->yaml.problem : "unreadable");
}

static dft_node *new_node(reader *r, dft_node_kind kind, yaml_mark_t mark) {
  dft_node *node = dft_arena_alloc(r->arena, sizeof *node);
  if (node != NULL) {
    node->kind = kind;
    node->line = line_of(r, mark);
  }
  return node;
}

static void append(dft_node *parent, dft_node *child) {
  if (parent->last != NULL) {
    parent->last->next = child;
  } else {
    parent->first = child;
  }
  parent->last = child;
}

/* The scalar's text, when it is one that a line of a file can hold: valid UTF-8 (libyaml saw to that) without
 * control characters and Unicode's line separators. So every text can be written back in double quotes. */
static dft_status scalar_text(reader *r, const yaml_event_t *event, char **text) {
  const unsigned char *s = event->data.scalar.value;
  size_t n = event->data.scalar.length;
  for (size_t i = 0; i < n; i++) {
    bool control = s[i] == '\0' || dft_control_bytes((const char *)s + i) > 0;
    bool separator = s[i] == 0xe2 && i + 2 < n && s[i + 1] == 0x80 && (s[i + 2] == 0xa8 || s[i + 2] == 0xa9);
    bool noncharacter = s[i] == 0xef && i + 2 < n &&
                        ((s[i + 1] == 0xbb && s[i + 2] == 0xbf) || (s[i + 1] == 0xbf && s[i + 2] >= 0xbe));
    if (control || separator || noncharacter)
      return dft_fail_at(r->path, line_of(r, event->start_mark),
                         "a text holds a control character or line break");
  }
  *text = dft_arena_string(r->arena, (const char *)s);
  return *text ? DFT_OK : dft_fail_memory("config text", n);
}

static dft_status refuse_extras(reader *r, const yaml_event_t *event) {
  const yaml_char_t *anchor = NULL, *tag = NULL;
  if (event->type == YAML_SCALAR_EVENT) {
    anchor = event->data.scalar.anchor;
    tag = event->data.scalar.tag;
  } else if (event->type == YAML_SEQUENCE_START_EVENT) {
    anchor = event->data.sequence_start.anchor;
    tag = event->data.sequence_start.tag;
  } else if (event->type == YAML_MAPPING_START_EVENT) {
    anchor = event->data.mapping_start.anchor;
    tag = event->data.mapping_start.tag;
  }
  int line = line_of(r, event->start_mark);
  if (event->type == YAML_ALIAS_EVENT)
    return dft_fail_at(r->path, line,
                       "'*%s' is a YAML alias, which configs do not use; quote a text that begins with *",
                       (const char *)event->data.alias.anchor);
  if (anchor != NULL || tag != NULL)
    return dft_fail_at(r->path, line,
                       "YAML anchors and tags are not used in configs; quote a text that begins with & or !");
  return DFT_OK;
}

static dft_status read_children(reader *r, dft_node *parent, int depth);

/* The node that begins with `event`. */
static dft_status read_node(reader *r, const yaml_event_t *event, int depth, dft_node **out) {
  DFT_TRY(refuse_extras(r, event));
  dft_node_kind kind = event->type == YAML_SCALAR_EVENT           ? DFT_NODE_SCALAR
                       : event->type == YAML_SEQUENCE_START_EVENT ? DFT_NODE_SEQUENCE
                                                                  : DFT_NODE_MAPPING;
  dft_node *node = new_node(r, kind, event->start_mark);
  if (node == NULL) return dft_fail_memory("config", sizeof *node);
  *out = node;
  if (kind != DFT_NODE_SCALAR) return read_children(r, node, depth);
  node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
  return scalar_text(r, event, &node->text);
}

/* The key that begins with `event`; refused when the mapping has it already. */
static dft_status read_key(reader *r, const yaml_event_t *event, const dft_node *mapping, char **key) {
  int line = line_of(r, event->start_mark);
  DFT_TRY(refuse_extras(r, event));
  if (event->type != YAML_SCALAR_EVENT) return dft_fail_at(r->path, line, "a key must be a word");
  DFT_TRY(scalar_text(r, event, key));
  int count = 0;
  for (const dft_node *n = mapping->first; n != NULL; n = n->next, count++)
    if (strcmp(n->key, *key) == 0)
      return dft_fail_at(r->path, line, "duplicate key '%.100s' (first on line %d)", *key, n->line);
  return count < MAX_KEYS ? DFT_OK : dft_fail_at(r->path, line, "more than %d keys in one mapping", MAX_KEYS);
}

static dft_status read_children(reader *r, dft_node *parent, int depth) {
  if (depth >= MAX_DEPTH) return dft_fail_at(r->path, parent->line, "nested more than %d deep", MAX_DEPTH);
  for (;;) {
    yaml_event_t event;
    char *key = NULL;
    int key_line = 0;
    dft_status status = next_event(r, &event);
    if (status == DFT_OK && (event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT)) {
      yaml_event_delete(&event);
      return DFT_OK;
    }
    if (status == DFT_OK && parent->kind == DFT_NODE_MAPPING) {
      status = read_key(r, &event, parent, &key);
      key_line = line_of(r, event.start_mark);
      yaml_event_delete(&event);
      if (status == DFT_OK) status = next_event(r, &event);
    }
    dft_node *child = NULL;
    if (status == DFT_OK) status = read_node(r, &event, depth + 1, &child);
    yaml_event_delete(&event);
    if (status != DFT_OK) return status;
    if (key != NULL) child->line = key_line;
    child->key = key;
    append(parent, child);
  }
}

static dft_status read_document(reader *r, dft_node **root) {
  for (;;) {
    yaml_event_t event;
    DFT_TRY(next_event(r, &event));
    yaml_event_type_t type = event.type;
    dft_status status = DFT_OK;
    if (type == YAML_STREAM_END_EVENT) {
      if (*root == NULL) {
        *root = new_node(r, DFT_NODE_SCALAR, event.start_mark);
        if (*root == NULL || ((*root)->text = dft_arena_string(r->arena, "")) == NULL)
          status = dft_fail_memory("config", sizeof **root);
      }
    } else if (type == YAML_DOCUMENT_START_EVENT && *root != NULL) {
      status = dft_fail_at(r->path, line_of(r, event.start_mark), "a second YAML document: a config is one");
    } else if (type == YAML_SCALAR_EVENT || type == YAML_ALIAS_EVENT || type == YAML_SEQUENCE_START_EVENT ||
               type == YAML_MAPPING_START_EVENT) {
      status = read_node(r, &event, 0, root);
    }
    yaml_event_delete(&event);
    if (status != DFT_OK || type == YAML_STREAM_END_EVENT) return status;
  }
}

static dft_status parse(dft_arena *arena, const char *path, bool lines, const char *text, dft_node **root) {
  static const char byte_order_mark[] = "\xef\xbb\xbf"; /* as Windows' editors write it */
  reader r = {.arena = arena, .path = path, .lines = lines};
  if (strncmp(text, byte_order_mark, strlen(byte_order_mark)) == 0) text += strlen(byte_order_mark);
  if (!yaml_parser_initialize(&r.yaml)) return dft_fail_memory("YAML", 0);
  yaml_parser_set_encoding(&r.yaml, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&r.yaml, (const unsigned char *)text, strlen(text));
  *root = NULL;
  dft_status status = read_document(&r, root);
  yaml_parser_delete(&r.yaml);
  return status;
}

dft_status dft_tree_parse(dft_arena *arena, const char *path, const char *text, dft_node **root) {
  DFT_TRY(parse(arena, path, true, text, root));
  if (dft_node_is_null(*root)) /* an empty file: every key may still come from the command line */
    (*root)->kind = DFT_NODE_MAPPING;
  if ((*root)->kind != DFT_NODE_MAPPING)
    return dft_fail_at(path, (*root)->line, "expected 'key: value' lines");
  return DFT_OK;
}

dft_status dft_tree_parse_value(dft_arena *arena, const char *text, dft_node **value) {
  return parse(arena, "", false, text, value);
}

/* The child that one component of a path names: a key of a mapping or an index of a sequence. */
static dft_node *child_named(const dft_node *node, const char *name) {
  if (node->kind == DFT_NODE_MAPPING) {
    for (dft_node *n = node->first; n != NULL; n = n->next)
      if (strcmp(n->key, name) == 0) return n;
    return NULL;
  }
  char *end = NULL;
  if (node->kind == DFT_NODE_SCALAR || name[0] < '0' || name[0] > '9') return NULL;
  unsigned long index = strtoul(name, &end, 10);
  dft_node *n = node->first;
  while (n != NULL && index-- > 0) n = n->next;
  return *end == '\0' ? n : NULL;
}

/* Copies the component before the next dot and returns what follows it (NULL: it was the last). */
static const char *next_component(const char *path, char name[DFT_KEY_PATH_BYTES]) {
  size_t n = strcspn(path, ".");
  size_t kept = n < DFT_KEY_PATH_BYTES - 1 ? n : DFT_KEY_PATH_BYTES - 1;
  memcpy(name, path, kept);
  name[kept] = '\0';
  return path[n] == '.' ? path + n + 1 : NULL;
}

const dft_node *dft_tree_find(const dft_node *root, const char *path) {
  char name[DFT_KEY_PATH_BYTES];
  const dft_node *node = root;
  while (node != NULL && path != NULL) {
    path = next_component(path, name);
    node = child_named(node, name);
  }
  return node;
}

int dft_tree_line(const dft_node *root, const char *path) {
  char name[DFT_KEY_PATH_BYTES];
  const dft_node *node = root;
  int line = root->line > 0 ? root->line : 1;
  while (path != NULL) {
    path = next_component(path, name);
    node = child_named(node, name);
    if (node == NULL) break;
    line = node->line;
  }
  return line;
}

/* The place that `name` has in `node`, made when missing: a scalar there becomes an empty mapping. */
static dft_status place(dft_arena *arena, dft_node *node, const char *path, const char *name,
                        dft_node **out) {
  *out = child_named(node, name);
  if (*out != NULL) return DFT_OK;
  if (node->kind == DFT_NODE_SEQUENCE)
    return dft_fail_at("", 0, "%s: no element '%s', there are %d (counted from 0)", path, name,
                       dft_node_count(node));
  node->kind = DFT_NODE_MAPPING;
  dft_node *made = dft_arena_alloc(arena, sizeof *made);
  if (made == NULL) return dft_fail_memory("config", sizeof *made);
  made->kind = DFT_NODE_MAPPING;
  made->key = dft_arena_string(arena, name);
  if (made->key == NULL) return dft_fail_memory("config", strlen(name));
  append(node, made);
  *out = made;
  return DFT_OK;
}

dft_status dft_tree_override(dft_arena *arena, dft_node *root, const char *assignment) {
  const char *equals = strchr(assignment, '=');
  if (equals == NULL || equals == assignment || equals - assignment >= DFT_KEY_PATH_BYTES)
    return dft_fail(DFT_EUSAGE, "command line: '%.200s': expected key=value, as in phases.1.epochs=5",
                    assignment);
  char path[DFT_KEY_PATH_BYTES], name[DFT_KEY_PATH_BYTES];
  memcpy(path, assignment, (size_t)(equals - assignment));
  path[equals - assignment] = '\0';
  dft_node *value = NULL;
  dft_status status = dft_tree_parse_value(arena, equals + 1, &value);
  if (status != DFT_OK) return dft_fail(status, "%s (in '%.200s')", dft_error(), assignment);
  dft_node *node = root;
  for (const char *rest = path; rest != NULL;) {
    rest = next_component(rest, name);
    DFT_TRY(place(arena, node, path, name, &node));
  }
  node->kind = value->kind;
  node->text = value->text;
  node->quoted = value->quoted;
  node->first = value->first;
  node->last = value->last;
  node->line = 0;
  return DFT_OK;
}

bool dft_node_is_null(const dft_node *node) {
  if (node == NULL) return true;
  if (node->kind != DFT_NODE_SCALAR || node->quoted) return false;
  return node->text[0] == '\0' || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0;
}

int dft_node_count(const dft_node *node) {
  int count = 0;
  for (const dft_node *n = node->first; n != NULL; n = n->next) count++;
  return count;
}
