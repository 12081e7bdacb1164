#include "dft/safetensors.h"
#include "dft/file.h"
#include "dft/text.h"
#include "metadata.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  LENGTH_BYTES = 8,
  HEADER_BYTES_MAX = (16 << 20) - 1, /* MobileNetV2's is 30 KB, and its class names */
  TENSORS_MAX = 4096,                /* MobileNetV2 with its head has 262 */
  ALIGNMENT = 8                      /* of the header's end, by spaces */
};

/* Of float64, and the header. */
static const size_t file_bytes_max = 2 * (size_t)DFT_WEIGHTS_BYTES_MAX + HEADER_BYTES_MAX + LENGTH_BYTES;
static const char metadata_key[] = "__metadata__";

/* ---- reading ---- */

/* Where a tensor's bytes are, after the header. */
typedef struct place {
  int64_t begin, end;
} place;

typedef struct reader {
  const char *name; /* of the file */
  const unsigned char *data;
  size_t data_bytes;
  place *places; /* [TENSORS_MAX] of all tensors */
  int count;
  int64_t float_bytes; /* of all weights, as float32 */
  dft_weights *w;
} reader;

static dft_status bad(const reader *r, const char *tensor, const char *what) {
  return dft_fail(DFT_EDATA, "%s: %.200s: %s", r->name, tensor, what);
}

/* False where it is none that counts. */
static bool whole_number(const json_t *value, int64_t most, int64_t *number) {
  if (!json_is_integer(value)) return false;
  *number = json_integer_value(value);
  return *number >= 0 && *number <= most;
}

/* *known false: whole numbers, which are no weights. */
static dft_status read_type(const reader *r, const char *tensor, const json_t *entry, dft_number *type,
                            bool *known) {
  static const struct {
    const char *word;
    dft_number type;
  } types[] = {
      {"F32", DFT_NUMBER_F32}, {"F16", DFT_NUMBER_F16}, {"BF16", DFT_NUMBER_BF16}, {"F64", DFT_NUMBER_F64}};
  static const char *const whole[] = {"BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"};
  const char *word = json_string_value(json_object_get(entry, "dtype"));
  if (word == NULL) return bad(r, tensor, "has no dtype");
  *known = false;
  for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
    if (strcmp(word, whole[i]) == 0) return DFT_OK;
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    if (strcmp(word, types[i].word) != 0) continue;
    *known = true;
    *type = types[i].type;
    return DFT_OK;
  }
  return dft_fail(DFT_EDATA, "%s: %.200s: dtype %.20s; F32, F16, BF16 and F64 are read", r->name, tensor,
                  word);
}

/* Of more than 4 dimensions the shape is not told. */
static dft_status read_shape(const reader *r, const char *tensor, const json_t *entry, int *rank,
                             int64_t shape[DFT_MAX_RANK], int64_t *elements) {
  const json_t *list = json_object_get(entry, "shape");
  if (!json_is_array(list)) return bad(r, tensor, "has no shape");
  const size_t dimensions = json_array_size(list);
  *rank = dimensions > DFT_MAX_RANK ? DFT_MAX_RANK + 1 : (int)dimensions;
  *elements = 1;
  for (int i = 0; i < *rank && *rank <= DFT_MAX_RANK; i++) {
    const int64_t most = DFT_WEIGHTS_BYTES_MAX / (*elements > 0 ? *elements : 1);
    if (!whole_number(json_array_get(list, (size_t)i), most, &shape[i]))
      return bad(r, tensor, "its shape is no shape of weights");
    *elements *= shape[i];
  }
  return DFT_OK;
}

/* "a/Conv1/kernel:0" -> "Conv1", "kernel"; "Conv1.kernel" likewise; the parts of `copy` are returned. */
static void part_name(char *copy, const char **layer, const char **variable) {
  copy[strcspn(copy, ":")] = '\0';
  char *at = strrchr(copy, '/');
  if (at == NULL) at = strrchr(copy, '.');
  *layer = at == NULL ? "" : copy;
  *variable = at == NULL ? copy : at + 1;
  if (at == NULL) return;
  const bool path = *at == '/';
  *at = '\0';
  const char *slash = path ? strrchr(copy, '/') : NULL;
  if (slash != NULL) *layer = slash + 1;
  if (strcmp(*variable, "depthwise_kernel") == 0) *variable = "kernel";
}

