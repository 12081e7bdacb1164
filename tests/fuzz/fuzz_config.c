/* A config of any content, its first line also as a key=value. What is accepted must write to a config that
 * reads back equal, and be compatible with itself. */
#include "dft/config.h"
#include <stdlib.h>
#include <string.h>

static void parse(const char *text, const char *const *overrides, int count) {
  dft_config *config = NULL, *again = NULL;
  char *first = NULL, *second = NULL, *lines = NULL;
  if (dft_config_parse("fuzz.yaml", text, overrides, count, &config) != DFT_OK) {
    if (dft_error()[0] == '\0') abort(); /* a refusal says why */
    return;
  }
  if (dft_config_write(config, &first) != DFT_OK) abort();
  if (dft_config_parse("again.yaml", first, NULL, 0, &again) != DFT_OK) abort();
  if (dft_config_write(again, &second) != DFT_OK || strcmp(first, second) != 0) abort();
  if (dft_config_deciding(config, &lines) != DFT_OK) abort();
  if (dft_config_compatible(again, lines, config->phase_count - 1) != DFT_OK) abort();
  free(first);
  free(second);
  free(lines);
  dft_config_free(config);
  dft_config_free(again);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  char *text = malloc(size + 1);
  if (text == NULL) return 0;
  if (size > 0) memcpy(text, data, size);
  text[size] = '\0';
  parse(text, NULL, 0);
  char *end = strchr(text, '\n');
  if (end != NULL) {
    *end = '\0';
    const char *override = text;
    parse(end + 1, &override, 1);
  }
  free(text);
  return 0;
}
