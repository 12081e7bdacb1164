/* The module dft_hdf5.so: Keras' files through libhdf5. */
#include "h5.h"

extern const dft_hdf5 dft_hdf5_module_1;
const dft_hdf5 dft_hdf5_module_1 = {
    .read = dft_keras_read_here, .layout = dft_keras_layout, .image = dft_keras_image, .error = dft_error};