static dft_status add_tensor(reader *r, const char *tensor, dft_number type, int rank, const int64_t *shape,
                             int64_t elements, const unsigned char *from) {
  const char *layer, *variable;
  char *copy = strdup(tensor);
  if (copy == NULL) return dft_fail_memory("a tensor's name", strlen(tensor));
  part_name(copy, &layer, &variable);
  dft_status status = dft_weights_find(r->w, layer, variable) != NULL
                          ? bad(r, tensor, "is there twice, by the end of its path")
                          : dft_weights_add(r->w, layer, variable, rank, shape, NULL);
  free(copy);
  if (status != DFT_OK) return status;
  dft_numbers_read(type, from, elements, r->w->tensors[r->w->count - 1].data);
  return DFT_OK;
}

static dft_status read_place(reader *r, const char *tensor, const json_t *entry, place *at) {
  const json_t *offsets = json_object_get(entry, "data_offsets");
  if (json_array_size(offsets) != 2 || !whole_number(json_array_get(offsets, 0), INT64_MAX, &at->begin) ||
      !whole_number(json_array_get(offsets, 1), INT64_MAX, &at->end) || at->begin > at->end)
    return bad(r, tensor, "has no data_offsets");
  if ((uint64_t)at->end > r->data_bytes) return bad(r, tensor, "lies beyond the file's end: it is truncated");
  r->places[r->count++] = *at;
  return DFT_OK;
}

/* What is no weight of a layer is passed over: whole numbers, what has no elements or more than 4 dimensions.
 */
static dft_status read_tensor(reader *r, const char *tensor, const json_t *entry) {
  dft_number type = DFT_NUMBER_F32;
  bool known = false;
  int rank = 0;
  int64_t shape[DFT_MAX_RANK] = {0}, elements = 0;
  place at = {0, 0};
  if (r->count == TENSORS_MAX) return bad(r, tensor, "comes after more tensors than a MobileNetV2 has");
  if (!dft_is_line(tensor)) return bad(r, "a tensor", "has a control character in its name");
  if (!json_is_object(entry)) return bad(r, tensor, "is not described by an object");
  DFT_TRY(read_type(r, tensor, entry, &type, &known));
  DFT_TRY(read_shape(r, tensor, entry, &rank, shape, &elements));
  DFT_TRY(read_place(r, tensor, entry, &at));
  if (!known || rank > DFT_MAX_RANK || elements == 0) return DFT_OK;
  if (at.end - at.begin != elements * (int64_t)dft_number_bytes(type))
    return bad(r, tensor, "its bytes do not fit its shape");
  r->float_bytes += elements * (int64_t)sizeof(float);
  if (r->float_bytes > DFT_WEIGHTS_BYTES_MAX)
    return bad(r, tensor, "with it there is more than 1 GiB of weights");
  return add_tensor(r, tensor, type, rank, shape, elements, r->data + at.begin);
}

static int compare_places(const void *a, const void *b) {
  const place *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  return (x->end > y->end) - (x->end < y->end);
}

/* The format's rule: tensors fill the rest of the file, one after the other. */
static dft_status check_places(reader *r) {
  int64_t end = 0;
  qsort(r->places, (size_t)r->count, sizeof *r->places, compare_places);
  int fit = 0;
  for (; fit < r->count && r->places[fit].begin == end; fit++) end = r->places[fit].end;
  return fit == r->count && (uint64_t)end == r->data_bytes
             ? DFT_OK
             : dft_fail(DFT_EDATA, "%s: damaged: its tensors overlap or leave bytes between them", r->name);
}

static dft_status read_header(reader *r, json_t *header) {
  const char *key;
  json_t *value;
  json_object_foreach(header, key, value) {
    if (strcmp(key, metadata_key) != 0) DFT_TRY(read_tensor(r, key, value));
  }
  const json_t *names = json_object_get(json_object_get(header, metadata_key), DFT_CLASS_NAMES_KEY);
  if (r->w->count == 0) return dft_fail(DFT_EDATA, "%s: a safetensors file without any weights", r->name);
  DFT_TRY(check_places(r));
  if (names == NULL) return DFT_OK;
  if (!json_is_string(names)) return bad(r, metadata_key, DFT_CLASS_NAMES_KEY " is no text");
  return dft_class_names_parse(r->name, json_string_value(names), r->w);
}

