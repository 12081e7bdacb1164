/* The products, by cuBLASLt. It may choose another kernel for another number of rows, and so other bits for
 * the same row. So the kernel is chosen once for all that is fixed about a layer, with a canonical number of
 * rows and no splitting of sums, and then used for every number of rows. */
#include "device.h"

#include <stdio.h>
#include <string.h>

/* In cuBLASLt's terms, column-major: D[m][n] = op(A)[m][k] . op(B)[k][n] (+ beta*C + bias). Our rows are its
 * columns. */
typedef struct call {
  /* What the kernel is chosen by. */
  struct key {
    int m, k, n; /* -1: any number, chosen with `canonical` */
    int canonical, canonical_batch;
    int transposed_a, transposed_b, half, half_out, bias, onto, alignment;
  } key;
  int64_t lda, ldb, ldd, n;
  int batch;
  int64_t stride_a, stride_b, stride_d;
  const void *a, *b, *c;
  void *d;
  const void *bias; /* of d's type: cuBLASLt has no other with bfloat16 */
} call;

enum { CHOICES = 512, CANDIDATES = 16, CANONICAL_SAMPLES = 256, CANONICAL_BATCH = 64 };
/* Of one call. Many of cuBLASLt's kernels have a block row per 32 columns (our rows) or per matrix, and a
 * grid has at most 65,535 of them. */
static const int most_rows = 1 << 20, most_batch = 1 << 15;

static struct choice {
  struct call::key key;
  cublasLtMatmulAlgo_t algorithm;
} choices[CHOICES];
static int choice_count;

typedef struct description {
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t a, b, d;
} description;

static void forget(description *t) {
  if (t->product != nullptr) cublasLtMatmulDescDestroy(t->product);
  if (t->a != nullptr) cublasLtMatrixLayoutDestroy(t->a);
  if (t->b != nullptr) cublasLtMatrixLayoutDestroy(t->b);
  if (t->d != nullptr) cublasLtMatrixLayoutDestroy(t->d);
}

template <typename T>
static bool set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, T value) {
  return dft_cuda_check_blas(cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof value),
                             "describing a product");
}

template <typename T>
static bool set(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, T value) {
  return dft_cuda_check_blas(cublasLtMatrixLayoutSetAttribute(layout, attribute, &value, sizeof value),
                             "describing a matrix");
}

static bool layout(cublasLtMatrixLayout_t *made, bool half, int64_t rows, int64_t columns, int64_t ld,
                   int batch, int64_t stride) {
  if (!dft_cuda_check_blas(cublasLtMatrixLayoutCreate(made, half ? CUDA_R_16BF : CUDA_R_32F, (uint64_t)rows,
                                                      (uint64_t)columns, ld),
                           "describing a matrix"))
    return false;
  return batch == 1 || (set(*made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, (int32_t)batch) &&
                        set(*made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride));
}

static bool describe(const call *c, int64_t n, int batch, description *t) {
  const struct call::key *key = &c->key;
  const bool fast = cuda.device.precision == DFT_PRECISION_TF32 && !key->half;
  *t = description{nullptr, nullptr, nullptr, nullptr};
  if (!dft_cuda_check_blas(cublasLtMatmulDescCreate(&t->product,
                                                    fast ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                                                    CUDA_R_32F),
                           "describing a product"))
    return false;
  const int epilogue = key->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  const cublasOperation_t a = key->transposed_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t b = key->transposed_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const int64_t k = key->k;
  return set(t->product, CUBLASLT_MATMUL_DESC_TRANSA, a) && set(t->product, CUBLASLT_MATMUL_DESC_TRANSB, b) &&
         set(t->product, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue) &&
         (!key->bias ||
          (set(t->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, c->bias) &&
           set(t->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, key->half_out ? CUDA_R_16BF : CUDA_R_32F))) &&
         layout(&t->a, key->half, key->transposed_a ? k : key->m, key->transposed_a ? key->m : k, c->lda,
                batch, c->stride_a) &&
         layout(&t->b, key->half, key->transposed_b ? n : k, key->transposed_b ? k : n, c->ldb, batch,
                c->stride_b) &&
         layout(&t->d, key->half_out, key->m, n, c->ldd, batch, c->stride_d);
}

