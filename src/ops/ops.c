#include "dft/ops.h"
#include "cpu/blas.h"
#include "cpu/gemm.h"
#include "cpu/kernels.h"
#include "cpu/train_composed.h"
#include <omp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#ifdef DFT_HAVE_SIMD
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Pairs of training layers, of the sets that fuse them. */
#define PAIR(set)                                                                                            \
  .train_pair_fits = dft_train_pair_fits_##set, .train_pair_work_floats = dft_train_pair_work_floats_##set,  \
  .train_pair_sums = dft_train_pair_sums_##set, .train_pair_forward = dft_train_pair_forward_##set,          \
  .train_pair_backward = dft_train_pair_backward_##set, .train_pair_finish = dft_train_pair_finish_##set
#define NO_PAIR .train_pair_fits = NULL

/* One set's table: products and frozen forward of `set`, their weights' gradients of `dw`. */
#define TABLE(set, dw, rest, train, pair)                                                                    \
  {                                                                                                          \
    .name = #set, .gemm_packed_floats = dft_gemm_packed_floats_##set, .gemm_pack = dft_gemm_pack_##set,      \
    .gemm = dft_gemm_##set, .gemm_dw = dft_gemm_dw_##dw, .depthwise = dft_depthwise_##rest,                  \
    .depthwise_dx = dft_depthwise_dx_##rest, .depthwise_dw = dft_depthwise_dw_##rest,                        \
    .stem = dft_stem_##rest, .stem_dw = dft_stem_dw_##rest, .bn_sums = dft_bn_sums_##rest,                   \
    .scale_shift = dft_scale_shift_##rest, .bn_backward_sums = dft_bn_backward_sums_##rest,                  \
    .bn_backward = dft_bn_backward_##rest, .add = dft_add_##rest, .pool_avg = dft_pool_avg_##rest,           \
    .pool_avg_dx = dft_pool_avg_dx_##rest, .pool_max = dft_pool_max_##rest,                                  \
    .pool_max_dx = dft_pool_max_dx_##rest, .row_sums = dft_row_sums_##rest, .adam = dft_adam_##rest,         \
    .sgd = dft_sgd_##rest, .all_finite = dft_all_finite_##rest, .frozen_new = dft_frozen_new_##set,          \
    .bn_statistics = dft_bn_statistics_##rest, .bn_gradients = dft_bn_gradients_##rest,                      \
    .bn_frozen = dft_bn_frozen_##rest, .bn_commit = dft_bn_commit_##rest, .dropout = dft_dropout_plain,      \
    .copy_nodes = dft_copy_nodes_plain, .train_work_floats = dft_train_work_floats,                          \
    .train_forward = dft_train_forward_##train, .train_backward = dft_train_backward_##train,                \
    .frozen_run = dft_frozen_run_##set, .frozen_free = dft_frozen_free_##set, pair,                          \
  }

static const char *const names[DFT_KERNELS_CUDA] = {"reference", "portable",   "avx2",
                                                    "avx512",    "avx512bf16", "amx"};

static const dft_ops tables[DFT_KERNELS_CUDA] = {
    [DFT_KERNELS_REFERENCE] = TABLE(reference, reference, plain, composed, NO_PAIR),
    [DFT_KERNELS_PORTABLE] = TABLE(portable, portable, plain, composed, NO_PAIR),
#ifdef DFT_HAVE_SIMD
    [DFT_KERNELS_AVX2] = TABLE(avx2, avx2, avx2, avx2, PAIR(avx2)),
    [DFT_KERNELS_AVX512] = TABLE(avx512, avx512, avx512, avx512, PAIR(avx512)),
    [DFT_KERNELS_AVX512BF16] = TABLE(avx512bf16, avx512, avx512, avx512, PAIR(avx512)),
    [DFT_KERNELS_AMX] = TABLE(amx, avx512, avx512, avx512, PAIR(avx512)),
#endif
};

#ifdef DFT_HAVE_SIMD
/* Whether the CPU has AMX with bfloat16 and the system lets this process keep tiles: Linux gives their state
 * (XFEATURE_XTILEDATA) to processes that ask, for all their threads. */
static bool amx_available(void) {
  enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, XTILEDATA = 18, REQUEST_PERMISSION = 0x1023 };
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  if (!(edx & AMX_BF16) || !(edx & AMX_TILE)) return false;
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, XTILEDATA) == 0;
}
#endif

/* Whether this build has the set and this CPU all that its code may use (CMakeLists.txt: haswell and
 * skylake-avx512, avx512bf16, amx). */
