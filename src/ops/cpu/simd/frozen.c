/* Cuts a run of folded layers into stages, packs their weights, and has memory for the threads that run them.
 */
#include "frozen.h"

#include "../bfloat16.h"
#include "../frozen_generic.h"
#include "../gemm.h"
#include "dft/arena.h"

#include <stdlib.h>
#include <string.h>

enum {
  WHOLE_PIXELS = 128,      /* a bordered group of at most so many stays in L1 as a whole */
  STACK_PIXELS = 200,      /* of several such groups together */
  BATCH_PIXELS = 48,       /* of rows that the source makes together, at least (fewer stay in L1), ... */
  BATCH_PIXELS_PAIRS = 96, /* ... or for the squares of AMX, but for ... */
  MOST_ROWS = 4,           /* ... so many */
  STRIP_BYTES = 384 << 10, /* of the wide tensor, to stay in L2: of one image, ... */
  PASS_BYTES = 320 << 10   /* ... or of some (with 660 KB a twentieth slower) */
};

/* Copies or packs. They return NULL when memory is short. */

static float *copied(dft_arena *a, const float *from, size_t count) {
  float *to = dft_arena_floats(a, count);
  if (to) memcpy(to, from, count * sizeof *to);
  return to;
}

/* Each value twice. */
static float *doubled(dft_arena *a, const float *from, size_t count) {
  float *to = dft_arena_floats(a, 2 * count);
  for (size_t i = 0; to && i < 2 * count; i++) to[i] = from[i / 2];
  return to;
}

/* w[k][n], each `group` columns as a matrix of their own. */
static float *packed(dft_arena *a, const float *w, int k, int n, int group, bool pairs) {
  float *to = dft_arena_floats(a, DFT_SIMD(dft_gemm_packed_floats)(k, n));
  for (int from = 0; to && from < n; from += group) DFT_SIMD(dft_gemm_pack_columns)
  (w, k, n, from, n - from < group ? n - from : group, pairs, to + (size_t)from * (size_t)k);
  return to;
}

/* A layer's product; with bfloat16, as the words that products read (simd.h). */
static float *packed_product(dft_arena *a, const dft_folded *layer, int group) {
  int k = layer->conv.in_channels, n = layer->conv.channels;
  if (!layer->bfloat16) return packed(a, layer->weight, k, n, group, false);
  const int depth = rounded_channels(k);
  vf_bf16 *words = calloc((size_t)depth * (size_t)n, sizeof *words);
  if (!words) return NULL;
  for (int i = 0; i < k; i++)
    for (int j = 0; j < n; j++) {
      const float value = layer->weight[(size_t)i * n + j];
#if VF_PAIRS
      words[((size_t)(i / 2) * n + j) * 2 + i % 2] = dft_bfloat16(value);
#else
      words[(size_t)(i ^ 1) * n + j] = dft_bfloat16_rounded(value);
#endif
    }
  float *to = packed(a, (const float *)(const void *)words, depth / BF16_IN_WORD, n, group, VF_PAIRS);
  free(words);
  return to;
}

/* [rows][channels] as [groups][rows][group], zero where there is no channel. */
static float *grouped(dft_arena *a, const float *w, int rows, int channels, int group) {
  size_t groups = (size_t)(channels + group - 1) / group;
  float *to = dft_arena_floats(a, groups * (size_t)rows * (size_t)group);
  if (!to) return NULL;
  for (int row = 0; row < rows; row++)
    for (int c = 0; c < channels; c++)
      to[((size_t)(c / group) * rows + row) * group + c % group] = w[(size_t)row * channels + c];
  return to;
}

static bool add_source(dft_arena *a, stage *s, const dft_folded *layer) {
  const dft_conv *c = &layer->conv;
  s->source = layer->kind == DFT_STEM ? SOURCE_STEM : SOURCE_PRODUCT;
  s->source_conv = *c;
  s->source_relu6 = layer->relu6;
  s->source_pairs = layer->bfloat16;
  s->source_w = layer->kind == DFT_STEM
                    ? packed(a, layer->weight, 9 * c->in_channels, c->channels, s->group, false)
                    : packed_product(a, layer, s->group);
  s->source_bias = copied(a, layer->bias, (size_t)c->channels);
  return s->source_w && s->source_bias;
}

