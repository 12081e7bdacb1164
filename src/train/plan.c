/* `dft plan`: what a config would do, without data and without MPI. */
#include "train.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 14 };

/* What a phase does with a layer. */
static const char *state_of(const dft_layer *l, bool in_prefix) {
  if (l->kind == DFT_LAYER_BATCH_NORM) return l->trainable ? "train, batch" : "moving stats";
  if (l->params == 0) return "";
  if (l->trainable) return "train";
  return in_prefix ? "frozen" : "frozen (tail)";
}

static void print_layers(dft_model *m, const dft_config *c) {
  printf("%-30s %-16s %10s", "layer", "output", "params");
  for (int p = 0; p < c->phase_count; p++) printf("  %-*.*s", WIDTH, WIDTH, c->phases[p].name);
  printf("\n");
  for (int i = 0; i < m->layer_count; i++) {
    const dft_layer *l = &m->layers[i];
    char shape[32];
    long long params = 0;
    for (int p = l->first_param; p < l->first_param + l->params; p++) params += m->params[p].elements;
    if (l->kind == DFT_LAYER_POOL || l->kind == DFT_LAYER_DENSE)
      snprintf(shape, sizeof shape, "%d", l->out_c);
    else
      snprintf(shape, sizeof shape, "%dx%dx%d", l->out_h, l->out_w, l->out_c);
    printf("%-30s %-16s %10lld", l->name, shape, params);
    for (int p = 0; p < c->phase_count; p++) {
      if (dft_model_freeze(m, &c->phases[p], c->batch_norm) != DFT_OK) return; /* was checked before */
      printf("  %-*s", WIDTH, state_of(l, l->unit >= 0 && l->unit < dft_model_tail_start(m)));
    }
    printf("\n");
  }
  puts("\nfrozen: once for each image, then from the cache; frozen (tail): not trained, but computed in "
       "every step");
  puts("moving stats: BatchNorm by its moving statistics; train, batch: trained, by those of the global "
       "batch");
}

/* BatchNorm values that are summed over ranks in one step: twice 2c float64. */
static int64_t batch_norm_bytes(const dft_model *m) {
  int64_t bytes = 0;
  for (int u = 0; u < m->unit_count; u++)
    if (m->layers[m->units[u].bn_layer].trainable)
      bytes += 2 * 2 * (int64_t)m->units[u].conv.channels * (int64_t)sizeof(double);
  return bytes;
}

static int64_t gradient_bytes(const dft_model *m) {
  int64_t bytes = 0;
  for (int p = 0; p < m->param_count; p++)
    if (m->params[p].trainable && m->layers[m->params[p].layer].kind != DFT_LAYER_BATCH_NORM)
      bytes += m->params[p].elements * (int64_t)sizeof(float);
  return bytes;
}

/* The first of the phases right before p that keep p's rows until then. */
static int first_keeping(const dft_config *c, const int *starts, int p) {
  int firsts[DFT_CACHE_LEVELS];
  for (int q = p - 1; q >= 0; q--) {
    bool kept = false;
    for (int i = dft_cache_levels(starts, c->phase_count, q, firsts); i-- > 0;)
      kept = kept || firsts[i] == starts[p];
    if (!kept) return q + 1;
  }
  return 0;
}

/* How many hosts have had, by chance others each time, the row that an image needs in epoch e of phase p: in
 * epochs with the same boundary, and once for an earlier phase that kept it on the way to its own. Each view
 * has rows of its own, and is that of every views-th epoch of the run. */
static int earlier_visits(const dft_config *c, const int *starts, int p, int keeping, int e) {
  const int views = c->cache.views > 1 ? c->cache.views : 1;
  int back = e, visits = e / views, on_the_way = 0; /* back: epochs from here to those looked at */
  for (int q = p - 1; q >= keeping; q--) {
    int with_view = (back + c->phases[q].epochs) / views - back / views;
    if (starts[q] == starts[p])
      visits += with_view;
    else if (with_view > 0)
      on_the_way = 1;
    back += c->phases[q].epochs;
  }
  return visits + on_the_way;
}

/* Rows that come from other hosts: of K that have it, none is the one of the image's next batch with
 * probability (1 - 1/hosts)^K. */
static void print_fetched(const dft_config *c, const dft_model *m, const int *starts, int p) {
  const int keeping = first_keeping(c, starts, p);
  printf("  from other hosts          %lld bytes a row, rows per image over the phase:",
         (long long)(dft_model_boundary(m, starts[p]) * (int64_t)sizeof(float)));
  for (int hosts = 2; hosts <= 32; hosts *= 4) {
    double rows = 0;
    for (int e = 0; e < c->phases[p].epochs; e++) {
      int had = earlier_visits(c, starts, p, keeping, e);
      if (had > 0) rows += pow(1 - 1.0 / hosts, had);
    }
    printf("%s %.2f on %d hosts", hosts > 2 ? "," : "", rows, hosts);
  }
  printf("\n");
}

