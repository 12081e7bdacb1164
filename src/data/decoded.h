/* data.decoded_cache: the reduced bitmaps of image files (decode.h), kept in a file, so that later epochs and
 * runs neither read nor decode the originals. Training gets the same bits as from decoding again.
 *
 * The file: a slot per image of the manifest, in its order, of one size that any bitmap fits which is less
 * than twice as high and wide as wanted (for mode crop: four times the area again as much); a larger one is
 * not kept. A slot is a header and the pixels; slots that nobody has written are holes and take no room. The
 * name says by two CRC-64 what decides the bitmaps: the build of dft, image size, resize mode, the manifest
 * (path, names, sizes).
 *
 * A bitmap is true only if its CRC32C is, and if the original's size and time of change are those it was made
 * of (src/data/manifest.h: stamp). So what a crash, a failing disk, another writer at the same time or a
 * changed photo leave behind is an image that is decoded again, and ranks and runs share the file without
 * locks. Reading and writing are pread and pwrite: a file that is cut off while it is used ends nothing.
 *
 * Room: writing ends with a warning when the disk is full or nine tenths of what was free are used. A
 * directory that cannot be used is a warning, too; one that can only be read is read. The file is opened when
 * the first image is wanted. Any thread; not collective. */
#ifndef DFT_DATA_DECODED_H
#define DFT_DATA_DECODED_H

#include "decode.h"
#include "manifest.h"

typedef struct dft_decoded dft_decoded;

/* `warns`: this process tells people what goes wrong. The manifest must outlive it. */
dft_status dft_decoded_new(const char *directory, const dft_manifest *m, dft_resize mode, int out_height,
                           int out_width, bool warns, dft_decoded **decoded);
void dft_decoded_free(dft_decoded *d); /* NULL is fine */

/* The bitmap of image `origin`, into *bitmap as dft_decode does it; false: it is not there. *stamp is for
 * dft_decoded_put, which keeps a bitmap that was decoded from a file read after this call. */
bool dft_decoded_get(dft_decoded *d, int64_t origin, dft_bitmap *bitmap, uint64_t *stamp);
void dft_decoded_put(dft_decoded *d, int64_t origin, const dft_bitmap *bitmap, uint64_t stamp);

#endif
