/* What weight files say beside their numbers, and their numbers. */
#ifndef DFT_FORMATS_METADATA_H
#define DFT_FORMATS_METADATA_H

#include "dft/weights.h"

/* Under this name files keep the class names: an attribute in HDF5, elsewhere a JSON list of texts. */
#define DFT_CLASS_NAMES_KEY "dft_class_names"
enum { DFT_CLASS_NAMES_MAX = 100000 /* as model.classes */, DFT_CLASS_NAMES_BYTES_MAX = 8 << 20 };

/* The class names as JSON, released by free(); NULL when there are none. */
dft_status dft_class_names_json(const dft_weights *w, char **json);
/* Takes them from JSON. DFT_EDATA naming the file when they are no list of texts without control characters.
 */
dft_status dft_class_names_parse(const char *file, const char *json, dft_weights *w);

/* Numbers in files, little endian: IEEE 754, and bfloat16, a float32's upper half. */
typedef enum dft_number { DFT_NUMBER_F32, DFT_NUMBER_F16, DFT_NUMBER_BF16, DFT_NUMBER_F64 } dft_number;
size_t dft_number_bytes(dft_number type);
void dft_numbers_read(dft_number type, const void *bytes, int64_t count, float *values);

#endif
