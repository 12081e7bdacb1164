/* An npy file of any content, plain or gzip: as images, and as labels. What opens is read to its end. */
#include "fuzz_data.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
  fuzz_array_file(DFT_DATA_NPY, data, size);
  return 0;
}
