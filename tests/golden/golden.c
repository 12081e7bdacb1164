#include "golden.h"
#include "dft/rng.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 20260131, BLOCK = 8 };

/* Element j of a stream of 32-bit words. */
static uint32_t word(dft_stream stream, uint32_t sub, uint64_t j) {
  return dft_rng_block(SEED, stream, sub, j / 4).v[j % 4];
}

void golden_picture(int index, int size, unsigned char *out) {
  int grid = (size + BLOCK - 1) / BLOCK;
  uint64_t coarse = (uint64_t)grid * (uint64_t)grid * 3, fine = (uint64_t)size * (uint64_t)size * 3;
  uint64_t kind_at = (uint64_t)golden_label(index) * coarse, own_at = (uint64_t)index * coarse,
           noise_at = (uint64_t)index * fine;
  for (uint64_t i = 0; i < fine; i++) {
    uint64_t c = i % 3, x = i / 3 % (uint64_t)size, y = i / 3 / (uint64_t)size;
    uint64_t square = (y / BLOCK * (uint64_t)grid + x / BLOCK) * 3 + c;
    uint32_t kind = word(DFT_STREAM_RANDOM_IMAGE, 0, kind_at + square) >> 24;
    uint32_t own = word(DFT_STREAM_RANDOM_IMAGE, 1, own_at + square) >> 24;
    uint32_t noise = word(DFT_STREAM_RANDOM_IMAGE, 2, noise_at + i) >> 24;
    out[i] = (unsigned char)((9 * kind + 4 * own + 3 * noise) >> 4);
  }
}

int golden_label(int index) {
  return index % GOLDEN_CLASSES;
}

void golden_image(int index, int size, float *out) {
  size_t n = (size_t)size * (size_t)size * 3;
  unsigned char *bytes = malloc(n);
  if (bytes == NULL) abort();
  golden_picture(index, size, bytes);
  for (size_t i = 0; i < n; i++) out[i] = (float)bytes[i] / 127.5F - 1.0F;
  free(bytes);
}

/* make_goldens.py's formula(): float32 operations in the same order. */
static void fill(const dft_param *p, int tensor, bool linear) {
  bool kernel = strcmp(p->variable, "kernel") == 0, gamma = strcmp(p->variable, "gamma") == 0,
       beta = strcmp(p->variable, "beta") == 0;
  int64_t fan_in = p->rank == 2       ? p->shape[0]
                   : p->shape[3] == 1 ? 9
                                      : p->shape[0] * p->shape[1] * p->shape[2];
  float scale = kernel ? (float)sqrt(6.0 / (double)fan_in) : 0.0F;
  for (int64_t j = 0; j < p->elements; j++) {
    float u = dft_rng_float(word(DFT_STREAM_INIT, (uint32_t)tensor, (uint64_t)j));
    if (kernel)
      p->data[j] = (2.0F * u - 1.0F) * scale;
    else if (gamma && linear)
      p->data[j] = (0.5F + u) * 0.5F;
    else if (gamma)
      p->data[j] = (1.0F + (u - 0.5F) * 0.5F) * (j % 8 == 0 ? 3.0F : 1.0F);
    else if (beta && !linear)
      p->data[j] = 0.5F + u;
    else
      p->data[j] = (u - 0.5F) * 0.5F;
  }
}

static int fill_model(dft_model *m, const golden_file *statistics) {
  for (int i = 0; i < m->param_count; i++) {
    const dft_param *p = &m->params[i];
    const char *layer = m->layers[p->layer].name;
    if (!p->statistic) {
      fill(p, i, strstr(layer, "project_BN") != NULL);
      continue;
    }
    char name[GOLDEN_MAX_NAME];
    snprintf(name, sizeof name, "%s/%s", layer, p->variable);
    const golden_record *r = golden_find(statistics, name);
    if (r == NULL || (int64_t)r->count != p->elements) {
      fprintf(stderr, "golden: no calibration for %s\n", name);
      return 1;
    }
    memcpy(p->data, r->values, r->count * sizeof(float));
  }
  return 0;
}

