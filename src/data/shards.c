/* WebDataset shards -> listing (https://github.com/webdataset/webdataset: a sample is the consecutive members
 * whose names agree up to the first dot of their last part). */
#include "dft/log.h"
#include "source.h"
#include "tar.h"
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

/* SHARD_THREADS wait for files rather than compute. */
enum { SHARD_THREADS = 8, POLL_NS = 1000000, CLS_BYTES = 64, JSON_BYTES = 1 << 20, NAMES_BYTES = 1 << 24 };

/* ---- labels ---- */

static dft_status check_label(const char *name, long long value, int32_t *label) {
  if (value < 0 || value >= DFT_MAX_CLASSES)
    return dft_fail(DFT_EDATA, "%s: the label %lld is no class number (0 to %d)", name, value,
                    DFT_MAX_CLASSES - 1);
  *label = (int32_t)value;
  return DFT_OK;
}

dft_status dft_label_cls(const char *name, const char *text, size_t bytes, int32_t *label) {
  static const char spaces[] = " \t\r\n";
  char digits[CLS_BYTES + 1] = "";
  if (bytes <= CLS_BYTES) memcpy(digits, text, bytes);
  char *start = digits + strspn(digits, spaces), *end;
  size_t n = strspn(start, "0123456789");
  if (bytes > CLS_BYTES || strlen(digits) != bytes || n == 0 || n > 9 ||
      start[n + strspn(start + n, spaces)] != '\0')
    return dft_fail(DFT_EDATA, "%s: a .cls is one number, the class from 0 on", name);
  return check_label(name, strtoll(start, &end, 10), label);
}

dft_status dft_label_json(const char *name, const char *text, size_t bytes, int32_t *label) {
  json_error_t error;
  json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
  if (root == NULL) return dft_fail(DFT_EDATA, "%s: line %d: %s", name, error.line, error.text);
  const json_t *value = json_object_get(root, "label");
  if (value == NULL) value = json_object_get(root, "cls");
  dft_status status = json_is_integer(value)
                          ? check_label(name, json_integer_value(value), label)
                          : dft_fail(DFT_EDATA, "%s: no \"label\": NUMBER or \"cls\": NUMBER in it", name);
  json_decref(root);
  return status;
}

/* ---- samples ---- */

/* The members of one key so far. bytes -1: has none. */
typedef struct group {
  char key[DFT_PATH_BYTES], image_name[DFT_PATH_BYTES];
  int64_t image_at, image_bytes, cls_at, cls_bytes, json_at, json_bytes;
  bool linked; /* a member is a link to another one, or to a file elsewhere: the image or a label ... */
  bool sample_linked;         /* ... that makes it a sample */
  char other[DFT_PATH_BYTES]; /* a member that ends like an image, but not at the first dot */
  int64_t others;
} group;

static void start_group(group *g, const char *name, size_t key_bytes) {
  memcpy(g->key, name, key_bytes);
  g->key[key_bytes] = '\0';
  g->image_bytes = g->cls_bytes = g->json_bytes = -1;
  g->linked = g->sample_linked = false;
  g->others = 0;
}

static dft_status read_label(dft_tar *t, const group *g, const char *ending, int64_t at, int64_t bytes,
                             int32_t *label) {
  char name[3 * DFT_PATH_BYTES];
  bool cls = ending[1] == 'c';
  snprintf(name, sizeof name, "%s: %s%s", t->path, g->key, ending);
  if (bytes > (cls ? CLS_BYTES : JSON_BYTES))
    return dft_fail(DFT_EDATA, "%s: %lld bytes are too many for a label", name, (long long)bytes);
  char *text = malloc((size_t)bytes + 1);
  if (text == NULL) return dft_fail_memory("label", (unsigned long long)bytes);
  dft_status status = dft_tar_read(t, at, bytes, text);
  if (status == DFT_OK)
    status = cls ? dft_label_cls(name, text, (size_t)bytes, label)
                 : dft_label_json(name, text, (size_t)bytes, label);
  free(text);
  return status;
}

/* IMG_1.edited.jpg is the image of a sample IMG_1.edited in no one's eyes but its owner's: it is the part
 * "edited.jpg" of IMG_1. Where that has no image, it is counted. */
static dft_status pass_over(const group *g, dft_listing *l) {
  if (g->others == 0) return DFT_OK;
  if (l->passed_over == 0) DFT_TRY(dft_listing_text(l, g->other, &l->passed_over_name));
  l->passed_over += g->others;
  return DFT_OK;
}

