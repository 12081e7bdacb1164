#include "metadata.h"
#include "dft/text.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- class names ---- */

dft_status dft_class_names_json(const dft_weights *w, char **json) {
  *json = NULL;
  if (w->class_names == NULL) return DFT_OK;
  json_t *list = json_array();
  bool good = list != NULL;
  for (int i = 0; good && i < w->classes; i++)
    good = json_array_append_new(list, json_string(w->class_names[i])) == 0;
  *json = good ? json_dumps(list, JSON_COMPACT) : NULL;
  json_decref(list);
  if (*json != NULL) return DFT_OK;
  /* jansson gives no reason; all names of ours are UTF-8 or came from a directory */
  return dft_fail(DFT_EDATA, "class names: not UTF-8, or memory is short");
}

static bool is_name(const json_t *value) {
  const char *text = json_string_value(value);
  return text != NULL && strlen(text) == json_string_length(value) && dft_is_line(text);
}

static dft_status take_names(const char *file, const json_t *list, dft_weights *w) {
  const size_t count = json_array_size(list);
  if (!json_is_array(list) || count < 1 || count > DFT_CLASS_NAMES_MAX)
    return dft_fail(DFT_EDATA, "%s: " DFT_CLASS_NAMES_KEY " is no list of 1 to %d names", file,
                    DFT_CLASS_NAMES_MAX);
  w->class_names = calloc(count, sizeof *w->class_names);
  if (w->class_names == NULL) return dft_fail_memory("class names", count);
  for (size_t i = 0; i < count; i++) {
    const json_t *name = json_array_get(list, i);
    if (!is_name(name))
      return dft_fail(DFT_EDATA, "%s: " DFT_CLASS_NAMES_KEY ": entry %zu is no name", file, i);
    if ((w->class_names[i] = strdup(json_string_value(name))) == NULL)
      return dft_fail_memory("class names", count);
    w->classes++;
  }
  return DFT_OK;
}

dft_status dft_class_names_parse(const char *file, const char *json, dft_weights *w) {
  const bool small = strlen(json) <= DFT_CLASS_NAMES_BYTES_MAX;
  json_t *list = small ? json_loads(json, JSON_REJECT_DUPLICATES, NULL) : NULL;
  dft_status status = take_names(file, list, w);
  json_decref(list);
  return status;
}

/* ---- numbers ---- */

size_t dft_number_bytes(dft_number type) {
  static const size_t bytes[] = {4, 2, 2, 8};
  return bytes[type];
}

static float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* binary16: 1 sign, 5 exponent, 10 fraction bits; exponent 0: fraction * 2^-24. */
static float from_half(uint16_t half) {
  const uint32_t sign = (uint32_t)(half >> 15) << 31, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 31) return from_bits(sign | 0x7f800000U | fraction << 13);
  if (exponent > 0) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
  return sign != 0 ? -ldexpf((float)fraction, -24) : ldexpf((float)fraction, -24);
}

void dft_numbers_read(dft_number type, const void *bytes, int64_t count, float *values) {
  if (type == DFT_NUMBER_F32) memcpy(values, bytes, (size_t)count * sizeof *values);
  for (int64_t i = 0; i < count && type == DFT_NUMBER_F64; i++) {
    double value;
    memcpy(&value, (const char *)bytes + 8 * i, sizeof value);
    values[i] = (float)value;
  }
  for (int64_t i = 0; i < count && (type == DFT_NUMBER_F16 || type == DFT_NUMBER_BF16); i++) {
    uint16_t half;
    memcpy(&half, (const char *)bytes + 2 * i, sizeof half);
    values[i] = type == DFT_NUMBER_F16 ? from_half(half) : from_bits((uint32_t)half << 16);
  }
}
