/* A YAML file as a tree of nodes that know their line.
 *
 * Plain YAML: mappings, sequences, scalars. Anchors, aliases, tags and further documents are refused (an
 * alias could make a small file a huge or endless tree). Nodes live in the arena they were made in.
 * Errors: DFT_EUSAGE, "FILE:LINE: what" or, for an override, "command line: what".
 */
#ifndef DFT_CONFIG_TREE_H
#define DFT_CONFIG_TREE_H

#include "dft/arena.h"
#include "dft/status.h"
#include <stdbool.h>

typedef enum { DFT_NODE_SCALAR, DFT_NODE_SEQUENCE, DFT_NODE_MAPPING } dft_node_kind;

typedef struct dft_node {
  dft_node_kind kind;
  int line;                      /* 1-based; 0: from the command line */
  char *key;                     /* in a mapping: this value's key */
  char *text;                    /* of a scalar */
  bool quoted;                   /* "5" in quotes is text, not a number */
  struct dft_node *first, *last; /* children */
  struct dft_node *next;         /* sibling */
} dft_node;

/* Longest dotted path of a key, with its end. */
enum { DFT_KEY_PATH_BYTES = 256 };

dft_status dft_tree_parse(dft_arena *arena, const char *path, const char *text, dft_node **root);

/* A value given apart from the file (an override, a default): all its nodes get line 0. */
dft_status dft_tree_parse_value(dft_arena *arena, const char *text, dft_node **value);

/* Sets "a.b=value" in the tree; phases by index, which must exist. */
dft_status dft_tree_override(dft_arena *arena, dft_node *root, const char *assignment);

/* The node at a dotted path, or NULL. */
const dft_node *dft_tree_find(const dft_node *root, const char *path);

/* The line of the deepest node that exists on the way to `path`. */
int dft_tree_line(const dft_node *root, const char *path);

/* An absent value: no node, or an empty, ~ or null scalar. Means the default. */
bool dft_node_is_null(const dft_node *node);
int dft_node_count(const dft_node *node); /* children */

/* Records "PATH:LINE: ..." (line 0: "command line: ...") as DFT_EUSAGE. */
dft_status dft_fail_at(const char *path, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