/* What has no image and no .cls is something else than a sample. */
static dft_status end_group(dft_tar *t, const group *g, dft_listing *l) {
  dft_entry e = {.offset = g->image_at, .bytes = g->image_bytes};
  if (g->image_bytes < 0 && g->cls_bytes < 0 && !g->sample_linked) return pass_over(g, l);
  const char *why = g->linked ? " (links are not followed: pack with tar --hard-dereference -h)" : "";
  if (g->image_bytes < 0)
    return dft_fail(DFT_EDATA, "%s: %s%s%s", t->path, g->key,
                    g->cls_bytes < 0 ? " is made of links" : ".cls has no image beside it", why);
  if (g->cls_bytes >= 0)
    DFT_TRY(read_label(t, g, ".cls", g->cls_at, g->cls_bytes, &e.label));
  else if (g->json_bytes >= 0)
    DFT_TRY(read_label(t, g, ".json", g->json_at, g->json_bytes, &e.label));
  else
    return dft_fail(DFT_EDATA, "%s: %s has no label: %s.cls or %s.json must lie next to it%s", t->path,
                    g->image_name, g->key, g->key, why);
  return dft_listing_add(l, g->image_name, e);
}

static dft_status set_part(const dft_tar *t, const dft_member *m, int64_t *at, int64_t *bytes) {
  if (*bytes >= 0)
    return dft_fail(DFT_EDATA, "%s: %s: the sample has two members of this kind", t->path, m->name);
  *at = m->offset;
  *bytes = m->bytes;
  return DFT_OK;
}

static bool is_image_ending(const char *ending) {
  for (int i = 0; dft_image_endings[i] != NULL; i++)
    if (strcasecmp(ending, dft_image_endings[i]) == 0) return true;
  return false;
}

static dft_status take_member(dft_tar *t, const dft_member *m, group *g, dft_listing *l) {
  const char *base = dft_basename(m->name), *dot = strchr(base, '.');
  if ((!m->regular && !m->link) || dot == NULL || dot == base) return DFT_OK;
  size_t key_bytes = (size_t)(dot - m->name);
  if (strncmp(g->key, m->name, key_bytes) != 0 || g->key[key_bytes] != '\0') {
    DFT_TRY(end_group(t, g, l));
    start_group(g, m->name, key_bytes);
  }
  if (m->link) {
    g->linked = true;
    g->sample_linked = g->sample_linked || strcasecmp(dot, ".cls") == 0 || is_image_ending(dot);
    return DFT_OK;
  }
  if (strcasecmp(dot, ".cls") == 0) return set_part(t, m, &g->cls_at, &g->cls_bytes);
  if (strcasecmp(dot, ".json") == 0) return set_part(t, m, &g->json_at, &g->json_bytes);
  if (!is_image_ending(dot)) {
    if (dft_image_name(base) && g->others++ == 0) strcpy(g->other, m->name);
    return DFT_OK;
  }
  strcpy(g->image_name, m->name);
  return set_part(t, m, &g->image_at, &g->image_bytes);
}

static dft_status list_shard(const char *path, dft_listing *l) {
  dft_tar t;
  dft_member m;
  group g;
  bool end = false;
  start_group(&g, "", 0);
  DFT_TRY(dft_tar_open(&t, path));
  dft_status status = DFT_OK;
  while (status == DFT_OK && !end) {
    status = dft_tar_next(&t, &m, &end);
    if (status == DFT_OK) status = end ? end_group(&t, &g, l) : take_member(&t, &m, &g, l);
  }
  dft_tar_close(&t);
  return status;
}

/* ---- all shards ---- */

/* Threads list the shards, each the next one; an error's words stay behind with the thread that raised it.
 * The calling thread gives signs of life meanwhile: a shard may be large, and the files slow. */
typedef struct part {
  dft_listing listing;
  dft_status status;
  char *message;
} part;

typedef struct work {
  const dft_strings *paths;
  part *parts; /* [paths->count] */
  int64_t next, done;
} work;

static void *list_shards(void *argument) {
  work *w = argument;
  for (;;) {
    int64_t i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
    if (i >= w->paths->count) return NULL;
    part *p = &w->parts[i];
    p->status = list_shard(w->paths->items[i], &p->listing);
    if (p->status != DFT_OK) p->message = strdup(dft_error());
    __atomic_fetch_add(&w->done, 1, __ATOMIC_RELEASE);
  }
}

