/* The products of cublasLt.h as loops. */
#include "cuda_host.h"
#include <cstring>
#include <cublasLt.h>
#include <cuda_bf16.h>

struct cublasLtContext {
  int unused;
};

struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute;
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  int epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void *bias = nullptr;
  cudaDataType_t bias_type = CUDA_R_32F;
};

struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  int64_t rows, columns, ld, stride = 0;
  int32_t batch = 1;
};

struct cublasLtMatmulPreferenceOpaque_t {
  uint32_t alignment[4] = {256, 256, 256, 256}, reductions = ~0u;
  uint64_t workspace = 0;
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  static cublasLtContext context;
  *handle = &context;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *made, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *made = new cublasLtMatmulDescOpaque_t;
  (*made)->compute = compute;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t made) {
  delete made;
  return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t take(void *field, size_t size, const void *value, size_t bytes) {
  if (bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
  memcpy(field, value, size);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t made,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t bytes) {
  switch (attribute) {
  case CUBLASLT_MATMUL_DESC_TRANSA:
    return take(&made->a, sizeof made->a, value, bytes);
  case CUBLASLT_MATMUL_DESC_TRANSB:
    return take(&made->b, sizeof made->b, value, bytes);
  case CUBLASLT_MATMUL_DESC_EPILOGUE:
    return take(&made->epilogue, sizeof made->epilogue, value, bytes);
  case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
    return take(&made->bias, sizeof made->bias, value, bytes);
  case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
    return take(&made->bias_type, sizeof made->bias_type, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *made, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  if (ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
  *made = new cublasLtMatrixLayoutOpaque_t;
  (*made)->type = type;
  (*made)->rows = (int64_t)rows;
  (*made)->columns = (int64_t)columns;
  (*made)->ld = ld;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t made) {
  delete made;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t made,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t bytes) {
  return attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT
             ? take(&made->batch, sizeof made->batch, value, bytes)
             : take(&made->stride, sizeof made->stride, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *made) {
  *made = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t made) {
  delete made;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t made,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return take(&made->workspace, sizeof made->workspace, value, bytes);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
    return take(&made->reductions, sizeof made->reductions, value, bytes);
  return take(&made->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
              sizeof *made->alignment, value, bytes);
}

/* ---- kernels ---- */

/* What a kernel is for: everything but a row count, batches and pointers. */
static cublasLtMatmulAlgo_t kernel_for(const cublasLtMatmulDescOpaque_t *p,
                                       const cublasLtMatrixLayoutOpaque_t *a,
                                       const cublasLtMatrixLayoutOpaque_t *d, uint32_t alignment) {
  cublasLtMatmulAlgo_t kernel = {};
  kernel.data[0] = 0x64667463;
  kernel.data[1] =
      (uint64_t)p->compute << 32 | (uint64_t)p->epilogue << 8 | (uint64_t)p->a << 1 | (uint64_t)p->b;
  kernel.data[2] = (uint64_t)a->rows << 32 | (uint64_t)a->columns;
  kernel.data[3] = (uint64_t)a->type << 32 | (uint64_t)d->type;
  kernel.data[4] = alignment;
  return kernel;
}

/* The types that cuBLASLt's tables allow: both factors alike, float32 out of either, bfloat16 out of itself;
 * a bias of the output's type. */
static bool supported(const cublasLtMatmulDescOpaque_t *p, cudaDataType_t a, cudaDataType_t b,
                      cudaDataType_t d) {
  if (a != b || (a == CUDA_R_32F && d != CUDA_R_32F)) return false;
  if (p->compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a != CUDA_R_32F) return false;
  return (p->epilogue & CUBLASLT_EPILOGUE_BIAS) == 0 || (p->bias != nullptr && p->bias_type == d);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int,
                                              cublasLtMatmulHeuristicResult_t *found, int *count) {
  *count = 0;
  if (!supported(product, a->type, b->type, d->type)) return CUBLAS_STATUS_NOT_SUPPORTED;
  uint32_t alignment = 256;
  for (uint32_t each : preference->alignment) alignment = each < alignment ? each : alignment;
  found[0] =
      cublasLtMatmulHeuristicResult_t{kernel_for(product, a, d, alignment), 0, CUBLAS_STATUS_SUCCESS, 1};
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

/* Whether the kernel is for these, and a grid of it has room. */
static cublasStatus_t fits(const cublasLtMatmulDescOpaque_t *p, const cublasLtMatrixLayoutOpaque_t *a,
                           const cublasLtMatrixLayoutOpaque_t *b, const cublasLtMatrixLayoutOpaque_t *d,
                           const cublasLtMatmulAlgo_t *algorithm) {
  const cublasLtMatmulAlgo_t fitting = kernel_for(p, a, d, (uint32_t)algorithm->data[4]);
  const bool room = d->columns <= 65535 * 32 && d->batch <= 65535;
  return supported(p, a->type, b->type, d->type) && room && memcmp(&fitting, algorithm, sizeof fitting) == 0
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t product,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result) {
  const cublasStatus_t status = fits(product, a, b, d, algorithm);
  *result = cublasLtMatmulHeuristicResult_t{*algorithm, 0, status, 1};
  return status;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *,
                                                    cublasLtMatmulAlgoConfigAttributes_t, void *value,
                                                    size_t bytes, size_t *written) {
  const int32_t parts = 1;
  *written = sizeof parts;
  return take(value, sizeof parts, &parts, bytes);
}

/* ---- the product ---- */

namespace {
struct matrix {
  cublasLtMatrixLayoutOpaque_t layout;
  const void *data;
  bool transposed;

  size_t at(int64_t row, int64_t column, int batch) const {
    return (size_t)(batch * layout.stride +
                    (transposed ? row * layout.ld + column : column * layout.ld + row));
  }
  float get(int64_t row, int64_t column, int batch) const {
    const size_t i = at(row, column, batch);
    return layout.type == CUDA_R_32F ? ((const float *)data)[i]
                                     : __bfloat162float(((const __nv_bfloat16 *)data)[i]);
  }
  void put(int64_t row, int64_t column, int batch, float value) const {
    const size_t i = at(row, column, batch);
    if (layout.type == CUDA_R_32F)
      ((float *)(void *)data)[i] = value;
    else
      ((__nv_bfloat16 *)(void *)data)[i] = __float2bfloat16_rn(value);
  }
  bool on_device(int64_t bytes_each) const {
    const int64_t last = (layout.batch - 1) * layout.stride + (layout.columns - 1) * layout.ld + layout.rows;
    return dft_host_cuda_is_device(data, (size_t)(last * bytes_each));
  }
};

struct product {
  matrix a, b, c, d;
  cublasLtMatmulDescOpaque_t desc;
  float alpha, beta;
};
} // namespace

static float rounded_tf32(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0xfff + ((bits >> 13) & 1)) & ~0x1fffu;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static int64_t size_of(const matrix &m) {
  return m.layout.type == CUDA_R_32F ? 4 : 2;
}

/* op(A) of one batch as float32, [k][m]. */
static std::vector<float> factors_of(const product &p, int batch) {
  const int64_t m = p.d.layout.rows, k = p.a.transposed ? p.a.layout.rows : p.a.layout.columns;
  std::vector<float> factors((size_t)(m * k));
  for (int64_t l = 0; l < k; l++)
    for (int64_t i = 0; i < m; i++) factors[(size_t)(l * m + i)] = p.a.get(i, l, batch);
  if (p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32)
    for (float &each : factors) each = rounded_tf32(each);
  return factors;
}

/* A column of D: its sums side by side, each in the order of k. */
static void column(const product &p, const std::vector<float> &factors, int64_t j, int batch) {
  const int64_t m = p.d.layout.rows, k = p.a.transposed ? p.a.layout.rows : p.a.layout.columns;
  std::vector<float> sums((size_t)m);
  for (int64_t l = 0; l < k; l++) {
    float factor = p.b.get(l, j, batch);
    if (p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32) factor = rounded_tf32(factor);
    const float *row = factors.data() + l * m;
    float *to = sums.data();
    for (int64_t i = 0; i < m; i++) to[i] += row[i] * factor;
  }
  for (int64_t i = 0; i < m; i++) {
    float value = p.alpha * sums[(size_t)i];
    if (p.beta != 0) value += p.beta * p.c.get(i, j, batch);
    if (p.desc.epilogue & CUBLASLT_EPILOGUE_BIAS)
      value += p.desc.bias_type == CUDA_R_32F ? ((const float *)p.desc.bias)[i]
                                              : __bfloat162float(((const __nv_bfloat16 *)p.desc.bias)[i]);
    p.d.put(i, j, batch, value);
  }
}

/* Where the matrices may begin, and their columns and batches: at multiples of what the kernel was chosen
 * for. A bias, which no preference speaks of, is read in vectors. */
static bool aligned(const product &p, uint64_t alignment) {
  uint64_t bits = 0;
  for (const matrix *each : {&p.a, &p.b, &p.c, &p.d})
    bits |=
        (uintptr_t)each->data |
        (uint64_t)((each->layout.ld | (each->layout.batch > 1 ? each->layout.stride : 0)) * size_of(*each));
  return bits % alignment == 0 && (uintptr_t)p.desc.bias % 16 == 0;
}

/* Whether everything fits together. */
static cublasStatus_t check(const product &p, const cublasLtMatmulAlgo_t *algorithm) {
  const int64_t m = p.a.transposed ? p.a.layout.columns : p.a.layout.rows;
  const int64_t k = p.a.transposed ? p.a.layout.rows : p.a.layout.columns;
  const int64_t kb = p.b.transposed ? p.b.layout.columns : p.b.layout.rows;
  const int64_t n = p.b.transposed ? p.b.layout.rows : p.b.layout.columns;
  if (k != kb || m != p.d.layout.rows || n != p.d.layout.columns) return CUBLAS_STATUS_INVALID_VALUE;
  const cublasStatus_t status = fits(&p.desc, &p.a.layout, &p.b.layout, &p.d.layout, algorithm);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (!aligned(p, algorithm->data[4])) return CUBLAS_STATUS_INVALID_VALUE;
  const size_t bias_bytes = (size_t)(m * size_of(p.d));
  if ((p.desc.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0 && !dft_host_cuda_is_device(p.desc.bias, bias_bytes))
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const matrix *each : {&p.a, &p.b, &p.c, &p.d})
    if (!each->on_device(size_of(*each))) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
  if (host_fails("fail_gemm", &host()->products)) return CUBLAS_STATUS_EXECUTION_FAILED;
  if (algorithm == nullptr) return CUBLAS_STATUS_INVALID_VALUE; /* dft always chooses */
  if ((uintptr_t)workspace % 256 != 0 || !dft_host_cuda_is_device(workspace, workspace_bytes))
    return CUBLAS_STATUS_INVALID_VALUE;
  const product p = {{*a_layout, a, desc->a == CUBLAS_OP_T},
                     {*b_layout, b, desc->b == CUBLAS_OP_T},
                     {*c_layout, c, false},
                     {*d_layout, d, false},
                     *desc,
                     *(const float *)alpha,
                     *(const float *)beta};
  const cublasStatus_t status = check(p, algorithm);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  dft_host_cuda_run(stream, true, [p] {
    for (int batch = 0; batch < p.d.layout.batch; batch++) {
      const std::vector<float> factors = factors_of(p, batch);
      for (int64_t j = 0; j < p.d.layout.columns; j++) column(p, factors, j, batch);
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}