static bool add_depthwise(dft_arena *a, stage *s, const dft_folded *layer) {
  const dft_conv *c = &layer->conv;
  s->depthwise = true;
  s->conv = *c;
  s->depthwise_relu6 = layer->relu6;
  s->depthwise_w = grouped(a, layer->weight, 9, c->channels, s->group);
  s->depthwise_bias = grouped(a, layer->bias, 1, c->channels, s->group);
  size_t row = (size_t)c->out_w * (size_t)c->channels * sizeof(float);
  s->strip = row * (size_t)c->out_h <= STRIP_BYTES ? c->out_h : (int)(STRIP_BYTES / row);
  if (s->strip < 1) s->strip = 1;
  const size_t bordered = (size_t)c->in_h * (size_t)(c->in_w + 2);
  s->whole = (size_t)(c->in_h + 2) * (size_t)(c->in_w + 2) <= WHOLE_PIXELS;
  s->stack = (int)(STACK_PIXELS / bordered) > 1 ? (int)(STACK_PIXELS / bordered) : 1;
  if (s->stack > TILE_SAMPLES) s->stack = TILE_SAMPLES;
  const int batch_pixels = VF_PAIRS && s->source_pairs ? BATCH_PIXELS_PAIRS : BATCH_PIXELS;
  /* With a stride of two each row of outputs takes two new rows; batches then end with its last one. */
  const bool two = c->stride == 2 || s->source == SOURCE_STEM;
  for (s->batch = two ? 2 : 1; s->batch < MOST_ROWS && s->batch * c->in_w < batch_pixels;) s->batch *= 2;
  s->ring = s->batch == 1 ? 4 : 2 * s->batch;
  s->shift = s->batch == 2 && c->stride == 2 ? (c->pad_top + 1) % 2 : 0;
  return s->depthwise_w && s->depthwise_bias;
}

static bool add_product(dft_arena *a, stage *s, const dft_folded *layer) {
  s->product = true;
  s->residual = layer->residual;
  s->product_relu6 = layer->relu6;
  s->product_k = layer->conv.in_channels;
  s->product_n = layer->conv.channels;
  const bool twins = s->depthwise && !layer->relu6 && twins_fit(s->product_n, s->conv.out_w);
  s->layout = layer->bfloat16 ? WIDE_ROUNDED : twins ? WIDE_TWINS : WIDE_VALUES;
  if (s->layout == WIDE_TWINS) {
    s->product_w = doubled(a, layer->weight, (size_t)s->product_k * (size_t)s->product_n);
    s->product_bias = doubled(a, layer->bias, (size_t)s->product_n);
  } else {
    s->product_w = packed_product(a, layer, s->product_n);
    s->product_bias = copied(a, layer->bias, (size_t)s->product_n);
  }
  return s->product_w && s->product_bias;
}

/* Whether the layer exists, is of that kind, and may join the stage of the layers before it. */
static bool joins(const dft_folded *layers, int at, int count, dft_conv_kind kind) {
  return at < count && layers[at].kind == kind && !layers[at].block_start;
}

/* Two vectors for the stem and for AMX, which work in two; else as many as a group has room for. */
static int group_channels(const dft_folded *first) {
  const bool two = first->kind == DFT_STEM || (first->bfloat16 && ROUNDED_UNIT > 1);
  return two ? STEM_GROUP : GROUP;
}

static depthwise_way way_of(const stage *s) {
  const dft_conv *c = &s->conv;
  if (c->stride == 2) return DEPTHWISE_STRIDED;
  if (s->whole && c->in_h == 3 && c->in_w == 3) return DEPTHWISE_TINY;
  if (c->in_h < 2) return DEPTHWISE_ROWS;
  if (c->in_w % 6 == 0) return c->in_w == 6 ? DEPTHWISE_SIX : DEPTHWISE_SIXES;
  if (c->in_w % 7 == 0 && s->layout != WIDE_TWINS) return c->in_w == 7 ? DEPTHWISE_SEVEN : DEPTHWISE_SEVENS;
  return DEPTHWISE_ROWS;
}

/* The layer with its scale folded in, until the next one is. */
static dft_folded valued(const dft_folded *layer, float *room) {
  dft_folded l = *layer;
  l.weight = dft_folded_values(layer, room);
  return l;
}

/* Makes the stage that begins at layers[at]; *next is the layer after it. A stem joins the block after it
 * unless that block adds its input, which a stage does not store. */
