/* The operations a model needs: one table of functions per kernel set.
 *
 * Layout: activations are row-major NHWC float32, "rows" are pixels: x[samples*pixels][channels]. Weights
 * come as Keras keeps them: pointwise [k][n], depthwise [9][c] (Keras' [3][3][c][1]), stem [27][n] (Keras'
 * [3][3][3][n]), dense [k][n].
 *
 * Bits (design section 6). A sample's outputs do not depend on which samples share the call, on threads or on
 * ranks. Sums over samples are taken per shard: over the samples of a shard in order with one fixed order
 * inside a sample, then over the shards of each owned tree node in the tree's order; one result per node,
 * sums[node][...]. Empty shards count as zero.
 *
 * Kernel sets: "reference" (plain loops, what all others are tested against), "portable" (any CPU: products
 * by OpenBLAS, the rest plain C), "avx2" (AVX2+FMA), "avx512" (F, BW, DQ, VL), and two that are avx512 but
 * for the frozen forward's bfloat16 products: "avx512bf16" has them by VDPBF16PS, "amx" by tiles (TDPBF16PS).
 * The product kernels of avx2 and avx512 give the same bits (one FMA per k, in order), avx512 and avx512bf16
 * the same in everything, amx the same in everything but those products, which it sums in another order
 * (dft_folded). The sets as wholes may differ, so all ranks use one: the lowest among them. amx needs an
 * operating system that lets processes have tiles (Linux 5.16 on); valgrind shows programs neither AMX nor
 * AVX-512, so that they take avx2 there.
 *
 * Threads: an operation uses up to dft_ops_threads() OpenMP threads inside; call from one thread at a time.
 * Nothing allocates except *_new and the threads' first scratch. Nothing fails except where a status is
 * returned. Pointers need only float alignment; `y` may alias `x` only where said. Not collective.
 */
#ifndef DFT_OPS_H
#define DFT_OPS_H

#include "dft/device.h"
#include "dft/shards.h"
#include "dft/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A 3x3 convolution's geometry (stem and depthwise). Padding is zeros; only top and left matter: what is read
 * past the bottom or right edge is zero too. */
typedef struct dft_conv {
  int in_h, in_w, out_h, out_w;
  int in_channels; /* 3 for the stem; = channels for depthwise */
  int channels;    /* outputs */
  int stride;      /* 1 or 2 */
  int pad_top, pad_left;
} dft_conv;

/* What happens to a product before it is stored: + bias, + residual, then clamp to [0, 6]. Zeroed: nothing.
 */
typedef struct dft_epilogue {
  const float *bias;     /* [n] or NULL */
  const float *residual; /* same shape as y, or NULL; may alias y */
  bool relu6;
} dft_epilogue;

typedef enum dft_conv_kind { DFT_STEM, DFT_DEPTHWISE, DFT_POINTWISE } dft_conv_kind;

/* One layer with its frozen BatchNorm folded in, for inference. */
typedef struct dft_folded {
  dft_conv_kind kind;
  dft_conv conv;       /* pointwise: in_h, in_w, in_channels, channels */
  const float *weight; /* copied or packed by frozen_new, times the scale, rounded to float32 */
  const float *scale;  /* [channels], the BatchNorm's; NULL: it is in the weights already */
  const float *bias;   /* [channels] */
  bool relu6;
  bool residual; /* adds the input of the block (the input of the nearest preceding layer with block_start) */
  bool block_start; /* the first layer of an inverted residual block, of the stem, or of Conv_1 */
  /* Pointwise, in_channels even: input and weights are rounded to bfloat16 (nearest even), products summed in
   * float32: by amx as TDPBF16PS does it (even and odd terms apart within each 32, from +0, then + bias), by
   * portable in BLAS' order, by all others onto the bias as VDPBF16PS does it. The output stays float32.
   * Denormals may be taken and given as zero in all layers then. */
  bool bfloat16;
} dft_folded;
typedef struct dft_frozen dft_frozen;

/* A BatchNorm, with its ReLU6 if it has one, as training kernels apply it: y = relu6?(z*scale + shift)
 * wherever y is read, so that only z is stored; with g = dy where y is inside (0, 6), else 0 (without relu6:
 * g = dy), dz = a*g + b*z + d. b and d NULL together (frozen statistics): dz = a*g. All [c]. */
