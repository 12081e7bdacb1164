/* The run directory: lock, names, retention, falling back, and failing without leaving anything behind. */
#include "dft/file.h"
#include "unit/checkpoint_sample.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
// cmocka.h needs the headers above it
#include <cmocka.h>

static char directory[64];

static int setup(void **state) {
  (void)state;
  strcpy(directory, "/tmp/dft-store-XXXXXX");
  return mkdtemp(directory) == NULL;
}

static int teardown(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", directory);
  return system(command);
}

static void put(const char *name, const char *text) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  fputs(text, f);
  fclose(f);
}

/* Names in the directory, sorted, with a space between. */
static const char *names(const char *path) {
  static char text[2048];
  struct dirent **list;
  int n = scandir(path, &list, NULL, alphasort);
  assert_true(n >= 0);
  text[0] = 0;
  for (int i = 0; i < n; i++) {
    if (list[i]->d_name[0] != '.') {
      if (text[0] != 0) strcat(text, " ");
      strcat(text, list[i]->d_name);
    }
    free(list[i]);
  }
  free(list);
  return text;
}

static dft_store *open_store(void) {
  dft_store *s = NULL;
  if (dft_store_open(directory, &s) != DFT_OK) fail_msg("%s", dft_error());
  return s;
}

static void save(dft_store *store, int epoch, int64_t step, int keep) {
  dft_state s;
  sample_state(&s);
  s.at.epoch = epoch;
  s.at.step = step;
  if (dft_store_save(store, &s, DFT_SAVE_NUMBERED, keep) != DFT_OK) fail_msg("%s", dft_error());
  dft_state_free(&s);
}

static void save_as(dft_store *store, unsigned names, int64_t step) {
  dft_state s;
  sample_state(&s);
  s.at.step = step;
  assert_int_equal(dft_store_save(store, &s, names, 0), DFT_OK);
  dft_state_free(&s);
}

/* What the store takes as the latest; standard error goes to `warnings`. */
static void assert_latest(dft_store *store, const char *name, int64_t step, const char *warnings) {
  dft_state s;
  char *path = NULL, said[4096] = "";
  bool found;
  FILE *capture = tmpfile();
  int keep = dup(2);
  dup2(fileno(capture), 2);
  dft_status status = dft_store_latest(store, &s, &path, &found);
  dup2(keep, 2);
  close(keep);
  rewind(capture);
  said[fread(said, 1, sizeof said - 1, capture)] = 0;
  fclose(capture);
  assert_int_equal(status, DFT_OK);
  assert_true(found);
  assert_string_equal(path, dft_store_path(store, name).text);
  assert_int_equal(s.at.step, step);
  if (warnings == NULL)
    assert_string_equal(said, "");
  else if (strstr(said, warnings) == NULL)
    fail_msg("no '%s' in '%s'", warnings, said);
  free(path);
  dft_state_free(&s);
}

static void test_names_and_retention(void **state) {
  (void)state;
  dft_store *s = open_store();
  bool has;
  put("ckpt-e1-s2.pb", "not ours");
  put("notes.txt", "not ours");
  assert_int_equal(dft_store_has_checkpoints(s, &has), DFT_OK);
  assert_false(has);
  for (int e = 1; e <= 4; e++) save(s, e, 10 * e, 3);
  assert_int_equal(dft_store_has_checkpoints(s, &has), DFT_OK);
  assert_true(has);
  assert_string_equal(names(directory),
                      "ckpt-e0002-s00000020.pb ckpt-e0003-s00000030.pb ckpt-e0004-s00000040.pb "
                      "ckpt-e1-s2.pb lock notes.txt");
  assert_latest(s, "ckpt-e0004-s00000040.pb", 40, NULL);
  save(s, 4, 45, 1); /* in the middle of an epoch */
  save(s, 12345, 1234567890123, 1);
  assert_string_equal(names(directory), "ckpt-e1-s2.pb ckpt-e12345-s1234567890123.pb lock notes.txt");
  assert_latest(s, "ckpt-e12345-s1234567890123.pb", 1234567890123, NULL);
  save(s, 12346, 1234567890124, 0);
  assert_string_equal(
      names(directory),
      "ckpt-e1-s2.pb ckpt-e12345-s1234567890123.pb ckpt-e12346-s1234567890124.pb lock notes.txt");
  dft_store_close(s);
}