static dft_status make_stage(dft_arena *a, stage *s, const dft_folded *layers, int at, int count, float *room,
                             int *next) {
  const dft_folded *first = &layers[at];
  dft_folded l;
  bool stem = first->kind == DFT_STEM, good = true;
  bool depthwise = first->kind == DFT_DEPTHWISE || joins(layers, at + 1, count, DFT_DEPTHWISE);
  if (stem && at + 1 < count && layers[at + 1].kind == DFT_DEPTHWISE)
    depthwise = !(joins(layers, at + 2, count, DFT_POINTWISE) && layers[at + 2].residual);
  s->group = group_channels(first);
  s->in_floats = (int)dft_folded_in_floats(first);
  s->in_channels = first->conv.in_channels;
  s->in_rounded = s->in_floats / s->in_channels * rounded_channels(s->in_channels);
  if (stem || (depthwise && first->kind == DFT_POINTWISE)) {
    l = valued(&layers[at++], room);
    good = add_source(a, s, &l);
  }
  if (depthwise) {
    l = valued(&layers[at++], room);
    good = good && add_depthwise(a, s, &l);
  }
  if (at < count && layers[at].kind == DFT_POINTWISE &&
      (&layers[at] == first || (depthwise && !layers[at].block_start))) {
    l = valued(&layers[at++], room);
    good = good && add_product(a, s, &l);
  }
  const dft_folded *last = &layers[at - 1];
  s->out_floats = (int)dft_folded_out_floats(last);
  s->out_channels = last->conv.channels;
  s->out_pixels = s->out_floats / s->out_channels;
  s->out_rounded = s->out_pixels * rounded_channels(s->out_channels);
  s->whole = s->whole && !stem;
  s->way = way_of(s);
  const size_t wide = (size_t)s->conv.out_h * (size_t)s->conv.out_w * (size_t)stage_wide_channels(s);
  for (s->pass = TILE_SAMPLES;
       s->pass > 1 && (size_t)s->pass * wide * (size_t)wide_bytes(s->layout) > PASS_BYTES;)
    s->pass /= 2;
  *next = at;
  if (!good) return dft_fail_memory("frozen weights", dft_arena_bytes(a));
  for (const dft_folded *one = first; one <= last; one++)
    if (one->residual && (one != last || !s->product || !first->block_start))
      return dft_fail(DFT_EINTERNAL, "frozen forward: a residual outside the last product of a whole block");
  return DFT_OK;
}

/* Stages with few pixels take a tile of samples. */
static bool is_late(const stage *s) {
  enum { FEW_PIXELS = 64 };
  return s->depthwise ? s->whole : s->product && s->out_pixels <= FEW_PIXELS;
}

/* What a tensor between stages needs: a sample's values and roundings, and the rows read past its end. */
typedef struct extent {
  size_t values, rounded, past;
} extent;

static bool make_tensor(dft_arena *a, tensor *t, const extent *e, int samples, bool rounded) {
  t->values = dft_arena_floats(a, (size_t)samples * e->values);
  t->rounded =
      rounded ? dft_arena_alloc(a, ((size_t)samples * e->rounded + e->past) * sizeof *t->rounded) : NULL;
  return t->values && (t->rounded || !rounded);
}

#define AT_LEAST(value, least) value = value > (least) ? value : (least)

static void cover(extent *e, size_t values, size_t rounded, int channels) {
  AT_LEAST(e->values, values);
  AT_LEAST(e->rounded, rounded);
  AT_LEAST(e->past, (size_t)(ROUNDED_ROWS_PAST * rounded_channels(channels)));
}

/* Whole huge pages: small ones lie anywhere in memory and crowd some of L2's sets. */
static size_t whole_pages(size_t bytes) {
  return (bytes + DFT_HUGE_PAGE_BYTES - 1) / DFT_HUGE_PAGE_BYTES * DFT_HUGE_PAGE_BYTES;
}

static bool make_worker(const dft_frozen *f, worker *w) {
  size_t border = 0, zeros = 0, wide = 0;
  extent sample = {0}, tile = {0}, input = {0};
  for (int i = 0; i < f->count; i++) {
    const stage *s = &f->stages[i];
    const int samples = i < f->early ? 1 : TILE_SAMPLES;
    AT_LEAST(border, DFT_SIMD(dft_stage_border)(s));
    AT_LEAST(wide, DFT_SIMD(dft_stage_wide)(s, samples));
    AT_LEAST(zeros, (size_t)(s->conv.in_w + 2) * GROUP);
    if (s->source == SOURCE_STEM) AT_LEAST(zeros, 3 * (size_t)s->source_conv.in_w);
    if (stage_reads_rounded(s)) cover(&input, 0, (size_t)samples * (size_t)s->in_rounded, s->in_channels);
    cover(i < f->early - 1 ? &sample : &tile, (size_t)s->out_floats, (size_t)s->out_rounded, s->out_channels);
  }
  dft_arena *a = w->memory = dft_arena_new();
  if (!a) return false;
  /* Together, so that they share huge pages. */
  const size_t narrow = NARROW * (sample.values + TILE_SAMPLES * tile.values);
  const size_t floats = border + zeros + wide + input.rounded + (f->bfloat16 ? 2 : 1) * narrow;
  if (!dft_arena_reserve(a, whole_pages(floats * sizeof(float)))) {
    dft_arena_free(a);
    return false;
  }
  w->space = (workspace){dft_arena_floats(a, border), dft_arena_floats(a, zeros), dft_arena_floats(a, wide)};
  bool good = w->space.border && w->space.zeros && w->space.wide;
  w->input = dft_arena_alloc(a, (input.rounded + input.past) * sizeof *w->input);
  good = good && w->input;
  for (int i = 0; i < NARROW; i++)
    good = good && make_tensor(a, &w->sample[i], &sample, 1, f->bfloat16) &&
           make_tensor(a, &w->tile[i], &tile, TILE_SAMPLES, f->bfloat16);
  if (!good) dft_arena_free(a);
  return good;
}

