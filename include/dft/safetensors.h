/* Weights in safetensors files: a length (8 bytes, little endian), a JSON object of that length with each
 * tensor's type, shape and place, then the tensors' bytes. Format: the README of huggingface/safetensors.
 *
 * Tensors have Keras' paths for names, "Conv1/kernel", and Keras' shapes (weights.h). Class names and
 * properties are in `__metadata__`, class names as a JSON list under "dft_class_names".
 *
 * Reading: F32, F16, BF16 and F64 become float32; whole numbers, empty tensors and those of more than 4
 * dimensions are passed over. Of a longer path the last two parts count ("model/Conv1/kernel:0"), and a name
 * without a slash is parted at its last dot. The order of a file means nothing, so that such weights bind by
 * name only (`unordered`). Nothing in a file is believed before it is checked; errors: DFT_EDATA, "FILE: what
 * is wrong" or "FILE: TENSOR: what is wrong", and DFT_EIO. Not collective; any thread.
 */
#ifndef DFT_SAFETENSORS_H
#define DFT_SAFETENSORS_H

#include "dft/weights.h"

/* *w is overwritten, and empty after an error. */
dft_status dft_safetensors_read(const char *path, dft_weights *w);
/* The same of a file's bytes; `name` is for messages. */
dft_status dft_safetensors_decode(const char *name, const unsigned char *bytes, size_t count, dft_weights *w);

/* Written whole or not at all (file.h). Equal weights give equal bytes. */
dft_status dft_safetensors_write(const char *path, const dft_weights *w, const dft_property *properties,
                                 int property_count);

#endif