/* A stop behind an epoch's last step saves its step once more when the epoch has ended: the later epoch is
 * the newer one. */
static void test_epochs_of_one_step(void **state) {
  (void)state;
  enum { EPOCHS = 12 }; /* of which a directory lists the last three in their order by chance only */
  dft_store *s = open_store();
  for (int i = 0; i < EPOCHS; i++) save(s, 1 + 5 * i % EPOCHS, 10, 0);
  assert_latest(s, "ckpt-e0012-s00000010.pb", 10, NULL);
  save(s, EPOCHS, 10, 3);
  assert_string_equal(names(directory),
                      "ckpt-e0010-s00000010.pb ckpt-e0011-s00000010.pb ckpt-e0012-s00000010.pb lock");
  dft_store_close(s);
}

static ino_t inode(dft_store *s, const char *name, off_t *bytes) {
  struct stat info;
  assert_int_equal(stat(dft_store_path(s, name).text, &info), 0);
  *bytes = info.st_size;
  return info.st_ino;
}

/* One state under several names is on disk once; a name that moves on leaves the others as they are. */
static void test_names_share_bytes(void **state) {
  (void)state;
  dft_store *s = open_store();
  dft_state first, second;
  off_t bytes, other;
  sample_state(&first);
  first.at.epoch = 1;
  first.at.step = 10;
  assert_false(dft_store_has_final(s));
  assert_int_equal(dft_store_save(s, &first, DFT_SAVE_BEST | DFT_SAVE_NUMBERED | DFT_SAVE_FINAL, 3), DFT_OK);
  assert_true(dft_store_has_final(s));
  assert_string_equal(names(directory), "best.pb ckpt-e0001-s00000010.pb final.pb lock");
  ino_t numbered = inode(s, "ckpt-e0001-s00000010.pb", &bytes);
  assert_true(inode(s, "best.pb", &other) == numbered && inode(s, "final.pb", &other) == numbered);
  assert_int_equal(dft_store_save(s, &first, DFT_SAVE_BEST | DFT_SAVE_NUMBERED, 3),
                   DFT_OK); /* again, over itself */
  sample_state(&second);
  second.at.epoch = 2;
  second.at.step = 20;
  assert_int_equal(dft_store_save(s, &second, DFT_SAVE_NUMBERED | DFT_SAVE_FINAL, 1), DFT_OK);
  assert_string_equal(names(directory), "best.pb ckpt-e0002-s00000020.pb final.pb lock");
  dft_state_free(&second);
  assert_int_equal(dft_state_read(dft_store_path(s, "best.pb").text, &second), DFT_OK);
  assert_int_equal(second.at.step, 10);
  assert_latest(s, "final.pb", 20, NULL);
  dft_state_free(&first);
  dft_state_free(&second);
  dft_store_close(s);
}

static void test_nothing_there(void **state) {
  (void)state;
  dft_state st;
  char *path;
  bool found = true;
  dft_store *s = open_store();
  assert_int_equal(dft_store_latest(s, &st, &path, &found), DFT_OK);
  assert_false(found);
  assert_null(path);
  dft_store_close(s);
}

static void damage(dft_store *store, const char *name) {
  const dft_path path = dft_store_path(store, name);
  struct stat info;
  assert_int_equal(stat(path.text, &info), 0);
  assert_int_equal(truncate(path.text, info.st_size / 2), 0);
}

static void test_fallback(void **state) {
  (void)state;
  dft_store *s = open_store();
  for (int e = 1; e <= 3; e++) save(s, e, 10 * e, 3);
  damage(s, "ckpt-e0003-s00000030.pb");
  assert_latest(s, "ckpt-e0002-s00000020.pb", 20,
                "ckpt-e0003-s00000030.pb: truncated or damaged: it does not end with a CRC: passed over");
  put("ckpt-e0002-s00000020.pb", "");
  assert_latest(s, "ckpt-e0001-s00000010.pb", 10, "ckpt-e0002-s00000020.pb: the file is empty: passed over");
  /* The run goes on from there: with keep 1 the good new file stays, not the damaged later one. */
  save(s, 2, 20, 1);
  assert_string_equal(names(directory), "ckpt-e0002-s00000020.pb ckpt-e0003-s00000030.pb lock");
  assert_latest(s, "ckpt-e0002-s00000020.pb", 20, "passed over");
  save(s, 3, 30, 1);
  assert_string_equal(names(directory), "ckpt-e0003-s00000030.pb lock");
  assert_latest(s, "ckpt-e0003-s00000030.pb", 30, NULL);
  damage(s, "ckpt-e0003-s00000030.pb");
  dft_state st;
  char *path;
  bool found;
  assert_int_equal(dft_store_latest(s, &st, &path, &found), DFT_EDATA);
  assert_non_null(strstr(dft_error(), "none of its 1 checkpoints can be read"));
  assert_non_null(strstr(dft_error(), directory));
  assert_false(found);
  dft_store_close(s);
}