dft_status dft_safetensors_decode(const char *name, const unsigned char *bytes, size_t count,
                                  dft_weights *w) {
  uint64_t length = 0;
  *w = (dft_weights){.unordered = true};
  if (count < LENGTH_BYTES) return dft_fail(DFT_EDATA, "%s: truncated after %zu bytes", name, count);
  for (int i = 0; i < LENGTH_BYTES; i++) length |= (uint64_t)bytes[i] << (8 * i);
  if (length > HEADER_BYTES_MAX)
    return dft_fail(DFT_EDATA, "%s: no safetensors file: its header would have %llu bytes", name,
                    (unsigned long long)length);
  if (length > count - LENGTH_BYTES)
    return dft_fail(DFT_EDATA, "%s: truncated in its header after %zu bytes", name, count);
  const char *text = (const char *)bytes + LENGTH_BYTES;
  json_t *header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, NULL);
  if (!json_is_object(header)) {
    json_decref(header);
    return dft_fail(DFT_EDATA, "%s: its header is no JSON object: damaged, or no safetensors file", name);
  }
  reader r = {.name = name,
              .data = bytes + LENGTH_BYTES + length,
              .data_bytes = count - LENGTH_BYTES - (size_t)length,
              .places = calloc(TENSORS_MAX, sizeof *r.places),
              .w = w};
  dft_status status = r.places != NULL ? read_header(&r, header)
                                       : dft_fail_memory("safetensors", TENSORS_MAX * sizeof *r.places);
  free(r.places);
  json_decref(header);
  if (status != DFT_OK) dft_weights_free(w);
  return status;
}

dft_status dft_safetensors_read(const char *path, dft_weights *w) {
  unsigned char *bytes;
  size_t count;
  *w = (dft_weights){0};
  DFT_TRY(dft_read_file(path, file_bytes_max, &bytes, &count));
  dft_status status = dft_safetensors_decode(path, bytes, count, w);
  free(bytes);
  return status;
}

/* ---- writing ---- */

static json_t *describe_metadata(const char *class_names, const dft_property *properties,
                                 int property_count) {
  json_t *metadata = json_object();
  for (int i = 0; i < property_count; i++)
    json_object_set_new(metadata, properties[i].name, json_string(properties[i].value));
  if (class_names != NULL) json_object_set_new(metadata, DFT_CLASS_NAMES_KEY, json_string(class_names));
  return metadata;
}

static size_t tensor_bytes(const dft_tensor *t) {
  return (size_t)dft_tensor_elements(t) * sizeof(float);
}

/* The header's text, or NULL when memory is short: jansson takes NULL for an argument and gives NULL on. */
static char *describe(const dft_weights *w, json_t *metadata) {
  json_t *header = json_object();
  size_t at = 0;
  bool good = json_object_set_new(header, metadata_key, metadata) == 0;
  for (int i = 0; good && i < w->count; i++) {
    const dft_tensor *t = &w->tensors[i];
    char name[256];
    snprintf(name, sizeof name, "%s/%s", t->layer, t->variable);
    json_t *shape = json_array();
    for (int d = 0; d < t->rank; d++)
      good = good && json_array_append_new(shape, json_integer(t->shape[d])) == 0;
    const size_t end = at + tensor_bytes(t);
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets",
                              (json_int_t)at, (json_int_t)end);
    good = json_object_set_new(header, name, entry) == 0 && good; /* takes the entry in any case */
    at = end;
  }
  char *text = good ? json_dumps(header, JSON_COMPACT) : NULL;
  json_decref(header);
  return text;
}

static dft_status write_file(const char *path, const dft_weights *w, const char *header) {
  static const char spaces[ALIGNMENT] = "        ";
  const size_t used = strlen(header), padding = (ALIGNMENT - used % ALIGNMENT) % ALIGNMENT;
  unsigned char length[LENGTH_BYTES];
  dft_output *output;
  size_t bytes = LENGTH_BYTES + used + padding;
  for (int i = 0; i < LENGTH_BYTES; i++) length[i] = (unsigned char)((used + padding) >> (8 * i));
  for (int i = 0; i < w->count; i++) bytes += tensor_bytes(&w->tensors[i]);
  DFT_TRY(dft_output_open(path, bytes, &output));
  dft_output_add(output, length, sizeof length);
  dft_output_add(output, header, used);
  dft_output_add(output, spaces, padding);
  for (int i = 0; i < w->count; i++) dft_output_add(output, w->tensors[i].data, tensor_bytes(&w->tensors[i]));
  return dft_output_close(output);
}

dft_status dft_safetensors_write(const char *path, const dft_weights *w, const dft_property *properties,
                                 int property_count) {
  char *class_names;
  DFT_TRY(dft_context(dft_class_names_json(w, &class_names), "%s", path));
  char *header = describe(w, describe_metadata(class_names, properties, property_count));
  dft_status status = header == NULL ? dft_fail_memory("safetensors header", 0) : write_file(path, w, header);
  free(header);
  free(class_names);
  return status;
}
