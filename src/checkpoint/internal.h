/* Between the files of this module. */
#ifndef DFT_CHECKPOINT_INTERNAL_H
#define DFT_CHECKPOINT_INTERNAL_H

/* A field's tag and value: fd 7f, then four bytes. */
enum { DFT_CRC_FIELD_BYTES = 6 };

#endif