/* A finished run that got more epochs has checkpoints newer than its final.pb. */
static void test_final(void **state) {
  (void)state;
  dft_store *s = open_store();
  save(s, 1, 10, 3);
  save_as(s, DFT_SAVE_FINAL, 20);
  assert_latest(s, "final.pb", 20, NULL);
  save(s, 2, 20, 3);
  assert_latest(s, "final.pb", 20, NULL);
  save(s, 3, 30, 3);
  assert_latest(s, "ckpt-e0003-s00000030.pb", 30, NULL);
  damage(s, "ckpt-e0003-s00000030.pb");
  assert_latest(s, "final.pb", 20, "passed over");
  assert_true(dft_store_has_final(s));
  damage(s, "final.pb");
  assert_latest(s, "ckpt-e0002-s00000020.pb", 20, "final.pb: truncated");
  assert_false(dft_store_has_final(s));
  dft_store_close(s);
}

/* What people keep of a run, or copy elsewhere, is often just this. */
static void test_best_alone(void **state) {
  (void)state;
  dft_store *s = open_store();
  save_as(s, DFT_SAVE_BEST, 10);
  assert_latest(s, "best.pb", 10, NULL);
  save(s, 2, 20, 3);
  assert_latest(s, "ckpt-e0002-s00000020.pb", 20, NULL);
  damage(s, "ckpt-e0002-s00000020.pb");
  assert_latest(s, "best.pb", 10, "passed over");
  assert_false(dft_store_has_final(s));
  dft_store_close(s);
}

static void test_lock(void **state) {
  (void)state;
  char expected[128];
  dft_store *first = open_store(), *second = NULL;
  snprintf(expected, sizeof expected, "another run uses %s (process %ld on ", directory, (long)getpid());
  pid_t child = fork();
  if (child == 0) {
    bool right = dft_store_open(directory, &second) == DFT_EUSAGE && second == NULL &&
                 strncmp(dft_error(), expected, strlen(expected)) == 0;
    if (!right) fprintf(stderr, "child: '%s'\n", dft_error());
    _exit(right ? 0 : 1);
  }
  int code;
  assert_int_equal(waitpid(child, &code, 0), child);
  assert_int_equal(code, 0);
  assert_int_equal(dft_store_open(directory, &second), DFT_EUSAGE); /* in this process too */
  dft_store_close(first);
  dft_store_close(open_store());
}

static void test_lock_of_the_dead(void **state) {
  (void)state;
  int ready[2];
  assert_int_equal(pipe(ready), 0);
  pid_t child = fork();
  if (child == 0) {
    dft_store *s;
    char status = (char)dft_store_open(directory, &s);
    if (write(ready[1], &status, 1) != 1) _exit(1);
    pause();
    _exit(1);
  }
  char status;
  assert_int_equal(read(ready[0], &status, 1), 1);
  assert_int_equal(status, DFT_OK);
  dft_store *s = NULL;
  assert_int_equal(dft_store_open(directory, &s), DFT_EUSAGE);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  put("final.pb.123.dft-tmp", "half a file");
  dft_store_close(open_store());
  assert_string_equal(names(directory), "lock");
  close(ready[0]);
  close(ready[1]);
}

static void test_open_errors(void **state) {
  (void)state;
  char path[128];
  dft_store *s;
  put("file", "");
  snprintf(path, sizeof path, "%s/file/run", directory);
  assert_int_equal(dft_store_open(path, &s), DFT_EIO);
  assert_non_null(strstr(dft_error(), "/file/run: cannot create the run directory: Not a directory"));
  assert_int_equal(dft_store_open("/proc/run", &s), DFT_EIO);
  assert_int_equal(dft_store_open("", &s), DFT_EUSAGE);
  snprintf(path, sizeof path, "%s/a/b//c/", directory);
  assert_int_equal(dft_store_open(path, &s), DFT_OK);
  snprintf(path, sizeof path, "%s/a/b//c/final.pb", directory);
  assert_string_equal(dft_store_path(s, "final.pb").text, path);
  dft_store_close(s);
}

