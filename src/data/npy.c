/* NumPy's npy format, versions 1.0 to 3.0 (numpy.lib.format): magic, version, header length, and a Python
 * dict literal with exactly the keys descr, fortran_order and shape. */
#include "source.h"
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "arrays are read in place as little endian"
#endif

typedef struct reader {
  const char *path;
  const char *text, *end; /* what is left of the header */
} reader;

enum { HAS_DESCR = 1, HAS_ORDER = 2, HAS_SHAPE = 4, HAS_ALL = 7 };

static dft_status fail_header(const reader *r, const char *what) {
  return dft_fail(DFT_EDATA, "%s: malformed npy header: %s", r->path, what);
}

static void skip_space(reader *r) {
  while (r->text < r->end && (*r->text == ' ' || *r->text == '\n' || *r->text == '\t' || *r->text == '\r'))
    r->text++;
}

static bool take(reader *r, char c) {
  skip_space(r);
  if (r->text == r->end || *r->text != c) return false;
  r->text++;
  return true;
}

static bool take_word(reader *r, const char *word) {
  skip_space(r);
  size_t n = strlen(word);
  if ((size_t)(r->end - r->text) < n || memcmp(r->text, word, n) != 0) return false;
  r->text += n;
  return true;
}

/* A quoted string without escapes, short enough for `to`. */
static bool take_string(reader *r, char *to, size_t bytes) {
  skip_space(r);
  if (r->text == r->end || (*r->text != '\'' && *r->text != '"')) return false;
  char quote = *r->text++;
  size_t n = 0;
  for (; r->text < r->end && *r->text != quote; r->text++) {
    if (n + 1 == bytes || *r->text < 0x20 || *r->text == '\\') return false;
    to[n++] = *r->text;
  }
  to[n] = 0;
  return take(r, quote);
}

static bool take_size(reader *r, int64_t *value) {
  skip_space(r);
  const char *start = r->text;
  int64_t v = 0;
  for (; r->text < r->end && *r->text >= '0' && *r->text <= '9'; r->text++)
    if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *r->text - '0', &v)) return false;
  *value = v;
  return r->text > start;
}

static dft_status parse_descr(reader *r, dft_array *a) {
  static const struct {
    const char *code;
    dft_type type;
  } codes[] = {
      {"u1", DFT_TYPE_U8},  {"i1", DFT_TYPE_I8},  {"u2", DFT_TYPE_U16},  {"i2", DFT_TYPE_I16},
      {"u4", DFT_TYPE_U32}, {"i4", DFT_TYPE_I32}, {"u8", DFT_TYPE_U64},  {"i8", DFT_TYPE_I64},
      {"f4", DFT_TYPE_F32}, {"f8", DFT_TYPE_F64}, {"b1", DFT_TYPE_BOOL},
  };
  char descr[16];
  if (!take_string(r, descr, sizeof descr)) return fail_header(r, "descr is not a plain type");
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    if (descr[0] == 0 || strcmp(descr + 1, codes[i].code) != 0) continue;
    bool one_byte = codes[i].code[1] == '1';
    if (descr[0] == '<' || (descr[0] == '|' && one_byte)) {
      a->type = codes[i].type;
      return DFT_OK;
    }
    if (descr[0] == '>' && !one_byte)
      return dft_fail(DFT_EDATA, "%s: big-endian values (%s); save with .astype('<%s')", r->path, descr,
                      codes[i].code);
  }
  return dft_fail(DFT_EDATA,
                  "%s: npy values of type '%s' are not supported; save images as uint8 or float32, labels as "
                  "int64",
                  r->path, descr);
}

static dft_status parse_shape(reader *r, dft_array *a) {
  if (!take(r, '(')) return fail_header(r, "shape is not a tuple");
  a->dims = 0;
  while (!take(r, ')')) {
    if (a->dims == DFT_MAX_DIMS)
      return dft_fail(DFT_EDATA, "%s: npy with more than %d dimensions", r->path, DFT_MAX_DIMS);
    if (!take_size(r, &a->shape[a->dims])) return fail_header(r, "shape is not made of sizes");
    a->dims++;
    if (take(r, ',')) continue;
    if (a->dims == 1 || !take(r, ')')) return fail_header(r, "shape is not a tuple");
    break;
  }
  return a->dims > 0 ? DFT_OK : dft_fail(DFT_EDATA, "%s: npy without dimensions", r->path);
}

static dft_status parse_order(reader *r) {
  if (take_word(r, "False")) return DFT_OK;
  if (take_word(r, "True"))
    return dft_fail(DFT_EDATA, "%s: Fortran order; save with numpy.ascontiguousarray", r->path);
  return fail_header(r, "fortran_order is neither True nor False");
}

static dft_status parse_entry(reader *r, dft_array *a, int *seen) {
  char key[16];
  if (!take_string(r, key, sizeof key) || !take(r, ':')) return fail_header(r, "not a dict");
  int bit = strcmp(key, "descr") == 0           ? HAS_DESCR
            : strcmp(key, "fortran_order") == 0 ? HAS_ORDER
            : strcmp(key, "shape") == 0         ? HAS_SHAPE
                                                : 0;
  if (bit == 0) return fail_header(r, "unknown key");
  if (*seen & bit) return fail_header(r, "a key stands twice");
  *seen |= bit;
  if (bit == HAS_DESCR) return parse_descr(r, a);
  return bit == HAS_ORDER ? parse_order(r) : parse_shape(r, a);
}

static dft_status parse_dict(reader *r, dft_array *a) {
  int seen = 0;
  if (!take(r, '{')) return fail_header(r, "not a dict");
  while (!take(r, '}')) {
    DFT_TRY(parse_entry(r, a, &seen));
    if (take(r, ',')) continue;
    if (!take(r, '}')) return fail_header(r, "not a dict");
    break;
  }
  if (seen != HAS_ALL) return fail_header(r, "descr, fortran_order or shape is missing");
  skip_space(r);
  return r->text == r->end ? DFT_OK : fail_header(r, "text after the dict");
}

dft_status dft_npy_parse(const char *path, const uint8_t *head, size_t have, dft_array *a) {
  if (have >= 4 && memcmp(head, "PK\3\4", 4) == 0)
    return dft_fail(DFT_EDATA, "%s: an archive of arrays (.npz); save each with numpy.save", path);
  if (have < 10 || memcmp(head, "\x93NUMPY", 6) != 0) return dft_fail(DFT_EDATA, "%s: not an npy file", path);
  if (head[6] < 1 || head[6] > 3 || head[7] != 0)
    return dft_fail(DFT_EDATA, "%s: npy version %d.%d is not supported", path, head[6], head[7]);
  size_t start = head[6] == 1 ? 10 : 12; /* the header's length has 2 or 4 bytes, little endian */
  size_t length = head[8] | (size_t)head[9] << 8;
  if (start == 12) {
    if (have < start) return dft_fail(DFT_EDATA, "%s: truncated in the npy header, at byte %zu", path, have);
    length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
  }
  if (length > DFT_MAX_HEADER_BYTES - start)
    return dft_fail(DFT_EDATA, "%s: npy header of %zu bytes, more than %d", path, length,
                    DFT_MAX_HEADER_BYTES);
  if (have - start < length)
    return dft_fail(DFT_EDATA, "%s: truncated in the npy header, at byte %zu", path, have);
  *a = (dft_array){.offset = (int64_t)(start + length)};
  reader r = {.path = path, .text = (const char *)head + start, .end = (const char *)head + start + length};
  DFT_TRY(parse_dict(&r, a));
  return dft_array_size(path, a);
}
