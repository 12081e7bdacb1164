/* The run directory: its lock, its checkpoints, which of them is the newest good one. */
#include "dft/checkpoint.h"
#include "dft/file.h"
#include "dft/log.h"
#include "dft/text.h"
#include "internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct dft_store {
  int lock_fd;
  bool has_final;
  char directory[PATH_MAX];
};

/* ckpt-eEEEE-sSSSSSSSS.pb */
typedef struct entry {
  char name[64];
  int64_t epoch, step;
} entry;

typedef struct listing {
  entry *entries; /* newest first */
  int count;
} listing;

dft_path dft_store_path(const dft_store *s, const char *name) {
  dft_path path;
  snprintf(path.text, sizeof path.text, "%s/%s", s->directory, name);
  return path;
}

static void name_of(int64_t epoch, int64_t step, char *name, size_t bytes) {
  snprintf(name, bytes, "ckpt-e%04" PRId64 "-s%08" PRId64 ".pb", epoch, step);
}

/* Only names that we would write ourselves count: ckpt-e1-s2.pb is someone else's. */
static bool parse_name(const char *name, entry *e) {
  char written[sizeof e->name];
  if (sscanf(name, "ckpt-e%9" SCNd64 "-s%18" SCNd64 ".pb", &e->epoch, &e->step) != 2) return false;
  name_of(e->epoch, e->step, written, sizeof written);
  if (strcmp(name, written) != 0) return false;
  memcpy(e->name, written, sizeof written);
  return true;
}

static int newest_first(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->step != y->step) return x->step < y->step ? 1 : -1;
  return (x->epoch < y->epoch) - (x->epoch > y->epoch);
}

static dft_status list(const dft_store *s, listing *l) {
  *l = (listing){0};
  DIR *d = opendir(s->directory);
  if (d == NULL) return dft_fail(DFT_EIO, "%s: cannot read: %s", s->directory, strerror(errno));
  dft_status status = DFT_OK;
  int room = 0;
  for (;;) {
    entry e;
    errno = 0;
    const struct dirent *item = readdir(d);
    if (item == NULL && errno != 0)
      status = dft_fail(DFT_EIO, "%s: cannot read: %s", s->directory, strerror(errno));
    if (item == NULL) break;
    if (!parse_name(item->d_name, &e)) continue;
    if (l->count == room) {
      room = 2 * room + 16;
      entry *larger = realloc(l->entries, (size_t)room * sizeof *larger);
      if (larger == NULL) {
        status = dft_fail_memory("list of checkpoints", (size_t)room * sizeof *larger);
        break;
      }
      l->entries = larger;
    }
    l->entries[l->count++] = e;
  }
  closedir(d);
  if (status != DFT_OK) {
    free(l->entries);
    *l = (listing){0};
  } else if (l->count > 0)
    qsort(l->entries, (size_t)l->count, sizeof *l->entries, newest_first);
  return status;
}

/* Who holds the lock, as it says itself. */
static void read_owner(int fd, char *owner, size_t bytes) {
  const ssize_t n = pread(fd, owner, bytes - 1, 0);
  owner[n > 0 ? (size_t)n : 0] = 0;
  owner[strcspn(owner, "\n")] = 0;
  if (owner[0] == 0) snprintf(owner, bytes, "it is just starting");
}

/* The lock belongs to the open file, not to the process, so that a second opener in this process is refused
 * too and a close elsewhere does not release it. The text in it is only for the message to the one who comes
 * second. */