/* Writes an old file, then a new one that does not fit. The old one must stay, the temporary one must go. */
static int write_without_room(const char *where, const char *reason) {
  char path[256], before[64];
  static char much[1 << 20];
  snprintf(path, sizeof path, "%s/final.pb", where);
  if (dft_write_file(path, "old", 3) != DFT_OK) return 1;
  dft_status status = dft_write_file(path, much, sizeof much);
  if (status != DFT_EIO || strstr(dft_error(), reason) == NULL || strstr(dft_error(), path) == NULL) {
    fprintf(stderr, "status %d: %s\n", status, dft_error());
    return 2;
  }
  FILE *f = fopen(path, "r");
  if (f == NULL || fread(before, 1, sizeof before, f) != 3 || memcmp(before, "old", 3) != 0) return 3;
  fclose(f);
  return strcmp(names(where), "final.pb") == 0 ? 0 : 4;
}

static void test_too_large(void **state) {
  (void)state;
  pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){100000, 100000});
    _exit(write_without_room(directory, "cannot write 1048576 bytes: File too large"));
  }
  int code;
  waitpid(child, &code, 0);
  assert_int_equal(code, 0);
}

static void test_full_disk(void **state) {
  (void)state;
  enum { NO_MOUNT = 77 };
  pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("dft", directory, "tmpfs", 0, "size=200k") != 0)
      _exit(NO_MOUNT);
    int failed = write_without_room(directory, "cannot write 1048576 bytes: No space left on device");
    umount(directory);
    _exit(failed);
  }
  int code;
  waitpid(child, &code, 0);
  if (WIFEXITED(code) && WEXITSTATUS(code) == NO_MOUNT) skip(); /* not root: test_too_large stands in */
  assert_int_equal(code, 0);
}

static void test_write_errors(void **state) {
  (void)state;
  char path[128];
  dft_state s;
  sample_state(&s);
  snprintf(path, sizeof path, "%s/none/a.pb", directory);
  assert_int_equal(dft_state_write(&s, path), DFT_EIO);
  assert_non_null(strstr(dft_error(), "/none/a.pb: cannot create: No such file or directory"));
  snprintf(path, sizeof path, "%s/taken", directory);
  assert_int_equal(mkdir(path, 0777), 0);
  assert_int_equal(dft_state_write(&s, path), DFT_EIO); /* the rename fails */
  assert_string_equal(names(directory), "taken");
  dft_state_free(&s);
}

static void test_write_file(void **state) {
  (void)state;
  char path[128], text[16] = "";
  assert_int_equal(chdir(directory), 0);
  assert_int_equal(dft_write_file("plain", "a\0b", 3),
                   DFT_OK); /* no slash: the current directory is synced */
  assert_int_equal(chdir("/"), 0);
  snprintf(path, sizeof path, "%s/plain", directory);
  FILE *f = fopen(path, "r");
  assert_int_equal(fread(text, 1, sizeof text, f), 3);
  assert_memory_equal(text, "a\0b", 3);
  fclose(f);
  assert_int_equal(dft_write_file(path, "", 0), DFT_OK);
  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  assert_int_equal(info.st_size, 0);
}

#define IN_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      IN_DIRECTORY(test_names_and_retention),
      IN_DIRECTORY(test_epochs_of_one_step),
      IN_DIRECTORY(test_nothing_there),
      IN_DIRECTORY(test_names_share_bytes),
      cmocka_unit_test(test_names_share_bytes),
      IN_DIRECTORY(test_fallback),
      IN_DIRECTORY(test_final),
      IN_DIRECTORY(test_best_alone),
      IN_DIRECTORY(test_lock),
      IN_DIRECTORY(test_lock_of_the_dead),
      IN_DIRECTORY(test_open_errors),
      IN_DIRECTORY(test_too_large),
      IN_DIRECTORY(test_full_disk),
      IN_DIRECTORY(test_write_errors),
      IN_DIRECTORY(test_write_file),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