/* What the cache keeps in phase p: the boundaries of this and of later phases that stay true until then. */
static void print_cache(const dft_config *c, const dft_model *m, const int *starts, int p) {
  int firsts[DFT_CACHE_LEVELS];
  int levels = dft_cache_levels(starts, c->phase_count, p, firsts);
  long long bytes = 0;
  for (int i = 0; i < levels; i++) bytes += dft_model_boundary(m, firsts[i]) * (long long)sizeof(float);
  bool mixes = c->data.augment.mixup > 0 || c->data.augment.cutmix > 0;
  bool augments = dft_config_augments(&c->data.augment);
  if (bytes == 0 || c->cache.mode == DFT_CACHE_OFF)
    printf("  cache                     nothing: %s\n",
           bytes == 0 ? "every layer trains" : "cache.mode is off");
  else if (mixes || (augments && c->cache.views == 0))
    printf(
        "  cache                     validation images only, %lld bytes each: %s\n", bytes,
        mixes
            ? "mixup and cutmix make training images anew in every epoch"
            : "data.augment makes training images anew in every epoch; cache.views: K keeps K views of each");
  else if (c->cache.directory != NULL)
    printf("  cache                     %lld bytes per image at %d place%s, in files in %s\n", bytes, levels,
           levels == 1 ? "" : "s", c->cache.directory);
  else
    printf("  cache                     %lld bytes per image at %d place%s; cache.memory_mb %lld holds %lld "
           "images\n",
           bytes, levels, levels == 1 ? "" : "s", (long long)c->cache.memory_mb,
           (long long)c->cache.memory_mb * 1000000 / bytes);
  if (bytes > 0 && c->cache.mode != DFT_CACHE_OFF && c->cache.views > 0)
    printf("                            a training image counts as cache.views %d images\n", c->cache.views);
  if (starts[p] > 0 && c->cache.mode != DFT_CACHE_OFF && !mixes && (!augments || c->cache.views > 0))
    print_fetched(c, m, starts, p);
}

static void print_phase(const dft_config *c, dft_model *m, const dft_ops *ops, const int *starts, int p) {
  const dft_config_phase *phase = &c->phases[p];
  int first = dft_model_tail_start(m);
  int64_t bytes = gradient_bytes(m), statistics = batch_norm_bytes(m);
  const char *from = first == m->unit_count ? "pooled features"
                     : first == 0           ? "the image"
                                            : m->layers[m->units[first].conv_layer].name;
  printf("\nPhase %d, %s: %d epochs, learning rate %g\n", p + 1, phase->name, phase->epochs,
         phase->optimizer.learning_rate);
  printf("  trainable parameters      %lld of %lld\n", (long long)dft_model_count(m, true),
         (long long)dft_model_count(m, false));
  printf("  gradients per step        %lld bytes; BatchNorm sums %lld bytes\n", (long long)bytes,
         (long long)statistics);
  printf("  trainable part starts at  %s, from %lld bytes per image\n", from,
         (long long)(dft_model_boundary(m, first) * (int64_t)sizeof(float)));
  print_cache(c, m, starts, p);
  printf("  %-10s %12s %22s %22s\n", "ranks", "images/rank", "sent/rank/step, bytes", "activations/rank, MB");
  for (int ranks = 1; ranks <= 64; ranks *= 2) {
    int shards = c->distributed.shards != 0 ? c->distributed.shards : dft_shards_auto(ranks);
    if (ranks > shards) break;
    int samples = (c->data.batch_size + ranks - 1) / ranks;
    uint64_t sent = ranks == 1 ? 0
                               : dft_reduce_bytes(ranks, shards, (uint64_t)bytes) +
                                     dft_reduce_bytes(ranks, shards, (uint64_t)statistics);
    printf("  %-10d %12d %22llu %22.1f\n", ranks, samples, (unsigned long long)sent,
           (double)dft_tail_plan_bytes(m, ops, samples, 1, c->model.dropout) / 1e6);
  }
}

static dft_status print_plan(const dft_config *c, dft_model *m, const dft_ops *ops) {
  int starts[DFT_CACHE_LEVELS];
  DFT_TRY(dft_phase_starts(c, m, starts));
  printf("MobileNetV2 alpha %g, input %dx%dx3, %d classes, global batch %d, kernels %s\n", c->model.alpha,
         c->model.height, c->model.width, c->model.classes, c->data.batch_size, ops->name);
  if (c->compute.threads > 0)
    printf("Threads per rank: %d\n", c->compute.threads);
  else
    printf("Threads per rank: OMP_NUM_THREADS, else the cores of the affinity mask over the ranks that share "
           "it\n");
  printf("Bytes sent: between hosts; with all ranks on one host, down to half of them\n\n");
  print_layers(m, c);
  for (int p = 0; p < c->phase_count; p++) {
    DFT_TRY(dft_model_freeze(m, &c->phases[p], c->batch_norm));
    print_phase(c, m, ops, starts, p);
  }
  return DFT_OK;
}

dft_status dft_plan(dft_comm *comm, const dft_config_source *source) {
  dft_config *c = NULL;
  dft_model *m = NULL;
  dft_kernels kernels;
  DFT_TRY(dft_load_config(comm, source, &c));
  dft_status status = dft_ops_best(&kernels);
  if (status == DFT_OK)
    status = dft_model_new(c->model.alpha, c->model.height, c->model.width, c->model.pooling,
                           c->model.classes, &m);
  if (status == DFT_OK) status = print_plan(c, m, dft_ops_get(kernels));
  dft_model_free(m);
  dft_config_free(c);
  return status;
}
