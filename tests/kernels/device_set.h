/* The kernel set of a device as the tests of the CPU's sets want one: a table whose operations take the
 * host's memory, bring it to the device, run there and bring what was written back. Activations travel in the
 * device's type. DFT_TEST_DEVICE=float32|tf32|bfloat16 asks for one; DFT_CUDA_MODULE says whose (device.h).
 */
#ifndef DEVICE_SET_H
#define DEVICE_SET_H

#include "dft/ops.h"

/* The module's own table, NULL when DFT_TEST_DEVICE is not set. What cannot be opened ends the program: 77,
 * skipped, where there is no device. */
const dft_ops *device_ops(void);
/* The table described above, or NULL. */
const dft_ops *device_set(void);

/* count values of `activations` in host memory, as the device rounds them. */
void device_rounded(float *values, size_t count);

#endif
