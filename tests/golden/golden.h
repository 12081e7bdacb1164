/* The inputs that make_goldens.py and dft compute alike, and the records it made with Keras.
 *
 * golden_model fills a model with the formula's weights (and the stored moving statistics); golden_picture is
 * the formula's image. Both give the bits that make_goldens.py gave Keras. Files: $DFT_GOLDEN_DATA, or
 * tests/golden/data under the source directory. Functions return 0 (or a pointer) on success; on failure they
 * have written a line to stderr. */
#ifndef GOLDEN_H
#define GOLDEN_H

#include "dft/model.h"
#include <stddef.h>
#include <stdint.h>

enum {
  GOLDEN_CLASSES = 5,
  GOLDEN_TRAIN = 24,
  GOLDEN_VALIDATION = 10,
  GOLDEN_BATCH = 10,    /* of the gradients */
  GOLDEN_INFERENCE = 4, /* pictures of the inference activations */
  GOLDEN_MAX_NAME = 80
};

/* uint8 [size][size][3] of picture `index`: training 0..23, validation 24..33. */
void golden_picture(int index, int size, unsigned char *out);
int golden_label(int index);
/* The same, ready for the model: value/127.5 - 1. */
void golden_image(int index, int size, float *out);

int golden_model(double alpha, int size, dft_model **model);

typedef struct golden_record {
  char name[GOLDEN_MAX_NAME];
  size_t count;
  float *values;
} golden_record;
typedef struct golden_file {
  golden_record *records;
  int count;
} golden_file;

void golden_path(char *path, size_t bytes, const char *name);
int golden_read(const char *name, golden_file *file);
void golden_free(golden_file *file);
const golden_record *golden_find(const golden_file *file, const char *name); /* or NULL */

/* One tensor of make_goldens.py's records_of, against dft's values. */
typedef enum { GOLDEN_ABSENT, GOLDEN_ZERO, GOLDEN_VALUES } golden_presence;
typedef struct golden_difference {
  golden_presence presence; /* ABSENT: plainly zero; ZERO: rounding error in Keras itself */
  double noise;             /* Keras' own relative L2 distance, float32 from float64 */
  double noise_largest;     /* and its largest, absolute */
  double relative;          /* relative L2 distance of dft's sample from Keras' */
  double largest;           /* largest absolute distance within the sample */
  double norm;              /* relative distance of the L2 norms of the whole tensors */
} golden_difference;
golden_difference golden_compare(const golden_file *file, const char *name, const float *values,
                                 int64_t count);

#endif