static dft_status run_threads(work *w, const dft_share *share) {
  pthread_t threads[SHARD_THREADS];
  int started = 0, error = 0;
  while (started < SHARD_THREADS && started < w->paths->count && error == 0) {
    error = pthread_create(&threads[started], NULL, list_shards, w);
    started += error == 0;
  }
  if (started == 0) return dft_fail(DFT_EINTERNAL, "cannot start a thread: %s", strerror(error));
  int64_t done;
  while ((done = __atomic_load_n(&w->done, __ATOMIC_ACQUIRE)) < w->paths->count) {
    share->tick(share->context);
    dft_progress("listing shards: %lld of %lld", (long long)done, (long long)w->paths->count);
    nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
  }
  for (int i = 0; i < started; i++) (void)pthread_join(threads[i], NULL);
  dft_progress_end();
  return DFT_OK;
}

/* In order; the first error there counts. */
static dft_status join_parts(const work *w, dft_listing *l) {
  dft_status status = DFT_OK;
  for (int64_t i = 0; i < w->paths->count; i++) {
    part *p = &w->parts[i];
    if (status == DFT_OK && p->status != DFT_OK)
      status = dft_fail(p->status, "%s", p->message != NULL ? p->message : w->paths->items[i]);
    if (status == DFT_OK) status = dft_listing_join(l, &p->listing, (int32_t)i);
    if (status == DFT_OK) status = dft_listing_shard(l, w->paths->items[i]);
    dft_listing_free(&p->listing);
    free(p->message);
  }
  return status;
}

static dft_status list_all(const dft_strings *paths, const dft_share *share, dft_listing *l) {
  work w = {.paths = paths, .parts = calloc((size_t)paths->count, sizeof *w.parts)};
  if (w.parts == NULL) return dft_fail_memory("shards", (unsigned long long)paths->count * sizeof *w.parts);
  dft_status status = run_threads(&w, share);
  if (status == DFT_OK) status = join_parts(&w, l);
  free(w.parts);
  return status;
}

/* ---- class names ---- */

static dft_status add_lines(const char *path, char *text, dft_listing *l) {
  for (char *line = text; *line != '\0';) {
    size_t n = strcspn(line, "\n");
    char *next = line[n] == '\0' ? line + n : line + n + 1;
    line[n] = '\0';
    if (n > 0 && line[n - 1] == '\r') line[n - 1] = '\0';
    if (line[0] == '\0')
      return dft_fail(DFT_EDATA, "%s: line %lld is empty; each line names a class", path,
                      (long long)l->class_count + 1);
    if (l->class_count == DFT_MAX_CLASSES)
      return dft_fail(DFT_EDATA, "%s: more than %d classes", path, DFT_MAX_CLASSES);
    DFT_TRY(dft_context(dft_listing_class(l, line), "%s", path));
    line = next;
  }
  return DFT_OK;
}

/* classes.txt beside the first shard, if it is there. */
static dft_status read_class_names(const char *shard, dft_listing *l) {
  char path[DFT_PATH_BYTES + 16];
  dft_file f;
  size_t got = 0;
  snprintf(path, sizeof path, "%.*sclasses.txt", (int)(dft_basename(shard) - shard), shard);
  if (access(path, F_OK) != 0) return DFT_OK;
  char *text = malloc(NAMES_BYTES);
  if (text == NULL) return dft_fail_memory("class names", NAMES_BYTES);
  dft_status status = dft_file_open(&f, path);
  if (status == DFT_OK) {
    status = dft_file_read(&f, text, NAMES_BYTES, &got);
    dft_file_close(&f);
  }
  if (status == DFT_OK && (got == NAMES_BYTES || memchr(text, '\0', got) != NULL))
    status = dft_fail(DFT_EDATA, "%s: not a list of class names", path);
  if (status == DFT_OK) {
    text[got] = '\0';
    status = add_lines(path, text, l);
  }
  free(text);
  return status;
}

dft_status dft_list_shards(const char *path, const dft_share *share, dft_listing *l) {
  dft_strings paths = {0};
  *l = (dft_listing){0};
  dft_status status = dft_shard_paths(path, &paths);
  if (status == DFT_OK) status = list_all(&paths, share, l);
  const bool some = status == DFT_OK && l->passed_over > 0;
  if (status == DFT_OK && l->count == 0)
    status = dft_fail(DFT_EDATA, "%s: no samples: an image and its .cls or .json side by side%s%s%s", path,
                      some ? "; a sample's name ends at its first dot, which " : "",
                      some ? l->text + l->passed_over_name : "", some ? " has too early" : "");
  else if (some)
    dft_warn("%s: %lld %s passed over, as %s: a sample's name ends at its first dot", path,
             (long long)l->passed_over, l->passed_over == 1 ? "image was" : "images were",
             l->text + l->passed_over_name);
  if (status == DFT_OK) status = read_class_names(paths.items[0], l);
  dft_strings_free(&paths);
  if (status != DFT_OK) dft_listing_free(l);
  return status;
}
