/* Between the files of this module. */
#ifndef DFT_CHECKPOINT_INTERNAL_H
#define DFT_CHECKPOINT_INTERNAL_H

/* End of the names under which files are written before their rename; the process id stands before it. What
 * a killed run left behind is removed when its directory is opened again. */
#define DFT_TEMPORARY_SUFFIX ".dft-tmp"

/* A field's tag and value: fd 7f, then four bytes. */
enum { DFT_CRC_FIELD_BYTES = 6 };

#endif
