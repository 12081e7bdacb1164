/* What a manifest is made of beside tar files, by the first byte: a .cls, a .json, a pattern of shards,
 * classes.txt. */
#include "../../src/data/manifest.h"
#include "fuzz_data.h"
#include <ctype.h>

static char directory[] = "/tmp/dft-fuzz-XXXXXX", shard[64], names[64];

static void clean_up(void) {
  (void)unlink(shard);
  (void)unlink(names);
  (void)rmdir(directory);
}

static void put(const char *path, const void *data, size_t size) {
  FILE *f = fopen(path, "wb");
  if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0) abort();
}

/* A shard of one sample, whose image is empty. */
static void make_shard(void) {
  unsigned char tar[5 * 512] = {0};
  static const char *const members[] = {"0.jpg", "0.cls"};
  for (int i = 0; i < 2; i++) {
    char *h = (char *)tar + (size_t)i * 512;
    snprintf(h, 100, "%s", members[i]);
    snprintf(h + 124, 12, "%011o", i);
    memset(h + 148, ' ', 8);
    h[156] = '0';
    unsigned sum = 0;
    for (int k = 0; k < 512; k++) sum += (unsigned char)h[k];
    snprintf(h + 148, 8, "%06o", sum);
  }
  tar[1024] = '0';
  put(shard, tar, sizeof tar);
}

static void make_directory(void) {
  static bool made;
  if (made) return;
  made = true;
  if (mkdtemp(directory) == NULL) abort();
  snprintf(shard, sizeof shard, "%s/s.tar", directory);
  snprintf(names, sizeof names, "%s/classes.txt", directory);
  make_shard();
  (void)atexit(clean_up);
}

static void list(const char *path) {
  dft_listing l;
  if (dft_list_shards(path, dft_share_alone(), &l) == DFT_OK) dft_listing_free(&l);
}

/* Patterns of very many shards only take long. */
static bool is_small(const char *pattern) {
  int digits = 0, commas = 0;
  for (; *pattern != '\0'; pattern++) {
    digits += isdigit((unsigned char)*pattern) != 0;
    commas += *pattern == ',';
  }
  return digits <= 6 && commas <= 8;
}

static void read_pattern(const char *text) {
  char path[512];
  dft_strings paths;
  if (!is_small(text)) return;
  snprintf(path, sizeof path, "%s/%s", directory, text);
  if (dft_shard_paths(path, &paths) == DFT_OK) dft_strings_free(&paths);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  int32_t label = -1;
  if (size == 0) return 0;
  make_directory();
  char *text = strndup((const char *)data + 1, size - 1);
  dft_status status = DFT_EDATA;
  if (text == NULL) abort();
  if (data[0] % 4 == 0) status = dft_label_cls("fuzz", (const char *)data + 1, size - 1, &label);
  if (data[0] % 4 == 1) status = dft_label_json("fuzz", (const char *)data + 1, size - 1, &label);
  if (data[0] % 4 == 2) read_pattern(text);
  if (data[0] % 4 == 3) {
    put(names, data + 1, size - 1);
    list(shard);
  }
  if (status == DFT_OK && (label < 0 || label >= DFT_MAX_CLASSES)) abort();
  free(text);
  return 0;
}