int golden_model(double alpha, int size, dft_model **model) {
  char name[GOLDEN_MAX_NAME];
  snprintf(name, sizeof name, "calibration_%03.0f.bin", alpha * 100);
  golden_file statistics;
  if (golden_read(name, &statistics)) return 1;
  int failed = 1;
  if (dft_model_new(alpha, size, size, DFT_POOL_AVG, GOLDEN_CLASSES, model))
    fprintf(stderr, "golden: %s\n", dft_error());
  else
    failed = fill_model(*model, &statistics);
  golden_free(&statistics);
  return failed;
}

void golden_path(char *path, size_t bytes, const char *name) {
  const char *data = getenv("DFT_GOLDEN_DATA");
  snprintf(path, bytes, "%s/%s", data != NULL ? data : DFT_GOLDEN_DATA_DIR, name);
}

static int read_record(FILE *f, golden_record *r) {
  uint32_t length, count;
  if (fread(&length, 4, 1, f) != 1) return 1;
  if (length >= sizeof r->name || fread(r->name, 1, length, f) != length || fread(&count, 4, 1, f) != 1)
    return -1;
  r->name[length] = 0;
  r->count = count;
  r->values = malloc((r->count + 1) * sizeof(float));
  return r->values != NULL && fread(r->values, sizeof(float), r->count, f) == r->count ? 0 : -1;
}

int golden_read(const char *name, golden_file *file) {
  enum { MOST = 4096 };
  char path[512];
  golden_path(path, sizeof path, name);
  *file = (golden_file){.records = calloc(MOST, sizeof(golden_record))};
  FILE *f = fopen(path, "rb");
  int more = f == NULL || file->records == NULL ? -1 : 0;
  while (more == 0 && file->count < MOST) {
    more = read_record(f, &file->records[file->count]);
    if (more <= 0) file->count++;
  }
  if (f != NULL) fclose(f);
  if (more == 1) return 0;
  fprintf(stderr, "golden: cannot read %s\n", path);
  golden_free(file);
  return 1;
}

void golden_free(golden_file *file) {
  for (int i = 0; i < file->count; i++) free(file->records[i].values);
  free(file->records);
  *file = (golden_file){0};
}

const golden_record *golden_find(const golden_file *file, const char *name) {
  for (int i = 0; i < file->count; i++)
    if (strcmp(file->records[i].name, name) == 0) return &file->records[i];
  return NULL;
}

golden_difference golden_compare(const golden_file *file, const char *name, const float *values,
                                 int64_t count) {
  char sample_name[GOLDEN_MAX_NAME];
  snprintf(sample_name, sizeof sample_name, "%s#", name);
  const golden_record *about = golden_find(file, name), *sample = golden_find(file, sample_name);
  if (about == NULL) return (golden_difference){.presence = GOLDEN_ABSENT};
  if (sample == NULL) return (golden_difference){.presence = GOLDEN_ZERO};
  double apart = 0.0, size = 0.0, largest = 0.0, squares = 0.0;
  for (size_t k = 0; k < sample->count; k++) {
    double want = sample->values[k], got = values[(int64_t)k * count / (int64_t)sample->count];
    apart += (got - want) * (got - want);
    size += want * want;
    if (!(fabs(got - want) <= largest)) largest = fabs(got - want); /* a NaN counts */
  }
  for (int64_t i = 0; i < count; i++) squares += (double)values[i] * values[i];
  return (golden_difference){.presence = GOLDEN_VALUES,
                             .noise = about->values[2],
                             .noise_largest = about->values[3],
                             .relative = sqrt(apart / (size > 0 ? size : 1)),
                             .largest = largest,
                             .norm = fabs(sqrt(squares) / about->values[1] - 1.0)};
}
