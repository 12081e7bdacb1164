/* The table of keys: what a config may hold, and everything that is said about it.
 *
 * Reading, defaults, messages, writing, the deciding lines and the reference all walk this table in its
 * order. A key that exists only for some optimizers or data formats has one row per set of them (`when`); the
 * row that names the optimizer or format comes before those that depend on it.
 */
#ifndef DFT_CONFIG_KEYS_H
#define DFT_CONFIG_KEYS_H

#include "dft/config.h"
#include "tree.h"

typedef enum {
  DFT_KEY_INT,   /* int */
  DFT_KEY_INT64, /* int64_t */
  DFT_KEY_REAL,  /* double */
  DFT_KEY_RANGE, /* double[2]: [low, high] */
  DFT_KEY_BOOL,  /* bool */
  DFT_KEY_WORD,  /* an enum: its values in the order of `words` */
  DFT_KEY_TEXT,  /* char *; one of `words` where there are any */
  DFT_KEY_PATH,  /* char *; a path or one of `words`. The path itself never decides the result */
  DFT_KEY_SHAPE, /* int[2]: [height, width, 3] */
  DFT_KEY_INTS,  /* int64_t * and its int count */
  DFT_KEY_TEXTS  /* char ** and its int count */
} dft_key_type;

typedef struct dft_key {
  const char *path; /* as in the file; a phase's keys without "phases.N." */
  dft_key_type type;
  const char *words; /* WORD, TEXT, PATH: separated by spaces; numbers: a word that may stand for one */
  double low, high;  /* numbers: inclusive range, unless open */
  bool low_open, high_open;
  int word_value;     /* numbers: what the word means */
  bool word_is_null;  /* TEXT, PATH: the first of `words` is stored as NULL; TEXTS: as {"*"} */
  bool power_of_two;  /* numbers */
  bool symmetric;     /* RANGE: a number f may stand for [-f, f] */
  const char *preset; /* the default as YAML; NULL: none */
  bool required;
  bool phase;    /* belongs to a phase: offsets are in dft_config_phase */
  unsigned when; /* bit set of optimizers (phase keys) or data formats (others) that have it; 0: all */
  bool decides;  /* changes bits of the result */
  size_t offset, count_offset;
  const char *keras; /* counterpart in Keras, or NULL */
  const char *help;
} dft_key;

extern const dft_key dft_keys[];
extern const int dft_key_count;

/* The key's full path: "data.format", "phases.1.optimizer.name". phase -1 gives "phases.N.…". */
void dft_key_path(const dft_key *key, int phase, char path[DFT_KEY_PATH_BYTES]);

/* Where the key's value is; `phase` counts for keys of a phase only. */
void *dft_key_field(const dft_key *key, const dft_config *config, int phase);
int *dft_key_count_field(const dft_key *key, const dft_config *config, int phase);

/* Whether the key exists with this config's data format or this phase's optimizer. */
bool dft_key_applies(const dft_key *key, const dft_config *config, int phase);

/* The i-th of `words` in `text` (empty past the end); its index, or -1. */
void dft_word_at(const char *words, int i, char text[DFT_WORD_BYTES]);
int dft_word_index(const char *words, const char *word);

/* value.c: from a node to the field and back. `path` names the key in messages, `file` the config. */
dft_status dft_value_store(dft_arena *arena, const dft_key *key, const dft_node *node, const char *file,
                           const char *path, void *field, int *count);
typedef enum {
  DFT_VALUE_YAML,    /* for a config: numbers are such to parsers of YAML 1.1 too */
  DFT_VALUE_DECIDING /* as in checkpoints, with whose texts it is compared: may never change */
} dft_value_style;
/* The value as YAML flow text that reads back equal; NULL when unset (no text, empty list). Fresh string. */
dft_status dft_value_format(const dft_key *key, dft_value_style style, const void *field, const int *count,
                            char **text);

/* suggest.c: the known key nearest to an unknown one, as a full path. False: nearest, but not like it. */
bool dft_suggest(const char *unknown, char nearest[DFT_KEY_PATH_BYTES]);

/* check.c: what no single key can say. Reports at the lines of `root`. */
dft_status dft_config_check(const dft_config *config, const char *file, const dft_node *root);

#endif