/* ---- the choice ---- */

template <typename T>
static bool prefer(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                   T value) {
  return dft_cuda_check_blas(
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
      "choosing a product");
}

/* Sums that are split over blocks would depend on how many there are. */
static bool unsplit(const cublasLtMatmulAlgo_t *algorithm) {
  int32_t parts = 1;
  size_t written;
  return cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts,
                                              sizeof parts, &written) == CUBLAS_STATUS_SUCCESS &&
         parts <= 1;
}

/* Whether a kernel does all that it may be asked for: a few rows as well as most, one matrix as well as many.
 */
static bool does_all(const call *c, const cublasLtMatmulAlgo_t *algorithm) {
  const bool rows = c->key.n < 0;
  const int64_t asked[] = {1, rows ? c->key.canonical : CANONICAL_BATCH, rows ? most_rows : most_batch};
  bool does = true;
  for (int i = 0; i < 3 && does; i++) {
    description t;
    cublasLtMatmulHeuristicResult_t result;
    does = describe(c, rows ? asked[i] : c->key.n, rows ? 1 : (int)asked[i], &t) &&
           cublasLtMatmulAlgoCheck(cuda.lt, t.product, t.a, t.b, t.d, t.d, algorithm, &result) ==
               CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= DFT_CUDA_WORKSPACE_BYTES;
    forget(&t);
  }
  return does;
}

static bool pick(const description *t, const call *c, cublasLtMatmulPreference_t preference,
                 cublasLtMatmulAlgo_t *algorithm) {
  const struct call::key *key = &c->key;
  cublasLtMatmulHeuristicResult_t found[CANDIDATES];
  int count = 0;
  const uint32_t alignment = (uint32_t)key->alignment, none = CUBLASLT_REDUCTION_SCHEME_NONE;
  const size_t workspace = DFT_CUDA_WORKSPACE_BYTES;
  if (!prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace) ||
      !prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, none) ||
      !prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment) ||
      !prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment) ||
      !prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment) ||
      !prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment))
    return false;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(cuda.lt, t->product, t->a, t->b, t->d, t->d,
                                                               preference, CANDIDATES, found, &count);
  const cublasLtMatmulAlgo_t *first = nullptr, *best = nullptr;
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count && best == nullptr; i++) {
    if (found[i].state != CUBLAS_STATUS_SUCCESS || !unsplit(&found[i].algo)) continue;
    if (first == nullptr) first = &found[i].algo;
    if (does_all(c, &found[i].algo)) best = &found[i].algo;
  }
  if (best == nullptr) best = first; /* what it is asked for may still be within what it does */
  if (best != nullptr) {
    *algorithm = *best;
    return true;
  }
  dft_cuda_keep("GPU %d (%s): cuBLASLt has no product of %d x %d for this device (status %d)",
                cuda.device.index, cuda.device.name, key->m, key->k, (int)status);
  return false;
}

static const cublasLtMatmulAlgo_t *choose(const call *c) {
  for (int i = 0; i < choice_count; i++)
    if (memcmp(&choices[i].key, &c->key, sizeof c->key) == 0) return &choices[i].algorithm;
  if (choice_count == CHOICES) choice_count = 0; /* they are found again */
  choice *made = &choices[choice_count];
  description t = {nullptr, nullptr, nullptr, nullptr};
  cublasLtMatmulPreference_t preference = nullptr;
  made->key = c->key;
  bool good = describe(c, c->key.n < 0 ? c->key.canonical : c->key.n, c->key.canonical_batch, &t) &&
              dft_cuda_check_blas(cublasLtMatmulPreferenceCreate(&preference), "choosing a product") &&
              pick(&t, c, preference, &made->algorithm);
  if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
  forget(&t);
  if (!good) return nullptr;
  choice_count++;
  return &made->algorithm;
}