static bool available(dft_kernels kernels) {
#ifdef DFT_HAVE_SIMD
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (kernels == DFT_KERNELS_AVX2) return avx2;
  if (kernels == DFT_KERNELS_AVX512) return avx512;
  const bool avx512bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  if (kernels == DFT_KERNELS_AVX512BF16) return avx512bf16;
  if (kernels == DFT_KERNELS_AMX) return avx512bf16 && amx_available();
#endif
  return kernels == DFT_KERNELS_REFERENCE || (kernels == DFT_KERNELS_PORTABLE && dft_blas_load());
}

/* Whether the set's bfloat16 products would be slower than those of the set below it: Intel's CPUs give
 * VDPBF16PS a quarter of the rate of FMAs. */
static bool slowed_by_pairs(dft_kernels kernels) {
#ifdef DFT_HAVE_SIMD
  return kernels == DFT_KERNELS_AVX512BF16 && __builtin_cpu_is("intel");
#else
  (void)kernels;
  return false;
#endif
}

static dft_status named(const char *name, dft_kernels *kernels) {
  for (int k = 0; k < DFT_KERNELS_CUDA; k++) {
    if (strcmp(name, names[k]) != 0) continue;
    if (!available((dft_kernels)k))
      return dft_fail(DFT_EUSAGE,
                      "DFT_KERNELS=%s: this CPU or build lacks them%s, unset it for the best it has", name,
                      k == DFT_KERNELS_PORTABLE ? " (libopenblas.so.0 cannot be loaded)" : "");
    *kernels = (dft_kernels)k;
    return DFT_OK;
  }
  return dft_fail(
      DFT_EUSAGE,
      "DFT_KERNELS=%s: no such kernels, use reference, portable, avx2, avx512, avx512bf16, amx or "
      "cuda",
      name);
}

dft_status dft_ops_best(dft_kernels *kernels) {
  const char *name = getenv("DFT_KERNELS");
  const bool names_one = name != NULL && name[0] != '\0' && strcmp(name, "cuda") != 0;
  if (names_one) return named(name, kernels);
  int k = DFT_KERNELS_CUDA - 1;
  while (!available((dft_kernels)k) || slowed_by_pairs((dft_kernels)k)) k--;
  *kernels = (dft_kernels)k;
  return DFT_OK;
}

const dft_ops *dft_ops_get(dft_kernels kernels) {
  if ((int)kernels < 0 || kernels >= DFT_KERNELS_CUDA || !available(kernels)) return NULL;
  return &tables[kernels];
}

bool dft_ops_bfloat16_pays(dft_kernels kernels) {
  return kernels >= DFT_KERNELS_AVX512BF16 && !slowed_by_pairs(kernels);
}

static int thread_count; /* 0: not set */

void dft_ops_set_threads(int threads) {
  thread_count = threads < 1 ? 1 : threads;
}

int dft_ops_threads(void) {
  return thread_count > 0 ? thread_count : omp_get_max_threads();
}

/* Of an OpenMP thread. */
static size_t own_stack_bytes(void) {
  pthread_attr_t attributes;
  size_t bytes = SIZE_MAX; /* unknown is no reason to refuse */
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return bytes;
  (void)pthread_attr_getstacksize(&attributes, &bytes);
  (void)pthread_attr_destroy(&attributes);
  return bytes;
}

dft_status dft_ops_check_stacks(void) {
  struct rlimit first = {.rlim_cur = RLIM_INFINITY};
  (void)getrlimit(RLIMIT_STACK, &first);
  if (first.rlim_cur < DFT_OPS_STACK_BYTES)
    return dft_fail(DFT_EUSAGE, "the stack is limited to %zu kB, but the kernels need %d: ulimit -s 8192",
                    (size_t)first.rlim_cur / 1024, DFT_OPS_STACK_BYTES / 1024);
  size_t least = SIZE_MAX;
#pragma omp parallel num_threads(dft_ops_threads()) reduction(min : least)
  if (omp_get_thread_num() > 0) least = own_stack_bytes();
  if (least >= DFT_OPS_STACK_BYTES) return DFT_OK;
  return dft_fail(DFT_EUSAGE, "threads have stacks of %zu kB, but the kernels need %d: %s", least / 1024,
                  DFT_OPS_STACK_BYTES / 1024,
                  getenv("OMP_STACKSIZE") != NULL ? "unset OMP_STACKSIZE" : "OMP_STACKSIZE=8M");
}
