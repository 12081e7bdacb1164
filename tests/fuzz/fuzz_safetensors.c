/* Safetensors files of any content: read or refused in one line that names the file. */
#include "dft/safetensors.h"
#include "fuzz_weights.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  dft_weights w;
  check_weights(dft_safetensors_decode("fuzz.safetensors", data, size, &w), "fuzz.safetensors: ", &w);
  return 0;
}