/* What it was, in words: cuBLASLt tells only a number. */
static void failed(const call *c, cublasStatus_t status) {
  const struct call::key *k = &c->key;
  char what[200];
  snprintf(what, sizeof what,
           "a product (m %d, n %lld, k %d, %d of them, %s to %s, transposed %d %d, bias %d, beta %d, at "
           "multiples of %d bytes)",
           k->m, (long long)c->n, k->k, c->batch, k->half ? "bfloat16" : "float32",
           k->half_out ? "bfloat16" : "float32", k->transposed_a, k->transposed_b, k->bias, k->onto,
           k->alignment);
  dft_cuda_check_blas(status, what);
}

static void multiply(const call *c) {
  description t;
  if (c->n == 0 || c->batch == 0) return;
  const cublasLtMatmulAlgo_t *algorithm = choose(c);
  if (algorithm == nullptr) return;
  if (describe(c, c->n, c->batch, &t)) {
    const float alpha = 1, beta = c->c != nullptr ? 1.0f : 0.0f;
    const cublasStatus_t status =
        cublasLtMatmul(cuda.lt, t.product, &alpha, c->a, t.a, c->b, t.b, &beta, c->c != nullptr ? c->c : c->d,
                       t.d, c->d, t.d, algorithm, cuda.workspace, DFT_CUDA_WORKSPACE_BYTES, cuda.stream);
    if (status != CUBLAS_STATUS_SUCCESS) failed(c, status);
  }
  forget(&t);
}

/* The largest power of two up to 16 that divides all. */
static int alignment_of(uintptr_t bits) {
  bits |= 16;
  return (int)(bits & (~bits + 1));
}

static uintptr_t bytes_of(int64_t values, bool half) {
  return (uintptr_t)values * (half ? 2 : 4);
}

/* ---- y = x.w ---- */

void dft_cuda_multiply(const dft_cuda_product *p) {
  call c = {};
  c.key.m = p->n;
  c.key.k = p->k;
  c.key.n = -1;
  c.key.canonical = p->pixels < most_rows / CANONICAL_SAMPLES ? CANONICAL_SAMPLES * p->pixels : most_rows;
  c.key.canonical_batch = 1;
  c.key.transposed_a = p->transposed;
  c.key.half = p->half;
  c.key.half_out = p->half_out;
  c.key.bias = p->bias != nullptr;
  c.key.onto = p->residual != nullptr;
  c.lda = p->transposed ? p->k : p->n;
  c.ldb = p->k;
  c.ldd = p->n;
  c.batch = 1;
  c.a = p->w;
  c.bias = p->bias;
  c.key.alignment = alignment_of((uintptr_t)p->w | (uintptr_t)p->x | (uintptr_t)p->residual |
                                 (uintptr_t)p->y | (uintptr_t)p->bias | bytes_of(c.lda, p->half) |
                                 bytes_of(c.ldb, p->half) | bytes_of(c.ldd, p->half_out));
  for (int64_t from = 0; from < p->rows; from += most_rows) {
    const size_t out = bytes_of(from * p->n, p->half_out);
    c.n = p->rows - from < most_rows ? p->rows - from : most_rows;
    c.b = (const char *)p->x + bytes_of(from * p->k, p->half);
    c.c = p->residual != nullptr ? (const char *)p->residual + out : nullptr;
    c.d = (char *)p->y + out;
    multiply(&c);
  }
}

/* ---- dw = x^T.dy ---- */

/* Whole samples, a power of two of them: about 1,024 rows, more where dw is large beside them. The few blocks
 * of a small dw would else leave most of a GPU idle. */
static int chunk_samples(int pixels, int k, int n) {
  const int64_t wanted = (int64_t)k * n / 64 > 1024 ? (int64_t)k * n / 64 : 1024;
  int samples = 1;
  while ((int64_t)samples * pixels < wanted && samples < 1 << 20) samples *= 2;
  return samples;
}

typedef struct dw_job {
  const char *x, *dy;
  bool half;
  int k, n;
} dw_job;

/* Chunks of equally many rows that lie one after the other, their partial sums too: one call. */
typedef struct chunk_run {
  int64_t from, rows;
  int batch, slot;
} chunk_run;