typedef struct dft_norm {
  const float *scale, *shift;
  bool relu6;
  const float *mean; /* of the batch; for the sums of backward */
  const float *a, *b, *d;
} dft_norm;

/* One convolution in training. x[samples][in] is what the layer below stored: its z, read through x_norm, or,
 * with x_norm NULL, the input itself. */
typedef struct dft_train_conv {
  dft_conv_kind kind;
  dft_conv conv;
  const dft_shard_map *map;
  const float *x;
  const dft_norm *x_norm;
  const float *weight; /* the kernel, as it is: pointwise [k][n] */
  float *work;         /* dft_train_work_floats(kind, conv, samples), aligned to 64 bytes */
  double *gram;        /* of a pair's expansion: [samples][k+1][k], x^T.x and the sum of x, k = in_channels */
} dft_train_conv;

/* What backward gets and gives. Sums are per node, as those of bn_sums and gemm_dw. */
typedef struct dft_train_gradient {
  float *dy; /* gradient of y; where dy_kept is false it may be overwritten */
  bool dy_kept;
  const float *z;       /* what forward stored */
  const dft_norm *norm; /* its BatchNorm */
  float *dw;            /* [node][weights], or NULL */
  float *dx;            /* gradient of x as read (after x_norm's ReLU6), or NULL. Not for the stem */
  const float *skip;    /* added to dx, or NULL; never dx itself */
  /* With below_sums: bn_backward_sums of dx through the BatchNorm below, whose z this is. */
  const float *below_z;
  const dft_norm *below_norm;
  double *below_sums;
} dft_train_gradient;

/* Per channel, what a BatchNorm with batch statistics has. All [c]. */
typedef struct dft_batch_norm_vectors {
  float *mean, *variance, *invstd, *scale, *shift; /* of the last batch; y = z*scale + shift */
  float *dgamma, *dbeta;                           /* summed over the global batch */
  float *a, *b, *d;                                /* dft_norm's */
} dft_batch_norm_vectors;

/* Working memory for both directions, a bound for every kernel set that runs on the CPU. */
size_t dft_train_work_floats(dft_conv_kind kind, const dft_conv *conv, int samples);

typedef struct dft_ops dft_ops;
struct dft_ops {
  const char *name;
  const dft_device *device; /* where tensors are and the work is done (device.h); NULL: here, at once */

  /* y[rows][n] = epilogue(x[rows][k] . W), rows = samples*pixels. W packed by gemm_pack: from [k][n], or,
   * with transposed, from [n][k] (then the product is x . W^T of a [n][k] matrix: the gradient of the input).
   */
  size_t (*gemm_packed_floats)(int k, int n);
  void (*gemm_pack)(const float *w, int k, int n, bool transposed, float *packed);
  void (*gemm)(const float *x, const float *packed, float *y, int samples, int pixels, int k, int n,
               const dft_epilogue *epilogue);
  /* dw[node][k][n] = sum over the node's rows of x^T . dy */
  void (*gemm_dw)(const float *x, const float *dy, int pixels, int k, int n, const dft_shard_map *map,
                  float *dw);

  void (*depthwise)(const float *x, const float *w, float *y, int samples, const dft_conv *conv,
                    const dft_epilogue *epilogue);
  void (*depthwise_dx)(const float *dy, const float *w, float *dx, int samples, const dft_conv *conv);
  /* dw[node][9][c] */
  void (*depthwise_dw)(const float *x, const float *dy, const dft_conv *conv, const dft_shard_map *map,
                       float *dw);

  void (*stem)(const float *x, const float *w, float *y, int samples, const dft_conv *conv,
               const dft_epilogue *epilogue);
  /* dw[node][27][n] */
  void (*stem_dw)(const float *x, const float *dy, const dft_conv *conv, const dft_shard_map *map, float *dw);

