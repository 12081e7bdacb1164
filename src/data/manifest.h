/* The manifest: which image files, or members of tar files, make a dataset. Built by the host's writer as a
 * listing, then one copy per host in shared memory.
 *
 *   folder.c       a directory per class -> listing
 *   shard_paths.c  pattern, directory or file -> tar files
 *   shards.c       tar files (tar.h) -> listing
 *   listing.c      listing, checked against the config -> manifest and labels (dataset.h)
 *   manifest.c     listing -> manifest -> bytes of a sample
 *
 * Functions that take a dft_share call its tick while they read; only dft_manifest_share and
 * dft_manifest_unref are collective on the host. Errors: DFT_EDATA naming file and member. */
#ifndef DFT_DATA_MANIFEST_H
#define DFT_DATA_MANIFEST_H

#include "dft/config.h"
#include "dft/share.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DFT_PATH_BYTES = 4096, DFT_MAX_CLASSES = 100000 };
/* stat may be slow on network file systems: several at once, with a sign of life after so many. */
enum { DFT_STAT_THREADS = 8, DFT_STAT_BATCH = 8192 };

typedef struct dft_entry {
  int64_t name;   /* place in the text: "rose/1.jpg", or the member's name */
  int64_t offset; /* of its first byte in its file */
  int64_t bytes;  /* -1: could not be told when it was listed */
  int32_t label;
  int32_t shard; /* the tar file that holds it; -1: a file of its own below the root */
} dft_entry;

/* What a writer lists. Zeroed to begin with; texts are places in `text`. */
typedef struct dft_listing {
  int64_t root; /* folder: its path; -1: the names are paths themselves */
  int64_t count, room;
  dft_entry *entries;
  int64_t text_bytes, text_room;
  char *text; /* strings, each ended by 0 */
  int64_t class_count, class_room, *classes;
  int64_t shard_count, shard_room, *shards;
  /* files or members whose name or place is no sample's, and one of them */
  int64_t passed_over, passed_over_name;
} dft_listing;

void dft_listing_free(dft_listing *l);
dft_status dft_listing_text(dft_listing *l, const char *text, int64_t *place);
dft_status dft_listing_add(dft_listing *l, const char *name, dft_entry entry); /* sets entry.name */
dft_status dft_listing_class(dft_listing *l, const char *name); /* UTF-8 without control characters */
dft_status dft_listing_shard(dft_listing *l, const char *path);
/* Adds all entries of `part` as those of the shard numbered `shard`. */
dft_status dft_listing_join(dft_listing *l, const dft_listing *part, int32_t shard);

/* ---- strings.c ---- */

typedef struct dft_strings {
  int64_t count, room;
  char **items; /* owned */
} dft_strings;

void dft_strings_free(dft_strings *l);
dft_status dft_strings_take(dft_strings *l, char *item); /* NULL: there was no memory for it */
dft_status dft_strings_join(dft_strings *l, const char *directory,
                            const char *name); /* directory may be "" */
/* From number `from` on; compare NULL: byte by byte. */
void dft_strings_sort(dft_strings *l, int64_t from, int (*compare)(const void *, const void *));
bool dft_strings_have(const dft_strings *sorted, const char *item); /* sorted byte by byte */

/* ---- folder.c ---- */

/* The endings of image files, with their dots, ended by NULL: lower case, any case is meant. */
extern const char *const dft_image_endings[];
bool dft_image_name(const char *name); /* ends so, and is not hidden */

/* Lists the images of a folder of class folders. Order as Keras' image_dataset_from_directory: classes by
 * name, in a class the directories by path and in each the files by name, all compared byte by byte (which
 * for UTF-8 is Python's order). `names` NULL, or the classes in their order, which must be just the folders;
 * `names_from` says in messages who names them. Hidden files and directories are left out. Links are
 * followed; a directory that is reached twice in a class is read once. */
dft_status dft_list_folder(const char *path, const char *const *names, int name_count, const char *names_from,
                           const dft_share *share, dft_listing *l);

/* Adds the paths of all images in a folder and below it, in the same order, to `files`; a note tells of other
 * files. */
dft_status dft_list_images(const char *path, const dft_share *share, dft_strings *files);

/* ---- shards.c ---- */

/* Lists the samples of WebDataset shards. `path`: one tar file, a directory (its *.tar by name), or a pattern
 * with {0000..0127}, {a,b} and * ? [ ]. A sample is a run of members of one key, the name up to the first dot
 * of its last part: one image (by ending) and its label in KEY.cls (a number) or KEY.json ({"label": 3} or
 * {"cls": 3}). Order: shards as the pattern or their names say, members as they lie. Class names, if any, are
 * the lines of classes.txt beside the first shard. */
dft_status dft_list_shards(const char *path, const dft_share *share, dft_listing *l);
/* The tar files that `path` means, in order (shard_paths.c). */
dft_status dft_shard_paths(const char *path, dft_strings *paths);
/* The label in the text of a KEY.cls or KEY.json; `name` names it in messages. */
dft_status dft_label_cls(const char *name, const char *text, size_t bytes, int32_t *label);
dft_status dft_label_json(const char *name, const char *text, size_t bytes, int32_t *label);

/* ---- manifest.c ---- */

typedef struct dft_manifest dft_manifest;

/* The writer's listing to all ranks of the host. Collective on the host. */
dft_status dft_manifest_share(const dft_listing *l, const dft_share *share, dft_manifest **manifest);
dft_manifest *dft_manifest_ref(dft_manifest *m);
void dft_manifest_unref(dft_manifest *m); /* NULL is fine; the last one is collective on the host */

int64_t dft_manifest_count(const dft_manifest *m);
const dft_entry *dft_manifest_entry(const dft_manifest *m, int64_t i);
/* The class folders, or the lines of classes.txt; 0 and NULL: unknown. */
int dft_manifest_classes(const dft_manifest *m);
const char *const *dft_manifest_class_names(const dft_manifest *m);
/* Files in class folders whose names do not end as images do, hidden ones apart; *name is the first of them
 * by its path below the root. */
int64_t dft_manifest_passed_over(const dft_manifest *m, const char **name);
const char *dft_manifest_text(const dft_manifest *m, int64_t place);
/* For messages: "rose/1.jpg", "shard-0001.tar: 17.jpg"; with `whole`, the path that opens it. */
void dft_manifest_name(const dft_manifest *m, int64_t i, bool whole, char *text, size_t bytes);
/* Continues two CRC-64 (ECMA, Jones) over what the manifest says: path, names, sizes. */
void dft_manifest_key(const dft_manifest *m, uint64_t key[2]);
/* Identifies the contents of a sample as make does: by size and time of change of its file, and its place in
 * it; 0: there is no such file. */
uint64_t dft_manifest_stamp(const dft_manifest *m, int64_t i);
/* The bytes of a sample, fresh. DFT_EDATA: this sample cannot be had (missing, not permitted, zero bytes,
 * more than 1 GiB, cut off); DFT_EIO: the machine fails, or the class folder or tar file is not there any
 * more. Any thread. */
dft_status dft_manifest_read(const dft_manifest *m, int64_t i, uint8_t **data, size_t *count);

#endif
