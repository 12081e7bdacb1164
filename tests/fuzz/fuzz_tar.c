/* A tar file of any content: listed, and its samples read. */
#include "fuzz_data.h"

enum { BLOCK = 512 };

/* Mutations rarely hit a checksum: what looks like a header gets the right one. */
static void mend_checksums(unsigned char *tar, size_t size) {
  for (size_t at = 0; at + BLOCK <= size; at += BLOCK) {
    unsigned char *h = tar + at;
    char sum_text[8];
    unsigned sum = 0;
    if (memcmp(h + 257, "ustar", 5) != 0) continue;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++) sum += h[i];
    snprintf(sum_text, sizeof sum_text, "%06o", sum);
    memcpy(h + 148, sum_text, 7);
  }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  static float out[3 * FUZZ_SIDE * FUZZ_SIDE];
  char path[64], warning[128];
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  unsigned char *tar = malloc(size + 1);
  if (fd < 0 || tar == NULL) abort();
  memcpy(tar, data, size);
  mend_checksums(tar, size);
  if (write(fd, tar, size) != (ssize_t)size) abort();
  free(tar);
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  dft_config c = {.seed = 1, .model = {.height = FUZZ_SIDE, .width = FUZZ_SIDE, .classes = FUZZ_CLASSES}};
  c.data.format = DFT_DATA_TAR;
  c.data.train = (dft_config_split){.present = true, .path = path};
  dft_dataset *train, *validation;
  if (dft_data_open(&c, dft_share_alone(), &train, &validation) == DFT_OK) {
    for (int64_t i = 0; i < dft_dataset_count(train); i++) {
      (void)dft_dataset_check(train, i, out, warning, sizeof warning);
      dft_dataset_name(train, i, warning, sizeof warning);
    }
    (void)dft_dataset_fingerprint(train);
    dft_dataset_free(train);
  }
  close(fd);
  return 0;
}
