#include "keys.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Edits (insert, delete, replace, swap neighbours) from a to b; both shorter than DFT_KEY_PATH_BYTES. */
static int edit_distance(const char *a, const char *b) {
  int rows[3][DFT_KEY_PATH_BYTES + 1];
  int n = (int)strlen(b);
  int *before = rows[0], *above = rows[1], *row = rows[2];
  for (int j = 0; j <= n; j++) above[j] = before[j] = j;
  for (int i = 1; a[i - 1] != '\0'; i++) {
    row[0] = i;
    for (int j = 1; j <= n; j++) {
      int best = above[j - 1] + (a[i - 1] != b[j - 1]);
      if (above[j] + 1 < best) best = above[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
        best = before[j - 2] + 1;
      row[j] = best;
    }
    int *spare = before;
    before = above;
    above = row;
    row = spare;
  }
  return above[n];
}

/* Length of the path before its last component, its dot included. */
static size_t parent_length(const char *path) {
  const char *dot = strrchr(path, '.');
  return dot ? (size_t)(dot - path) + 1 : 0;
}

/* Compares the last components. A key of the same mapping is nearer than one elsewhere, unless that one's
 * name is much alike ("learning_rate" directly in a phase, "batchsize" at the top). */
static int score(const char *unknown, const char *known) {
  size_t parent = parent_length(unknown), other = parent_length(known);
  bool sibling = parent == other && strncmp(unknown, known, parent) == 0;
  int distance = edit_distance(unknown + parent, known + other);
  if (sibling) return 2 * distance;
  bool alike = 4 * distance <= (int)strlen(unknown + parent);
  return (alike ? 3 : 1000) + 2 * distance;
}

/* phases.1.epoch -> phases.N.epoch, and the number of the phase. */
static int generalise(const char *unknown, char general[DFT_KEY_PATH_BYTES]) {
  int phase = -1, used = 0;
  if (sscanf(unknown, "phases.%9d.%n", &phase, &used) == 1 && used > 0) {
    snprintf(general, DFT_KEY_PATH_BYTES, "phases.N.%s", unknown + used);
    return phase;
  }
  snprintf(general, DFT_KEY_PATH_BYTES, "%s", unknown);
  return -1;
}

/* Whether one may be meant by the other: two of five letters differ at most. */
static bool alike(const char *unknown, const char *known) {
  const char *a = unknown + parent_length(unknown), *b = known + parent_length(known);
  const size_t longer = strlen(a) > strlen(b) ? strlen(a) : strlen(b);
  return 5 * edit_distance(a, b) <= 2 * (int)longer;
}

/* What people write, in Keras and PyTorch too, for keys that have other names here. */
static void spell_out(char general[DFT_KEY_PATH_BYTES]) {
  static const char *const short_for[][2] = {
      {"lr", "learning_rate"},       {"bs", "batch_size"},        {"wd", "weight_decay"},
      {"num_classes", "classes"},    {"num_epochs", "epochs"},    {"num_workers", "threads"},
      {"image_size", "input_shape"}, {"img_size", "input_shape"}, {"target_size", "input_shape"},
      {"horizontal_flip", "flip"},   {"dropout_rate", "dropout"}, {"trainable", "unfreeze"}};
  char *last = general + parent_length(general);
  for (size_t i = 0; i < sizeof short_for / sizeof *short_for; i++)
    if (strcmp(last, short_for[i][0]) == 0) {
      snprintf(last, DFT_KEY_PATH_BYTES - (size_t)(last - general), "%s", short_for[i][1]);
      return;
    }
}

bool dft_suggest(const char *unknown, char nearest[DFT_KEY_PATH_BYTES]) {
  char general[DFT_KEY_PATH_BYTES], known[DFT_KEY_PATH_BYTES], best_path[DFT_KEY_PATH_BYTES] = "";
  int phase = generalise(unknown, general), best = INT_MAX;
  spell_out(general);
  for (int i = 0; i < dft_key_count; i++) {
    dft_key_path(&dft_keys[i], -1, known);
    for (;;) { /* the key and the mappings it is in */
      int s = score(general, known);
      if (s < best) {
        best = s;
        memcpy(best_path, known, sizeof best_path);
      }
      size_t parent = parent_length(known);
      if (parent == 0) break;
      known[parent - 1] = '\0';
    }
  }
  const bool close = alike(general, best_path);
  if (phase >= 0 && strncmp(best_path, "phases.N.", 9) == 0)
    snprintf(nearest, DFT_KEY_PATH_BYTES, "phases.%d.%s", phase, best_path + 9);
  else
    snprintf(nearest, DFT_KEY_PATH_BYTES, "%s", best_path);
  return close;
}
