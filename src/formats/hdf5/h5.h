/* The few HDF5 operations that Keras files need, with everything a file claims checked.
 *
 * Objects are opened through hard links only, so a file cannot point into another one; external and virtual
 * datasets and filter plugins are refused. libhdf5's own messages are off. Ids are released with H5Idec_ref
 * (it closes any kind); a negative id means "not there" and is never released. Not thread-safe. */
#ifndef DFT_FORMATS_H5_H
#define DFT_FORMATS_H5_H

#define H5_USE_110_API /* the calls of Debian 12's 1.10 also on later versions */
#include "../keras.h"
#include <hdf5.h>

typedef struct dft_h5 {
  hid_t id;
  const char *path;
  int64_t file_bytes;   /* length of the file */
  int64_t tensor_bytes; /* float32 bytes read so far */
} dft_h5;

/* `path` must stay valid while the file is open. DFT_EDATA when it cannot be read or is not HDF5. */
dft_status dft_h5_open(const char *path, dft_h5 *file);
void dft_h5_close(dft_h5 *file);

void dft_h5_quiet(void);    /* libhdf5 prints nothing from here on */
void dft_h5_free(hid_t id); /* H5Idec_ref where the id is one */

/* A list of names. Bytes below space are replaced by '?', so that messages stay one line. */
typedef struct dft_names {
  char **names;
  int count;
} dft_names;
void dft_names_free(dft_names *list);

/* The object at `path` ("a/b/c") below `parent`; negative when absent or not reached by hard links. */
hid_t dft_h5_child(hid_t parent, const char *path);
/* The same, if it is a group. */
hid_t dft_h5_group(hid_t parent, const char *path);

/* Names of a group's members, in natural order: conv2d, conv2d_1, conv2d_2, conv2d_10. */
dft_status dft_h5_members(const dft_h5 *file, hid_t group, dft_names *list);

/* Appends the strings of attribute `name`: one or many, of fixed or variable length. `found` (may be NULL)
 * says whether there is one; an empty array is found. */
dft_status dft_h5_strings(const dft_h5 *file, hid_t object, const char *name, dft_names *list, bool *found);

/* Appends the dataset's values as float32. `label` is what messages call it. *taken is false, and nothing is
 * appended, when it holds integers: state that is not a weight, as the seed of a Dropout. */
dft_status dft_h5_tensor(dft_h5 *file, hid_t dataset, const char *label, dft_weights *w, const char *layer,
                         const char *variable, bool *taken);

/* The rest of the module: keras_read.c and keras_image.c, as dft_hdf5 says. */
dft_status dft_keras_read_here(const char *path, dft_weights *w);
dft_status dft_keras_layout(const char *path, dft_file_kind *kind);
dft_status dft_keras_image(dft_file_kind kind, const dft_weights *w, const dft_keras_layer *layers,
                           int layer_count, void **image, size_t *bytes);

#endif