  /* BatchNorm's sums: sums[node][2][c] = sum z, sum z^2. Float32 within at most 1,024 values, float64 above.
   */
  void (*bn_sums)(const float *z, int pixels, int c, const dft_shard_map *map, double *sums);
  /* y = relu6?(z*scale + shift) + residual (after the clamp; never both in MobileNetV2). y may alias z or
   * residual. */
  void (*scale_shift)(const float *z, const float *scale, const float *shift, const float *residual,
                      bool relu6, float *y, int64_t rows, int c);
  /* sums[node][2][c] = sum g, sum g*(z-mean), g as dft_norm says: the gradients of beta and of gamma/invstd.
   */
  void (*bn_backward_sums)(const float *dy, const float *z, const dft_norm *norm, int pixels, int c,
                           const dft_shard_map *map, double *sums);
  /* dz as dft_norm says; may alias dy. z is not read without relu6 and b. */
  void (*bn_backward)(const float *dy, const float *z, const dft_norm *norm, float *dz, int64_t rows, int c);
  void (*add)(const float *x, float *y, int64_t count); /* y += x */

  /* From totals[2][c] of bn_sums over `count` values a channel: population mean and variance, and the affine
   * map with gamma and beta: v's first five. */
  void (*bn_statistics)(const double *totals, double count, const float *gamma, const float *beta,
                        double epsilon, int c, const dft_batch_norm_vectors *v);
  /* From totals[2][c] of bn_backward_sums: v's last five; dz = gamma*invstd * (g - dbeta/M - xhat*dgamma/M)
   * with xhat = (z-mean)*invstd, M = count (Ioffe & Szegedy 2015). */
  void (*bn_gradients)(const double *totals, double count, const float *gamma, int c,
                       const dft_batch_norm_vectors *v);
  /* A frozen one's map from its moving statistics. */
  void (*bn_frozen)(const float *gamma, const float *beta, const float *mean, const float *variance,
                    float epsilon, int c, float *scale, float *shift);
  /* moving = moving*momentum + batch*(1-momentum). With `done` (device sets) only if *done is
   * DFT_UPDATE_DONE. */
  void (*bn_commit)(float *mean, float *variance, const dft_batch_norm_vectors *v, double momentum, int c,
                    const int *done);
  /* out = in*mask/(1-rate), mask keyed by (seed, epoch, sample, feature); samples[count] dataset numbers.
   * out may alias in. */
  void (*dropout)(const float *in, float *out, const int64_t *samples, uint64_t seed, uint32_t epoch,
                  double rate, int count, int features);
  /* to[node*stride + i] = from[node*count + i] */
  void (*copy_nodes)(const float *from, float *to, size_t stride, int64_t count, int nodes);

  /* Of this set; else as dft_train_work_floats. */
  size_t (*train_work_floats)(dft_conv_kind kind, const dft_conv *conv, int samples);
  /* z[samples][out] = conv(x), and, unless NULL, sums[node][2][c] as bn_sums of it. `ops` is the table
   * itself. */
  void (*train_forward)(const dft_ops *ops, const dft_train_conv *t, float *z, double *sums);
  void (*train_backward)(const dft_ops *ops, const dft_train_conv *t, const dft_train_gradient *g);

  /* An expansion (pointwise, x_norm NULL, then a BatchNorm with ReLU6) and the depthwise layer t above it,
   * without the expansion's output in memory: neither its z nor t->x is read. train_pair_fits is NULL where a
   * set has none of this, and false where a shape is not for it. t->x_norm is the expansion's norm. Both
   * share `work` of train_pair_work_floats, which nobody else may touch from pair_backward to pair_finish,
   * and the expansion's `gram`, likewise from pair_sums to pair_finish. */
  bool (*train_pair_fits)(const dft_conv *expand, const dft_conv *depthwise);
  size_t (*train_pair_work_floats)(const dft_conv *expand, int samples);
  /* bn_sums of the expansion's output; then the depthwise layer as train_forward. */
  void (*train_pair_sums)(const dft_train_conv *expand, double *sums);
  void (*train_pair_forward)(const dft_train_conv *expand, const dft_train_conv *t, float *z, double *sums);
  /* The depthwise layer's backward: dw, and, if anything below it trains, below_sums for the expansion's
   * BatchNorm and, unless NULL, dx: not its own but the first part of the expansion's, skip added (with the
   * norm's scale for a, which is not known yet: the same but for rounding). */
  void (*train_pair_backward)(const dft_train_conv *expand, const dft_train_conv *t,
                              const dft_train_gradient *g, bool below);
  /* The expansion's: dw; dx holds the first part and gets the rest; below_sums. a, b, d of g->norm are used;
   * dy, z and skip are not. */
  void (*train_pair_finish)(const dft_train_conv *expand, const dft_train_gradient *g);

