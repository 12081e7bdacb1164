#include "keys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_words(FILE *out, const char *words, const char *between) {
  for (const char *w = words; *w != '\0'; w++) {
    if (*w == ' ')
      fputs(between, out);
    else
      fputc(*w, out);
  }
}

static void print_range(FILE *out, const dft_key *k, const char *noun) {
  fputs(noun, out);
  if (k->high < 0x1p40)
    fprintf(out, " %s %.15g %s %.15g", k->low_open ? "above" : "from", k->low,
            k->high_open ? "to below" : "to", k->high);
  else
    fprintf(out, " %s %.15g", k->low_open ? "above" : "from", k->low);
  if (k->power_of_two) fputs(", a power of two", out);
}

/* What may stand after the colon. */
static void print_values(FILE *out, const dft_key *k, const char *between) {
  bool word_apart = k->words != NULL && k->type != DFT_KEY_WORD && k->type != DFT_KEY_TEXT;
  switch (k->type) {
  case DFT_KEY_INT:
  case DFT_KEY_INT64:
    print_range(out, k, "integer");
    break;
  case DFT_KEY_REAL:
    print_range(out, k, "number");
    break;
  case DFT_KEY_RANGE:
    print_range(out, k, k->symmetric ? "number or [low, high]," : "[low, high],");
    break;
  case DFT_KEY_BOOL:
    fputs("true", out), fputs(between, out), fputs("false", out);
    break;
  case DFT_KEY_WORD:
    print_words(out, k->words, between);
    break;
  case DFT_KEY_TEXT:
    print_words(out, k->words ? k->words : "text", between);
    break;
  case DFT_KEY_PATH:
    fputs("path", out);
    break;
  case DFT_KEY_SHAPE:
    print_range(out, k, "[height, width, 3], each");
    break;
  case DFT_KEY_INTS:
    fputs("list of integers", out);
    break;
  case DFT_KEY_TEXTS:
    fputs("list of texts", out);
    break;
  }
  if (word_apart) {
    fputs(between, out);
    print_words(out, k->words, between);
  }
}

/* The optimizers or data formats that have the key. */
static void print_when(FILE *out, const dft_key *k, const char *before, const char *after) {
  if (k->when == 0) return;
  const char *choice = k->phase ? "optimizer.name" : "data.format", *separator = "";
  for (int i = 0; i < dft_key_count; i++) {
    if (dft_keys[i].phase != k->phase || strcmp(dft_keys[i].path, choice) != 0) continue;
    fputs(before, out);
    for (int w = 0; w < 32; w++) {
      char word[DFT_WORD_BYTES];
      if ((k->when >> w & 1u) == 0) continue;
      dft_word_at(dft_keys[i].words, w, word);
      fprintf(out, "%s%s", separator, word);
      separator = ", ";
    }
    fputs(after, out);
  }
}

static void print_markdown(FILE *out) {
  fputs("# Config reference\n\n"
        "<!-- Generated from the table in src/config/keys.c: edit that, not this file. -->\n\n"
        "A config is a YAML file. Keys may also be set on the command line, as in\n"
        "`dft configs/5class.yaml data.batch_size=32 phases.1.epochs=5 \"model.input_shape=[128, 128, 3]\" "
        "run_dir=runs/try`; "
        "phases are\n"
        "counted from 0, and an empty value (`key=`) means the default. Paths are relative to the directory "
        "that\n"
        "dft is started in; `~/` is not expanded. Keys marked • decide the result: a run is not resumed when "
        "one of them has "
        "changed,\n"
        "except for more epochs in the running or last phase and for phases added at the end (of a path only "
        "counts\n"
        "whether there is one: training and validation data are recognised by their fingerprints).\n\n"
        "| Key | | Values | Default | Meaning | In Keras |\n|---|---|---|---|---|---|\n",
        out);
  for (int i = 0; i < dft_key_count; i++) {
    const dft_key *k = &dft_keys[i];
    char path[DFT_KEY_PATH_BYTES];
    dft_key_path(k, -1, path);
    fprintf(out, "| `%s`", path);
    print_when(out, k, " (", ")");
    fprintf(out, " | %s | ", k->decides ? "•" : "");
    print_values(out, k, ", ");
    fprintf(out, " | %s%s%s | %s", k->preset ? "`" : "",
            k->preset     ? k->preset
            : k->required ? "required"
                          : "",
            k->preset ? "`" : "", k->help);
    fprintf(out, " | %s%s%s |\n", k->keras ? "`" : "", k->keras ? k->keras : "", k->keras ? "`" : "");
  }
}

static void print_plain(FILE *out) {
  fputs("Keys of a config file; on the command line as in phases.1.epochs=5 (phases counted from 0).\n"
        "* decides the result: a run is not resumed when it has changed, but for more epochs\n"
        "in the running or last phase, and phases added at the end.\n\n",
        out);
  for (int i = 0; i < dft_key_count; i++) {
    const dft_key *k = &dft_keys[i];
    char path[DFT_KEY_PATH_BYTES];
    dft_key_path(k, -1, path);
    fprintf(out, "%s%s: ", path, k->decides ? " *" : "");
    print_values(out, k, " | ");
    if (k->preset != NULL) fprintf(out, "; default %s", k->preset);
    if (k->required) fputs("; required", out);
    print_when(out, k, "; for ", "");
    fprintf(out, "\n    %s", k->help);
    if (k->keras != NULL) fprintf(out, " Keras: %s.", k->keras);
    fputc('\n', out);
  }
}

dft_status dft_config_reference(bool markdown, char **text) {
  size_t bytes = 0;
  *text = NULL;
  FILE *out = open_memstream(text, &bytes);
  if (out == NULL) return dft_fail_memory("config reference", 0);
  if (markdown)
    print_markdown(out);
  else
    print_plain(out);
  return fclose(out) == 0 ? DFT_OK : dft_fail_memory("config reference", bytes);
}