static void multiply_chunks(const dw_job *job, const chunk_run *run, float *partials) {
  call c = {};
  const int64_t k = job->k, n = job->n;
  if (run->batch == 0) return;
  c.key.m = job->n;
  c.key.n = job->k;
  c.key.k = (int)run->rows;
  c.key.canonical_batch = CANONICAL_BATCH;
  c.key.transposed_b = 1;
  c.key.half = job->half;
  c.lda = n;
  c.ldb = k;
  c.ldd = n;
  c.n = k;
  c.batch = run->batch;
  c.stride_a = run->rows * n;
  c.stride_b = run->rows * k;
  c.stride_d = k * n;
  c.a = job->dy + bytes_of(run->from * n, job->half);
  c.b = job->x + bytes_of(run->from * k, job->half);
  c.d = partials + run->slot * k * n;
  /* Of any chunk's place, not of this one's. */
  c.key.alignment = alignment_of((uintptr_t)job->x | (uintptr_t)job->dy | (uintptr_t)partials |
                                 bytes_of(n, job->half) | bytes_of(k, job->half) | bytes_of(k * n, false));
  multiply(&c);
}

static void add_chunk(const dw_job *job, chunk_run *run, int64_t from, int64_t rows, int slot,
                      float *partials) {
  if (run->batch > 0 && run->rows == rows && run->batch < most_batch &&
      run->from + run->batch * rows == from && run->slot + run->batch == slot) {
    run->batch++;
    return;
  }
  multiply_chunks(job, run, partials);
  *run = chunk_run{from, rows, 1, slot};
}

void dft_cuda_multiply_dw(const void *x, const void *dy, bool half, int pixels, int k, int n,
                          const dft_shard_map *map, float *dw) {
  const dw_job job = {(const char *)x, (const char *)dy, half, k, n};
  const int64_t size = (int64_t)chunk_samples(pixels, k, n) * pixels;
  const dft_chunks chunks = dft_cuda_chunks(map, pixels, (int)size, (int)size, 1);
  float *partials = dft_cuda_partials(chunks, (int64_t)k * n);
  if (partials == nullptr) return;
  chunk_run run = {0, 0, 0, 0};
  for (int s = 0; s < map->shards; s++) {
    const int64_t end = (int64_t)map->first[s + 1] * pixels;
    int slot = s * chunks.slots;
    for (int64_t from = (int64_t)map->first[s] * pixels; from < end; from += size, slot++)
      add_chunk(&job, &run, from, end - from < size ? end - from : size, slot, partials);
  }
  multiply_chunks(&job, &run, partials);
  dft_cuda_fold(chunks, map, partials, k * n, nullptr, dw);
}

/* ---- the table: float32 ---- */

static size_t gemm_packed_floats(int k, int n) {
  return (size_t)k * (size_t)n;
}

struct pack_kernel {
  const float *w;
  int k, n;
  bool transposed;
  float *packed;
  __device__ void operator()(int64_t i) const {
    int64_t row;
    const int column = dft_divide(i, n, &row);
    packed[i] = transposed ? w[(int64_t)column * k + row] : w[i];
  }
};

static void gemm_pack(const float *w, int k, int n, bool transposed, float *packed) {
  dft_launch("gemm_pack", (int64_t)k * n, pack_kernel{w, k, n, transposed, packed});
}

static void gemm(const float *x, const float *packed, float *y, int samples, int pixels, int k, int n,
                 const dft_epilogue *epilogue) {
  dft_cuda_product p = {};
  p.x = x;
  p.w = packed;
  p.y = y;
  p.rows = (int64_t)samples * pixels;
  p.k = k;
  p.n = n;
  p.pixels = pixels;
  p.bias = epilogue->bias;
  p.residual = epilogue->residual;
  dft_cuda_multiply(&p);
  if (epilogue->relu6) dft_cuda_clamp(y, p.rows * n, false);
}

static void gemm_dw(const float *x, const float *dy, int pixels, int k, int n, const dft_shard_map *map,
                    float *dw) {
  dft_cuda_multiply_dw(x, dy, false, pixels, k, n, map, dw);
}

void dft_cuda_table_product(void) {
  cuda.ops.gemm_packed_floats = gemm_packed_floats;
  cuda.ops.gemm_pack = gemm_pack;
  cuda.ops.gemm = gemm;
  cuda.ops.gemm_dw = gemm_dw;
}