int DFT_SIMD(dft_frozen_workers)(dft_frozen *f, int wanted) {
  if (wanted <= f->worker_count) return wanted;
  worker *grown = realloc(f->workers, (size_t)wanted * sizeof *grown);
  if (!grown) return f->worker_count;
  f->workers = grown;
  while (f->worker_count < wanted && make_worker(f, &f->workers[f->worker_count])) f->worker_count++;
  return f->worker_count;
}

/* About what the layers' weights take, so that they share huge pages. */
static size_t weights_bytes(const dft_folded *layers, int count) {
  size_t floats = 0;
  for (const dft_folded *l = layers; l < layers + count; l++) {
    const size_t taps = l->kind == DFT_POINTWISE ? (size_t)l->conv.in_channels : l->kind == DFT_STEM ? 27 : 9;
    const size_t channels = (size_t)(l->conv.channels + GROUP - 1) / GROUP * GROUP;
    floats +=
        (l->bfloat16 ? (size_t)rounded_channels((int)taps) / BF16_IN_WORD : taps) * channels + 2 * channels;
  }
  return floats * sizeof(float);
}

static dft_status make_stages(dft_frozen *f, const dft_folded *layers, int count, float *room) {
  if (!dft_arena_reserve(f->memory, whole_pages(weights_bytes(layers, count))))
    return dft_fail_memory("frozen weights", weights_bytes(layers, count));
  f->stages = dft_arena_alloc(f->memory, (size_t)count * sizeof *f->stages);
  if (!f->stages) return dft_fail_memory("frozen stages", (size_t)count * sizeof *f->stages);
  for (int at = 0; at < count; f->count++)
    DFT_TRY(make_stage(f->memory, &f->stages[f->count], layers, at, count, room, &at));
  for (int i = 0; i < count; i++) f->bfloat16 = f->bfloat16 || layers[i].bfloat16;
  for (f->early = f->count; f->early > 0 && is_late(&f->stages[f->early - 1]);) f->early--;
  for (int i = 0; i < f->early; i++) f->stages[i].whole = f->stages[i].whole && f->stages[i].depthwise;
  f->in_floats = f->stages[0].in_floats;
  f->out_floats = f->stages[f->count - 1].out_floats;
  return DFT_OK;
}

dft_status DFT_SIMD(dft_frozen_new)(const dft_folded *layers, int count, dft_frozen **frozen) {
  DFT_TRY(dft_frozen_check(layers, count));
  dft_arena *memory = dft_arena_new();
  dft_frozen *f = memory ? dft_arena_alloc(memory, sizeof *f) : NULL;
  if (!f) {
    dft_arena_free(memory);
    return dft_fail_memory("frozen forward", sizeof *f);
  }
  f->memory = memory;
  float *room = dft_aligned_alloc(dft_folded_room(layers, count) * sizeof *room);
  dft_status status =
      room != NULL ? make_stages(f, layers, count, room) : dft_fail_memory("folded weights", sizeof *room);
  free(room);
  if (status == DFT_OK && DFT_SIMD(dft_frozen_workers)(f, 1) < 1)
    status = dft_fail_memory("frozen activations", sizeof(worker));
  if (status != DFT_OK)
    DFT_SIMD(dft_frozen_free)(f);
  else
    *frozen = f;
  return status;
}

void DFT_SIMD(dft_frozen_free)(dft_frozen *f) {
  if (!f) return;
  for (int i = 0; i < f->worker_count; i++) dft_arena_free(f->workers[i].memory);
  free(f->workers);
  dft_arena_free(f->memory);
}
