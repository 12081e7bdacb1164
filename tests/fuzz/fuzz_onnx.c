/* ONNX files of any content: read or refused in one line that names the file. */
#include "dft/onnx.h"
#include "fuzz_weights.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  dft_weights w;
  check_weights(dft_onnx_decode("fuzz.onnx", data, size, 1e-3F, &w), "fuzz.onnx: ", &w);
  return 0;
}