  /* y[samples][c]: mean or maximum over pixels. The maximum's gradient is shared equally by equal maxima, as
   * TensorFlow's reduce_max does. */
  void (*pool_avg)(const float *x, float *y, int samples, int pixels, int c);
  void (*pool_avg_dx)(const float *dy, float *dx, int samples, int pixels, int c);
  void (*pool_max)(const float *x, float *y, int samples, int pixels, int c);
  void (*pool_max_dx)(const float *x, const float *y, const float *dy, float *dx, int samples, int pixels,
                      int c);

  /* sums[node][c] = sum over rows of x (the gradient of a bias) */
  void (*row_sums)(const float *x, int pixels, int c, const dft_shard_map *map, float *sums);

  /* Optimizer steps over `count` values; g = scale*grad (scale 1/B turns sums into means). Formulas: optim.h.
   * The betas are double because 1 - beta must be rounded once, as in Keras: 1 - 0.999f is off by 1e-5.
   * decay = learning_rate*weight_decay (0: none) shrinks w before the step. velocity is unused without
   * momentum. Denormals are taken and given as zero (x86-64, arm64). */
  void (*adam)(float *w, float *m, float *v, const float *grad, float scale, float alpha_t, double beta_1,
               double beta_2, float epsilon, float decay, int64_t count);
  void (*sgd)(float *w, float *velocity, const float *grad, float scale, float learning_rate, float momentum,
              bool nesterov, float decay, int64_t count);
  bool (*all_finite)(const float *x, int64_t count);

  /* A run of folded layers as one function of a sample: x[samples][in] -> y[samples][out]. Any number of
   * samples a call; working memory belongs to the object. */
  dft_status (*frozen_new)(const dft_folded *layers, int count, dft_frozen **frozen);
  void (*frozen_run)(dft_frozen *frozen, const float *x, float *y, int samples);
  void (*frozen_free)(dft_frozen *frozen);
};

/* Rank of a kernel set: higher is faster. Ranks agree on the minimum of dft_ops_best(), and on cuda when all
 * see a device. */
typedef enum {
  DFT_KERNELS_REFERENCE,
  DFT_KERNELS_PORTABLE,
  DFT_KERNELS_AVX2,
  DFT_KERNELS_AVX512,
  DFT_KERNELS_AVX512BF16,
  DFT_KERNELS_AMX,
  DFT_KERNELS_CUDA, /* of the module (device.h), which opens it for a device: not in dft_ops_get */
  DFT_KERNELS_COUNT
} dft_kernels;

/* The best set this CPU runs (avx512 rather than avx512bf16 on Intel's CPUs, whose VDPBF16PS is slow), or the
 * one DFT_KERNELS=reference|portable|avx2|avx512|avx512bf16|amx names (cuda asks for a GPU beside the best of
 * the CPU). DFT_EUSAGE when it names none or one this CPU lacks. */
dft_status dft_ops_best(dft_kernels *kernels);
/* The table of a set of the CPU; NULL when this build or CPU lacks the set. */
const dft_ops *dft_ops_get(dft_kernels kernels);

/* Whether the set's products of bfloat16 factors (dft_folded) are faster than those of float32 on this CPU:
 * by AMX, and by VDPBF16PS except on Intel's CPUs, which give it a quarter of FMA's rate; by FMAs they are
 * not: factors have to be rounded. */
bool dft_ops_bfloat16_pays(dft_kernels kernels);

/* Threads per operation. OpenBLAS is held to one thread inside. */
void dft_ops_set_threads(int threads);
int dft_ops_threads(void);

/* Kernels keep what they work on in automatic arrays, up to 0.74 MB in one function; a smaller stack's guard
 * page would not be met by all of them. DFT_EUSAGE when the caller, which must be the process' first thread,
 * or one of the threads has less than DFT_OPS_STACK_BYTES. Starts the threads. */
enum { DFT_OPS_STACK_BYTES = 1 << 20 };
dft_status dft_ops_check_stacks(void);

#endif
