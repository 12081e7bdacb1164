/* A checkpoint file of any content: as it is, and with its CRC put right so that the inside is reached. What
 * is accepted must encode again, to a file that decodes to the same bytes. */
#include "dft/checkpoint.h"
#include "dft/crc.h"
#include <stdlib.h>
#include <string.h>

static void decode(const unsigned char *bytes, size_t count) {
  dft_state s, again;
  unsigned char *first = NULL, *second = NULL;
  size_t first_count, second_count;
  if (dft_state_decode("fuzz.pb", bytes, count, &s) != DFT_OK) return;
  if (dft_state_encode(&s, &first, &first_count) != DFT_OK) abort();
  if (dft_state_decode("fuzz.pb", first, first_count, &again) != DFT_OK) abort();
  if (dft_state_encode(&again, &second, &second_count) != DFT_OK) abort();
  if (first_count != second_count || memcmp(first, second, first_count) != 0) abort();
  free(first);
  free(second);
  dft_state_free(&s);
  dft_state_free(&again);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  decode(data, size);
  unsigned char *sealed = malloc(size + 6);
  if (sealed == NULL) return 0;
  if (size > 0) memcpy(sealed, data, size);
  if (size >= 6) size -= 6; /* the old CRC field */
  uint32_t crc = dft_crc32c(0, sealed, size);
  sealed[size] = 0xfd;
  sealed[size + 1] = 0x7f;
  for (int i = 0; i < 4; i++) sealed[size + 2 + (size_t)i] = (unsigned char)(crc >> (8 * i));
  decode(sealed, size + 6);
  free(sealed);
  return 0;
}
