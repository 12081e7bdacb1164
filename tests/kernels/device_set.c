#include "device_set.h"
#include "dft/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const dft_ops *real;

static dft_precision precision_of(const char *name) {
  return strcmp(name, "bfloat16") == 0 ? DFT_PRECISION_BFLOAT16
         : strcmp(name, "tf32") == 0   ? DFT_PRECISION_TF32
                                       : DFT_PRECISION_FLOAT32;
}

static void need(dft_status status) {
  if (status == DFT_OK) return;
  fprintf(stderr, "device: %s\n", dft_error());
  exit(1);
}

const dft_ops *device_ops(void) {
  const char *name = getenv("DFT_TEST_DEVICE"), *why = "";
  if (real != NULL || name == NULL) return real;
  const dft_cuda_interface *module = dft_device_module(&why);
  if (module == NULL) {
    printf("skipped: %s\n", why);
    exit(77);
  }
  need(module->open(0, precision_of(name), &real));
  return real;
}

/* ---- bfloat16 on the host ---- */

static uint16_t half_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static float from_half(uint16_t half) {
  const uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

void device_rounded(float *values, size_t count) {
  if (device_ops() != NULL && device_ops()->device->activation_bytes == 2)
    for (size_t i = 0; i < count; i++) values[i] = from_half(half_of(values[i]));
}

/* ---- what an operation reads and writes ---- */

enum { MOST_PARTS = 32 };

typedef struct part {
  const void *host;
  void *device;
  size_t count, bytes; /* bytes: of one value on the host */
  bool activations, written;
} part;

static part parts[MOST_PARTS];
static int part_count;

static const dft_device *device(void) {
  return real->device;
}

static size_t device_bytes(const part *p) {
  return p->count * (p->activations ? (size_t)device()->activation_bytes : p->bytes);
}

static void *bring(const void *host, size_t count, size_t bytes, bool activations, bool written) {
  if (host == NULL) return NULL;
  for (int i = 0; i < part_count; i++)
    if (parts[i].host == host) {
      parts[i].written |= written;
      return parts[i].device;
    }
  part *p = &parts[part_count++];
  *p = (part){host, NULL, count, bytes, activations, written};
  need(device()->alloc(device_bytes(p), &p->device));
  if (activations && device()->activation_bytes == 2) {
    uint16_t *half = malloc(count * sizeof *half + 1);
    for (size_t i = 0; i < count; i++) half[i] = half_of(((const float *)host)[i]);
    device()->upload(p->device, half, device_bytes(p));
    need(device()->finish());
    free(half);
  } else {
    device()->upload(p->device, host, device_bytes(p));
  }
  return p->device;
}

static void *room(size_t floats) {
  part *p = &parts[part_count++];
  *p = (part){NULL, NULL, floats, sizeof(float), false, false};
  need(device()->alloc(device_bytes(p), &p->device));
  return p->device;
}

static void back(const part *p) {
  if (!p->activations || device()->activation_bytes == 4) {
    device()->download((void *)p->host, p->device, device_bytes(p));
    return;
  }
  uint16_t *half = malloc(p->count * sizeof *half + 1);
  device()->download(half, p->device, device_bytes(p));
  need(device()->finish());
  for (size_t i = 0; i < p->count; i++) ((float *)p->host)[i] = from_half(half[i]);
  free(half);
}

static void finish(void) {
  for (int i = 0; i < part_count; i++)
    if (parts[i].written) back(&parts[i]);
  need(device()->finish());
  for (int i = 0; i < part_count; i++) device()->free(parts[i].device);
  part_count = 0;
}

#define IN(p, count)      bring(p, (size_t)(count), sizeof *(p), false, false)
#define OUT(p, count)     bring(p, (size_t)(count), sizeof *(p), false, true)
#define ACT(p, count)     bring(p, (size_t)(count), sizeof(float), true, false)
#define ACT_OUT(p, count) bring(p, (size_t)(count), sizeof(float), true, true)

/* ---- the operations ---- */

static size_t in_of(const dft_conv *g, int samples) {
  return (size_t)samples * (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_channels;
}

static size_t out_of(const dft_conv *g, int samples) {
  return (size_t)samples * (size_t)g->out_h * (size_t)g->out_w * (size_t)g->channels;
}

static int weights_of(dft_conv_kind kind, const dft_conv *g) {
  return g->channels * (kind == DFT_POINTWISE ? g->in_channels : kind == DFT_STEM ? 27 : 9);
}

static dft_norm norm_in(const dft_norm *n, int c) {
  return (dft_norm){IN(n->scale, c), IN(n->shift, c), n->relu6,   IN(n->mean, c),
                    IN(n->a, c),     IN(n->b, c),     IN(n->d, c)};
}

static size_t gemm_packed_floats(int k, int n) {
  return real->gemm_packed_floats(k, n);
}

static void gemm_pack(const float *w, int k, int n, bool transposed, float *packed) {
  real->gemm_pack(IN(w, k * n), k, n, transposed, OUT(packed, real->gemm_packed_floats(k, n)));
  finish();
}

static void gemm(const float *x, const float *packed, float *y, int samples, int pixels, int k, int n,
                 const dft_epilogue *e) {
  const int64_t rows = (int64_t)samples * pixels;
  const dft_epilogue on = {IN(e->bias, n), IN(e->residual, rows * n), e->relu6};
  const float *xd = IN(x, rows * k), *wd = IN(packed, real->gemm_packed_floats(k, n));
  real->gemm(xd, wd, OUT(y, rows * n), samples, pixels, k, n, &on);
  finish();
}

static void gemm_dw(const float *x, const float *dy, int pixels, int k, int n, const dft_shard_map *map,
                    float *dw) {
  const int64_t rows = (int64_t)map->samples * pixels;
  const float *xd = IN(x, rows * k), *dyd = IN(dy, rows * n);
  real->gemm_dw(xd, dyd, pixels, k, n, map, OUT(dw, (int64_t)map->nodes * k * n));
  finish();
}

static void conv_forward(bool stem, const float *x, const float *w, float *y, int samples, const dft_conv *g,
                         const dft_epilogue *e) {
  const dft_epilogue none = {0}, *given = e != NULL ? e : &none;
  const size_t out = out_of(g, samples);
  const dft_epilogue on = {IN(given->bias, g->channels), ACT(given->residual, out), given->relu6};
  const float *xd = ACT(x, in_of(g, samples)), *wd = IN(w, (stem ? 27 : 9) * g->channels);
  (stem ? real->stem : real->depthwise)(xd, wd, ACT_OUT(y, out), samples, g, e != NULL ? &on : NULL);
  finish();
}

static void depthwise(const float *x, const float *w, float *y, int samples, const dft_conv *g,
                      const dft_epilogue *e) {
  conv_forward(false, x, w, y, samples, g, e);
}

static void stem(const float *x, const float *w, float *y, int samples, const dft_conv *g,
                 const dft_epilogue *e) {
  conv_forward(true, x, w, y, samples, g, e);
}

static void depthwise_dx(const float *dy, const float *w, float *dx, int samples, const dft_conv *g) {
  const float *dyd = ACT(dy, out_of(g, samples)), *wd = IN(w, 9 * g->channels);
  real->depthwise_dx(dyd, wd, ACT_OUT(dx, in_of(g, samples)), samples, g);
  finish();
}

static void conv_dw(bool stem, const float *x, const float *dy, const dft_conv *g, const dft_shard_map *map,
                    float *dw) {
  const float *xd = ACT(x, in_of(g, map->samples)), *dyd = ACT(dy, out_of(g, map->samples));
  (stem ? real->stem_dw : real->depthwise_dw)(xd, dyd, g, map,
                                              OUT(dw, map->nodes * (stem ? 27 : 9) * g->channels));
  finish();
}

static void depthwise_dw(const float *x, const float *dy, const dft_conv *g, const dft_shard_map *map,
                         float *dw) {
  conv_dw(false, x, dy, g, map, dw);
}

static void stem_dw(const float *x, const float *dy, const dft_conv *g, const dft_shard_map *map, float *dw) {
  conv_dw(true, x, dy, g, map, dw);
}

static void bn_sums(const float *z, int pixels, int c, const dft_shard_map *map, double *sums) {
  const float *zd = ACT(z, (int64_t)map->samples * pixels * c);
  real->bn_sums(zd, pixels, c, map, OUT(sums, map->nodes * 2 * c));
  finish();
}

static void scale_shift(const float *z, const float *scale, const float *shift, const float *residual,
                        bool relu6, float *y, int64_t rows, int c) {
  const float *zd = ACT(z, rows * c), *a = IN(scale, c), *b = IN(shift, c), *r = ACT(residual, rows * c);
  real->scale_shift(zd, a, b, r, relu6, ACT_OUT(y, rows * c), rows, c);
  finish();
}

static void bn_backward_sums(const float *dy, const float *z, const dft_norm *norm, int pixels, int c,
                             const dft_shard_map *map, double *sums) {
  const int64_t count = (int64_t)map->samples * pixels * c;
  const dft_norm on = norm_in(norm, c);
  const float *dyd = ACT(dy, count), *zd = ACT(z, count);
  real->bn_backward_sums(dyd, zd, &on, pixels, c, map, OUT(sums, map->nodes * 2 * c));
  finish();
}

static void bn_backward(const float *dy, const float *z, const dft_norm *norm, float *dz, int64_t rows,
                        int c) {
  const dft_norm on = norm_in(norm, c);
  const float *dyd = ACT(dy, rows * c), *zd = ACT(z, rows * c);
  real->bn_backward(dyd, zd, &on, ACT_OUT(dz, rows * c), rows, c);
  finish();
}

static void add(const float *x, float *y, int64_t count) {
  const float *xd = ACT(x, count);
  real->add(xd, ACT_OUT(y, count), count);
  finish();
}

static dft_batch_norm_vectors vectors(const dft_batch_norm_vectors *v, int c) {
  return (dft_batch_norm_vectors){OUT(v->mean, c),  OUT(v->variance, c), OUT(v->invstd, c), OUT(v->scale, c),
                                  OUT(v->shift, c), OUT(v->dgamma, c),   OUT(v->dbeta, c),  OUT(v->a, c),
                                  OUT(v->b, c),     OUT(v->d, c)};
}

static void bn_statistics(const double *totals, double count, const float *gamma, const float *beta,
                          double epsilon, int c, const dft_batch_norm_vectors *v) {
  const dft_batch_norm_vectors on = vectors(v, c);
  real->bn_statistics(IN(totals, 2 * c), count, IN(gamma, c), IN(beta, c), epsilon, c, &on);
  finish();
}

static void bn_gradients(const double *totals, double count, const float *gamma, int c,
                         const dft_batch_norm_vectors *v) {
  const dft_batch_norm_vectors on = vectors(v, c);
  real->bn_gradients(IN(totals, 2 * c), count, IN(gamma, c), c, &on);
  finish();
}

static void bn_frozen(const float *gamma, const float *beta, const float *mean, const float *variance,
                      float epsilon, int c, float *scale, float *shift) {
  real->bn_frozen(IN(gamma, c), IN(beta, c), IN(mean, c), IN(variance, c), epsilon, c, OUT(scale, c),
                  OUT(shift, c));
  finish();
}

static void bn_commit(float *mean, float *variance, const dft_batch_norm_vectors *v, double momentum, int c,
                      const int *done) {
  const dft_batch_norm_vectors on = vectors(v, c);
  real->bn_commit(OUT(mean, c), OUT(variance, c), &on, momentum, c, IN(done, 1));
  finish();
}

static void dropout(const float *in, float *out, const int64_t *samples, uint64_t seed, uint32_t epoch,
                    double rate, int count, int features) {
  const int64_t values = (int64_t)count * features;
  const float *from = IN(in, values);
  real->dropout(from, OUT(out, values), IN(samples, count), seed, epoch, rate, count, features);
  finish();
}

static void copy_nodes(const float *from, float *to, size_t stride, int64_t count, int nodes) {
  float *td = OUT(to, (size_t)(nodes - 1) * stride + (size_t)count);
  real->copy_nodes(IN(from, count * nodes), td, stride, count, nodes);
  finish();
}

static void train_forward(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums) {
  (void)ops;
  const dft_conv *g = &t->conv;
  const int samples = t->map->samples;
  dft_train_conv on = *t;
  dft_norm norm;
  if (t->x_norm != NULL) norm = norm_in(t->x_norm, g->in_channels), on.x_norm = &norm;
  on.x = ACT(t->x, in_of(g, samples));
  on.weight = IN(t->weight, weights_of(t->kind, g));
  on.work = room(real->train_work_floats(t->kind, g, samples));
  real->train_forward(real, &on, ACT_OUT(z, out_of(g, samples)), OUT(sums, t->map->nodes * 2 * g->channels));
  finish();
}

static void train_backward(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *b) {
  (void)ops;
  const dft_conv *g = &t->conv;
  const int samples = t->map->samples;
  const size_t in = in_of(g, samples), out = out_of(g, samples);
  const int weights = weights_of(t->kind, g);
  dft_train_conv on = *t;
  dft_norm x_norm, norm = norm_in(b->norm, g->channels), below_norm;
  if (t->x_norm != NULL) x_norm = norm_in(t->x_norm, g->in_channels), on.x_norm = &x_norm;
  on.x = ACT(t->x, in);
  on.weight = IN(t->weight, weights);
  on.work = room(real->train_work_floats(t->kind, g, samples));
  dft_train_gradient gradient = *b;
  gradient.dy = ACT_OUT(b->dy, out);
  gradient.z = ACT(b->z, out);
  gradient.norm = &norm;
  gradient.dw = OUT(b->dw, t->map->nodes * weights);
  gradient.dx = ACT_OUT(b->dx, in);
  gradient.skip = ACT(b->skip, in);
  gradient.below_z = ACT(b->below_z, in);
  if (b->below_norm != NULL)
    below_norm = norm_in(b->below_norm, g->in_channels), gradient.below_norm = &below_norm;
  gradient.below_sums = OUT(b->below_sums, t->map->nodes * 2 * g->in_channels);
  real->train_backward(real, &on, &gradient);
  finish();
}

static void pool_avg(const float *x, float *y, int samples, int pixels, int c) {
  const float *xd = ACT(x, (int64_t)samples * pixels * c);
  real->pool_avg(xd, OUT(y, samples * c), samples, pixels, c);
  finish();
}

static void pool_avg_dx(const float *dy, float *dx, int samples, int pixels, int c) {
  const float *dyd = IN(dy, samples * c);
  real->pool_avg_dx(dyd, ACT_OUT(dx, (int64_t)samples * pixels * c), samples, pixels, c);
  finish();
}

static void pool_max(const float *x, float *y, int samples, int pixels, int c) {
  const float *xd = ACT(x, (int64_t)samples * pixels * c);
  real->pool_max(xd, OUT(y, samples * c), samples, pixels, c);
  finish();
}

static void pool_max_dx(const float *x, const float *y, const float *dy, float *dx, int samples, int pixels,
                        int c) {
  const int64_t count = (int64_t)samples * pixels * c;
  const float *xd = ACT(x, count), *yd = IN(y, samples * c), *dyd = IN(dy, samples * c);
  real->pool_max_dx(xd, yd, dyd, ACT_OUT(dx, count), samples, pixels, c);
  finish();
}

static void row_sums(const float *x, int pixels, int c, const dft_shard_map *map, float *sums) {
  const float *xd = IN(x, (int64_t)map->samples * pixels * c);
  real->row_sums(xd, pixels, c, map, OUT(sums, map->nodes * c));
  finish();
}

static void adam(float *w, float *m, float *v, const float *grad, float scale, float alpha_t, double beta_1,
                 double beta_2, float epsilon, float decay, int64_t count) {
  float *wd = OUT(w, count), *md = OUT(m, count), *vd = OUT(v, count);
  real->adam(wd, md, vd, IN(grad, count), scale, alpha_t, beta_1, beta_2, epsilon, decay, count);
  finish();
}

static void sgd(float *w, float *velocity, const float *grad, float scale, float learning_rate,
                float momentum, bool nesterov, float decay, int64_t count) {
  float *wd = OUT(w, count), *vd = OUT(velocity, count);
  real->sgd(wd, vd, IN(grad, count), scale, learning_rate, momentum, nesterov, decay, count);
  finish();
}

static bool all_finite(const float *x, int64_t count) {
  const bool finite = real->all_finite(IN(x, count), count);
  finish();
  return finite;
}

static dft_status frozen_new(const dft_folded *layers, int count, dft_frozen **frozen) {
  return real->frozen_new(layers, count, frozen);
}

static void frozen_run(dft_frozen *frozen, const float *x, float *y, int samples) {
  real->frozen_run(frozen, x, y, samples);
  need(device()->finish());
}

static void frozen_free(dft_frozen *frozen) {
  real->frozen_free(frozen);
}

static const dft_ops wrapped = {
    .name = "device",
    .gemm_packed_floats = gemm_packed_floats,
    .gemm_pack = gemm_pack,
    .gemm = gemm,
    .gemm_dw = gemm_dw,
    .depthwise = depthwise,
    .depthwise_dx = depthwise_dx,
    .depthwise_dw = depthwise_dw,
    .stem = stem,
    .stem_dw = stem_dw,
    .bn_sums = bn_sums,
    .scale_shift = scale_shift,
    .bn_backward_sums = bn_backward_sums,
    .bn_backward = bn_backward,
    .add = add,
    .bn_statistics = bn_statistics,
    .bn_gradients = bn_gradients,
    .bn_frozen = bn_frozen,
    .bn_commit = bn_commit,
    .dropout = dropout,
    .copy_nodes = copy_nodes,
    .train_forward = train_forward,
    .train_backward = train_backward,
    .pool_avg = pool_avg,
    .pool_avg_dx = pool_avg_dx,
    .pool_max = pool_max,
    .pool_max_dx = pool_max_dx,
    .row_sums = row_sums,
    .adam = adam,
    .sgd = sgd,
    .all_finite = all_finite,
    .frozen_new = frozen_new,
    .frozen_run = frozen_run,
    .frozen_free = frozen_free,
};

const dft_ops *device_set(void) {
  return device_ops() != NULL ? &wrapped : NULL;
}
