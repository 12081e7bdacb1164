/* Headers are read through a small window, contents are passed over. */
#include "tar.h"
#include "source.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = DFT_TAR_BLOCK_BYTES, MAX_PAX_BYTES = 1 << 20 };

/* What headers before a member's own say of it. */
typedef struct extra {
  bool has_name, has_size;
  int64_t size;
  char name[DFT_PATH_BYTES];
} extra;

static dft_status fail_at(const dft_tar *t, int64_t at, const char *what) {
  return dft_fail(DFT_EDATA, "%s: at byte %lld: %s", t->path, (long long)at, what);
}

/* ---- bytes ---- */

dft_status dft_tar_read(dft_tar *t, int64_t offset, int64_t bytes, void *to) {
  uint8_t *out = to;
  while (bytes > 0) {
    int64_t skip = offset - t->window_at;
    if (skip >= 0 && skip < t->window_bytes) {
      int64_t n = t->window_bytes - skip < bytes ? t->window_bytes - skip : bytes;
      memcpy(out, t->window + skip, (size_t)n);
      out += n;
      offset += n;
      bytes -= n;
      continue;
    }
    ssize_t got = pread(t->fd, t->window, sizeof t->window, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return dft_fail(DFT_EIO, "%s: cannot read: %s", t->path, strerror(errno));
    if (got == 0) return fail_at(t, offset, "the file became shorter while it was read");
    t->window_at = offset;
    t->window_bytes = got;
  }
  return DFT_OK;
}

/* ---- a header ---- */

static bool is_zero(const uint8_t *block) {
  for (int i = 0; i < BLOCK; i++)
    if (block[i] != 0) return false;
  return true;
}

/* Octal digits up to a space or 0, or base 256 when the first bit is set. False: neither, or too large. */
static bool parse_number(const uint8_t *field, int bytes, int64_t *value) {
  *value = 0;
  if (field[0] & 0x80) {
    if (field[0] != 0x80) return false; /* negative, or beyond 88 bits */
    for (int i = 1; i < bytes; i++) {
      if (*value > INT64_MAX >> 8) return false;
      *value = *value << 8 | field[i];
    }
    return true;
  }
  int i = 0;
  while (i < bytes && field[i] == ' ') i++;
  for (; i < bytes && field[i] != '\0' && field[i] != ' '; i++) {
    if (field[i] < '0' || field[i] > '7') return false;
    *value = *value << 3 | (field[i] - '0');
  }
  return true;
}

/* Some old programs summed signed bytes. */
static bool checksum_fits(const uint8_t *block) {
  int64_t promised, unsigned_sum = 0, signed_sum = 0;
  if (!parse_number(block + DFT_TAR_CHECKSUM, DFT_TAR_CHECKSUM_BYTES, &promised)) return false;
  for (int i = 0; i < BLOCK; i++) {
    uint8_t byte = i >= DFT_TAR_CHECKSUM && i < DFT_TAR_CHECKSUM + DFT_TAR_CHECKSUM_BYTES ? ' ' : block[i];
    unsigned_sum += byte;
    signed_sum += (int8_t)byte;
  }
  return promised == unsigned_sum || promised == signed_sum;
}

static void header_name(const uint8_t *block, char name[DFT_PATH_BYTES]) {
  bool ustar =
      memcmp(block + DFT_TAR_MAGIC, "ustar\0", 6) == 0; /* GNU has other things in the prefix' place */
  int prefix = ustar ? (int)strnlen((const char *)block + DFT_TAR_PREFIX, DFT_TAR_PREFIX_BYTES) : 0;
  snprintf(name, DFT_PATH_BYTES, "%.*s%s%.*s", prefix, (const char *)block + DFT_TAR_PREFIX,
           prefix > 0 ? "/" : "", DFT_TAR_NAME_BYTES, (const char *)block + DFT_TAR_NAME);
}

/* ---- headers before a header ---- */

static dft_status read_text(dft_tar *t, int64_t offset, int64_t bytes, char **text) {
  *text = NULL;
  if (bytes > MAX_PAX_BYTES) return fail_at(t, offset, "an extended header of more than 1 MiB");
  *text = malloc((size_t)bytes + 1);
  if (*text == NULL) return dft_fail_memory("extended header", (unsigned long long)bytes);
  (*text)[bytes] = '\0';
  dft_status status = dft_tar_read(t, offset, bytes, *text);
  if (status != DFT_OK) {
    free(*text);
    *text = NULL;
  }
  return status;
}

static dft_status set_name(const dft_tar *t, int64_t at, const char *name, size_t bytes, extra *x) {
  if (bytes == 0 || bytes >= sizeof x->name) return fail_at(t, at, "a member's name is empty or too long");
  if (memchr(name, '\0', bytes) != NULL) return fail_at(t, at, "a member's name has a zero byte in it");
  memcpy(x->name, name, bytes);
  x->name[bytes] = '\0';
  x->has_name = true;
  return DFT_OK;
}

/* Decimal digits only. */
static bool parse_decimal(const char *text, size_t bytes, int64_t *value) {
  *value = 0;
  for (size_t i = 0; i < bytes; i++) {
    if (text[i] < '0' || text[i] > '9' || *value > (INT64_MAX - 9) / 10) return false;
    *value = *value * 10 + (text[i] - '0');
  }
  return bytes > 0;
}

/* One record "LENGTH KEYWORD=VALUE\n". */
static dft_status take_record(const dft_tar *t, int64_t at, const char *key, size_t key_bytes,
                              const char *value, size_t bytes, extra *x) {
  if (key_bytes == 4 && memcmp(key, "path", 4) == 0) return set_name(t, at, value, bytes, x);
  if (key_bytes > 10 && memcmp(key, "GNU.sparse", 10) == 0)
    return fail_at(t, at, "sparse members are not supported");
  if (key_bytes != 4 || memcmp(key, "size", 4) != 0) return DFT_OK;
  x->has_size = parse_decimal(value, bytes, &x->size);
  return x->has_size ? DFT_OK : fail_at(t, at, "the size in an extended header is no number");
}

static dft_status parse_pax(const dft_tar *t, int64_t at, const char *text, size_t bytes, extra *x) {
  for (size_t i = 0; i < bytes;) {
    const char *record = text + i, *space = memchr(record, ' ', bytes - i);
    int64_t length;
    if (space == NULL || !parse_decimal(record, (size_t)(space - record), &length) ||
        length > (int64_t)(bytes - i) || length < space - record + 3 || record[length - 1] != '\n')
      return fail_at(t, at, "a damaged extended header");
    const char *key = space + 1, *end = record + length - 1;
    const char *equals = memchr(key, '=', (size_t)(end - key));
    if (equals == NULL) return fail_at(t, at, "a damaged extended header");
    DFT_TRY(take_record(t, at, key, (size_t)(equals - key), equals + 1, (size_t)(end - equals - 1), x));
    i += (size_t)length;
  }
  return DFT_OK;
}

static dft_status take_extra(dft_tar *t, char type, int64_t offset, int64_t bytes, extra *x) {
  char *text;
  DFT_TRY(read_text(t, offset, bytes, &text));
  dft_status status = type == 'x' ? parse_pax(t, offset, text, (size_t)bytes, x)
                                  : set_name(t, offset, text, strnlen(text, (size_t)bytes), x);
  free(text);
  return status;
}

/* ---- members ---- */

static dft_status fail_foreign(const dft_tar *t, const uint8_t *block) {
  static const struct {
    const char *magic, *name;
    size_t bytes;
  } packers[] = {{"\x1f\x8b", "gzip", 2},
                 {"\x28\xb5\x2f\xfd", "zstd", 4},
                 {"\xfd\x37zXZ", "xz", 5},
                 {"BZh", "bzip2", 3}};
  for (size_t i = 0; i < sizeof packers / sizeof packers[0]; i++)
    if (memcmp(block, packers[i].magic, packers[i].bytes) == 0)
      return dft_fail(DFT_EDATA,
                      "%s: packed with %s; samples are read by their place: unpack it to a plain tar",
                      t->path, packers[i].name);
  return dft_fail(DFT_EDATA, "%s: not a tar file", t->path);
}

/* The next block that is not of zeros; *end when there is none. A whole file ends with blocks of zeros. */
static dft_status read_header(dft_tar *t, uint8_t block[BLOCK], bool *end) {
  *end = false;
  if (t->at > t->file_bytes - BLOCK)
    return dft_fail(DFT_EDATA, "%s: truncated: %lld bytes, and no end of the archive", t->path,
                    (long long)t->file_bytes);
  DFT_TRY(dft_tar_read(t, t->at, BLOCK, block));
  *end = is_zero(block);
  if (*end || checksum_fits(block)) return DFT_OK;
  return t->at == 0 ? fail_foreign(t, block) : fail_at(t, t->at, "a damaged header");
}

/* Where the contents that a header announces lie; t->at moves behind them. */
static dft_status pass_contents(dft_tar *t, const char *name, int64_t bytes, int64_t *offset) {
  *offset = t->at + BLOCK;
  int64_t left = t->file_bytes - *offset;
  if (bytes > left)
    return dft_fail(DFT_EDATA, "%s: truncated: %s has %lld bytes, of which %lld are there", t->path, name,
                    (long long)bytes, (long long)left);
  int64_t padded = bytes + (BLOCK - bytes % BLOCK) % BLOCK; /* no overflow: bytes fits the file */
  t->at = *offset + padded;
  return DFT_OK;
}

/* Links, devices, directories and FIFOs have no contents, whatever their size says. */
static bool has_contents(char type) {
  return type < '1' || type > '6';
}

static dft_status read_member(dft_tar *t, const uint8_t *block, const extra *x, dft_member *m) {
  char type = (char)block[DFT_TAR_TYPE];
  int64_t bytes;
  if (x->has_name)
    memcpy(m->name, x->name, sizeof m->name);
  else
    header_name(block, m->name);
  if (!parse_number(block + DFT_TAR_SIZE, DFT_TAR_SIZE_BYTES, &bytes) && !x->has_size)
    return dft_fail(DFT_EDATA, "%s: the size of %s is no number that is possible", t->path, m->name);
  if (x->has_size) bytes = x->size;
  if (type == 'S' || type == 'M')
    return dft_fail(DFT_EDATA, "%s: %s: sparse and split members are not supported", t->path, m->name);
  m->bytes = has_contents(type) ? bytes : 0;
  size_t n = strlen(m->name);
  m->regular = (type == '0' || type == '\0' || type == '7') && n > 0 && m->name[n - 1] != '/';
  m->link = type == '1' || type == '2';
  return pass_contents(t, m->name, m->bytes, &m->offset);
}

dft_status dft_tar_next(dft_tar *t, dft_member *m, bool *end) {
  extra x = {0};
  uint8_t block[BLOCK];
  for (;;) {
    DFT_TRY(read_header(t, block, end));
    if (*end) return DFT_OK;
    char type = (char)block[DFT_TAR_TYPE];
    if (type != 'x' && type != 'g' && type != 'L' && type != 'K') return read_member(t, block, &x, m);
    int64_t bytes, offset, at = t->at;
    if (!parse_number(block + DFT_TAR_SIZE, DFT_TAR_SIZE_BYTES, &bytes))
      return fail_at(t, at, "the size of an extended header is no number that is possible");
    DFT_TRY(pass_contents(t, "an extended header", bytes, &offset));
    if (type == 'x' || type == 'L') DFT_TRY(take_extra(t, type, offset, bytes, &x));
  }
}

dft_status dft_tar_open(dft_tar *t, const char *path) {
  dft_file f; /* also tells what is no regular file */
  DFT_TRY(dft_file_open(&f, path));
  *t = (dft_tar){.path = path, .fd = f.fd, .file_bytes = f.disk_bytes};
  dft_status status = DFT_OK;
  if (f.gz != NULL)
    status = fail_foreign(t, (const uint8_t *)"\x1f\x8b\0\0\0");
  else if (f.disk_bytes == 0)
    status = dft_fail(DFT_EDATA, "%s: zero bytes", path);
  else if (f.disk_bytes < BLOCK)
    status = dft_fail(DFT_EDATA, "%s: not a tar file", path);
  if (status != DFT_OK) dft_file_close(&f);
  return status;
}

void dft_tar_close(dft_tar *t) {
  if (t->fd >= 0) (void)close(t->fd);
  t->fd = -1;
}