static dft_status lock(dft_store *s) {
  const dft_path path = dft_store_path(s, "lock");
  char owner[256] = "";
  s->lock_fd = open(path.text, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (s->lock_fd < 0) return dft_fail(DFT_EIO, "%s: cannot open: %s", path.text, strerror(errno));
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (fcntl(s->lock_fd, F_OFD_SETLK, &whole) != 0) {
    if (errno == EAGAIN || errno == EACCES) {
      read_owner(s->lock_fd, owner, sizeof owner);
      return dft_fail(DFT_EUSAGE, "another run uses %s (%s): wait for its end or set another run_dir",
                      s->directory, owner);
    }
    if (errno != ENOLCK && errno != ENOTSUP && errno != ENOSYS)
      return dft_fail(DFT_EIO, "%s: cannot lock: %s", path.text, strerror(errno));
    dft_warn("%s: this file system has no locks (%s): let only one run use it", s->directory,
             strerror(errno));
  }
  char host[128] = "";
  gethostname(host, sizeof host - 1);
  int length = snprintf(owner, sizeof owner, "process %ld on %s\n", (long)getpid(), host);
  if (ftruncate(s->lock_fd, 0) != 0 || pwrite(s->lock_fd, owner, (size_t)length, 0) != length)
    return dft_fail(DFT_EIO, "%s: cannot write: %s", path.text, strerror(errno));
  return DFT_OK;
}

bool dft_store_in_use(const char *run_dir, char *owner, size_t bytes) {
  char path[PATH_MAX];
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  snprintf(path, sizeof path, "%s/lock", run_dir);
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  const bool used = fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
  if (used) read_owner(fd, owner, bytes);
  close(fd);
  return used;
}

/* We hold the lock: a temporary file is from a run that was killed while it wrote. */
static void remove_temporary(const dft_store *s) {
  DIR *d = opendir(s->directory);
  if (d == NULL) return;
  for (struct dirent *item; (item = readdir(d)) != NULL;)
    if (dft_ends_in(item->d_name, DFT_TEMPORARY_SUFFIX)) unlinkat(dirfd(d), item->d_name, 0);
  closedir(d);
}

dft_status dft_store_open(const char *run_dir, dft_store **store) {
  *store = NULL;
  size_t length = strlen(run_dir);
  if (length == 0 || length > PATH_MAX - 256)
    return dft_fail(DFT_EUSAGE, "run_dir: %s", length == 0 ? "is empty" : "is too long");
  dft_store *s = calloc(1, sizeof *s);
  if (s == NULL) return dft_fail_memory("run directory", sizeof *s);
  s->lock_fd = -1;
  memcpy(s->directory, run_dir, length + 1);
  while (length > 1 && s->directory[length - 1] == '/') s->directory[--length] = 0;
  dft_status status =
      strcmp(s->directory, "/") != 0
          ? dft_make_directories(s->directory, "run directory")
          : dft_fail(DFT_EUSAGE, "run_dir: / is no place for a run; is a variable before it empty?");
  if (status == DFT_OK) status = lock(s);
  if (status != DFT_OK) {
    if (s->lock_fd >= 0) close(s->lock_fd);
    free(s);
    return status;
  }
  remove_temporary(s);
  *store = s;
  return DFT_OK;
}

/* The file stays: removing it would let two runs lock two files of that name. */
void dft_store_close(dft_store *s) {
  if (s == NULL) return;
  close(s->lock_fd);
  free(s);
}

dft_status dft_store_has_checkpoints(const dft_store *s, bool *has) {
  static const char *const names[] = {"final.pb", "best.pb"};
  listing l;
  DFT_TRY(list(s, &l));
  free(l.entries);
  *has = l.count > 0;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    *has = *has || access(dft_store_path(s, names[i]).text, F_OK) == 0;
  return DFT_OK;
}

/* Reads one file. A damaged one is a warning and *good false; only lack of memory is an error. */
static dft_status try_read(const char *path, dft_state *state, bool *good) {
  dft_status status = dft_state_read(path, state);
  *good = status == DFT_OK;
  if (status == DFT_OK || status == DFT_EINTERNAL) return status;
  dft_warn("%s: passed over", dft_error());
  return DFT_OK;
}

/* final.pb is the newest unless epochs were added since: then checkpoints beyond it come first. best.pb,
 * which may be far behind, is better than nothing. */
static dft_status find_latest(dft_store *s, const listing *l, dft_state *state, const char **name,
                              int *damaged) {
  dft_state final = {0};
  bool have_final = false, good = false;
  dft_status status = DFT_OK;
  *name = NULL;
  if (access(dft_store_path(s, "final.pb").text, F_OK) == 0) {
    DFT_TRY(try_read(dft_store_path(s, "final.pb").text, &final, &have_final));
    *damaged += !have_final;
  }
  for (int i = 0; i < l->count && status == DFT_OK && !good; i++) {
    if (have_final && l->entries[i].step <= final.at.step) break;
    status = try_read(dft_store_path(s, l->entries[i].name).text, state, &good);
    *damaged += status == DFT_OK && !good;
    if (good) *name = l->entries[i].name;
  }
  if (!good && !have_final && status == DFT_OK && access(dft_store_path(s, "best.pb").text, F_OK) == 0) {
    status = try_read(dft_store_path(s, "best.pb").text, state, &good);
    *damaged += status == DFT_OK && !good;
    if (good) *name = "best.pb";
  }
  s->has_final = have_final && !good; /* else it is of fewer epochs than the run has done */
  if (have_final && status == DFT_OK && !good) {
    *state = final;
    *name = "final.pb";
  } else
    dft_state_free(&final);
  return status;
}

dft_status dft_store_latest(dft_store *s, dft_state *state, char **path, bool *found) {
  const char *name = NULL;
  int damaged = 0;
  listing l;
  memset(state, 0, sizeof *state);
  *path = NULL;
  *found = false;
  DFT_TRY(list(s, &l));
  dft_status status = find_latest(s, &l, state, &name, &damaged);
  if (status == DFT_OK && name != NULL) {
    *path = strdup(dft_store_path(s, name).text);
    *found = *path != NULL;
    if (*path == NULL) {
      dft_state_free(state);
      status = dft_fail_memory("path", PATH_MAX);
    }
  } else if (status == DFT_OK && damaged > 0)
    status = dft_fail(
        DFT_EDATA, "%s: none of its %d checkpoints can be read (the last: %s): move them away to start over",
        s->directory, damaged, dft_error());
  free(l.entries);
  return status;
}

bool dft_store_has_final(const dft_store *s) {
  return s->has_final;
}

/* The oldest numbered ones go until `keep` are left. */
static dft_status retain(dft_store *s, int64_t step, int keep) {
  listing l;
  DFT_TRY(list(s, &l));
  int kept = 0;
  for (int i = 0; i < l.count; i++) {
    /* Files beyond this one are left from before a fall back: they are written anew when the run gets there.
     */
    if (l.entries[i].step > step || ++kept <= keep) continue;
    const dft_path path = dft_store_path(s, l.entries[i].name);
    if (unlink(path.text) != 0 && errno != ENOENT)
      dft_warn("%s: cannot delete this old checkpoint: %s", path.text, strerror(errno));
  }
  free(l.entries);
  return DFT_OK;
}

dft_status dft_store_save(dft_store *s, const dft_state *state, unsigned names, int keep) {
  char numbered[64];
  dft_path written = {""};
  name_of(state->at.epoch, state->at.step, numbered, sizeof numbered);
  const char *const name[] = {"best.pb", numbered, "final.pb"}; /* as the bits of dft_save_as */
  for (int i = 0; i < 3; i++) {
    if (!(names >> i & 1u)) continue;
    const dft_path path = dft_store_path(s, name[i]);
    if (written.text[0] != '\0' && dft_link_file(written.text, path.text) == DFT_OK) continue;
    DFT_TRY(dft_state_write(state, path.text));
    written = path;
  }
  s->has_final = s->has_final || names & DFT_SAVE_FINAL;
  return names & DFT_SAVE_NUMBERED && keep >= 1 ? retain(s, state->at.step, keep) : DFT_OK;
}
