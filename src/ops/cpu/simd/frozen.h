/* The fused frozen forward: the run of layers is cut in stages, each of which keeps its wide tensor in cache.
 *
 * A stage is [source] -> depthwise -> product, where any but one may be absent. The source of a depthwise
 * convolution's input is a product (the block's expansion), the stem, or the stage's input itself. Channels
 * go by groups: the source writes a group's rows into a bordered buffer in L1, the depthwise
 * convolution reads it there and writes the wide tensor's columns (row-major, in L2), and the last product
 * takes all of them with bias, residual and clamp in its epilogue.
 *
 * bfloat16: a product whose factors are bfloat16 reads them in memory as such. The wide tensor is rounded
 * where the depthwise convolution stores it, a narrow one twice where a product stores it: its values, which
 * residuals and later stages' sources want, and their roundings. Such a net runs with denormals flushed. */
#ifndef DFT_SIMD_FROZEN_H
#define DFT_SIMD_FROZEN_H

#include "dft/arena.h"
#include "frozen_twins.h"
#include "gemm_panel.h"

/* Channels of a group: expanded widths are multiples of 48; of the stem's, and for AMX, two vectors. */
enum { STEM_GROUP = 2 * VF_LANES, GROUP = VF_LANES == 16 ? 48 : STEM_GROUP };

typedef enum stage_source { SOURCE_INPUT, SOURCE_PRODUCT, SOURCE_STEM } stage_source;

/* The wide tensor: rows of float32, of bfloat16 (rounded_channels), or rows by two for frozen_twins.h. */
typedef enum wide_layout { WIDE_VALUES, WIDE_ROUNDED, WIDE_TWINS } wide_layout;

/* How frozen_depthwise.h takes the outputs. What takes seven or nine at a time does not give rows by two. */
typedef enum depthwise_way {
  DEPTHWISE_ROWS,    /* any rows with a stride of 1 ... */
  DEPTHWISE_STRIDED, /* ... or 2 */
  DEPTHWISE_SIXES,   /* stride 1: rows of 12, 18, ... outputs */
  DEPTHWISE_SIX,     /* of 6 */
  DEPTHWISE_SEVENS,  /* of 14, 21, ... */
  DEPTHWISE_SEVEN,   /* of 7 */
  DEPTHWISE_TINY,    /* whole images of 3x3 */
  DEPTHWISE_WAYS
} depthwise_way;

/* Bytes of a pixel's channel, and from one channel to the next. */
static inline ptrdiff_t wide_bytes(wide_layout layout) {
  return (ptrdiff_t)(layout == WIDE_ROUNDED ? sizeof(vf_bf16) : sizeof(float));
}
static inline ptrdiff_t wide_channel_bytes(wide_layout layout) {
  return layout == WIDE_TWINS ? 2 * (ptrdiff_t)sizeof(float) : wide_bytes(layout);
}

typedef struct stage {
  stage_source source;
  bool depthwise, product; /* without depthwise, the source's layer or the product is the whole stage */
  bool whole;              /* a group of an image's bordered input fits in L1: no ring */
  int stack;               /* then: samples in the border buffer */
  depthwise_way way;
  int pass;                   /* with a product: samples in the wide tensor */
  int group;                  /* channels of each, the last may use fewer: GROUP or STEM_GROUP */
  int batch, ring;            /* else: rows that the source makes together, and rows of the ring */
  int shift;                  /* row i is in place (i + shift) % ring; batches begin at multiples of batch */
  bool residual;              /* the product adds the stage's input */
  dft_conv source_conv, conv; /* of the stem or product that makes the depthwise input; of the depthwise */
  int product_k, product_n;
  bool source_relu6, depthwise_relu6, product_relu6;
  bool source_pairs;                         /* that product's factors are bfloat16 */
  wide_layout layout;                        /* of what the product reads; rounded: its factors are */
  const float *source_w, *source_bias;       /* each group packed; bias [n] */
  const float *depthwise_w, *depthwise_bias; /* [groups][9][group], [groups][group] */
  const float *product_w, *product_bias;
  int in_floats, out_floats;   /* per sample */
  int in_rounded, out_rounded; /* the same in bfloat16, rows of rounded_channels */
  int out_pixels, in_channels, out_channels;
  int strip; /* output rows of the depthwise convolution at a time */
} stage;

/* One thread's working memory. */
typedef struct workspace {
  float *border; /* the ring or the whole bordered input of one group */
  float *zeros;  /* a row of zeros: bordered, or of the stem's input */
  float *wide;   /* the depthwise output: a strip of one sample, or some samples; may be bfloat16 */
} workspace;

/* A tensor between stages, and the same in bfloat16 (or NULL) for a product that wants it, perhaps alone. */
typedef struct tensor {
  float *values;
  vf_bf16 *rounded;
  bool only_rounded;
} tensor;

enum {
  TILE_SAMPLES = 8, /* through the stages with few pixels, whose weights are many */
  NARROW = 2        /* tensors between stages: input and output */
};

/* What one thread works with. */
typedef struct worker {
  dft_arena *memory;
  workspace space;
  tensor sample[NARROW]; /* between the stages that take one sample at a time */
  tensor tile[NARROW];   /* between those that take a tile; tile[0] also is what the former hand over */
  vf_bf16 *input;        /* roundings of what no product gave */
} worker;

struct dft_frozen {
  dft_arena *memory;
  stage *stages;
  int count;
  int early; /* stages that take one sample at a time */
  int in_floats, out_floats;
  bool bfloat16; /* there is such a product */
  worker *workers;
  int worker_count;
};

/* Workers for up to `wanted` threads, as far as memory goes; returns how many there are. */
int DFT_SIMD(dft_frozen_workers)(dft_frozen *f, int wanted);

/* Whether the stage reads its input's roundings. */
static inline bool stage_reads_rounded(const stage *s) {
  return s->source == SOURCE_PRODUCT ? s->source_pairs
                                     : !s->depthwise && s->product && s->layout == WIDE_ROUNDED;
}

/* Channels of a row of the wide tensor in memory. */
static inline int stage_wide_channels(const stage *s) {
  return s->layout == WIDE_ROUNDED ? rounded_channels(s->conv.channels) : s->conv.channels;
}

/* Floats that a stage needs in each part of the workspace, for `samples` at a time. */
size_t DFT_SIMD(dft_stage_border)(const stage *s);
size_t DFT_SIMD(dft_stage_wide)(const stage *s, int samples);

/* x_rounded is read if stage_reads_rounded; y.rounded, unless NULL, is written if the stage has a product. */
void DFT_SIMD(dft_stage_run)(const stage *s, const workspace *space, const float *x, const vf_bf16 *x_rounded,
                             tensor y, int samples);

#endif
